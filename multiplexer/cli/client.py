"""One blocking connection to the daemon's control socket."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final, Self, TypeVar

from pfinet_proto.control import (
    DEFAULT_CONTROL_PATH,
    MAX_REPLY_BYTES,
    FrameDecoder,
    Request,
    decode_reply_untrusted,
    encode_request,
)
from pfinet_proto.errors import RemoteProtocolError

#: The environment variable that names another control socket.
CONTROL_VARIABLE: Final = "MULTIPLEXER_CONTROL"

#: Far above what a daemon with work to do needs.
TIMEOUT_S: Final = 30.0

_READ_BYTES: Final = 65536

R = TypeVar("R")


class DaemonUnreachable(Exception):
    """Nobody answers at the control socket."""


def control_path(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of the control socket: *given*, else of the environment, else the usual."""
    return given or environment.get(CONTROL_VARIABLE) or DEFAULT_CONTROL_PATH


class ControlClient:
    """A connection to the control socket, for one request after the other."""

    def __init__(self, path: str, timeout_s: float = TIMEOUT_S) -> None:
        """Connect to *path*.

        Raises:
            DaemonUnreachable: if nobody listens there, or answers in time.
        """
        self._path = path
        self._decoder = FrameDecoder(MAX_REPLY_BYTES)
        self._requests = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise self._unreachable(error) from error

    def ask(self, request: Request[R]) -> R:
        """Return what the daemon gives to *request*.

        Raises:
            ControlError: if it does not do it.
            BadMessage, RemoteProtocolError: if what it says is no reply.
            DaemonUnreachable: if it says nothing.
        """
        self._requests += 1
        bodies: list[bytes] = []
        try:
            # A daemon that refuses the connection has ended it, but may have said why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(encode_request(request, self._requests))
            while not bodies:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise DaemonUnreachable(f"{self._path}: the daemon closed the connection")
                bodies = self._decoder.feed(data)
        except OSError as error:
            raise self._unreachable(error) from error
        if len(bodies) > 1 or not self._decoder.is_between_records:
            raise RemoteProtocolError(f"{self._path}: the daemon sent more than one reply")
        return decode_reply_untrusted(bodies[0], request, self._requests)

    def _unreachable(self, error: OSError) -> DaemonUnreachable:
        # The socket of a daemon that was killed is left behind.
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            why = "no daemon listens there: is multiplexerd running?"
            return DaemonUnreachable(f"{self._path}: {why}")
        return DaemonUnreachable(f"{self._path}: {error.strerror or error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


#: How a command gets a connection; it ends it.
Connect = Callable[[], ControlClient]
