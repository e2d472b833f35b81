"""The run-time directory: the lock, the control socket, and a directory for each vif.

    /run/multiplexer/           root, 0755
        lock                    held by the broker that lives, with its pid
        control                 for everybody, 0666
        vif/                    root, 0711
            <32 hex digits>/    root, 0711
                attach          the vif's owner, 0600
                stream          the vif's owner, 0600
                bess            the vif's owner, 0600

Clients connect by path, so nobody but root may be able to replace any part of
one: each directory from / on is checked.  A socket node is made with the mode
that it keeps, then given to its owner, and only then listens.
"""

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from multiplexer.daemon.descriptors import has_passrights, is_prepared, refuse_fds
from multiplexer.daemon.directories import (
    OPEN_DIRECTORY,
    make_directory,
    open_safely,
)
from multiplexer.daemon.disposal import Disposal

#: The ways into a vif, and the type of socket of each.
KINDS: Final[Mapping[str, socket.SocketKind]] = MappingProxyType(
    {
        "attach": socket.SOCK_SEQPACKET,
        "stream": socket.SOCK_STREAM,
        "bess": socket.SOCK_SEQPACKET,
    }
)

CONTROL_BACKLOG: Final = 128
VIF_BACKLOG: Final = 16


class RunDirectoryInUse(Exception):
    """Another broker lives; the text says where, and its process."""


@attrs.frozen
class VifSockets:
    """The listening sockets of one vif, by kind, and the uid that owns them."""

    uid: int
    listeners: Mapping[str, socket.socket]


