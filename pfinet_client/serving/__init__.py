"""A stack as a server of sockets: what it and its clients speak, and both ends of that."""
