"""Descriptors that clients send with their bytes: refused by the kernel, or kept out by us.

Nobody has reason to send us any (SCM_RIGHTS, unix(7)), and closing one can take as
long as its maker likes: a TCP socket lingers, a file of a file system in user space
waits for its server.  Linux 6.16 and later refuse them for us.  Elsewhere they must
not be received, nor discarded by us; how that is done stands in
multiplexer/datapath/io/wary.h, whose counterpart this is for control's sockets.
"""

import errno
import socket
from typing import Final

#: asm-generic/socket.h, Linux 6.16: whether a socket takes descriptors.
SO_PASSRIGHTS: Final = 83

#: What was sent but not read is looked at in pieces of this.
_PIECE_BYTES: Final = 65536
#: What comes first with each message of a prepared socket: struct ucred.
CREDENTIALS_SPACE: Final = socket.CMSG_SPACE(12)


def has_passrights() -> bool:
    """Whether this kernel can refuse descriptors for us."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return refuse_fds(sock)


def refuse_fds(sock: socket.socket) -> bool:
    """Let senders of descriptors get EPERM; what *sock* accepts inherits it.

    Returns False where the kernel cannot: the reader then has to cope.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return False
        raise
    return True


def prepare(sock: socket.socket) -> None:
    """Make the Unix socket *sock* one in which no descriptor can hide.

    An urgent byte that is not read inline is skipped, with what came with it.  An
    empty message looks like the end, unless each comes with credentials.
    """
    sock.setsockopt(socket.SOL_SOCKET, _hiding_place(sock), 1)


def is_prepared(sock: socket.socket) -> bool:
    """Whether *sock* was prepared, be it by another process that has it too."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, _hiding_place(sock)))


def _hiding_place(sock: socket.socket) -> int:
    """Return the option that leaves no descriptor a place to hide."""
    return socket.SO_OOBINLINE if sock.type == socket.SOCK_STREAM else socket.SO_PASSCRED


def look(sock: socket.socket, limit: int) -> bytes | None:
    """Return what `recv` of *limit* bytes would, without taking it; None if a descriptor is there.

    *sock* was prepared and does not block.

    Raises:
        BlockingIOError: if there is nothing.
    """
    return _look(sock, limit)[0]


def _look(sock: socket.socket, limit: int) -> tuple[bytes | None, bool]:
    """Return what `look` does, and whether no bytes mean the end."""
    is_stream = sock.type == socket.SOCK_STREAM
    # Room for credentials, which come first, and for nothing after them.
    data, ancillary, flags, _ = sock.recvmsg(
        limit, 0 if is_stream else CREDENTIALS_SPACE, socket.MSG_PEEK
    )
    has_rights = any(kind == socket.SCM_RIGHTS for _, kind, _ in ancillary)
    if flags & socket.MSG_CTRUNC or has_rights:
        return None, False
    return data, not ancillary


def is_safe_to_close(sock: socket.socket) -> bool:
    """Shut *sock* down, empty it, and return whether closing it discards no descriptor."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
    while True:
        try:
            data, is_end = _look(sock, _PIECE_BYTES)
            if data is None:
                return False
            if not data and is_end:
                return True
            sock.recv(_PIECE_BYTES if sock.type != socket.SOCK_STREAM else len(data))
        except (ConnectionResetError, InterruptedError):
            continue  # said once, of what the peer did not read
        except BlockingIOError:
            return False  # empty and shut down it would say that it ends
