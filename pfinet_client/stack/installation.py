"""Put a stack in the place of the host's in a trio run, and take it back."""

from collections.abc import Callable
from typing import Any

import trio


class Installation:
    """The place of *factory* and *resolver* in the trio run that `put` is called in."""

    def __init__(
        self, factory: trio.abc.SocketFactory, resolver: trio.abc.HostnameResolver
    ) -> None:
        self._factory = factory
        self._resolver = resolver
        self._take_back: list[Callable[[], None]] = []

    def put(self) -> None:
        """Put both in their place, unless they are there."""
        if not self._take_back:
            self._take_back = [
                _put(trio.socket.set_custom_socket_factory, self._factory),
                _put(trio.socket.set_custom_hostname_resolver, self._resolver),
            ]

    def take_back(self) -> None:
        """Put back what was there before; more than once is allowed."""
        for take_back in self._take_back:
            take_back()
        self._take_back = []


def _put(put: Callable[[Any], Any], ours: object) -> Callable[[], None]:
    before = put(ours)

    def take_back() -> None:
        found = put(before)
        if found is not ours:
            # Somebody else's, put there meanwhile.
            put(found)

    return take_back
