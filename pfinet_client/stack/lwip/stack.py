"""lwIP on a vif, driven by trio.

A system task carries frames from the vif into lwIP.  It is one for the reason
that `tether` has: a program needs no nursery for a stack.  Whoever asks lwIP for
anything then calls `settle`, which carries frames of lwIP to the vif and lwIP's
marks to the sockets that wait for them: without a detour over another task, that
costs a fraction.  What happens in another thread is told by an eventfd.

lwIP has one set of tables in a process, so there is one such stack at a time.
"""

import errno
import os
import socket as stdlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import trio

from pfinet_client.errors import StackError
from pfinet_client.packed import MAX_BYTES, MAX_FRAMES, PackedFrames
from pfinet_client.stack.lwip._lwip import ffi, lib
from pfinet_client.stack.lwip.socket import LwipSocket
from pfinet_client.stack.stack import Stack
from pfinet_client.vif import Vif, open_vif
from pfinet_proto.attach import Binding
from pfinet_proto.values import IPAddress

_FAMILIES = {stdlib.AF_INET: 4, stdlib.AF_INET6: 6}
_KINDS: dict[tuple[int, int], int] = {
    (stdlib.SOCK_STREAM, 0): lib.PL_TCP,
    (stdlib.SOCK_STREAM, stdlib.IPPROTO_TCP): lib.PL_TCP,
    (stdlib.SOCK_DGRAM, 0): lib.PL_UDP,
    (stdlib.SOCK_DGRAM, stdlib.IPPROTO_UDP): lib.PL_UDP,
}
_ECHO = {stdlib.AF_INET: stdlib.IPPROTO_ICMP, stdlib.AF_INET6: stdlib.IPPROTO_ICMPV6}
_TYPE_FLAGS = stdlib.SOCK_NONBLOCK | stdlib.SOCK_CLOEXEC
_IDS = 1024
#: What is left of frames at the end has this long to be sent.
_FAREWELL_S = 1.0
#: What lwIP has room for beside the link-local address and ::1.
_MAX_IPV6 = 4


