"""A TCP connection that echoes what is said, to see whether it survives something."""


def echo_program(address: str) -> str:
    """Return a Python program that serves one client at *address*; it says when it listens."""
    return f"""
import socket
with socket.create_server(("{address}", 80)) as server:
    print("listening", flush=True)
    client, _ = server.accept()
    while data := client.recv(4096):
        client.sendall(data)
"""


def talk_program(address: str) -> str:
    """Return one that says its lines there, prints the answers, and ends with an empty line."""
    return f"""
import socket
with socket.create_connection(("{address}", 80)) as server:
    while line := input():
        server.sendall(line.encode())
        print(server.recv(4096).decode(), flush=True)
"""
