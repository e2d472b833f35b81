"""The sockets of the run directory, spoken to without any code of the product.

Whoever connects is seen by the kernel's word on the effective uid, so that is
changed for the moment of connecting.
"""

import json
import os
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

LENGTH: Final = struct.Struct("!I")


class Refused(AssertionError):
    """The daemon answered a request with an error."""


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be *uid* for the kernel, and root again afterwards; not to be nested."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def connected(path: Path, uid: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket that *uid* connected to *path*."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        # With a timeout, a full queue of connections would be an error at once.
        with acting_as(uid):
            sock.connect(str(path))
        sock.settimeout(20)
    except BaseException:
        sock.close()
        raise
    return sock


def receive_exactly(sock: socket.socket, length: int) -> bytes:
    """Return *length* bytes.

    Raises:
        EOFError: if the stream ends before.
    """
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {length} bytes")
        data += piece
    return data


def ask(path: Path, op: str, uid: int = 0, **arguments: Any) -> Any:
    """Return the daemon's answer to one request on the control socket.

    Raises:
        Refused: if the answer is an error.
    """
    with connected(path, uid) as sock:
        send_request(sock, op, arguments)
        return receive_result(sock)


def send_request(sock: socket.socket, op: str, arguments: Mapping[str, Any]) -> None:
    """Send one request of the control socket."""
    request = json.dumps({"v": 1, "id": 1, "op": op, "args": arguments}).encode()
    sock.sendall(LENGTH.pack(len(request)) + request)


def receive_result(sock: socket.socket) -> Any:
    """Return the daemon's answer to a request.

    Raises:
        Refused: if the answer is an error.
        EOFError: if the connection ends before.
    """
    (length,) = LENGTH.unpack(receive_exactly(sock, LENGTH.size))
    reply = json.loads(receive_exactly(sock, length))
    if not reply["ok"]:
        raise Refused(f"{reply['error']['code']}: {reply['error']['message']}")
    return reply["result"]


class StreamClient:
    """A client of a vif's `stream` socket, as QEMU's -netdev stream is one."""

    def __init__(self, path: Path, uid: int) -> None:
        self._socket = connected(path, uid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frames: Iterable[bytes]) -> int:
        """Send *frames*, and return how many they were."""
        count = 0
        for frame in frames:
            self._socket.sendall(LENGTH.pack(len(frame)) + frame)
            count += 1
        return count

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be records."""
        self._socket.sendall(data)

    def receive_to_end(self) -> None:
        """Skip what comes until the daemon has closed the connection."""
        with suppress(ConnectionResetError):
            while self._socket.recv(1 << 16):
                pass

    def receive(self) -> bytes:
        """Return the next frame.

        Raises:
            EOFError: if the daemon closed the connection.
        """
        (length,) = LENGTH.unpack(receive_exactly(self._socket, LENGTH.size))
        return receive_exactly(self._socket, length)

    def receive_now(self) -> list[bytes]:
        """Return the frames that have come, without waiting."""
        frames = []
        while select.select([self._socket], [], [], 0)[0]:
            frames.append(self.receive())
        return frames

    def receive_until(self, mark: bytes) -> list[bytes]:
        """Return the frames up to and with the first that contains *mark*."""
        frames = [self.receive()]
        while mark not in frames[-1]:
            frames.append(self.receive())
        return frames
