"""A trio program on a stack, and the one that it talks to: streams of TCP, and requests.

It is run by its text, for it may be where not everybody can read:

    serve PORT
    KIND VIF HOST PORT out|in SECONDS       says Gbit/s
    KIND VIF HOST PORT ask TIMES            says the median and the 99th percentile, in us

KIND is that of `open_stack`, or `plain`: trio alone, wherever it is run.
"""

import statistics
import sys
import time
from contextlib import AsyncExitStack, suppress

import trio

CHUNK = bytes(256 * 1024)
QUESTION = bytes(64)
WARMING_UP = 100


async def serve(stream: trio.SocketStream) -> None:
    what = await stream.receive_some(1)
    with suppress(trio.BrokenResourceError):
        if what == b"o":
            await stream.send_all(b"%.9f" % await gbit_per_s(stream))
        elif what == b"i":
            while True:
                await stream.send_all(CHUNK)
        else:
            while data := await stream.receive_some():
                await stream.send_all(data)
    await stream.aclose()


async def gbit_per_s(stream: trio.SocketStream, seconds: float = float("inf")) -> float:
    """Return how fast bytes come, from the first on, for some time or until the end."""
    total = len(await stream.receive_some())
    start = now = time.monotonic()
    while now - start < seconds and (data := await stream.receive_some()):
        total += len(data)
        now = time.monotonic()
    return total * 8 / 1e9 / (now - start)


async def send_out(stream: trio.SocketStream, seconds: float) -> float:
    await stream.send_all(b"o")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await stream.send_all(CHUNK)
    await stream.send_eof()
    return float(await stream.receive_some())


async def ask(stream: trio.SocketStream, times: int) -> tuple[float, float]:
    stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    await stream.send_all(b"a")
    took_us = []
    for _ in range(WARMING_UP + times):
        start = time.perf_counter()
        await stream.send_all(QUESTION)
        left = len(QUESTION)
        while left:
            left -= len(await stream.receive_some(left))
        took_us.append((time.perf_counter() - start) * 1e6)
    measured = took_us[WARMING_UP:]
    return statistics.median(measured), statistics.quantiles(measured, n=100)[98]


async def main() -> None:
    if sys.argv[1] == "serve":
        for listener in await trio.open_tcp_listeners(int(sys.argv[2])):
            print("ready", flush=True)
            await trio.serve_listeners(serve, [listener])
    kind, vif, host, port, what, much = sys.argv[1:]
    async with AsyncExitStack() as until_end:
        if kind != "plain":
            # Only here, for who serves is not everywhere where that is installed.
            from pfinet_client.stack import open_stack

            (await until_end.enter_async_context(open_stack(vif, kind))).install()  # type: ignore[arg-type]
        stream = await trio.open_tcp_stream(host, int(port))
        if what == "out":
            print(await send_out(stream, float(much)))
        elif what == "in":
            await stream.send_all(b"i")
            print(await gbit_per_s(stream, float(much)))
        else:
            print(*await ask(stream, int(much)))
        with suppress(trio.BrokenResourceError):
            await stream.aclose()


if __name__ == "__main__":
    trio.run(main)
