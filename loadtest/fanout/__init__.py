"""The fan-out benchmark: servers that send one message to thousands of sockets, and clients that read it."""
