"""A stack as trio knows one: a factory of sockets, and a resolver of names.

The sockets are the kernel's own, made in the namespace of the stack by the
process that serves it, and trio's own class is around them: every option,
fileno(), dup() and TLS work as on any.  They outlive the stack's object, not
the stack.
"""

import errno
import os
import socket as stdlib
from collections.abc import Callable
from typing import Any

import trio

from pfinet_client.serving.client import StackConnection
from pfinet_client.stack.resolver import StackResolver
from pfinet_proto.attach import Binding

_FAMILIES = (stdlib.AF_INET, stdlib.AF_INET6)


class Stack(trio.abc.SocketFactory):
    """A stack that this program uses; `open_stack` or `connect_stack` makes one."""

    def __init__(self, connection: StackConnection) -> None:
        """Take over *connection*."""
        self._connection = connection
        self._uninstall: list[Callable[[], None]] = []
        self.resolver = StackResolver(self)
        """Looks names up as the stack's vif says (trio.abc.HostnameResolver)."""

    @property
    def binding(self) -> Binding:
        """What the vif is now: addresses, MTU, gateways, name servers."""
        return self._connection.binding

    def socket(
        self,
        family: int = stdlib.AF_INET,
        type: int = stdlib.SOCK_STREAM,
        proto: int = 0,
    ) -> trio.socket.SocketType:
        """Return a new socket, as `trio.socket.socket` does.

        One of AF_INET or AF_INET6 is the stack's; raw ones work, and ports
        below 1024 can be bound.  Those of other families are the host's.

        Raises:
            OSError: as socket(2), or ENETDOWN if the stack has ended.
        """
        if family not in _FAMILIES:
            return trio.socket.from_stdlib_socket(stdlib.socket(family, type, proto))
        made = self._connection.open_socket(int(family), int(type), int(proto))
        try:
            sock = stdlib.socket(fileno=made)
        except BaseException:
            os.close(made)
            raise
        return trio.socket.from_stdlib_socket(sock)

    def install(self) -> None:
        """Have all of this trio run use the stack, until it is closed.

        Sockets that `trio.socket.socket` makes are the stack's, and names are
        looked up by its resolver, also those of libraries that know nothing of it.
        """
        if self._connection.has_ended:
            raise OSError(errno.ENETDOWN, "the stack has ended")
        if not self._uninstall:
            self._uninstall = [
                _put(trio.socket.set_custom_socket_factory, self),
                _put(trio.socket.set_custom_hostname_resolver, self.resolver),
            ]

    def close(self) -> None:
        """Give the stack up, and take back what `install` did.  More than once is allowed."""
        for take_back in self._uninstall:
            take_back()
        self._uninstall = []
        self._connection.close()


def _put(put: Callable[[Any], Any], ours: object) -> Callable[[], None]:
    """Put *ours* in its place, and return what puts back what was there."""
    before = put(ours)

    def take_back() -> None:
        found = put(before)
        if found is not ours:
            # Somebody else's, put there meanwhile.
            put(found)

    return take_back
