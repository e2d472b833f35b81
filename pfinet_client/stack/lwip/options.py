"""What getsockopt(2) and setsockopt(2) tell and change of a socket of lwIP."""

import errno
import socket as stdlib
import struct
from typing import Any

from pfinet_client.configuration import INTERFACE
from pfinet_client.stack.lwip._lwip import lib
from pfinet_client.stack.lwip.results import checked, fail

#: As it is called in the kernel's stacks.
_INTERFACE = INTERFACE.encode()
_INT = struct.Struct("=i")
_LINGER = struct.Struct("=ii")
_OPTIONS = {
    (stdlib.SOL_SOCKET, stdlib.SO_REUSEADDR): lib.PL_REUSEADDR,
    (stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE): lib.PL_KEEPALIVE,
    (stdlib.SOL_SOCKET, stdlib.SO_BROADCAST): lib.PL_BROADCAST,
    (stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY): lib.PL_NODELAY,
    (stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE): lib.PL_KEEPIDLE,
    (stdlib.IPPROTO_TCP, stdlib.TCP_KEEPINTVL): lib.PL_KEEPINTVL,
    (stdlib.IPPROTO_TCP, stdlib.TCP_KEEPCNT): lib.PL_KEEPCNT,
    (stdlib.IPPROTO_TCP, stdlib.TCP_USER_TIMEOUT): lib.PL_USER_TIMEOUT,
    (stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY): lib.PL_V6ONLY,
}


class Options:
    """Those of one socket, whose handle each call is given."""

    def __init__(self, family: int, kind: int, proto: int) -> None:
        self._what = {
            stdlib.SO_TYPE: int(kind),
            stdlib.SO_DOMAIN: int(family),
            stdlib.SO_PROTOCOL: proto,
        }
        self.is_listening = False
        self.lingers = True
        """Whether what was sent is brought to its end after the socket is closed."""

    def get(self, handle: Any, level: int, optname: int, buflen: int | None) -> Any:
        """Return a number, or at most *buflen* bytes of it if that is given."""
        if (level, optname) in _OPTIONS:
            value = checked(lib.pl_get(handle, _OPTIONS[level, optname]))
        elif level != stdlib.SOL_SOCKET:
            fail(errno.ENOPROTOOPT)
        elif optname == stdlib.SO_ERROR:
            value = int(lib.pl_take_error(handle))
        elif optname == stdlib.SO_LINGER and buflen:
            return _LINGER.pack(int(not self.lingers), 0)[:buflen]
        elif optname == stdlib.SO_ACCEPTCONN:
            value = int(self.is_listening)
        elif optname in self._what:
            value = self._what[optname]
        else:
            fail(errno.ENOPROTOOPT)
        return _INT.pack(value)[:buflen] if buflen else value

    def set(self, handle: Any, level: int, optname: int, value: Any, optlen: int | None) -> None:
        """Let it be *value*, a number or bytes; None is as many of 0 as *optlen* says."""
        if (value is None) != (optlen is not None):
            wanted = "must" if optlen is not None else "must not"
            raise TypeError(f"invalid value for argument 'value': {value!r}, {wanted} be None")
        if (level, optname) == (stdlib.SOL_SOCKET, stdlib.SO_LINGER):
            if not isinstance(value, bytes) or len(value) != _LINGER.size:
                fail(errno.EINVAL)
            # A time to linger would block, which no socket of trio does.
            self.lingers = _LINGER.unpack(value) != (1, 0)
            return
        if (level, optname) == (stdlib.SOL_SOCKET, stdlib.SO_BINDTODEVICE):
            # There is one, so no socket needs to remember which.
            named = b"" if value is None else value
            if not isinstance(named, bytes) or named.rstrip(b"\0") not in (b"", _INTERFACE):
                fail(errno.ENODEV)
            return
        if (level, optname) not in _OPTIONS:
            fail(errno.ENOPROTOOPT)
        if not isinstance(value, int):
            if value is None or len(value) < _INT.size:
                fail(errno.EINVAL)
            (value,) = _INT.unpack_from(value)
        checked(lib.pl_set(handle, _OPTIONS[level, optname], value))
