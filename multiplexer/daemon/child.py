"""The broker's end of its channel with one running role."""

import collections
import selectors
import socket
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

from multiplexer.daemon import channel
from multiplexer.daemon.process import Process
from multiplexer.model import MAX_PORTS

#: More than any burst of ours, which is an attachment of every vif; a role that
#: lets so many wait does not read any more.
MAX_OUTBOX: Final = 2 * MAX_PORTS


#: What somebody may wait for the answer to; it can go without its descriptor.
ANSWERED: Final = (channel.SetUplink, channel.SetHost)


class Descriptor(Protocol):
    """A socket, or whatever else has a file descriptor: -1 once it is closed."""

    def fileno(self) -> int: ...


@attrs.frozen
class _Waiting:
    message: channel.Message
    sockets: tuple[Descriptor, ...]
    given: socket.socket | None = None

    def close(self) -> None:
        if self.given is not None:
            self.given.close()


class Child:
    """A running role and what still has to be said to it.

    Nothing here waits.  While the channel is full no request is read from it,
    so a role cannot make us hold more answers than fit.
    """

    def __init__(self, process: Process, sock: socket.socket) -> None:
        self.process = process
        self.sock = sock
        self.ready = False
        self._outbox: collections.deque[_Waiting] = collections.deque()

    @property
    def name(self) -> str:
        return self.process.role.name

    @property
    def events(self) -> int:
        """What to wait for on the channel: room if something waits, else messages."""
        return selectors.EVENT_WRITE if self._outbox else selectors.EVENT_READ

    def say(self, message: channel.Message, sockets: Sequence[Descriptor] = ()) -> None:
        """Send *message* and duplicates of *sockets*, now or as soon as there is room.

        Raises:
            SiblingError: if too much waits already.
            SiblingGone: if the role is dead.
        """
        self._put(_Waiting(message, tuple(sockets)))

    def give(self, message: channel.Message, given: socket.socket) -> None:
        """Send *message* with *given*, which is closed here once it is sent; as `say`."""
        self._put(_Waiting(message, (given,), given))

    def _put(self, waiting: _Waiting) -> None:
        if len(self._outbox) >= MAX_OUTBOX:
            raise channel.SiblingError(f"{self.name} has not read its last {MAX_OUTBOX} messages")
        self._outbox.append(waiting)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self._outbox:
            waiting = self._outbox[0]
            fds = [sock.fileno() for sock in waiting.sockets if sock.fileno() >= 0]
            # One that is closed by now is out of date, and so is the message.
            if len(fds) == len(waiting.sockets) or isinstance(waiting.message, ANSWERED):
                try:
                    channel.send(self.sock, waiting.message, fds, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return
            self._outbox.popleft().close()

    def receive(self) -> tuple[channel.Message, list[int]]:
        """Return the next message; BlockingIOError if there is none."""
        return channel.receive(self.sock, socket.MSG_DONTWAIT)

    def close(self) -> None:
        for waiting in self._outbox:
            waiting.close()
        self.sock.close()
