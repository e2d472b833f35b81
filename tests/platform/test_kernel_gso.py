"""Segmentation and checksums are those of the kernel we run on, byte for byte.

A frame is injected through a packet socket with PACKET_VNET_HDR into a veth pair
whose sending end has no offload, so that the kernel's own GSO cuts it; what comes
out of the other end is compared with what dp_offload_segment() writes.  Needs
root, for a network namespace of its own.
"""

import ctypes
import errno
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import evolve, frozen
from multiplexer.datapath._dp import ffi, lib

from tests.support.gso_frames import (
    ACK,
    CWR,
    DESTINATION_OPTIONS,
    ECE,
    FIN,
    HOP_BY_HOP,
    PAD_6,
    PSH,
    ROUTING,
    TIMESTAMPS,
    UDP,
    URG,
    Frame,
    ones_sum,
)

CLONE_NEWNET = 0x40000000  # linux/sched.h
SOL_PACKET, PACKET_VNET_HDR = 263, 15  # linux/socket.h, linux/if_packet.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
ETH_P_ALL = 0x0003
LOCAL_EXPERIMENTAL = b"\x88\xb5"  # IEEE 802, clause 9.2.4

END_MARK = bytes.fromhex("525400000002525400000001") + LOCAL_EXPERIMENTAL + bytes(46)
RECEIVE_BUFFER_BYTES = 64 << 20
MTU = 9000

SET_UP = (
    "ip link add gso0 type veth peer name gso1",
    "ethtool -K gso0 tso off gso off tx off",
    "ethtool -K gso1 gro off",
    f"ip link set gso0 mtu {MTU} up",
    f"ip link set gso1 mtu {MTU} up",
)

# A burst goes through the receiving processor's backlog, which holds 1000 frames
# (net.core.netdev_max_backlog).
MOST_SEGMENTS = 500


@frozen
class KernelGso:
    """Two ends of a veth pair: frames go in unfinished and come out segmented."""

    sender: socket.socket
    receiver: socket.socket

    def send(self, header: bytes, frame: bytes) -> list[bytes]:
        """Return the frames that the kernel makes of *frame* and its virtio_net_hdr."""
        self.sender.send(header + frame)
        self.sender.send(bytes(lib.DP_VNET_LEN) + END_MARK)
        received = []
        while (data := self.receiver.recv(1 << 17)) != END_MARK:
            received.append(data)
        return received


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep this thread where it is: frames then wait in one backlog, in order."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


@contextmanager
def in_a_new_network_namespace() -> Iterator[None]:
    """Run this thread, and what it starts, in a namespace that lives while it is used."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        try:
            yield
        finally:
            if libc.setns(ours, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(ours)


def packet_socket() -> socket.socket:
    """Return a packet socket that receives nothing yet."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelGso]:
    """The pair, in a network namespace that its sockets keep."""
    with ExitStack() as stack:
        stack.enter_context(on_one_processor())
        with in_a_new_network_namespace():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            for command in SET_UP:
                subprocess.run(command.split(), check=True, capture_output=True)
            sender = stack.enter_context(packet_socket())
            sender.bind(("gso0", 0))
            receiver = stack.enter_context(packet_socket())
            receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            receiver.settimeout(30)
            receiver.bind(("gso1", ETH_P_ALL))
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        yield KernelGso(sender, receiver)


@frozen
class Ours:
    """What our core says of a frame: its virtio_net_hdr, and what it becomes."""

    header: bytes
    segments: list[bytes]

    @classmethod
    def of(cls, frame: Frame, gso_size: int | None, ecn: bool = False) -> "Ours":
        data = ffi.new("uint8_t[]", frame.unfinished())
        view = ffi.new("struct dp_frame *")
        view.meta.csum = lib.DP_CSUM_NEEDED
        view.meta.csum_start = frame.l4_off
        view.meta.csum_offset = frame.csum_offset
        if gso_size is not None:
            tcp = lib.DP_GSO_TCPV4 if frame.version == 4 else lib.DP_GSO_TCPV6
            view.meta.gso = lib.DP_GSO_UDP if frame.protocol == UDP else tcp
            view.meta.gso_size = gso_size
            view.meta.ecn = ecn
        assert lib.dp_frame_parse(view, data, len(frame.unfinished())) == 0
        assert lib.dp_offload_fits(view)
        header = ffi.new("uint8_t[]", lib.DP_VNET_LEN)
        lib.dp_offload_encode(header, view)
        out = ffi.new("uint8_t[]", lib.dp_offload_segment_len(view))
        segments = []
        for index in range(lib.dp_offload_segments(view)):
            written = lib.dp_offload_segment(view, index, out)
            segments.append(bytes(ffi.buffer(out, written)))
        return cls(bytes(header), segments)


def payload(length: int, seed: int = 1) -> bytes:
    """Return *length* bytes that differ from place to place."""
    return random.Random(seed).randbytes(length)


LARGEST_V4 = 65535 - 20 - 20
LARGEST_V6 = 65535 - 20

