"""The data stream: one record for each Ethernet frame.

The twin of include/pfinet_wire.h for programs in Python, and for tests of it.
"""

from collections.abc import Iterable

from pfinet_proto.framing import FrameDecoder, encode_record

#: An IPv6 packet of the longest payload with its Ethernet header.
MAX_FRAME = 14 + 40 + 65535

#: struct virtio_net_hdr, little-endian, without num_buffers (virtio 1.2, 5.1.6, legacy).
VNET_LEN = 10


def check_frame(frame: bytes, *, vnet: bool = False) -> None:
    """Check that *frame*, which begins with a virtio_net_hdr if *vnet*, fits in a record.

    Raises:
        ValueError: if it does not.
    """
    shortest = VNET_LEN if vnet else 1
    longest = MAX_FRAME + (VNET_LEN if vnet else 0)
    if not shortest <= len(frame) <= longest:
        raise ValueError(f"frame of {len(frame)} bytes, not {shortest} to {longest}")


def encode_frame(frame: bytes, *, vnet: bool = False) -> bytes:
    """Return the record of *frame*, which begins with a virtio_net_hdr if *vnet*.

    Raises:
        ValueError: if it is too short or too long for a record.
    """
    check_frame(frame, vnet=vnet)
    return encode_record(frame)


def encode_frames(frames: Iterable[bytes], *, vnet: bool = False) -> bytes:
    """Return the records of *frames* one after another, as for `encode_frame`."""
    return b"".join(encode_frame(frame, vnet=vnet) for frame in frames)


class StreamDecoder(FrameDecoder):
    """Reads a data stream; each record is a frame, after its virtio_net_hdr if *vnet*."""

    def __init__(self, *, vnet: bool = False) -> None:
        head = VNET_LEN if vnet else 0
        super().__init__(MAX_FRAME + head, min_bytes=max(head, 1))
