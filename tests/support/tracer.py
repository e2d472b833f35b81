"""A descriptor that tells whether somebody has discarded it.

It is the writing end of a pipe.  Whoever closes the last copy of it ends the
pipe, so the reading end tells.
"""

import array
import os
import socket


class Tracer:
    """A descriptor that was sent away, and whether somebody has discarded it."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK)

    def send(self, sock: socket.socket, data: bytes, flags: int = 0) -> None:
        """Send our only one with *data*."""
        rights = array.array("i", [self._writer])
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
        os.close(self._writer)

    @property
    def is_discarded(self) -> bool:
        try:
            return os.read(self._reader, 1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._reader)