SHAPES_OF_BOTH = {
    "two-whole-segments": (Frame(payload=payload(2896)), 1448),
    "one-byte-too-many": (Frame(payload=payload(2897)), 1448),
    "one-byte-more-than-a-segment": (Frame(payload=payload(1449)), 1448),
    "odd-segments": (Frame(payload=payload(7000)), 1447),
    "odd-segments-and-odd-rest": (Frame(payload=payload(7001)), 1333),
    "least-segments": (Frame(payload=payload(511)), 8),
    "nine-byte-segments": (Frame(payload=payload(575)), 9),
    "payload-of-zeros": (Frame(payload=bytes(5000)), 1448),
    "payload-of-ones": (Frame(payload=b"\xff" * 5001), 1447),
    "jumbo-segments": (Frame(payload=payload(60000)), 8928),
    "timestamps": (Frame(payload=payload(9000), tcp_options=TIMESTAMPS), 1436),
    "forty-bytes-of-options": (Frame(payload=payload(9000), tcp_options=b"\1" * 40), 1408),
    "psh": (Frame(payload=payload(4000), flags=PSH | ACK), 1448),
    "fin": (Frame(payload=payload(4000), flags=FIN | ACK), 1448),
    "fin-psh-urg": (Frame(payload=payload(4000), flags=FIN | PSH | URG | ACK, urgent=9), 1448),
    "cwr-unmarked": (Frame(payload=payload(4000), flags=CWR | ACK), 1448),
    "every-flag": (Frame(payload=payload(4000), flags=0xFF), 1448),
    "no-flag": (Frame(payload=payload(4000), flags=0), 1448),
    "reserved-bits": (Frame(payload=payload(4000), reserved=0x0F), 1448),
    "ect-and-dscp": (Frame(payload=payload(4000), tos=0xBA), 1448),
    "sequence-wraps": (Frame(payload=payload(9000), seq=0xFFFFF000), 1448),
    "sequence-wraps-exactly": (Frame(payload=payload(2896), seq=0x100000000 - 1448), 1448),
    "wrong-pseudo-header": (Frame(payload=payload(9000), pseudo_error=0x1234), 1448),
    "pseudo-header-off-by-one": (Frame(payload=payload(9000), pseudo_error=0xFFFE), 1448),
    "one-segment": (Frame(payload=payload(1448)), 1448),
    "one-byte": (Frame(payload=b"x", flags=PSH | ACK), 1448),
    "less-than-a-segment-with-options": (
        Frame(payload=payload(1440), tcp_options=TIMESTAMPS, flags=FIN | PSH | CWR),
        1448,
    ),
}

