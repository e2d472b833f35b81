"""A socket of lwIP, with the interface of trio's own.

Whatever would wait tries, and tries again whenever lwIP has marked the socket.
There is no descriptor behind it: what needs one fails with EOPNOTSUPP.
"""

import errno
import os
import socket as stdlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import trio

from pfinet_client.stack.lwip._lwip import ffi, lib
from pfinet_client.stack.lwip.address import SocketAddress, check_port, from_glue, to_glue
from pfinet_client.stack.lwip.options import Options
from pfinet_client.stack.lwip.results import checked, fail

if TYPE_CHECKING:
    from pfinet_client.stack.lwip.stack import LwipStack

_MAX_RECEIVED_BYTES = 1 << 16
_KNOWN_FLAGS = stdlib.MSG_PEEK | stdlib.MSG_NOSIGNAL | stdlib.MSG_DONTWAIT | stdlib.MSG_MORE


class LwipSocket(trio.socket.SocketType):
    """A socket of *stack*; `LwipStack.socket` makes one."""

    def __init__(
        self, stack: "LwipStack", handle: Any, number: int, family: int, kind: int, proto: int
    ) -> None:
        self._handle = handle
        self._stack = stack
        self._number = number
        self._family = stdlib.AddressFamily(family)
        self._type = stdlib.SocketKind(kind)
        self._proto = proto
        self._did_shutdown_send = False
        self._options = Options(self._family, self._type, proto)
        # What MSG_MORE held back of a datagram.
        self._held = b""
        self._waiting = trio.lowlevel.ParkingLot()
        self._has_changed = False

    # What it is.

    @property
    def family(self) -> stdlib.AddressFamily:
        return self._family

    @property
    def type(self) -> stdlib.SocketKind:
        return self._type

    @property
    def proto(self) -> int:
        return self._proto

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return self._did_shutdown_send

    def __repr__(self) -> str:
        state = "closed" if self._handle is None else f"number={self._number}"
        return f"<LwipSocket {state} family={self._family.name} type={self._type.name}>"

    def fileno(self) -> int:
        """Return -1 once it is closed, as any socket; until then there is no number.

        Raises:
            OSError: EOPNOTSUPP.
        """
        if self._handle is not None:
            fail(errno.EOPNOTSUPP)
        return -1

    def detach(self) -> int:
        fail(errno.EOPNOTSUPP)

    def dup(self) -> trio.socket.SocketType:
        fail(errno.EOPNOTSUPP)

    def get_inheritable(self) -> bool:
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        if inheritable:
            fail(errno.EOPNOTSUPP)

    # Its beginning and end.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # One whose making failed has no handle.
        if getattr(self, "_handle", None) is not None:
            self._let_go()
            # The collector may run in any thread, and amid anything.
            lib.pl_wake()

    def close(self) -> None:
        """Close it; tasks that wait get ClosedResourceError.  More than once is allowed."""
        if self._handle is not None:
            self._let_go()
            self._waiting.unpark_all()
            self._stack.settle()

    def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        lib.pl_close(handle, not self._options.lingers)
        self._stack.forget(self._number)

    def on_change(self) -> None:
        """Let tasks that wait try again."""
        self._has_changed = True
        self._waiting.unpark_all()

    async def _wait_change(self) -> None:
        """Wait until it may be otherwise than when it was last asked.

        Raises:
            trio.ClosedResourceError: if it was closed meanwhile.
        """
        # What was asked may have changed it itself, by a way to the same stack.
        if not self._has_changed:
            await self._waiting.park()
        if self._handle is None:
            raise trio.ClosedResourceError("another task closed this socket")

    def _ask(self, attempt: Callable[[Any], int]) -> int:
        """Return what *attempt* does to the handle, and let the stack follow that up."""
        self._has_changed = False
        result = -errno.EBADF if self._handle is None else attempt(self._handle)
        self._stack.settle()
        return result

    def _open_handle(self) -> Any:
        if self._handle is None:
            fail(errno.EBADF)
        return self._handle

    async def _try(self, attempt: Callable[[Any], int]) -> int:
        """Return what *attempt* does to the handle, once it is no EAGAIN."""
        await trio.lowlevel.checkpoint_if_cancelled()
        result = self._ask(attempt)
        if result != -errno.EAGAIN:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while result == -errno.EAGAIN:
            await self._wait_change()
            result = self._ask(attempt)
        return checked(result)

    # Addresses.

    def getsockname(self) -> SocketAddress:
        return self._name(False)

    def getpeername(self) -> SocketAddress:
        return self._name(True)

    def _name(self, peer: bool) -> SocketAddress:
        found = ffi.new("struct pl_address *")
        checked(lib.pl_name(self._open_handle(), peer, found))
        return from_glue(self._family, found)

    async def _resolve(self, address: Any, *, local: bool) -> SocketAddress:
        """Return *address* with a numeric host, as trio does."""
        lengths = (2,) if self._family == stdlib.AF_INET else (2, 3, 4)
        if not isinstance(address, tuple) or len(address) not in lengths:
            wanted = "(host, port)" if lengths == (2,) else "(host, port, [flowinfo, [scopeid]])"
            raise ValueError(f"address should be a {wanted} tuple")
        host, port = address[:2]
        with suppress(OSError, TypeError):
            # Numeric already; of a ping socket getaddrinfo() would not know the protocol.
            stdlib.inet_pton(self._family, host)
            if isinstance(port, int):
                check_port(port)
                return address
        if host == "<broadcast>":
            host = "255.255.255.255"
        flags = stdlib.AI_PASSIVE if local else 0
        if self._family == stdlib.AF_INET6 and not lib.pl_get(self._open_handle(), lib.PL_V6ONLY):
            flags |= stdlib.AI_V4MAPPED
        found = await trio.socket.getaddrinfo(
            host or None, port, self._family, self._type, self._proto, flags
        )
        if isinstance(port, int):
            # The C library cuts it to 16 bits.
            check_port(port)
        resolved: SocketAddress = found[0][4]
        return resolved

    async def bind(self, address: Any) -> None:
        resolved = await self._resolve(address, local=True)
        checked(lib.pl_bind(self._open_handle(), to_glue(self._family, resolved)))
        await trio.lowlevel.checkpoint()

    def listen(self, backlog: int = 128) -> None:
        checked(lib.pl_listen(self._open_handle(), min(backlog, 1 << 30)))
        self._options.is_listening = True

    async def accept(self) -> tuple[trio.socket.SocketType, SocketAddress]:
        if not self._options.is_listening:
            await trio.lowlevel.checkpoint()
            self._open_handle()
            fail(errno.EINVAL)
        accepted: list[LwipSocket] = []
        peer = ffi.new("struct pl_address *")

        def accept(handle: Any) -> int:
            made = self._stack.accept(handle, self, peer)
            if made is None:
                return -errno.EAGAIN
            accepted.append(made)
            return 0

        await self._try(accept)
        return accepted[0], from_glue(self._family, peer)

    async def connect(self, address: Any) -> None:
        """Connect; if it is cancelled, the socket is closed, as any of trio's."""
        resolved = await self._resolve(address, local=False)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._open_handle()
        to = to_glue(self._family, resolved)
        result = self._ask(lambda handle: int(lib.pl_connect(handle, to)))
        if result != -errno.EINPROGRESS:
            checked(result)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        while result == -errno.EINPROGRESS:
            try:
                await self._wait_change()
            except trio.Cancelled:
                self.close()
                raise
            result = self._ask(lib.pl_connected)
        if result:
            raise OSError(-result, f"Error connecting to {resolved!r}: {os.strerror(-result)}")

    # Data.

    async def send(self, data: Any, flags: int = 0) -> int:
        return await self._send(data, flags, None)

    async def sendto(self, *arguments: Any) -> int:
        if len(arguments) not in (2, 3):
            raise TypeError("sendto takes (data, address) or (data, flags, address)")
        flags = arguments[1] if len(arguments) == 3 else 0
        to = to_glue(self._family, await self._resolve(arguments[-1], local=False))
        return await self._send(arguments[0], flags, to)

    async def _send(self, data: Any, flags: int, to: Any) -> int:
        _check_flags(flags)
        view = memoryview(data).cast("B")
        held = len(self._held)
        if self._type == stdlib.SOCK_DGRAM:
            if flags & stdlib.MSG_MORE:
                self._held += view
                await trio.lowlevel.checkpoint()
                return len(view)
            if held:
                view, self._held = memoryview(self._held + view), b""

        def send(handle: Any) -> int:
            buffer = ffi.from_buffer(view)
            if to is None:
                return int(lib.pl_send(handle, buffer, len(view)))
            return int(lib.pl_send_to(handle, buffer, len(view), to))

        return await self._try(send) - held

    async def sendmsg(
        self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None
    ) -> int:
        if list(ancdata):
            fail(errno.EOPNOTSUPP)
        data = b"".join(map(bytes, buffers))
        if address is None:
            return await self.send(data, flags)
        return await self.sendto(data, flags, address)

    async def recv(self, buflen: int, flags: int = 0) -> bytes:
        return (await self._receive(buflen, flags))[0]

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return (await self.recvfrom_into(buffer, nbytes, flags))[0]

    async def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, SocketAddress]:
        data, peer, _ = await self._receive(bufsize, flags)
        return data, peer

    async def recvfrom_into(
        self, buffer: Any, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, SocketAddress]:
        view = memoryview(buffer).cast("B")
        data, peer, _ = await self._receive(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), peer

    async def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Any], int, SocketAddress]:
        data, peer, whole = await self._receive(bufsize, flags)
        return data, [], stdlib.MSG_TRUNC if whole > len(data) else 0, peer

    async def recvmsg_into(
        self, buffers: Any, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, SocketAddress]:
        views = [memoryview(each).cast("B") for each in buffers]
        data, peer, whole = await self._receive(sum(map(len, views)), flags)
        rest = data
        for view in views:
            part, rest = rest[: len(view)], rest[len(view) :]
            view[: len(part)] = part
        return len(data), [], stdlib.MSG_TRUNC if whole > len(data) else 0, peer

    async def _receive(self, room: int, flags: int) -> tuple[bytes, SocketAddress, int]:
        """Return bytes, who sent them, and how many the datagram had."""
        _check_flags(flags)
        if room < 0:
            raise ValueError("negative buffersize in recv")
        buffer = bytearray(min(room, _MAX_RECEIVED_BYTES))
        peer, whole = ffi.new("struct pl_address *"), ffi.new("size_t *")
        peek = bool(flags & stdlib.MSG_PEEK)
        peer.family = 4
        got = await self._try(
            lambda handle: lib.pl_receive(
                handle, ffi.from_buffer(buffer), len(buffer), peek, peer, whole
            )
        )
        return bytes(memoryview(buffer)[:got]), from_glue(self._family, peer), int(whole[0])

    def shutdown(self, how: int) -> None:
        if how not in (stdlib.SHUT_RD, stdlib.SHUT_WR, stdlib.SHUT_RDWR):
            fail(errno.EINVAL)
        sends = how in (stdlib.SHUT_WR, stdlib.SHUT_RDWR)
        receives = how in (stdlib.SHUT_RD, stdlib.SHUT_RDWR)
        self._open_handle()
        checked(self._ask(lambda handle: int(lib.pl_shut(handle, receives, sends))))
        self._did_shutdown_send |= sends

    def is_readable(self) -> bool:
        return bool(lib.pl_can_receive(self._open_handle()))

    async def wait_writable(self) -> None:
        await self._try(lambda handle: 0 if lib.pl_can_send(handle) else -errno.EAGAIN)

    # Options.

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        return self._options.get(self._open_handle(), level, optname, buflen)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        self._options.set(self._open_handle(), level, optname, value, optlen)


def _check_flags(flags: int) -> None:
    if flags & ~_KNOWN_FLAGS:
        fail(errno.EOPNOTSUPP)
