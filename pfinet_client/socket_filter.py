"""The filter of sockets (pump/socket_filter.h), from both of its ends."""

import errno
import os
import socket

from attrs import frozen

from pfinet_client._pump import ffi, lib
from pfinet_client.errors import StackError


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


def receive_wish(listener: int) -> Wish | None:
    """Return the next wish at *listener*, None if who had it is gone."""
    wish = ffi.new("struct pfinet_wish *")
    if _is_there(lib.pfinet_wish_receive(listener, wish)):
        return Wish(int(wish.id), int(wish.family), int(wish.type), int(wish.proto))
    return None


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