SHAPES = {
    **{f"tcp4-{name}": shape for name, shape in SHAPES_OF_BOTH.items()},
    **{
        f"tcp6-{name}": (evolve(frame, version=6), gso_size)
        for name, (frame, gso_size) in SHAPES_OF_BOTH.items()
    },
    "tcp4-largest": (Frame(payload=payload(LARGEST_V4)), 1460),
    "tcp4-largest-odd": (Frame(payload=payload(LARGEST_V4 - 1), tcp_options=b""), 131),
    "tcp6-largest": (Frame(version=6, payload=payload(LARGEST_V6)), 1440),
    "tcp4-id-wraps": (Frame(payload=payload(9000), ident=0xFFFE), 1448),
    "tcp4-id-wraps-to-zero-last": (Frame(payload=payload(2896), ident=0xFFFF), 1448),
    "tcp4-id-zero": (Frame(payload=payload(9000), ident=0), 1448),
    "tcp4-may-fragment": (Frame(payload=payload(9000), fragment=0), 1448),
    "tcp4-evil-bit": (Frame(payload=payload(9000), fragment=0xC000), 1448),
    "tcp4-ip-options": (Frame(payload=payload(9000), ip_options=b"\x94\4\0\0"), 1448),
    "tcp4-all-options": (
        Frame(payload=payload(9000), ip_options=b"\1" * 40, tcp_options=b"\1" * 40),
        1368,
    ),
    "tcp6-hop-by-hop": (
        Frame(version=6, payload=payload(9001), extensions=((HOP_BY_HOP, b"\0" + PAD_6),)),
        1428,
    ),
    "tcp6-destination-options": (
        Frame(
            version=6, payload=payload(9001), extensions=((DESTINATION_OPTIONS, b"\0" + PAD_6),)
        ),
        1428,
    ),
    "tcp6-routing": (
        Frame(version=6, payload=payload(9001), extensions=((ROUTING, b"\0\4\0" + bytes(4)),)),
        1428,
    ),
    "tcp6-chain": (
        Frame(
            version=6,
            payload=payload(20001),
            tcp_options=TIMESTAMPS,
            flags=CWR | ECE | PSH | ACK,
            extensions=(
                (HOP_BY_HOP, b"\1" + PAD_6 + b"\1\6" + bytes(6)),
                (DESTINATION_OPTIONS, b"\0" + PAD_6),
                (ROUTING, b"\0\4\0" + bytes(4)),
                (DESTINATION_OPTIONS, b"\2" + PAD_6 + b"\1\16" + bytes(14)),
            ),
        ),
        1367,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_segments_are_those_of_the_kernel(kernel: KernelGso, name: str) -> None:
    frame, gso_size = SHAPES[name]
    ours = Ours.of(frame, gso_size)
    assert len(ours.segments) <= MOST_SEGMENTS

    theirs = kernel.send(ours.header, frame.unfinished())

    assert len(theirs) == -(-len(frame.payload) // gso_size)
    assert ours.segments == theirs


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flags", [CWR | ECE | ACK, CWR | FIN | PSH | ACK, ECE | ACK, ACK])
def test_segments_marked_for_ecn_are_those_of_the_kernel(
    kernel: KernelGso, version: int, flags: int
) -> None:
    frame = Frame(version=version, payload=payload(9000), flags=flags, tos=2)
    ours = Ours.of(frame, 1448, ecn=True)
    assert ours.header[1] & 0x80

    theirs = kernel.send(ours.header, frame.unfinished())

    assert ours.segments == theirs


def random_shape(seed: int) -> tuple[Frame, int, bool]:
    """Return a frame, a gso_size and whether it is marked for ECN, all from *seed*."""
    rng = random.Random(seed)
    version = rng.choice((4, 6))
    gso_size = rng.choice(
        (8, rng.randint(8, 100), rng.randint(100, 1500), rng.randint(1500, 8900))
    )
    # Segments that may be more headers than payload are few.
    most = MOST_SEGMENTS if gso_size >= 300 else lib.DP_MAX_THIN_SEGMENTS
    length = rng.randint(1, min(40000, gso_size * most))
    chain = tuple(
        (kind, b"\0" + PAD_6) for kind in (HOP_BY_HOP, DESTINATION_OPTIONS) if rng.random() < 0.3
    )
    frame = Frame(
        version=version,
        payload=rng.randbytes(length),
        flags=rng.getrandbits(8),
        reserved=rng.getrandbits(4),
        seq=rng.getrandbits(32),
        ident=rng.getrandbits(16),
        fragment=rng.choice((0, 0x4000)),
        tos=rng.getrandbits(8),
        urgent=rng.getrandbits(16),
        sport=rng.getrandbits(16),
        ip_options=b"\1" * 4 * rng.choice((0, 0, 1, 10)) if version == 4 else b"",
        tcp_options=rng.choice((b"", TIMESTAMPS, b"\1" * 4 * rng.randint(0, 10))),
        extensions=chain if version == 6 else (),
        pseudo_error=rng.choice((0, 0, 0, rng.getrandbits(16))),
    )
    return frame, gso_size, rng.random() < 0.3


def test_random_frames_become_the_kernels_segments(kernel: KernelGso) -> None:
    for seed in range(400):
        frame, gso_size, ecn = random_shape(seed)
        ours = Ours.of(frame, gso_size, ecn)

        theirs = kernel.send(ours.header, frame.unfinished())

        assert ours.segments == theirs, f"seed {seed}"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("length", "gso_size"),
    [(2944, 1472), (2945, 1472), (128, 1), (129, 2), (1001, 100), (60_001, 1471), (60_000, 8920)],
)
@pytest.mark.parametrize("fill", [None, 0x00, 0xFF])
def test_datagrams_are_those_of_the_kernel(
    kernel: KernelGso, version: int, length: int, gso_size: int, fill: int | None
) -> None:
    data = payload(length) if fill is None else bytes([fill]) * length
    frame = Frame(version=version, protocol=UDP, payload=data, ident=0xFFFE)
    ours = Ours.of(frame, gso_size)

    assert kernel.send(ours.header, frame.unfinished()) == ours.segments


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 63, 64, 65, 1471, 1472, 8000])
def test_a_completed_udp_checksum_is_the_kernels(
    kernel: KernelGso, version: int, length: int
) -> None:
    frame = Frame(version=version, protocol=UDP, payload=payload(length, seed=length))
    ours = Ours.of(frame, None)

    assert kernel.send(ours.header, frame.unfinished()) == ours.segments


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_checksum_of_zero_is_written_as_the_kernel_writes_it(
    kernel: KernelGso, version: int
) -> None:
    """The payload is the complement of all else, so that the sum is 0xffff."""
    blank = Frame(version=version, protocol=UDP, payload=bytes(2))
    rest = ones_sum(blank.unfinished()[blank.l4_off :])
    frame = evolve(blank, payload=(rest ^ 0xFFFF).to_bytes(2, "big"))
    ours = Ours.of(frame, None)
    at = frame.l4_off + frame.csum_offset

    assert ours.segments[0][at : at + 2] == b"\xff\xff"
    assert kernel.send(ours.header, frame.unfinished()) == ours.segments


def test_the_kernel_drops_a_frame_of_one_segment_that_is_said_to_need_cutting(
    kernel: KernelGso,
) -> None:
    """Why dp_offload_encode() says nothing of segmentation for such a frame."""
    frame = Frame(payload=payload(1448), tcp_options=TIMESTAMPS)
    ours = Ours.of(frame, 1448)
    said = bytes((1, 1, frame.payload_off, 0)) + (1448).to_bytes(2, "little") + ours.header[6:]

    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        kernel.send(said, frame.unfinished())
    assert kernel.send(ours.header, frame.unfinished()) == [frame.finished()]
