"""The frames of one attachment, sent and received with trio."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from socket import MSG_DONTWAIT, MSG_NOSIGNAL, socket
from typing import TypeVar

import trio

from pfinet_proto.errors import BadMessage
from pfinet_proto.framing import encode_record
from pfinet_proto.stream import StreamDecoder

#: What one read takes at most; the daemon's own reads are as long.
_READ_BYTES = 256 * 1024

_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL

T = TypeVar("T")


class StreamEnded(Exception):
    """The stream was closed, by the daemon or by whoever owns the socket here."""


class FrameStream:
    """The data stream *sock*, which stays the caller's.

    A record that is cut by the stream's end is gone with it: the next
    attachment's stream begins anew.
    """

    def __init__(self, sock: socket, *, vnet: bool) -> None:
        self._sock = sock
        self._decoder = StreamDecoder(vnet=vnet)
        self._unsent = b""

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send *frames*, which `check_frame` has seen.

        If it is cancelled, what is missing of the frame that it cut goes ahead
        of the next call's.

        Raises:
            StreamEnded: if it has.
        """
        records = list(map(encode_record, frames))
        head = self._unsent
        data = memoryview(b"".join([head, *records]))
        sent = 0
        try:
            while sent < len(data):
                sent += await _when_ready(
                    trio.lowlevel.wait_writable,
                    self._sock,
                    partial(self._sock.send, data[sent:], _FLAGS),
                )
        finally:
            self._unsent = head[sent:] or _rest_of_record(records, sent - len(head))

    async def receive(self) -> list[bytes]:
        """Wait for data; return the frames that are whole with it, perhaps none.

        Raises:
            StreamEnded: if it has.
            BadMessage: if the daemon sends what is no record.
        """
        data = await _when_ready(
            trio.lowlevel.wait_readable,
            self._sock,
            partial(self._sock.recv, _READ_BYTES, _FLAGS),
        )
        if not data:
            raise StreamEnded
        return self._decoder.feed(data)

    def drain_nowait(self) -> list[bytes]:
        """Return the frames that are there and whole, and nothing after them."""
        frames: list[bytes] = []
        with suppress(OSError, BadMessage):
            while data := self._sock.recv(_READ_BYTES, _FLAGS):
                frames += self._decoder.feed(data)
        return frames


async def _when_ready(
    wait: Callable[[socket], Awaitable[None]], sock: socket, act: Callable[[], T]
) -> T:
    """Return what *act* on *sock* does as soon as it does not block."""
    while True:
        try:
            return act()
        except BlockingIOError:
            pass
        except OSError as error:
            raise StreamEnded from error
        try:
            await wait(sock)
        except trio.ClosedResourceError as error:
            raise StreamEnded from error


def _rest_of_record(records: Sequence[bytes], sent: int) -> bytes:
    """Return what is missing of the record that *sent* bytes of *records* cut, if they do."""
    for record in records:
        if sent <= 0:
            break
        if sent < len(record):
            return record[sent:]
        sent -= len(record)
    return b""
