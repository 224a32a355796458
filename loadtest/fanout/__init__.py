"""One message to very many sockets: the servers that send it, and the clients that read it."""
