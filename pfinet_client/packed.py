"""Frames one behind the other, as C takes and gives many at once."""

from array import array
from collections.abc import Iterable

from pfinet_proto.stream import MAX_FRAME, VNET_LEN

#: What a batch has room for; one frame always fits.
MAX_BYTES = 512 * 1024
MAX_FRAMES = 512

assert MAX_FRAME + VNET_LEN <= MAX_BYTES


class PackedFrames:
    """The first `count` of *lengths* say how *data* is parted; both stay where they are."""

    def __init__(self) -> None:
        self.data = bytearray(MAX_BYTES)
        self.lengths = array("I", bytes(4 * MAX_FRAMES))
        self.count = 0

    def frames(self, start: int = 0) -> list[bytes]:
        """Return the frames from number *start* on."""
        found = []
        at = sum(self.lengths[:start])
        for length in self.lengths[start : self.count]:
            found.append(bytes(self.data[at : at + length]))
            at += length
        return found

    def fill(self, frames: Iterable[bytes]) -> None:
        """Let these be the frames; there must be room for them."""
        at = self.count = 0
        for frame in frames:
            self.data[at : at + len(frame)] = frame
            self.lengths[self.count] = len(frame)
            at += len(frame)
            self.count += 1
        assert len(self.data) == MAX_BYTES
