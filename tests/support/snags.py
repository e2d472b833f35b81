"""Descriptors that hold up whoever closes the last copy of them."""

import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from . import linux
from .clients import acting

LINGER_S: Final = 1000
FUSE_DEVICE: Final = os.makedev(10, 229)

#: include/uapi/linux/fuse.h
_IN: Final = struct.Struct("=IIQQIIII")
_OUT: Final = struct.Struct("=IiQ")
_ATTRIBUTES: Final = struct.Struct("=6Q10I")
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _WRITE, _FLUSH, _INIT = 1, 2, 3, 4, 14, 16, 25, 26
_WRITEBACK_CACHE: Final = 1 << 16
_ENOSYS: Final = 38
_MAX_REQUEST: Final = 1 << 18


class LingeringSocket:
    """A TCP connection whose peer takes nothing: to close it takes until its time is over."""

    def __init__(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self._sock = socket.create_connection(listener.getsockname())
            self._peer, _ = listener.accept()

    def open(self) -> int:
        self._linger(True)
        self._sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._sock.send(bytes(1 << 16))
        return self._sock.fileno()

    def release(self) -> None:
        self._linger(False)
        self._sock.close()
        self._peer.close()

    def _linger(self, wanted: bool) -> None:
        option = struct.pack("ii", 1, LINGER_S if wanted else 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)


class HungFile:
    """A file of a file system whose server answers no write and no flush.

    Once it is open and written to, each close of it waits for the server, for as
    long as that lives; also the one that a new process makes of what it inherited.
    """

    def __init__(self, place: Path) -> None:
        self._node, self._mountpoint = place / "fuse", place / "hung"
        os.mknod(self._node, 0o020600, FUSE_DEVICE)
        self._mountpoint.mkdir()
        device = os.open(self._node, os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
        linux.mount("hung", self._mountpoint, "fuse", options=options)
        self._server = os.fork()
        if self._server == 0:
            try:
                while True:
                    _answer(device, os.read(device, _MAX_REQUEST))
            finally:
                os._exit(1)
        os.close(device)

    def open(self) -> int:
        fd = os.open(self._mountpoint / "file", os.O_RDWR)
        os.write(fd, b"x" * 100)
        return fd

    def release(self) -> None:
        """End the server: with it ends the file system, and every wait for it."""
        os.kill(self._server, signal.SIGKILL)
        os.waitpid(self._server, 0)
        linux.unmount(self._mountpoint)
        self._mountpoint.rmdir()
        self._node.unlink()


@contextmanager
def holding(snag: LingeringSocket | HungFile, use: Callable[[int], None]) -> Iterator[None]:
    """Have a process of its own open *snag* and *use* it; it has done so, and lives on.

    Afterwards nothing is held up any more.
    """

    def use_for_good(say: Callable[[], None]) -> None:
        use(snag.open())
        say()
        signal.pause()

    with acting(use_for_good, snag.release):
        yield


def _answer(device: int, request: bytes) -> None:
    _, operation, unique, node, *_ = _IN.unpack_from(request)
    error = 0
    if operation in (_WRITE, _FLUSH, _FORGET):
        return
    if operation == _INIT:
        limits = (65536, _WRITEBACK_CACHE, 8, 8, 65536, 1)
        body = struct.pack("=4I2H2I36x", 7, 31, *limits)
    elif operation == _LOOKUP:
        body = struct.pack("=QQQQII", 2, 0, 1000, 1000, 0, 0) + _attributes(2)
    elif operation in (_GETATTR, _SETATTR):
        body = struct.pack("=QII", 1000, 0, 0) + _attributes(node)
    elif operation == _OPEN:
        body = struct.pack("=QII", 1, 0, 0)
    else:
        body, error = b"", -_ENOSYS
    os.write(device, _OUT.pack(_OUT.size + len(body), error, unique) + body)


def _attributes(node: int) -> bytes:
    mode = 0o040755 if node == 1 else 0o100666
    return _ATTRIBUTES.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