class RunDirectory:
    """The run-time directory of the only broker that uses it."""

    def __init__(self, path: str) -> None:
        """Make or take over *path*, lock it, and remove what a dead predecessor left.

        Raises:
            UnsafeDirectory: if others than root can change it.
            RunDirectoryInUse: if a predecessor lives.
            OSError: if it cannot be made.
        """
        self.path = path
        self._vifs: dict[str, VifSockets] = {}
        self._is_wary = not has_passrights()
        self._disposal = Disposal()
        with contextlib.ExitStack() as undo:
            self._made = make_directory(path, 0o755)
            if self._made:
                undo.callback(os.rmdir, path)
            self._fd = open_safely(path)
            undo.callback(os.close, self._fd)
            self._lock = self._take_lock()
            undo.callback(self._release_lock)
            self._clean()
            undo.callback(self._clean)
            os.mkdir("vif", dir_fd=self._fd)
            vif = os.open("vif", OPEN_DIRECTORY, dir_fd=self._fd)
            os.fchmod(vif, 0o711)
            os.close(vif)
            undo.pop_all()

    def listen_control(self) -> socket.socket:
        """Return the listening socket that everybody may connect to."""
        return _listen(
            f"{self.path}/control", socket.SOCK_STREAM, umask=0o111, backlog=CONTROL_BACKLOG
        )

    def open_vif(self, vif_id: str, uid: int, kinds: Sequence[str]) -> list[socket.socket]:
        """Return listening sockets of *vif_id* for *uid*, in the order of *kinds*.

        Those that are there already are returned again, with whoever waits in
        their queues; if they are another's, they become *uid*'s.  They stay ours:
        the caller duplicates what it gives away.
        """
        old = self._vifs.get(vif_id)
        if old is not None and [*old.listeners] == [*kinds]:
            if old.uid != uid:
                self._give(vif_id, old, uid)
            return [*old.listeners.values()]
        self.close_vif(vif_id)
        with contextlib.ExitStack() as undo:
            name = f"vif/{vif_id}"
            os.mkdir(name, dir_fd=self._fd)
            undo.callback(shutil.rmtree, name, dir_fd=self._fd)
            directory = os.open(name, OPEN_DIRECTORY, dir_fd=self._fd)
            undo.callback(os.close, directory)
            os.fchmod(directory, 0o711)
            listeners = {}
            for kind in kinds:
                listeners[kind] = undo.enter_context(
                    _listen(
                        f"{self.path}/{name}/{kind}",
                        KINDS[kind],
                        umask=0o177,
                        backlog=VIF_BACKLOG,
                        owner=uid,
                        directory=directory,
                    )
                )
            undo.pop_all()
        os.close(directory)
        self._vifs[vif_id] = VifSockets(uid, listeners)
        return [*listeners.values()]

    def _give(self, vif_id: str, sockets: VifSockets, uid: int) -> None:
        """Make *uid* the owner of all of a vif's sockets, or of none."""
        with contextlib.ExitStack() as undo:
            directory = os.open(f"vif/{vif_id}", OPEN_DIRECTORY, dir_fd=self._fd)
            undo.callback(os.close, directory)
            for kind in sockets.listeners:
                os.chown(kind, uid, -1, dir_fd=directory, follow_symlinks=False)
                undo.callback(
                    os.chown, kind, sockets.uid, -1, dir_fd=directory, follow_symlinks=False
                )
            undo.pop_all()
        os.close(directory)
        self._vifs[vif_id] = VifSockets(uid, sockets.listeners)

    def close_vif(self, vif_id: str) -> None:
        """Remove the sockets of *vif_id* and their directory, if there are any."""
        sockets = self._vifs.pop(vif_id, None)
        if sockets is not None:
            self._close(sockets)
            shutil.rmtree(f"vif/{vif_id}", dir_fd=self._fd)

    def owner_of(self, vif_id: str) -> int | None:
        """Return the uid whose the sockets of *vif_id* are; None if it has none."""
        sockets = self._vifs.get(vif_id)
        return None if sockets is None else sockets.uid

    @property
    def vif_ids(self) -> frozenset[str]:
        """The vifs that have sockets."""
        return frozenset(self._vifs)

    def remove(self) -> None:
        """Remove all that we made; the directory itself too, if we made it."""
        for sockets in self._vifs.values():
            self._close(sockets)
        self._vifs.clear()
        self._clean()
        self._release_lock()
        os.close(self._fd)
        if self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)

    def _close(self, sockets: VifSockets) -> None:
        for listener in sockets.listeners.values():
            self.close_listener(listener)

    def close_listener(self, listener: socket.socket) -> None:
        """Close *listener* and whoever waits in its queue.

        Who waits may have sent a descriptor, which is not for us to discard, and
        nothing that a client sends is for us to look at.
        """
        with listener:
            if not self._is_wary:
                return
            listener.shutdown(socket.SHUT_RDWR)
            waiting = []
            with contextlib.suppress(OSError):  # nobody, or nobody any more
                while True:
                    waiting.append(listener.accept()[0])
            self.close_connections(waiting)

    def close_connections(self, connections: Iterable[socket.socket]) -> None:
        """Close clients' *connections*, of which we may have the last copy."""
        for connection in connections:
            if self._is_wary or is_prepared(connection):
                self._disposal.take(connection)
            else:
                connection.close()
        self._disposal.tend()

    def _take_lock(self) -> int:
        while True:
            fd = os.open(
                "lock",
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
                dir_fd=self._fd,
            )
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.read(fd, 32).decode("ascii", "replace").strip()
                os.close(fd)
                raise RunDirectoryInUse(
                    f"{self.path} is in use by another multiplexerd, process {pid or 'unknown'}"
                ) from None
            # The predecessor may have removed the file between our two calls.
            if _is_same(fd, "lock", self._fd):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
            os.close(fd)

    def _release_lock(self) -> None:
        # Locked until it is gone: a successor finds us alive, or no file of ours.
        os.unlink("lock", dir_fd=self._fd)
        os.close(self._lock)

    def _clean(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink("control", dir_fd=self._fd)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree("vif", dir_fd=self._fd)


def _is_same(fd: int, name: str, directory: int) -> bool:
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _listen(
    path: str,
    kind: socket.SocketKind,
    *,
    umask: int,
    backlog: int,
    owner: int = 0,
    directory: int | None = None,
) -> socket.socket:
    """Return a socket that listens at *path*, in *directory* if its owner is not root."""
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK))
        refuse_fds(listener)
        with _umask(umask):
            listener.bind(path)
        if directory is not None:
            name = os.path.basename(path)
            os.chown(name, owner, -1, dir_fd=directory, follow_symlinks=False)
        listener.listen(backlog)
        undo.pop_all()
    return listener
