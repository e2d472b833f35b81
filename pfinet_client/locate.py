"""Ask the daemon on its `control` socket, and where a vif is above all.

Blocking, without trio: each request is answered at once or the daemon is ill,
and a program that only attaches needs no event loop.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeVar

from pfinet_proto.control import (
    DEFAULT_CONTROL_PATH,
    MAX_REPLY_BYTES,
    FrameDecoder,
    Located,
    Request,
    VifLocate,
    decode_reply_untrusted,
    encode_request,
)
from pfinet_proto.errors import RemoteProtocolError
from pfinet_proto.values import VifName

#: The environment variable that names another control socket.
CONTROL_VARIABLE = "MULTIPLEXER_CONTROL"

#: Far above what a daemon with work to do needs.
TIMEOUT_S = 10.0

_READ_BYTES = 65536

R = TypeVar("R")


def control_path(given: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of the control socket: *given*, else of the environment, else the usual."""
    return given or environ.get(CONTROL_VARIABLE) or DEFAULT_CONTROL_PATH


def connect_unix(path: str, kind: socket.SocketKind, timeout_s: float) -> socket.socket:
    """Return a blocking socket of *kind* connected to *path*, each call bounded by *timeout_s*.

    The bound is the kernel's: a non-blocking connect() would fail at once
    while the daemon's backlog is full (unix(7)).

    Raises:
        OSError: if there is no such socket, or the caller may not connect to
            it; it names *path*.
        TimeoutError: if the daemon did not take the connection.
    """
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        # Whatever socket.setdefaulttimeout() says in the program around us.
        connection.settimeout(None)
        set_timeout(connection, timeout_s)
        connection.connect(path)
    except BlockingIOError:
        connection.close()
        raise TimeoutError(f"{path}: the daemon takes no connection for {timeout_s:g} s") from None
    except OSError as exc:
        connection.close()
        raise OSError(exc.errno, exc.strerror or str(exc), path) from exc
    except BaseException:
        connection.close()
        raise
    return connection


def set_timeout(connection: socket.socket, timeout_s: float) -> None:
    """Bound each call on the blocking *connection*; 0 is no bound.

    After the time a call fails with BlockingIOError (socket(7), SO_RCVTIMEO).
    """
    microseconds = round(timeout_s * 1_000_000)
    timeval = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)


class ControlClient:
    """A connection to the control socket."""

    def __init__(self, path: str, timeout_s: float = TIMEOUT_S) -> None:
        """Connect to *path*.

        Raises:
            OSError: as `connect_unix`.
        """
        self._path = path
        self._timeout_s = timeout_s
        self._socket = connect_unix(path, socket.SOCK_STREAM, timeout_s)
        self._decoder = FrameDecoder(MAX_REPLY_BYTES)
        self._last_id = 0

    def ask(self, request: Request[R]) -> R:
        """Return what the daemon gives to *request*.

        Raises:
            ControlError: if it does not do it.
            BadMessage, RemoteProtocolError: if what it says is no reply.
            TimeoutError: if it says nothing.
            OSError: if the connection broke.
        """
        self._last_id += 1
        try:
            # A daemon that refuses the connection has ended it, but may have said why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(encode_request(request, self._last_id), socket.MSG_NOSIGNAL)
            bodies: list[bytes] = []
            while not bodies:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise RemoteProtocolError(f"{self._path}: the daemon closed the connection")
                bodies = self._decoder.feed(data)
        except BlockingIOError:
            raise TimeoutError(
                f"{self._path}: the daemon did not answer within {self._timeout_s:g} s"
            ) from None
        if len(bodies) > 1 or not self._decoder.is_between_records:
            raise RemoteProtocolError(f"{self._path}: the daemon sent more than one reply")
        return decode_reply_untrusted(bodies[0], request, self._last_id)

    def close(self) -> None:
        """Close the connection; more than once is allowed."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def locate_vif(
    name: VifName | None, control: str | None = None, timeout_s: float = TIMEOUT_S
) -> Located:
    """Return where to attach to the vif *name*, or to the caller's only one.

    *control* is as in `control_path`.

    Raises:
        ControlError: if there is none, or several to choose from, or it is another user's.
        OSError, BadMessage, RemoteProtocolError: as `ControlClient`.
    """
    with ControlClient(control_path(control), timeout_s) as client:
        return client.ask(VifLocate(name))
