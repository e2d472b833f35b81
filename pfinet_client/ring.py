"""The frames of an attachment by rings, sent and received with trio.

Frames are copied to and from memory that the daemon shares, by C; the kernel is asked
only where one side sleeps.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from socket import socket

import trio

from pfinet_client._pump import ffi, lib
from pfinet_client.frames import StreamEnded
from pfinet_client.packed import MAX_BYTES, MAX_FRAMES, PackedFrames
from pfinet_proto.errors import BadMessage
from pfinet_proto.stream import VNET_LEN


class RingFrames:
    """The rings in *memory*, with *kicks*, which both stay the caller's.

    Raises:
        BadMessage: if the daemon has sent what is no memory of rings.
        OSError: if it cannot be mapped.
    """

    def __init__(self, kicks: socket, memory: int, *, vnet: bool) -> None:
        self._kicks = kicks
        rings = ffi.new("struct pfinet_rings *")
        error = lib.pfinet_rings_open(rings, memory, kicks.fileno(), VNET_LEN if vnet else 0)
        _check(error)
        # Nobody can touch the memory any more when the last of us is gone.
        self._rings = ffi.gc(rings, lib.pfinet_rings_close)
        self._taken = PackedFrames()
        self._waiter: trio.Event | None = None

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send *frames*.

        If it is cancelled, the first few of them are sent.

        Raises:
            StreamEnded: if the daemon has ended it.
        """
        put = lib.pfinet_rings_put
        unsent = iter(frames)
        frame = next(unsent, None)
        while frame is not None:
            while frame is not None and (found := put(self._rings, frame, len(frame))):
                _check(found)
                frame = next(unsent, None)
            self._publish()
            if frame is not None and lib.pfinet_rings_wait_room(self._rings):
                await self._wait_kick()

    def put_nowait(self, batch: PackedFrames) -> int:
        """Send the first frames of *batch*; return how many, as many as there is room for.

        Raises:
            StreamEnded: if the daemon has ended it.
            BadMessage: if what it has written has no meaning.
        """
        self._check_open()
        put = lib.pfinet_rings_put_all(
            self._rings,
            ffi.from_buffer("uint8_t[]", batch.data),
            ffi.from_buffer("uint32_t[]", batch.lengths),
            batch.count,
        )
        _check(put)
        lib.pfinet_rings_publish(self._rings)
        return put

    def _publish(self) -> None:
        self._check_open()
        lib.pfinet_rings_publish(self._rings)

    def _check_open(self) -> None:
        # Another file may have the number by now that C would kick.
        if self._kicks.fileno() < 0:
            raise StreamEnded

    async def receive(self) -> list[bytes]:
        """Wait for frames; return those that are there, perhaps none.

        Raises:
            StreamEnded: if the daemon has ended it.
            BadMessage: if what it has written has no meaning.
        """
        await self.receive_packed(self._taken)
        return self._taken.frames()

    async def receive_packed(self, batch: PackedFrames) -> None:
        """Do the same, and let *batch* have them."""
        self._take(batch)
        if batch.count == 0:
            if lib.pfinet_rings_wait_frames(self._rings):
                await self._wait_kick()
            self._take(batch)

    def drain_nowait(self) -> list[bytes]:
        """Return the frames that are there."""
        frames: list[bytes] = []
        with suppress(BadMessage, StreamEnded):
            self._take(self._taken)
            while self._taken.count:
                frames += self._taken.frames()
                self._take(self._taken)
        return frames

    def _take(self, batch: PackedFrames) -> None:
        batch.count = 0
        self._check_open()
        count = lib.pfinet_rings_take(
            self._rings,
            ffi.from_buffer("uint8_t[]", batch.data),
            MAX_BYTES,
            ffi.from_buffer("uint32_t[]", batch.lengths),
            MAX_FRAMES,
        )
        _check(count)
        batch.count = count

    async def _wait_kick(self) -> None:
        """Wait until the daemon has moved; who sends and who receives may both do so.

        Raises:
            StreamEnded: if it has closed, or the caller has.
        """
        if self._waiter is not None:
            await self._waiter.wait()
            return
        self._waiter = trio.Event()
        try:
            await trio.lowlevel.wait_readable(self._kicks)
            if lib.pfinet_rings_take_kicks(self._rings) < 0:
                raise StreamEnded
        except (trio.ClosedResourceError, ValueError, OSError) as error:
            raise StreamEnded from error
        finally:
            self._waiter.set()
            self._waiter = None


def _check(result: int) -> None:
    """Raise what a negative *result* of C says."""
    if result == -errno.EPROTO:
        raise BadMessage("an index or a length of the ring has no meaning")
    if result < 0:
        raise OSError(-result, os.strerror(-result))
