"""Records in a byte stream: a u32 big-endian length, then that many bytes.

The data stream and the control socket are both written so; they differ in
how long a record may be.
"""

from pfinet_proto.errors import BadMessage

LENGTH_LEN = 4


def encode_record(payload: bytes) -> bytes:
    """Return *payload* with its length before it."""
    return len(payload).to_bytes(LENGTH_LEN, "big") + payload


class FrameDecoder:
    """Cuts a byte stream into its records, however its bytes arrive.

    It never holds more than one record and what one `feed` brought.
    """

    def __init__(self, max_bytes: int, *, min_bytes: int = 1) -> None:
        self._max_bytes = max_bytes
        self._min_bytes = min_bytes
        self._pending = bytearray()

    @property
    def is_between_records(self) -> bool:
        """True if no part of a record has arrived; the end of the stream is then a clean one."""
        return not self._pending

    @property
    def announced_bytes(self) -> int:
        """How long the record is whose begin has arrived; 0 if that is not known yet."""
        if len(self._pending) < LENGTH_LEN:
            return 0
        return int.from_bytes(self._pending[:LENGTH_LEN], "big")

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the records that are now whole.

        Raises:
            BadMessage: if a length is out of range.  Nothing after it has a
                meaning, so each later call raises too.
        """
        self._pending += data
        records = []
        at = 0
        while len(self._pending) - at >= LENGTH_LEN:
            length = int.from_bytes(self._pending[at : at + LENGTH_LEN], "big")
            if not self._min_bytes <= length <= self._max_bytes:
                del self._pending[:at]
                raise BadMessage(
                    f"record of {length} bytes, not {self._min_bytes} to {self._max_bytes}"
                )
            end = at + LENGTH_LEN + length
            if len(self._pending) < end:
                break
            records.append(bytes(self._pending[at + LENGTH_LEN : end]))
            at = end
        del self._pending[:at]
        return records
