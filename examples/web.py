"""A web server and its client in one program, each on a stack of its own: web.py VIF VIF.

The server is hypercorn's, on lwIP at the first vif.  The client is httpx on the
kernel's stack at the second, which is installed: the address that the server
sees is that vif's.
"""

import sys
from functools import partial
from typing import Any

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from pfinet_client.stack import Stack, open_stack


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Tell each client its address (ASGI)."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"you are {scope['client'][0]}".encode()})


async def listener(stack: Stack) -> trio.SocketListener:
    """Return a listener on port 80 of *stack*."""
    sock = stack.socket()
    await sock.bind(("0.0.0.0", 80))
    sock.listen()
    return trio.SocketListener(sock)


async def main(server_vif: str, client_vif: str) -> None:
    async with (
        open_stack(server_vif, "lwip") as server,
        open_stack(client_vif) as client,
        trio.open_nursery() as nursery,
    ):
        client.install()
        serve = partial(
            TCPServer, wrap_app(app, 0, "asgi"), Config(), WorkerContext(None), ConnectionState({})
        )
        nursery.start_soon(trio.serve_listeners, serve, [await listener(server)])
        async with httpx.AsyncClient() as browser:
            response = await browser.get(f"http://{server.binding.addresses[0].ip}/")
        print(response.text)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