class LwipStack(Stack):
    """lwIP's stack on *vif*, from `run` on; `open_stack` makes one."""

    def __init__(self, vif: Vif) -> None:
        super().__init__()
        self._vif = vif
        self._ended = False
        self._numbers = count(1)
        self._sockets: WeakValueDictionary[int, LwipSocket] = WeakValueDictionary()
        self._ids = ffi.new("uint64_t[]", _IDS)
        self._out = PackedFrames()
        # What the vif had no room for; while there is any, nothing may overtake it.
        self._unsent: list[bytes] = []
        self._outgoing = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()

    @property
    def binding(self) -> Binding:
        return self._vif.binding

    @property
    def has_ended(self) -> bool:
        return self._ended

    def socket(
        self,
        family: int = stdlib.AF_INET,
        type: int = stdlib.SOCK_STREAM,
        proto: int = 0,
    ) -> trio.socket.SocketType:
        """Return a new socket, as `trio.socket.socket` does.

        One of AF_INET or AF_INET6 is lwIP's: a stream of TCP, or datagrams of UDP
        or of ICMP echo.  Those of other families are the host's.

        Raises:
            OSError: EPROTONOSUPPORT if lwIP has none of that kind, ENETDOWN if the
                stack has ended, ENOBUFS without memory.
        """
        if family not in _FAMILIES:
            return trio.socket.from_stdlib_socket(stdlib.socket(family, type, proto))
        if self._ended:
            raise OSError(errno.ENETDOWN, "the stack has ended")
        plain = type & ~_TYPE_FLAGS
        kind = _KINDS.get((plain, proto))
        if (plain, proto) == (stdlib.SOCK_DGRAM, _ECHO[stdlib.AddressFamily(family)]):
            kind = lib.PL_ICMP
        if kind is None:
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
        number = next(self._numbers)
        handle = lib.pl_open(kind, _FAMILIES[stdlib.AddressFamily(family)], number)
        return self._wrap(handle, number, family, plain, proto)

    def _wrap(self, handle: Any, number: int, family: int, kind: int, proto: int) -> LwipSocket:
        if handle == ffi.NULL:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        made = LwipSocket(self, handle, number, family, kind, proto)
        self._sockets[number] = made
        return made

    def accept(self, handle: Any, listener: LwipSocket, peer: Any) -> LwipSocket | None:
        """Return the next connection of *listener*, whose handle is *handle*, and its *peer*."""
        number = next(self._numbers)
        taken = lib.pl_accept(handle, number, peer)
        if taken == ffi.NULL:
            return None
        return self._wrap(taken, number, listener.family, listener.type, listener.proto)

    def forget(self, number: int) -> None:
        """Note that a socket was closed."""
        self._sockets.pop(number, None)

    @asynccontextmanager
    async def run(self) -> AsyncIterator["LwipStack"]:
        """Run lwIP on the vif, until the end of the block.

        Raises:
            StackError: if this process runs one already.
        """
        lib.pl_attend()
        event = lib.pl_start()
        if event < 0:
            raise StackError(f"cannot start lwip: {os.strerror(-event)}")
        binding = self._vif.binding
        if lib.pl_up(binding.mac.packed, binding.mtu) < 0:
            raise StackError("this program has a stack of lwip already, and there can be one")
        try:
            trio.lowlevel.spawn_system_task(self._work, event)
            _apply(binding)
            self.settle()
            yield self
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    async def _close(self) -> None:
        self.uninstall()
        self._ended = True
        for each in list(self._sockets.values()):
            each.close()
        self._scope.cancel()
        await self._stopped.wait()
        with (
            trio.move_on_after(_FAREWELL_S, shield=True),
            suppress(trio.ClosedResourceError, trio.BrokenResourceError, trio.BusyResourceError),
        ):
            while self._unsent or self._fill_out():
                await self._vif.send_frames(self._unsent or self._out.frames())
                self._unsent = []
        lib.pl_down()

    # The tasks.

    async def _work(self, event: int) -> None:
        """Carry until the stack is closed, or the vif is lost for good."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, event)
                    if (clock := lib.pl_clock()) >= 0:
                        nursery.start_soon(self._keep_time, clock)
                    for work in (self._take_in, self._send_out, self._follow):
                        nursery.start_soon(self._until_lost, work)
        finally:
            self._stopped.set()

    async def _until_lost(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._ended = True
            for each in list(self._sockets.values()):
                each.close()

    async def _take_in(self) -> None:
        batch = PackedFrames()
        data = ffi.from_buffer("uint8_t[]", batch.data)
        lengths = ffi.from_buffer("uint32_t[]", batch.lengths)
        while True:
            await self._vif.receive_packed(batch)
            lib.pl_input(data, lengths, batch.count)
            self.settle()

    async def _send_out(self) -> None:
        while True:
            if self._unsent:
                await self._vif.send_frames(self._unsent)
                self._unsent = []
                self.settle()
            else:
                await self._outgoing.park()

    async def _follow(self) -> None:
        while True:
            before = self._vif.binding
            binding = await self._vif.wait_update()
            if binding.mac != before.mac:
                lib.pl_down()
                lib.pl_up(binding.mac.packed, binding.mtu)
            _apply(binding)
            self.settle()

    async def _heed(self, event: int) -> None:
        while True:
            await trio.lowlevel.wait_readable(event)
            with suppress(BlockingIOError):
                os.read(event, 8)
            self.settle()

    async def _keep_time(self, clock: int) -> None:
        """Run lwIP's timers, which has no thread that does."""
        while True:
            await trio.lowlevel.wait_readable(clock)
            lib.pl_work()
            self.settle()

    # What follows whatever is asked of lwIP.

    def settle(self) -> None:
        """Let sockets know what changed, and send what lwIP has to send."""
        while found := lib.pl_changed(self._ids, _IDS):
            for each in self._ids[0:found]:
                sock = self._sockets.get(each)
                if sock is not None:
                    sock.on_change()
        # At the end the tasks are told, and what is left `_close` sends.
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while not self._ended and not self._unsent and self._fill_out():
                sent = self._vif.send_packed_nowait(self._out)
                if sent < self._out.count:
                    self._unsent = self._out.frames(sent)
                    self._outgoing.unpark_all()

    def _fill_out(self) -> int:
        """Take frames that lwIP wants to send, a batch at most; return how many."""
        data = ffi.from_buffer("uint8_t[]", self._out.data)
        lengths = ffi.from_buffer("uint32_t[]", self._out.lengths)
        self._out.count = lib.pl_output(data, MAX_BYTES, lengths, MAX_FRAMES)
        return self._out.count


def _apply(binding: Binding) -> None:
    """Let lwIP be what *binding* says, as far as it can: one IPv4 address, four of IPv6."""
    lib.pl_set_mtu(binding.mtu)
    four = [each for each in binding.addresses if each.version == 4]
    gateway = _first(binding.gateways, 4)
    if four:
        net = four[0].network
        lib.pl_set_ipv4(
            four[0].ip.packed, net.netmask.packed, gateway.packed if gateway else bytes(4)
        )
    else:
        lib.pl_set_ipv4(bytes(4), bytes(4), bytes(4))
    six = [each.ip.packed for each in binding.addresses if each.version == 6][:_MAX_IPV6]
    autoconf = any(prefix.version == 6 for prefix in binding.prefixes)
    lib.pl_set_ipv6(b"".join(six), len(six), autoconf)
    router = _first(binding.gateways, 6)
    lib.pl_set_router6(router.packed if router else ffi.NULL)


def _first(addresses: tuple[IPAddress, ...], version: int) -> IPAddress | None:
    return next((each for each in addresses if each.version == version), None)


@asynccontextmanager
async def open_lwip(vif: str | None, control: str | None) -> AsyncIterator[LwipStack]:
    """Attach to *vif* and run lwIP there, as `open_stack` says.

    Raises:
        as `open_vif`, and StackError.
    """
    async with open_vif(vif, control=control) as attached, LwipStack(attached).run() as stack:
        yield stack
