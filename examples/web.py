"""A web server and its client in one program, each on a stack of its own: web.py VIF VIF.

The server is hypercorn's, on lwIP at the first vif.  The client is httpx on the
kernel's stack at the second, which is installed: the address that the server
sees is that vif's.
"""

import argparse
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

from pfinet_client.stack import Stack, StackError, open_stack


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


async def ask(url: str) -> str:
    """Return what is at *url*, by the stack that is installed."""
    async with httpx.AsyncClient() as browser:
        response = await browser.get(url)
        return response.raise_for_status().text


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", metavar="VIF", help="the server's")
    parser.add_argument("client", metavar="VIF", help="the client's, another one")
    arguments = parser.parse_args()
    try:
        async with (
            open_stack(arguments.server, "lwip") as server,
            open_stack(arguments.client) as client,
        ):
            client.install()
            print(await talk(server))
    except (StackError, OSError, httpx.HTTPError) as error:
        sys.exit(str(error))


async def talk(server: Stack) -> str:
    """Serve on *server*, and return what the client is told there."""
    addresses = [str(each.ip) for each in server.binding.addresses if each.version == 4]
    if not addresses:
        raise StackError(f"vif {server.binding.vif} has no IPv4 address")
    listening = await listener(server)
    serve = partial(
        TCPServer, wrap_app(app, 0, "asgi"), Config(), WorkerContext(None), ConnectionState({})
    )
    failure = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listening])
        try:
            answer = await ask(f"http://{addresses[0]}/")
        except httpx.HTTPError as error:
            failure = error  # raised here it would come out as one of a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return answer


if __name__ == "__main__":
    trio.run(main)
