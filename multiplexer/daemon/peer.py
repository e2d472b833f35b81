"""Who is at the other end of a Unix socket, by the kernel's word."""

import array
import errno
import socket
import struct

import attrs

SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; socket(7)

_CREDENTIALS = struct.Struct("iII")  # struct ucred, unix(7)

#: As many as Python's getsockopt() can take; a user in more is in none for us.
_MAX_GROUPS = 256


@attrs.frozen
class Peer:
    """The process that made the connection, as it was when it did."""

    pid: int
    uid: int
    gid: int
    gids: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


def peer_of(sock: socket.socket) -> Peer:
    """Return who connected *sock*."""
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return Peer(pid, uid, gid, _gids(sock) | {gid})


def _gids(sock: socket.socket) -> frozenset[int]:
    item_size = array.array("I").itemsize
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MAX_GROUPS * item_size)
    except OSError as error:
        if error.errno in (errno.ERANGE, errno.ENODATA):
            return frozenset()
        raise
    return frozenset(array.array("I", packed))
