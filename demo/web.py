"""Run anywhere: a web server that tells each client the address it sees it at.

The argument is the address to serve at, on port 80.
"""

import http.server
import socket
import sys


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the demo's own lines tell what happens."""


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 80), Mirror)


if __name__ == "__main__":
    with Server(sys.argv[1]) as server:
        print("ready", flush=True)
        server.serve_forever()
