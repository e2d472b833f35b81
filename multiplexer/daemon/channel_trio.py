"""`multiplexer.daemon.channel` for trio: the same messages, waiting as trio does."""

import socket
from collections.abc import Sequence

import trio

from multiplexer.daemon import channel


async def send(
    sock: trio.socket.SocketType, message: channel.Message, fds: Sequence[int] = ()
) -> None:
    """Send *message*; the caller keeps *fds* and closes them.

    Only one task at a time may send on *sock*, else order is not kept.

    Raises:
        SiblingGone: if nobody is at the other end.
    """
    data = channel.encode(message)
    ancillary = channel.rights(fds) if fds else []
    try:
        await sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise channel.SiblingGone(f"sending {type(message).__name__}: {error.strerror}") from error


async def receive(sock: trio.socket.SocketType) -> tuple[channel.Message, list[int]]:
    """Return the next message and its descriptors, which the caller then owns.

    Raises:
        SiblingGone: if the other end has closed.
        SiblingError: if it sent what this protocol does not have.
    """
    try:
        data, ancillary, flags, _ = await sock.recvmsg(
            channel.MAX_MESSAGE_BYTES + 1, channel.rights_space(), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError as error:
        raise channel.SiblingGone(f"receiving: {error.strerror}") from error
    return channel.unpack(data, ancillary, flags)
