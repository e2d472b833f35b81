"""The sockets that dnspython asks name servers by, on a stack.

Its own trio backend makes them by `trio.socket`, so they were the stack's only
while that is installed.
"""

import math
import socket as stdlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dns.asyncbackend
import dns.exception
import trio


class StackBackend(dns.asyncbackend.Backend):  # type: ignore[misc,name-defined]
    """Opens dnspython's sockets on a stack, whether or not that is installed."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack

    def name(self) -> str:
        return "trio"

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: tuple[Any, ...] | None = None,
        destination: tuple[Any, ...] | None = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> "_Datagrams | _Bytes":
        if ssl_context is not None:
            raise NotImplementedError("the name servers of a vif are asked without TLS")
        sock = self._stack.socket(af, socktype, proto)
        try:
            if source is not None:
                await sock.bind(source)
            if socktype == stdlib.SOCK_DGRAM:
                return _Datagrams(sock)
            with _within(timeout):
                await sock.connect(destination)
            return _Bytes(sock)
        except BaseException:
            sock.close()
            raise

    async def sleep(self, interval: float) -> None:
        await trio.sleep(interval)


class _Datagrams(dns.asyncbackend.DatagramSocket):  # type: ignore[misc,name-defined]
    def __init__(self, sock: trio.socket.SocketType) -> None:
        super().__init__(sock.family, stdlib.SOCK_DGRAM)
        self._sock = sock

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        with _within(timeout):
            return await self._sock.sendto(what, destination)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        with _within(timeout):
            return await self._sock.recvfrom(size)

    async def close(self) -> None:
        self._sock.close()

    async def getpeername(self) -> Any:
        return self._sock.getpeername()

    async def getsockname(self) -> Any:
        return self._sock.getsockname()


class _Bytes(dns.asyncbackend.StreamSocket):  # type: ignore[misc,name-defined]
    def __init__(self, sock: trio.socket.SocketType) -> None:
        super().__init__(sock.family, stdlib.SOCK_STREAM)
        self._sock = sock
        self._stream = trio.SocketStream(sock)

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        with _within(timeout):
            await self._stream.send_all(what)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        with _within(timeout):
            received = await self._stream.receive_some(size)
        return bytes(received)

    async def close(self) -> None:
        await self._stream.aclose()

    async def getpeername(self) -> Any:
        return self._sock.getpeername()

    async def getsockname(self) -> Any:
        return self._sock.getsockname()


@contextmanager
def _within(timeout: float | None) -> Iterator[None]:
    """Bound what is done to *timeout* seconds; past that, raise dnspython's own exception."""
    try:
        with trio.fail_after(math.inf if timeout is None else timeout):
            yield
    except trio.TooSlowError:
        raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]
