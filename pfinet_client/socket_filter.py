"""The filter of sockets (pump/socket_filter.h), from both of its ends."""

import errno
import os
import socket
import struct
import threading

from attrs import frozen

from pfinet_client._pump import ffi, lib
from pfinet_client.errors import StackError

_WISH = struct.Struct("=QIiii")  # struct pfinet_wish


@frozen
class Wish:
    """A process that waits in socket(2), and with which arguments."""

    id: int
    family: int
    type: int
    proto: int


def filter_sockets() -> int:
    """Have a supervisor make the IP sockets of this process and all its descendants.

    Returns the listener by which it hears of their wishes.

    Raises:
        StackError: if that cannot be.
    """
    listener: int = lib.pfinet_filter_sockets()
    if listener >= 0:
        return listener
    if ffi.errno == errno.EBUSY:
        raise StackError("this program's sockets are another's to make already")
    if ffi.errno in (errno.EINVAL, errno.ENOSYS):
        raise StackError("this kernel cannot have a supervisor make sockets: it needs Linux 5.19")
    raise StackError(f"cannot filter system calls: {os.strerror(ffi.errno)}")


def take_wishes(listener: int) -> int:
    """Start a thread that takes the wishes at *listener*; return where `read_wish` reads them.

    It ends when nobody is left who could have one.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)

    def take() -> None:
        lib.pfinet_wishes_take(listener, writing)
        os.close(writing)

    threading.Thread(target=take, daemon=True).start()
    return reading


def read_wish(taken: int) -> Wish | None:
    """Return the next wish of `take_wishes`, None at the end."""
    wish = os.read(taken, _WISH.size)
    if not wish:
        return None
    each, _pid, family, kind, proto = _WISH.unpack(wish)
    return Wish(each, family, kind, proto)


def grant(listener: int, wish: Wish, made: int) -> None:
    """Give who has *wish* the socket *made*, if it is still there."""
    close_on_exec = bool(wish.type & socket.SOCK_CLOEXEC)
    _is_there(lib.pfinet_wish_grant(listener, wish.id, made, close_on_exec))


def refuse(listener: int, wish: Wish, error: int) -> None:
    """Let the call of who has *wish* fail with the errno *error*."""
    _is_there(lib.pfinet_wish_refuse(listener, wish.id, error))


def _is_there(result: int) -> bool:
    if result == 0:
        return True
    if ffi.errno == errno.ENOENT:
        return False
    raise OSError(ffi.errno, os.strerror(ffi.errno))
