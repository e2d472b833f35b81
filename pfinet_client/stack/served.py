"""A stack of the kernel's, in the namespace of the process that serves it.

The sockets are the kernel's own, and trio's own class is around them: every
option, fileno(), dup() and TLS work as on any.  They outlive this object, not
the stack.
"""

import os
import socket as stdlib

import trio

from pfinet_client.serving.client import StackConnection
from pfinet_client.stack.stack import Stack
from pfinet_proto.attach import Binding

_FAMILIES = (stdlib.AF_INET, stdlib.AF_INET6)


class ServedStack(Stack):
    """The stack behind *connection*, which is its own from now on."""

    def __init__(self, connection: StackConnection) -> None:
        super().__init__()
        self._connection = connection

    @property
    def binding(self) -> Binding:
        return self._connection.binding

    @property
    def has_ended(self) -> bool:
        return self._connection.has_ended

    def socket(
        self,
        family: int = stdlib.AF_INET,
        type: int = stdlib.SOCK_STREAM,
        proto: int = 0,
    ) -> trio.socket.SocketType:
        """Return a new socket; raw ones work, and ports below 1024 can be bound.

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

    def close(self) -> None:
        """Give the stack up, installed or not.  More than once is allowed."""
        self.uninstall()
        self._connection.close()
