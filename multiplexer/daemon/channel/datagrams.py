"""How messages are written and read: each is one datagram, with its descriptors.

The functions here block or raise; `multiplexer.daemon.channel_trio` has the
same two for trio.
"""

import array
import contextlib
import json
import os
import socket
import struct
from collections.abc import Collection, Iterable, Sequence

from multiplexer.daemon import jsonvalues
from multiplexer.daemon.channel.messages import FD_COUNTS, MAX_FDS, MESSAGES, Message

#: Below the kernel's default socket buffer (212992), so that one datagram fits.
MAX_MESSAGE_BYTES = 200 * 1024

#: For how long the engine may stand still since control does not read: once, for it is
#: then taken for gone.
PATIENCE_S = 0.5


class SiblingError(Exception):
    """Another process of the daemon broke this protocol: a bug or a break-in."""


class SiblingGone(Exception):
    """The process at the other end has closed the channel or is dead."""


def encode(message: Message) -> bytes:
    """Return the datagram of *message*.

    Raises:
        ValueError: if it is longer than MAX_MESSAGE_BYTES.
    """
    name = type(message).__name__
    tree = {"type": name, **jsonvalues.to_json(message)}
    data = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{name} is {len(data)} bytes, more than {MAX_MESSAGE_BYTES}")
    return data


def decode(data: bytes) -> Message:
    """Return the message of one datagram.

    Raises:
        SiblingError: if it is none that this protocol has.
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SiblingError(f"not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise SiblingError(f"message is a {type(tree).__name__}, not an object")
    name = tree.pop("type", None)
    cls = MESSAGES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise SiblingError(f"unknown message type {name!r}")
    try:
        message: Message = jsonvalues.from_json(cls, tree, cls.__name__)
    except ValueError as error:
        raise SiblingError(str(error)) from None
    return message


def send(sock: socket.socket, message: Message, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send *message*; the caller keeps *fds* and closes them.

    Raises:
        SiblingGone: if nobody is at the other end.
        BlockingIOError: with MSG_DONTWAIT in *flags*, if the socket is full.
    """
    data = encode(message)
    try:
        if fds:
            sock.sendmsg([data], rights(fds), flags | socket.MSG_NOSIGNAL)
        else:
            sock.send(data, flags | socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise SiblingGone(f"sending {type(message).__name__}: {error.strerror}") from error


def bound_sending(sock: socket.socket) -> None:
    """Let `send` on *sock*, which blocks, raise BlockingIOError after PATIENCE_S in vain."""
    seconds, rest = divmod(PATIENCE_S, 1)
    patience = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)


def receive(sock: socket.socket, flags: int = 0) -> tuple[Message, list[int]]:
    """Return the next message and its descriptors, which the caller then owns.

    Raises:
        SiblingGone: if the other end has closed.
        SiblingError: as `decode`, or if the descriptors do not fit the message.
        BlockingIOError: with MSG_DONTWAIT in *flags*, if there is none.
    """
    try:
        received = sock.recvmsg(
            MAX_MESSAGE_BYTES + 1, rights_space(), flags | socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError as error:
        raise SiblingGone(f"receiving: {error.strerror}") from error
    return unpack(received[0], received[1], received[2])


def rights(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """Return the control message that carries *fds*."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())]


def rights_space() -> int:
    """Return the bytes of control buffer that a receiver gives."""
    return socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


def unpack(
    data: bytes, ancillary: Sequence[tuple[int, int, bytes]], flags: int
) -> tuple[Message, list[int]]:
    """Return message and descriptors of what one recvmsg(2) gave.

    No descriptor is left open when it raises, as `receive` does.
    """
    fds = descriptors_in(ancillary)
    try:
        if not data:
            raise SiblingGone("the channel is closed")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise SiblingError(
                f"message is longer than {MAX_MESSAGE_BYTES} bytes or {MAX_FDS} descriptors"
            )
        message = decode(data)
        counts = FD_COUNTS.get(type(message), (0,))
        if len(fds) not in counts:
            raise SiblingError(
                f"{type(message).__name__} with {len(fds)} descriptors,"
                f" wanted {' or '.join(map(str, counts))}"
            )
    except BaseException:
        close_all(fds)
        raise
    return message, fds


def descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that one recvmsg(2) gave."""
    fds = array.array("i")
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
    return fds.tolist()


def as_sockets(fds: Collection[int]) -> list[socket.socket]:
    """Return *fds* as sockets, which then own them.

    Raises:
        OSError: if one of them is none; all are then closed.
    """
    sockets: list[socket.socket] = []
    try:
        for fd in fds:
            sockets.append(socket.socket(fileno=fd))
    except OSError:
        for sock in sockets:
            sock.detach()
        close_all(fds)
        raise
    return sockets


def close_all(fds: Collection[int]) -> None:
    """Close each of *fds*."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
