"""Connections: how many there may be, and one task for each.

A hostile client costs its connection and no more: those of one uid, and those
of all, are counted before anything is read, and whatever goes wrong in one
ends that one alone.
"""

import contextlib
import errno
import socket
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import attrs
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.doorman import Doorman, SentDescriptors
from multiplexer.daemon.peer import Peer, peer_of
from multiplexer.model import OVERFLOW_UID
from pfinet_proto.errors import BadMessage, RemoteProtocolError

#: accept(2): errors of one connection that is already gone, or of a moment.
_PASSING: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR})
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_PAUSE_S: Final = 0.1

Serve = Callable[[socket.socket, Peer], Awaitable[None]]


@attrs.define(eq=False)
class ConnectionLimits:
    """How many connections there are: of each uid, and of all whom nobody knows.

    One user may have thousands of subordinate uids.  So whom the daemon knows,
    root, owners of vifs and whom the file names, is counted for itself alone and
    cannot be locked out by the others.  Who is refused gets *farewell*.
    """

    per_uid: int
    overall: int
    is_known: Callable[[Peer], bool] = lambda peer: peer.uid == 0
    farewell: bytes = b""
    _open: Counter[int] = attrs.field(factory=Counter, init=False)
    _strangers: int = attrs.field(default=0, init=False)

    @contextlib.contextmanager
    def counted(self, peer: Peer) -> Iterator[bool]:
        """Count a connection of *peer* while the context lasts; False if there are too many."""
        known = self.is_known(peer)
        if self._open[peer.uid] >= self.per_uid or (not known and self._strangers >= self.overall):
            yield False
            return
        self._open[peer.uid] += 1
        self._strangers += not known
        try:
            yield True
        finally:
            self._strangers -= not known
            self._open[peer.uid] -= 1
            if not self._open[peer.uid]:
                del self._open[peer.uid]


async def serve_listener(
    listener: socket.socket,
    limits: ConnectionLimits,
    serve: Serve,
    doorman: Doorman,
    log: ClientLog,
    owner: int | None = None,
) -> None:
    """Accept on *listener* for ever, with a task of *serve* for each connection; then close it.

    The connection is the task's to use and is closed after it.  It does not block.
    Only *owner* can connect, or everybody.
    """
    with listener:
        waiting = trio.socket.from_stdlib_socket(listener)
        async with trio.open_nursery() as nursery:
            while True:
                await doorman.wait_open(owner)
                try:
                    accepted, _ = await waiting.accept()
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        log.warning(f"cannot accept a connection: {error.strerror}")
                        await trio.sleep(EXHAUSTED_PAUSE_S)
                    elif error.errno == errno.EINVAL:
                        # The broker has shut it down, and we are about to be cancelled.
                        await trio.sleep_forever()
                    elif error.errno not in _PASSING:
                        raise
                    continue
                connection = socket.socket(fileno=accepted.detach())
                connection.setblocking(False)
                nursery.start_soon(_serve_connection, connection, limits, serve, doorman, log)


async def _serve_connection(
    connection: socket.socket,
    limits: ConnectionLimits,
    serve: Serve,
    doorman: Doorman,
    log: ClientLog,
) -> None:
    with doorman.holding(connection):
        try:
            peer = peer_of(connection)
        except OSError:
            return
        if peer.uid == OVERFLOW_UID:
            log.audit("refused", peer, why="the uid stands for anybody without one here")
            return
        if doorman.is_shut_out(peer.uid):
            log.audit("refused", peer, why="has sent descriptors")
            return
        with limits.counted(peer) as admitted:
            if not admitted:
                log.audit("refused", peer, why="too many connections")
                with contextlib.suppress(OSError):
                    connection.send(limits.farewell, socket.MSG_NOSIGNAL)
                return
            await serve_alone(partial(serve, connection, peer), peer, doorman, log)


async def serve_alone(
    serve: Callable[[], Awaitable[None]], peer: Peer, doorman: Doorman, log: ClientLog
) -> None:
    """Serve the client *peer*, and let nothing that goes wrong with it reach others."""
    try:
        await serve()
    except* SentDescriptors as errors:
        doorman.shut_out(peer.uid)
        log.audit("dropped", peer, why=_first(errors))
    except* (BadMessage, RemoteProtocolError) as errors:
        log.audit("dropped", peer, why=_first(errors))
    except* (ConnectionError, trio.BrokenResourceError, channel.SiblingGone):
        # The client is gone, or we all are: whoever reads the channel knows.
        pass
    except* OSError as errors:
        log.audit("failed", peer, why=_first(errors))
    except* channel.SiblingError:
        raise
    except* Exception as errors:
        # A fault of ours that one client found must not end the others'.
        log.error(f"serving {peer}:\n{''.join(traceback.format_exception(errors))}", peer)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return an exception of *group* that is no group."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
