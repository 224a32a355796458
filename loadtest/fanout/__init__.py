"""One message to very many sockets: the servers that send it, and the audience that reads it."""
