"""The tap that a trusted user lends: received, looked at, and let go.

Descriptors otherwise go from us to clients only, and every socket refuses them,
because who made one decides how long closing it takes, or even a look at it.
Here the administrator trusts the user (`trusted_tap`), and still: one is let in
only while it is due, on that one connection; and what is looked at or closed is
so in a thread, which can be left behind.
"""

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from multiplexer.daemon import channel
from multiplexer.daemon.descriptors import (
    CREDENTIALS_SPACE,
    SO_PASSRIGHTS,
    prepare,
    refuse_fds,
)
from multiplexer.uplinks.tap import (
    IFF_NO_PI,
    IFF_TAP,
    IFF_VNET_HDR,
    TUNGETIFF,
    VNET_LEN,
)
from pfinet_proto.attach import MAX_MESSAGE_BYTES, TAP_FDS, Tap
from pfinet_proto.attach_machine import AttachMachine
from pfinet_proto.errors import RemoteProtocolError

#: A client makes its stack first, with what the Welcome says.
TAP_TIMEOUT_S: Final = 30.0
#: A look takes no time, unless it is made to.
LOOK_TIMEOUT_S: Final = 5.0

#: Documentation/admin-guide/devices.txt
TUN_DEVICE: Final = os.makedev(10, 200)

# linux/if_tun.h
TUNGETVNETHDRSZ: Final = 0x800454D7
TUNGETVNETLE: Final = 0x800454DD

_IFREQ: Final = struct.Struct("=16sH22x")

#: Threads that hang are the fault of users who lend taps, and cost no others.
_threads = trio.CapacityLimiter(4)


@contextmanager
def descriptors_let_in(connection: socket.socket) -> Iterator[None]:
    """Let the peer send descriptors while the context lasts.

    What it sends then may be received much later, or never be: so the connection is
    prepared, for good.
    """
    prepare(connection)
    connection.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)
    try:
        yield
    finally:
        refuse_fds(connection)


async def receive_tap(
    connection: socket.socket, machine: AttachMachine, *, vnet: bool
) -> int | None:
    """Return the tap that the client hands over; None if it leaves, or takes too long.

    *vnet* says whether its frames must have a virtio_net_hdr.

    Raises:
        BadMessage: if the client sends what is no message.
        RemoteProtocolError: if it sends one out of turn, or what is no such tap.
    """
    with trio.move_on_after(TAP_TIMEOUT_S):
        while True:
            received = await _receive(connection)
            if received is None:
                return None
            data, fds = received
            try:
                message = machine.receive_untrusted(data)
                wanted = TAP_FDS if isinstance(message, Tap) else 0
                if len(fds) != wanted:
                    raise RemoteProtocolError(
                        f"{type(message).__name__} with {len(fds)} descriptors, not {wanted}"
                    )
                if fds:
                    await _check(fds[0], vnet)
                    return fds.pop()
            finally:
                await let_go(fds)
    return None


async def _receive(connection: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the next datagram and its descriptors; None at the end."""
    client = trio.socket.from_stdlib_socket(connection)
    space = CREDENTIALS_SPACE + channel.rights_space()
    data, ancillary, flags, _ = await client.recvmsg(
        MAX_MESSAGE_BYTES + 1, space, socket.MSG_CMSG_CLOEXEC
    )
    fds = channel.descriptors_in(ancillary)
    if not data or flags & socket.MSG_CTRUNC:
        await let_go(fds)
        if not data:
            return None
        raise RemoteProtocolError(f"more than {channel.MAX_FDS} descriptors")
    return data, fds


async def _check(fd: int, vnet: bool) -> None:
    why: str | None = "takes too long to look at"
    with trio.move_on_after(LOOK_TIMEOUT_S):
        why = await trio.to_thread.run_sync(
            why_no_tap, fd, vnet, abandon_on_cancel=True, limiter=_threads
        )
    if why is not None:
        raise RemoteProtocolError(f"the descriptor that came with Tap {why}")


async def let_go(fds: Sequence[int]) -> None:
    """Close *fds*, however long that takes, and wait for it no longer than is decent."""
    if not fds:
        return
    with trio.CancelScope(shield=True), trio.move_on_after(LOOK_TIMEOUT_S):
        await trio.to_thread.run_sync(
            channel.close_all, tuple(fds), abandon_on_cancel=True, limiter=_threads
        )


def why_no_tap(fd: int, vnet: bool) -> str | None:
    """Return why the engine cannot use *fd* as a tap, or None."""
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != TUN_DEVICE:
        return "is not of /dev/net/tun"
    try:
        _, flags = _IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size)))
        if not flags & IFF_TAP or not flags & IFF_NO_PI:
            return "is no tap with IFF_NO_PI"
        if bool(flags & IFF_VNET_HDR) != vnet:
            return f"is a tap {'without' if vnet else 'with'} IFF_VNET_HDR"
        if vnet and _ask(fd, TUNGETVNETHDRSZ) != VNET_LEN:
            return f"is a tap whose virtio_net_hdr is not {VNET_LEN} bytes"
        if vnet and not _ask(fd, TUNGETVNETLE):
            return "is a tap whose virtio_net_hdr is not little-endian"
    except OSError as error:
        if error.errno == errno.EBADFD:
            return "has no interface"
        return f"is no tap: {error.strerror}"
    return None


def _ask(fd: int, request: int) -> int:
    value: int = struct.unpack("=i", fcntl.ioctl(fd, request, bytes(4)))[0]
    return value
