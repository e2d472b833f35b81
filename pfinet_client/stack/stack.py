"""A stack as trio knows one: a factory of sockets, and a resolver of names."""

import errno
from abc import abstractmethod

import trio

from pfinet_client.stack.installation import Installation
from pfinet_client.stack.resolver import StackResolver
from pfinet_proto.attach import Binding


class Stack(trio.abc.SocketFactory):
    """A stack that this program uses; `open_stack` or `connect_stack` makes one.

    Its `socket` returns a new one, as `trio.socket.socket` does: of AF_INET or
    AF_INET6 the stack's, of other families the host's.  It raises OSError, with
    ENETDOWN if the stack has ended.
    """

    def __init__(self) -> None:
        self.resolver = StackResolver(self)
        """Looks names up as the stack's vif says (trio.abc.HostnameResolver)."""
        self._installation = Installation(self, self.resolver)

    @property
    @abstractmethod
    def binding(self) -> Binding:
        """What the vif is now: addresses, MTU, gateways, name servers."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether there will be no more sockets."""

    def install(self) -> None:
        """Have all of this trio run use the stack, until it is closed.

        Sockets that `trio.socket.socket` makes are the stack's, and names are
        looked up by its resolver, also those of libraries that know nothing of it.

        Raises:
            OSError: ENETDOWN if the stack has ended.
        """
        if self.has_ended:
            raise OSError(errno.ENETDOWN, "the stack has ended")
        self._installation.put()

    def uninstall(self) -> None:
        """Put back what was there before `install`; more than once is allowed."""
        self._installation.take_back()
