"""Who comes in, and how what they bring is kept out, where the kernel does not do it.

Where it does (`descriptors.refuse_fds`), a doorman only receives and closes.
Elsewhere, and on a connection that ever let in a descriptor, a client that sends one
loses its connection, and its user is let in no more until the daemon starts again:
what it sent stays open somewhere, and so it costs each user a few descriptors at most,
and not one for each try.
"""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import trio

from multiplexer.daemon import descriptors
from multiplexer.daemon.disposal import Disposal
from pfinet_proto.errors import RemoteProtocolError

#: Sockets that wait for a process to hold them: above it, nobody is let in.
MOST_WAITING: Final = 1024

#: Between two such processes: many sockets share one.
PACE_S: Final = 1.0

ROOT_UID: Final = 0


class SentDescriptors(RemoteProtocolError):
    """The peer sent a descriptor."""

    def __init__(self) -> None:
        super().__init__("sent descriptors")


class Doorman:
    """Receives from the clients of control, and closes their sockets.

    A *wary* one expects descriptors from everybody; another expects them where the
    socket was prepared.
    """

    def __init__(self, *, wary: bool) -> None:
        self._wary = wary
        self._shut_out: set[int] = set()
        self._disposal = Disposal()
        self._work = trio.Event()
        self._full = trio.lowlevel.ParkingLot()

    @property
    def n_shut_out(self) -> int:
        """How many users are let in no more."""
        return len(self._shut_out)

    def is_shut_out(self, uid: int) -> bool:
        """Return whether *uid* has sent descriptors."""
        return uid in self._shut_out

    def shut_out(self, uid: int) -> None:
        """Let *uid* in no more, unless it is root."""
        if uid != ROOT_UID:
            self._shut_out.add(uid)

    async def wait_open(self, owner: int | None = None) -> None:
        """Wait until somebody may be let in on a socket, which is for *owner* alone or for all."""
        if owner is not None and owner in self._shut_out:
            await trio.sleep_forever()
        while owner is None and len(self._disposal) >= MOST_WAITING:
            await self._full.park()

    def prepare(self, sock: socket.socket) -> None:
        """Make a connection, or an end of a pair, ready to be received from."""
        if self._wary:
            descriptors.prepare(sock)

    async def receive(self, sock: socket.socket, limit: int) -> bytes:
        """Return up to *limit* bytes, or a message.

        Raises:
            SentDescriptors: if the client has.
        """
        waiting = trio.socket.from_stdlib_socket(sock)
        if not descriptors.is_prepared(sock):
            return await waiting.recv(limit)
        while True:
            try:
                data = descriptors.look(sock, limit)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
                continue
            if data is None:
                raise SentDescriptors
            return await waiting.recv(len(data)) if data else data

    @contextlib.contextmanager
    def holding(self, connection: socket.socket) -> Iterator[None]:
        """Have *connection* while the context lasts, and let it go after it.

        Who closes it before has given it to the engine, which shuts it down and
        empties it before it does the same.
        """
        self.prepare(connection)
        try:
            yield
        finally:
            if connection.fileno() >= 0:
                self.let_go(connection)

    def let_go(self, sock: socket.socket) -> None:
        """Close *sock*, or have it disposed of."""
        if not descriptors.is_prepared(sock) or descriptors.is_safe_to_close(sock):
            sock.close()
        else:
            self._disposal.take(sock)
            self._work.set()

    def close(self) -> None:
        """Leave to a process what waits yet, when nobody will let go of more."""
        self._disposal.tend()

    @property
    def is_busy(self) -> bool:
        """Whether no other process may be made that a client could hold up."""
        return self._disposal.is_busy

    def reap(self, pid: int) -> None:
        """Wait for a process that may be held up by a client, in `run`."""
        self._disposal.adopt(pid)
        self._work.set()

    async def run(self) -> None:
        """Have processes dispose of what we must not close, until cancelled."""
        while True:
            await self._work.wait()
            self._disposal.tend()
            self._full.unpark_all()
            if self._disposal.is_idle:
                self._work = trio.Event()
            await trio.sleep(PACE_S)
