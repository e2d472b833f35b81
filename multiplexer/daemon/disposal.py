"""Sockets that must not be closed by us, and the processes that are there to do it.

Closing a socket discards what was sent to it, descriptors too, and that may never
end.  So a process is made that holds such sockets alone, and ends: what it takes
is its own time.  It ends rather than closes, because a socket of a process that
ends does not linger.  Where even that is held up, another follows, up to a number.
"""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Collection
from typing import Final

#: How many such processes there may be, each held up by somebody.
MOST_PROCESSES: Final = 16


class Disposal:
    """The sockets that wait to be disposed of."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []
        self._pids: list[int] = []

    def __len__(self) -> int:
        """Return how many sockets wait for a process."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._pids

    @property
    def is_busy(self) -> bool:
        """Whether there are as many processes as there may be."""
        return len(self._pids) >= MOST_PROCESSES

    def adopt(self, pid: int) -> None:
        """Reap *pid*, which may be held up as well, when it has ended."""
        self._pids.append(pid)

    def take(self, sock: socket.socket) -> None:
        """Dispose of *sock*, at the next `tend`."""
        self._waiting.append(sock)

    def tend(self) -> None:
        """Reap the processes that have ended, and leave all that waits to a new one."""
        self._pids = [pid for pid in self._pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        if self._waiting and not self.is_busy:
            with contextlib.suppress(OSError):  # no process now: they wait on
                self._pids.append(_leave(self._waiting))
                self._waiting = []


def _leave(socks: Collection[socket.socket]) -> int:
    """Close *socks* while a new process has them, and return its pid."""
    reader, writer = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _end_when_alone(reader, [sock.fileno() for sock in socks])
        for sock in socks:
            sock.close()
    finally:
        os.close(reader)
        os.close(writer)
    return pid


def _end_when_alone(reader: int, fds: Collection[int]) -> None:
    """Hold *fds* and nothing else until our maker has closed its own; then end."""
    try:
        hold_only([reader, *fds])
        os.read(reader, 1)
    finally:
        os._exit(0)


def hold_only(fds: Collection[int]) -> None:
    """Be a new process that has *fds* and no other, and hears no signal."""
    # A signal for our maker is not for us, who would pass it on to it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 0
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, most)
