"""lwIP as trio sockets: a stack inside the program, without any socket of the host."""
