"""The rings of an attachment: frames in memory that client and daemon share.

The twin of include/pfinet_ring.h, for tests of it and for whoever wants to look at a
memory.  It has no fences, so it is not for talking with a side that runs meanwhile: a
program in Python does that through the C header, as `pfinet_client` does.
"""

import enum
import struct
from collections.abc import Iterable, Iterator

import attrs

from pfinet_proto.attach import Offload
from pfinet_proto.errors import BadMessage

#: Before the data of the rings.
CONTROL_BYTES = 4096

#: The data of one ring.
MIN_BYTES, MAX_BYTES = 256 * 1024, 4 * 1024 * 1024
USUAL_BYTES = 1024 * 1024
SEGMENTS_BYTES = 4 * 1024 * 1024

ALIGN = 8
LENGTH_BYTES = 4
SKIP = 0xFFFFFFFF

#: An index and a flag, as each line begins.
LINE = struct.Struct("=II")
LINE_BYTES = 128

_LENGTH = struct.Struct("=I")
_MASK = 0xFFFFFFFF
_SEGMENTS = Offload.TSO4 | Offload.TSO6 | Offload.USO


class Which(enum.IntEnum):
    """A ring: from the client, or to it."""

    UP = 0
    DOWN = 1


def ring_bytes(offload: Offload) -> int:
    """Return how long the daemon makes each ring of an attachment with *offload*."""
    return SEGMENTS_BYTES if offload & _SEGMENTS else USUAL_BYTES


def memory_bytes(ring_bytes: int) -> int:
    """Return how long the memory of two rings is."""
    return CONTROL_BYTES + 2 * ring_bytes


def ring_bytes_of(memory_bytes: int) -> int:
    """Return how long each ring of a memory is.

    Raises:
        BadMessage: if no rings have a memory of that length.
    """
    found = (memory_bytes - CONTROL_BYTES) // 2
    if not (
        MIN_BYTES <= found <= MAX_BYTES
        and found & (found - 1) == 0
        and CONTROL_BYTES + 2 * found == memory_bytes
    ):
        raise BadMessage(f"{memory_bytes} bytes are no memory of rings")
    return found


def record_bytes(payload_bytes: int) -> int:
    """Return what a payload takes of a ring, if it does not have to skip."""
    return (LENGTH_BYTES + payload_bytes + ALIGN - 1) // ALIGN * ALIGN


@attrs.define
class Line:
    """What one side of one ring writes, at *at* in *memory*; the other clears the flag."""

    memory: memoryview
    at: int

    @property
    def index(self) -> int:
        """Bytes that the side has written, or taken, modulo 2^32."""
        return int(LINE.unpack_from(self.memory, self.at)[0])

    @index.setter
    def index(self, value: int) -> None:
        LINE.pack_into(self.memory, self.at, value & _MASK, self.waits)

    @property
    def waits(self) -> int:
        """Not 0 if it wants to be kicked."""
        return int(LINE.unpack_from(self.memory, self.at)[1])

    @waits.setter
    def waits(self, value: int) -> None:
        LINE.pack_into(self.memory, self.at, self.index, value)


class _Side:
    """One side of one ring, from the beginning of its life on."""

    def __init__(self, memory: memoryview, which: Which, *, produces: bool) -> None:
        self.bytes = ring_bytes_of(len(memory))
        lines = [Line(memory, (2 * which + side) * LINE_BYTES) for side in (0, 1)]
        self.own, self.other = lines if produces else lines[::-1]
        start = CONTROL_BYTES + which * self.bytes
        self.data = memory[start : start + self.bytes]
        #: This side's own index.
        self.index = 0

    def publish(self) -> None:
        """Let the other side see how far this one is."""
        self.own.index = self.index


class Producer(_Side):
    """Writes records; *memory* is all zero."""

    def __init__(self, memory: memoryview, which: Which) -> None:
        super().__init__(memory, which, produces=True)

    def put(self, payload: bytes) -> bool:
        """Write a record, not yet published; False if there is no room."""
        at = self.index % self.bytes
        skipped = self.bytes - at if self.bytes - at < record_bytes(len(payload)) else 0
        used = (self.index - self.other.index) & _MASK
        if used + skipped + record_bytes(len(payload)) > self.bytes:
            return False
        if skipped:
            _LENGTH.pack_into(self.data, at, SKIP)
            at = 0
        _LENGTH.pack_into(self.data, at, len(payload))
        self.data[at + LENGTH_BYTES : at + LENGTH_BYTES + len(payload)] = payload
        self.index = (self.index + skipped + record_bytes(len(payload))) & _MASK
        return True

    def put_all(self, payloads: Iterable[bytes]) -> int:
        """Write and publish as many of *payloads* as fit; return how many that are."""
        count = 0
        for payload in payloads:
            if not self.put(payload):
                break
            count += 1
        self.publish()
        return count


class Consumer(_Side):
    """Takes records of at most *max_payload* bytes; *memory* is all zero at first."""

    def __init__(self, memory: memoryview, which: Which, max_payload: int) -> None:
        super().__init__(memory, which, produces=False)
        self._max_payload = max_payload

    def take_all(self) -> list[bytes]:
        """Take and publish what is there.

        Raises:
            BadMessage: if an index or a length has no meaning; what stood before is lost.
        """
        taken = list(self._records(self.other.index))
        self.publish()
        return taken

    def _records(self, written: int) -> Iterator[bytes]:
        left = (written - self.index) & _MASK
        if left > self.bytes or written % ALIGN:
            raise BadMessage(f"index {written} of the producer, {self.index} are taken")
        while left:
            at = self.index % self.bytes
            (length,) = _LENGTH.unpack_from(self.data, at)
            room = min(left, self.bytes - at)
            if length == SKIP and at and room == self.bytes - at:
                used = room
            elif 1 <= length <= self._max_payload and record_bytes(length) <= room:
                used = record_bytes(length)
                yield bytes(self.data[at + LENGTH_BYTES : at + LENGTH_BYTES + length])
            else:
                raise BadMessage(f"record of {length} bytes, there is room for {room}")
            self.index = (self.index + used) & _MASK
            left -= used
