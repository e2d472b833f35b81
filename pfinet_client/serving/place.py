"""Where the served stack of a user is, and how its server takes that place.

The socket's node has mode 0600, in the user's own run-time directory unless
told otherwise.  A lock beside it, which the kernel drops with the server,
tells a server that runs from the leavings of one that was killed.
"""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pfinet_client.errors import StackError

#: The environment variable that names another socket.
SOCKET_VARIABLE = "PFINET_SOCKET"
_NAME = "pfinet"
_BACKLOG = 128


def socket_path(given: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of the stack's socket: *given*, else of the environment, else the usual.

    Raises:
        StackError: if nothing of it is there.
    """
    path = given or environ.get(SOCKET_VARIABLE)
    if path:
        return path
    folder = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not os.path.isdir(folder):
        raise StackError(f"{folder}: no run-time directory of yours: say --socket PATH")
    return os.path.join(folder, _NAME)


def none_served(path: str) -> StackError:
    """Return what to say where nobody serves a stack at *path*."""
    return StackError(f"{path}: no stack is served there: is `pfinet serve` running?")


@contextmanager
def listener(path: str) -> Iterator[socket.socket]:
    """Yield a socket that listens at *path* for this user alone; take the path away at the end.

    Raises:
        StackError: if another server listens there.
        OSError: if it cannot be made.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"{path}: another `pfinet serve` serves a stack there") from None
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            _bind(sock, path)
            try:
                sock.listen(_BACKLOG)
                yield sock
            finally:
                with suppress(OSError):
                    os.unlink(path)
    finally:
        os.close(lock)


def _bind(sock: socket.socket, path: str) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StackError(f"{path}: there is something that is no socket")
        os.unlink(path)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        text = "longer than a socket's path may be" if error.errno is None else error.strerror
        raise OSError(error.errno or errno.ENAMETOOLONG, text, path) from error
    finally:
        os.umask(mask)
