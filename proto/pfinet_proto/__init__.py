"""The protocol between multiplexerd and its clients: bytes in, values out."""
