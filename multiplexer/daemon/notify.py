"""Telling the service manager how we are: the protocol of sd_notify(3)."""

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """A socket to the service manager; without one, nothing is said."""

    def __init__(self, address: str | None) -> None:
        """Take the value of $NOTIFY_SOCKET: a path, or an abstract name led by ``@``."""
        self._address = address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def tell(self, **state: str | int) -> None:
        """Send assignments, such as ``READY=1, STATUS="forwarding"``."""
        if self._socket is None or self._address is None:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        text = "\n".join(f"{key}={value}" for key, value in state.items())
        # Nothing of ours depends on whether anybody listens.
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(), address)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def open_notifier(environment: MutableMapping[str, str] = os.environ) -> Notifier:
    """Return the notifier that *environment* names, and take it out of there."""
    return Notifier(environment.pop("NOTIFY_SOCKET", None))
