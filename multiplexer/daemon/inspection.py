"""A process that takes what a trusted user sends, and hands on a tap and nothing else.

Who made a descriptor decides how long it takes to look at it, or to close it.  So
control has none before it was seen to be a tap, which does not hold up anybody: it
is received and looked at by a process that is there for that alone, and that closes
what it does not hand on before it says so.
"""

import errno
import fcntl
import json
import os
import socket
import stat
import struct
from typing import Final

import attrs

from multiplexer.daemon import channel, jsonvalues
from multiplexer.daemon.descriptors import CREDENTIALS_SPACE
from multiplexer.daemon.disposal import hold_only
from multiplexer.uplinks.tap import (
    IFF_NO_PI,
    IFF_TAP,
    IFF_VNET_HDR,
    TUNGETIFF,
    VNET_LEN,
)
from pfinet_proto.attach import MAX_MESSAGE_BYTES, TAP_FDS

#: Documentation/admin-guide/devices.txt
TUN_DEVICE: Final = os.makedev(10, 200)

# linux/if_tun.h
TUNGETVNETHDRSZ: Final = 0x800454D7
TUNGETVNETLE: Final = 0x800454DD

_IFREQ: Final = struct.Struct("=16sH22x")
_REPORT_BYTES: Final = 65536


@attrs.frozen
class Inspected:
    """A message, how many descriptors came with it, and why a single one is no tap.

    More than `channel.MAX_FDS` descriptors are not counted.
    """

    data: bytes
    n_fds: int
    why: str | None


def start(connection: socket.socket, vnet: bool) -> tuple[int, socket.socket]:
    """Have a process take the message that waits on *connection*.

    Returns its pid and what `read_report` reads from when it can be read.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = os.fork()
        if pid == 0:
            _inspect(connection, theirs, vnet)
    return pid, ours


def read_report(report: socket.socket) -> tuple[Inspected, list[int]]:
    """Return what a process has found, and the tap if it is one, which the caller then owns.

    Raises:
        EOFError: if the process has failed.
    """
    data, ancillary, _, _ = report.recvmsg(
        _REPORT_BYTES, channel.rights_space(), socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        raise EOFError
    found: Inspected = jsonvalues.from_json(Inspected, json.loads(data), "Inspected")
    return found, channel.descriptors_in(ancillary)


def _inspect(connection: socket.socket, report: socket.socket, vnet: bool) -> None:
    """Take, look, close what is no tap, report, and end."""
    try:
        hold_only([connection.fileno(), report.fileno()])
        space = CREDENTIALS_SPACE + channel.rights_space()
        data, ancillary, _, _ = connection.recvmsg(
            MAX_MESSAGE_BYTES + 1, space, socket.MSG_CMSG_CLOEXEC
        )
        fds = channel.descriptors_in(ancillary)
        is_one = len(fds) == TAP_FDS
        found = Inspected(data, len(fds), why_no_tap(fds[0], vnet) if is_one else None)
        if not is_one or found.why is not None:
            channel.close_all(fds)
            fds = []
        report.sendmsg(
            [json.dumps(jsonvalues.to_json(found)).encode()], channel.rights(fds) if fds else []
        )
        channel.close_all(fds)  # before the end of the report, which our maker waits for
    finally:
        os._exit(0)


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
