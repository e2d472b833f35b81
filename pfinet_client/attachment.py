"""Attach to a vif: the handshake, and the sockets that it leaves in our hands.

Blocking and without trio, so that a program with a loop of its own can use it:
`pfinet run` does, and `pfinet_client.vif` from a thread.
"""

import array
import contextlib
import os
import socket
import stat

import attrs

from pfinet_client.locate import connect_unix, set_timeout
from pfinet_proto.attach import (
    DATA_FDS,
    MAX_MESSAGE_BYTES,
    Goodbye,
    Hello,
    Message,
    Refused,
    RefusedCode,
    Tap,
    Transport,
    Unrecognized,
    Update,
    Welcome,
)
from pfinet_proto.attach.machine import AttachMachine, Role
from pfinet_proto.errors import BadMessage, RemoteProtocolError

#: More than any message carries, so that surplus is seen and refused.
_MAX_FDS = 8


class VifRefused(Exception):
    """The daemon does not let us attach; *text* is its reason, for the person."""

    def __init__(self, code: RefusedCode, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return self.text or f"refused: {self.code.name.lower()}"


@attrs.define(eq=False)
class Attachment:
    """A vif in our hands, until `close`.

    *sock* stays open, or the daemon detaches us; it becomes readable when there is
    something for `receive_nowait`.
    """

    sock: socket.socket
    welcome: Welcome
    _data: socket.socket | None
    _machine: AttachMachine = attrs.field(repr=False)
    memory: int | None = None
    """The memory of rings, as a descriptor; None if frames do not travel there."""

    @property
    def wants_tap(self) -> bool:
        """Whether frames travel over our own tap, which is due by `lend_tap`."""
        return self._data is None

    @property
    def data(self) -> socket.socket:
        """Where frames travel as records (include/pfinet_wire.h), unless `wants_tap`.

        With `memory`, only the kicks of its rings do (include/pfinet_ring.h).
        """
        assert self._data is not None, "the frames travel over a tap"
        return self._data

    def receive_nowait(self) -> Update | Goodbye | None:
        """Return the daemon's next word, or None if it has closed the connection.

        Messages of later releases are skipped.

        Raises:
            BlockingIOError: if there is none now.
            BadMessage, RemoteProtocolError: if it makes no sense.
            OSError: if the connection broke.
        """
        while True:
            message = _receive(self.sock, self._machine, 0, socket.MSG_DONTWAIT)[0]
            if not isinstance(message, Unrecognized):
                assert message is None or isinstance(message, Update | Goodbye)
                return message

    def lend_tap(self, tap: int) -> None:
        """Hand the daemon *tap*, for as long as this attachment lasts.

        Raises:
            OSError: if the connection broke.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tap]).tobytes())]
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        self.sock.sendmsg([self._machine.send(Tap())], rights, flags)

    def close(self) -> None:
        """Detach; more than once is allowed."""
        if self._data is not None:
            self._data.close()
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None
        self.sock.close()


def connect_attach(path: str, hello: Hello, timeout_s: float) -> Attachment:
    """Say *hello* on the `attach` socket *path* and return what the daemon gives.

    Connecting, sending and the answer may each take *timeout_s*.

    Raises:
        VifRefused: if the daemon refuses.
        BadMessage, RemoteProtocolError: if its answer makes no sense.
        TimeoutError: if it does not answer.
        OSError: if there is no such socket, or the caller may not connect to it.
    """
    machine = AttachMachine(Role.CLIENT)
    greeting = machine.send(hello)
    sock = connect_unix(path, socket.SOCK_SEQPACKET, timeout_s)
    try:
        welcome, fds = _greet(sock, machine, greeting, path, timeout_s)
        set_timeout(sock, 0)
    except BaseException:
        sock.close()
        raise
    data = socket.socket(fileno=fds[0]) if fds else None
    if data is not None:
        data.settimeout(None)
    memory = fds[1] if welcome.transport is Transport.RING else None
    return Attachment(sock, welcome, data, machine, memory)


def _greet(
    sock: socket.socket, machine: AttachMachine, greeting: bytes, path: str, timeout_s: float
) -> tuple[Welcome, list[int]]:
    try:
        # A refusal that did not wait for us can still be read.
        with contextlib.suppress(BrokenPipeError):
            sock.send(greeting, socket.MSG_NOSIGNAL)
        answer, fds = _receive(sock, machine, _MAX_FDS, 0)
    except BlockingIOError:
        raise TimeoutError(f"{path}: the daemon did not answer within {timeout_s:g} s") from None
    if isinstance(answer, Refused):
        raise VifRefused(answer.code, answer.text)
    if not isinstance(answer, Welcome):
        raise RemoteProtocolError(f"{path}: the daemon closed the connection without an answer")
    return answer, fds


def _receive(
    sock: socket.socket, machine: AttachMachine, max_fds: int, flags: int
) -> tuple[Message | None, list[int]]:
    """Read one message, None at the end, and exactly the descriptors that belong to it."""
    room = socket.CMSG_SPACE(max(max_fds, 1) * array.array("i").itemsize)
    data, ancillary, flags_out, _ = sock.recvmsg(
        MAX_MESSAGE_BYTES + 1, room, flags | socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    try:
        if flags_out & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise BadMessage(f"message of more than {MAX_MESSAGE_BYTES} bytes, or of surplus fds")
        message = machine.receive_untrusted(data) if data else None
        _check_descriptors(message, fds.tolist())
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds.tolist()


def _check_descriptors(message: Message | None, fds: list[int]) -> None:
    wanted = DATA_FDS[message.transport] if isinstance(message, Welcome) else 0
    if len(fds) != wanted:
        raise RemoteProtocolError(
            f"{len(fds)} descriptors beside {type(message).__name__}, not {wanted}"
        )
    # What else there may be, the memory of rings, is looked at when it is mapped.
    if fds and not _is_stream(fds[0]):
        raise RemoteProtocolError(f"descriptor beside {type(message).__name__} is no stream")


def _is_stream(fd: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as probe:
        return (probe.family, probe.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
