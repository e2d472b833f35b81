"""The offload step against frames built afresh in Python, and against hostile metadata."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
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
    TCP,
    TIMESTAMPS,
    UDP,
    Frame,
    ones_sum,
)

NEEDS_CSUM, DATA_VALID, RSC_INFO = 1, 2, 4
UFO, UDP_L4, GSO_ECN = 3, 5, 0x80


def vnet(
    flags: int = 0, gso: int = 0, gso_size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    """Return a virtio_net_hdr; its hdr_len is one that nobody should believe."""
    tail = b"".join(value.to_bytes(2, "little") for value in (0xDEAD, gso_size, start, offset))
    return bytes((flags, gso)) + tail


class Parsed:
    """A parsed frame, with the memory that its view points into."""

    def __init__(self, data: bytes, **meta: int) -> None:
        self.data = ffi.new("uint8_t[]", data)
        self.view = ffi.new("struct dp_frame *")
        for name, value in meta.items():
            setattr(self.view.meta, name, value)
        assert lib.dp_frame_parse(self.view, self.data, len(data)) == 0

    @classmethod
    def of(cls, frame: Frame, gso_size: int | None = None, **meta: int) -> "Parsed":
        """Return *frame* with the metadata that its sender would give."""
        values = {
            "csum": lib.DP_CSUM_NEEDED,
            "csum_start": frame.l4_off,
            "csum_offset": frame.csum_offset,
        }
        if gso_size is not None:
            tcp = lib.DP_GSO_TCPV4 if frame.version == 4 else lib.DP_GSO_TCPV6
            values["gso"] = lib.DP_GSO_UDP if frame.protocol == UDP else tcp
            values["gso_size"] = gso_size
        return cls(frame.unfinished(), **(values | meta))

    def fits(self) -> bool:
        return bool(lib.dp_offload_fits(self.view))

    def encode(self) -> bytes:
        header = ffi.new("uint8_t[]", b"\xa5" * lib.DP_VNET_LEN)
        lib.dp_offload_encode(header, self.view)
        return bytes(header)[: lib.DP_VNET_LEN]

    def segments(self) -> list[bytes]:
        """Return all that the frame becomes; checks that nothing beyond is written."""
        room = lib.dp_offload_segment_len(self.view)
        result = []
        for index in range(lib.dp_offload_segments(self.view)):
            out = ffi.new("uint8_t[]", b"\xa5" * (room + 8))
            written = lib.dp_offload_segment(self.view, index, out)
            assert written <= room
            assert bytes(ffi.buffer(out, room + 8))[written:].strip(b"\xa5") == b""
            result.append(bytes(ffi.buffer(out, written)))
        assert max(map(len, result)) == room
        return result


def meta_of(meta: Any) -> dict[str, int]:
    """Return the metadata that a virtio_net_hdr can say."""
    names = ("csum", "gso", "ecn", "gso_size", "csum_start", "csum_offset")
    return {name: int(getattr(meta, name)) for name in names}


def decode(header: bytes, negotiated: int = lib.DP_OFFLOAD_ALL) -> dict[str, int] | None:
    """Return the metadata of *header*, or None where it is refused."""
    meta = ffi.new("struct dp_meta *", {"csum": 9, "gso": 9, "ecn": 1, "gso_size": 9})
    meta.csum_start = meta.csum_offset = 9
    return meta_of(meta) if lib.dp_offload_decode(meta, header, negotiated) == 0 else None


octets = st.integers(0, 255)
words = st.integers(0, 0xFFFF)
# No less than what cuts the longest payload into as many segments as may be thin.
gso_sizes = st.integers(10, 100) | st.integers(10, 700)
extension = st.tuples(
    st.just(DESTINATION_OPTIONS),
    st.sampled_from([b"\0" + PAD_6, b"\1" + PAD_6 + b"\1\6" + bytes(6)]),
)


@st.composite
def payloads(draw: st.DrawFn, least: int) -> bytes:
    """Draw up to 600 bytes, all lengths alike: st.binary() hardly ever draws a long one."""
    length = draw(st.integers(least, 600))
    return random.Random(draw(st.integers(0, 0xFFFFFFFF))).randbytes(length)


@st.composite
def frames(draw: st.DrawFn, protocol: int = TCP) -> Frame:
    """Draw a frame of *protocol*; TCP with at least one byte of payload."""
    version = draw(st.sampled_from([4, 6]))
    hop = draw(st.sampled_from([(), ((HOP_BY_HOP, b"\0" + PAD_6),)]))
    chain = (*hop, *draw(st.lists(extension, max_size=3)))
    return Frame(
        version=version,
        protocol=protocol,
        payload=draw(payloads(1 if protocol == TCP else 0)),
        flags=draw(octets),
        reserved=draw(st.integers(0, 15)),
        seq=draw(st.integers(0, 0xFFFFFFFF)),
        ident=draw(words),
        tos=draw(octets),
        urgent=draw(words),
        sport=draw(words),
        ip_options=b"\1" * 4 * draw(st.integers(0, 10)) if version == 4 else b"",
        tcp_options=b"\1" * 4 * draw(st.integers(0, 10)),
        extensions=chain if version == 6 else (),
        pseudo_error=draw(st.sampled_from([0, 0, 1, 0xFFFE])),
        padding=draw(st.binary(max_size=20)),
    )


# Checksums


@given(st.binary(min_size=2, max_size=700), st.integers(0, 80), st.booleans())
def test_a_completed_checksum_is_the_slow_sum_of_all_bytes_from_its_start(
    data: bytes, start: int, udp: bool
) -> None:
    frame = ffi.new("uint8_t[]", bytes(start) + data)
    wanted = ones_sum(data) ^ 0xFFFF
    if udp and wanted == 0:
        wanted = 0xFFFF

    lib.dp_offload_complete(frame, start + len(data), start, 0, udp)

    assert bytes(frame)[start : start + 2] == wanted.to_bytes(2, "big")
    assert bytes(frame)[:start] == bytes(start)
    assert bytes(frame)[start + 2 : -1] == data[2:]


@pytest.mark.parametrize("length", [*range(2, 140), 1459, 1460, 65534, 65535])
@pytest.mark.parametrize("fill", [0x00, 0x01, 0xFF])
def test_carries_are_kept_at_every_length_and_alignment(length: int, fill: int) -> None:
    """Bytes of 0xff carry in every addition, and the last odd byte is a high one."""
    data = bytes([fill]) * length
    wanted = ones_sum(data) ^ 0xFFFF

    for start in (0, 1, 2, 7):
        frame = ffi.new("uint8_t[]", bytes(start) + data)

        lib.dp_offload_complete(frame, start + length, start, 0, False)

        assert bytes(frame)[start : start + 2] == wanted.to_bytes(2, "big")


def test_only_udp_writes_a_zero_checksum_as_all_ones() -> None:
    """In UDP zero means that there is none (RFC 768)."""
    for udp, wanted in ((True, b"\xff\xff"), (False, b"\x00\x00")):
        frame = ffi.new("uint8_t[]", b"\x12\x34\xed\xcb")

        lib.dp_offload_complete(frame, 4, 0, 0, udp)

        assert bytes(frame)[:2] == wanted


@given(st.sampled_from([TCP, UDP]).flatmap(frames))
def test_a_frame_without_segmentation_is_copied_with_its_checksum_and_padding(
    frame: Frame,
) -> None:
    parsed = Parsed.of(frame)

    assert parsed.fits()
    assert parsed.segments() == [frame.finished()]


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_frame_whose_bytes_sum_to_nothing_still_has_a_checksum(version: int) -> None:
    blank = Frame(version=version, protocol=UDP, payload=bytes(2))
    rest = ones_sum(blank.unfinished()[blank.l4_off :])
    frame = evolve(blank, payload=(rest ^ 0xFFFF).to_bytes(2, "big"))

    (segment,) = Parsed.of(frame).segments()

    assert segment[frame.l4_off + 6 : frame.l4_off + 8] == b"\xff\xff"
    assert segment == frame.finished()


@given(st.binary(min_size=14, max_size=200), st.sampled_from([0, 2]))
def test_a_frame_that_needs_nothing_is_copied_as_it_is(data: bytes, csum: int) -> None:
    parsed = Parsed(data, csum=csum)

    assert parsed.fits()
    assert lib.dp_offload_needs(parsed.view) == 0
    assert parsed.segments() == [data]


# Segmentation


@given(frames(), gso_sizes)
def test_segments_are_frames_built_afresh_from_parts_of_the_payload(
    frame: Frame, gso_size: int
) -> None:
    frame = evolve(frame, padding=b"")
    parsed = Parsed.of(frame, gso_size)

    segments = parsed.segments()

    assert parsed.fits()
    assert segments == list(frame.segments(gso_size))
    assert b"".join(segment[frame.payload_off :] for segment in segments) == frame.payload


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("gso_size", [100, 1447, 1448, 8948, 65535])
def test_the_largest_packet_is_segmented(version: int, gso_size: int) -> None:
    largest = 65535 - 32 - (20 if version == 4 else 0)
    payload = bytes(at * 7 & 0xFF for at in range(largest))
    frame = Frame(version=version, payload=payload, tcp_options=TIMESTAMPS, ident=0xFFFF)
    parsed = Parsed.of(frame, gso_size)

    segments = parsed.segments()

    assert parsed.fits()
    assert len(segments) == -(-largest // gso_size)
    if gso_size > 100:
        assert segments == list(frame.segments(gso_size))
    assert b"".join(segment[frame.payload_off :] for segment in segments) == payload


def datagrams() -> st.SearchStrategy[Frame]:
    """Draw what an application sends at once by UDP_SEGMENT, at least one byte of it."""
    return frames(UDP).filter(lambda frame: bool(frame.payload)).map(unpadded)


def unpadded(frame: Frame) -> Frame:
    return evolve(frame, padding=b"")


@given(datagrams(), gso_sizes)
def test_datagrams_are_frames_built_afresh_from_parts_of_the_payload(
    frame: Frame, gso_size: int
) -> None:
    parsed = Parsed.of(frame, gso_size)

    segments = parsed.segments()

    assert parsed.fits()
    assert segments == list(frame.segments(gso_size))


@pytest.mark.parametrize("version", [4, 6])
def test_the_largest_packet_is_cut_into_datagrams(version: int) -> None:
    payload = bytes(at * 7 & 0xFF for at in range(65535 - 8 - (20 if version == 4 else 0)))
    frame = Frame(version=version, protocol=UDP, payload=payload, ident=0xFFFF)
    parsed = Parsed.of(frame, 1472)

    assert parsed.fits()
    assert parsed.segments() == list(frame.segments(1472))


@pytest.mark.parametrize(("gso_size", "fits"), [(1, True), (2, True), (0, False)])
def test_datagrams_may_be_thin_but_not_empty(gso_size: int, fits: bool) -> None:
    frame = Frame(protocol=UDP, payload=bytes(128))

    assert Parsed.of(frame, gso_size).fits() == fits


def test_one_frame_becomes_a_bounded_number_of_datagrams() -> None:
    frame = Frame(protocol=UDP, payload=bytes(lib.DP_MAX_UDP_SEGMENTS + 1))

    assert not Parsed.of(frame, 1).fits()
    assert Parsed.of(frame, 2).fits()


@pytest.mark.parametrize("port", [67, 68, 546, 547])
def test_dhcp_is_not_cut_since_each_message_is_looked_into(port: int) -> None:
    frame = Frame(protocol=UDP, payload=bytes(20)).unfinished()
    header = Frame(protocol=UDP, payload=bytes(20))
    sent = frame[: header.l4_off + 2] + port.to_bytes(2, "big") + frame[header.l4_off + 4 :]
    meta = {
        "csum": lib.DP_CSUM_NEEDED,
        "csum_start": header.l4_off,
        "csum_offset": 6,
        "gso": lib.DP_GSO_UDP,
        "gso_size": 10,
    }

    assert Parsed(frame, **meta).fits()
    assert not Parsed(sent, **meta).fits()


@pytest.mark.parametrize("length", [0, 8, 27, 29, 0xFFFF])
def test_a_udp_length_that_is_not_the_packets_is_refused(length: int) -> None:
    frame = Frame(protocol=UDP, payload=bytes(20))
    whole = frame.unfinished()
    at = frame.l4_off + 4
    meta = {
        "csum": lib.DP_CSUM_NEEDED,
        "csum_start": frame.l4_off,
        "csum_offset": 6,
        "gso": lib.DP_GSO_UDP,
        "gso_size": 10,
    }

    assert not Parsed(whole[:at] + length.to_bytes(2, "big") + whole[at + 2 :], **meta).fits()


def test_fin_and_psh_stand_in_the_last_segment_and_cwr_in_the_first() -> None:
    frame = Frame(payload=bytes(25), flags=FIN | PSH | ACK | ECE | CWR)

    flags = [segment[frame.l4_off + 13] for segment in Parsed.of(frame, 10, ecn=1).segments()]

    assert flags == [ACK | ECE | CWR, ACK | ECE, ACK | ECE | FIN | PSH]


def test_the_segment_length_of_a_short_frame_is_its_own() -> None:
    """A check against an MTU must not charge it with a gso_size that it does not fill."""
    frame = Frame(payload=bytes(100), padding=bytes(9))
    parsed = Parsed.of(frame, 65535)

    assert lib.dp_offload_segment_len(parsed.view) == frame.payload_off + 100
    assert lib.dp_offload_segments(parsed.view) == 1


# What a receiver must have


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("ecn", [0, 1])
def test_a_frame_needs_of_its_receiver_what_it_leaves_to_do(version: int, ecn: int) -> None:
    frame = Frame(version=version, payload=bytes(100))
    tso = lib.DP_OFFLOAD_TSO4 if version == 4 else lib.DP_OFFLOAD_TSO6
    marked = lib.DP_OFFLOAD_TSO_ECN if ecn else 0

    assert lib.dp_offload_needs(Parsed.of(frame).view) == lib.DP_OFFLOAD_CSUM
    assert lib.dp_offload_needs(Parsed.of(frame, 99, ecn=ecn).view) == (
        lib.DP_OFFLOAD_CSUM | tso | marked
    )
    assert lib.dp_offload_needs(Parsed.of(frame, 100, ecn=ecn).view) == lib.DP_OFFLOAD_CSUM


def test_datagrams_need_a_receiver_that_cuts_them() -> None:
    frame = Frame(protocol=UDP, payload=bytes(100))

    assert lib.dp_offload_needs(Parsed.of(frame, 99).view) == (
        lib.DP_OFFLOAD_CSUM | lib.DP_OFFLOAD_USO
    )
    assert lib.dp_offload_needs(Parsed.of(frame, 100).view) == lib.DP_OFFLOAD_CSUM


# Encoding and decoding


@given(datagrams(), gso_sizes)
def test_what_is_encoded_of_datagrams_decodes_to_the_same(frame: Frame, gso_size: int) -> None:
    parsed = Parsed.of(frame, gso_size)
    wanted = meta_of(parsed.view.meta)
    if len(frame.payload) <= gso_size:
        wanted |= {"gso": lib.DP_GSO_NONE, "gso_size": 0}

    assert decode(parsed.encode(), lib.dp_offload_needs(parsed.view)) == wanted


@given(frames(), gso_sizes, st.booleans())
def test_what_is_encoded_decodes_to_the_same(frame: Frame, gso_size: int, ecn: bool) -> None:
    parsed = Parsed.of(frame, gso_size, ecn=ecn)
    wanted = meta_of(parsed.view.meta)
    if len(frame.payload) <= gso_size:
        wanted |= {"gso": lib.DP_GSO_NONE, "gso_size": 0, "ecn": 0}

    header = parsed.encode()

    assert decode(header) == wanted
    assert decode(header, lib.dp_offload_needs(parsed.view)) == wanted


@given(frames(UDP), st.sampled_from([0, 1, 2]))
def test_every_state_of_a_checksum_survives_encoding(frame: Frame, csum: int) -> None:
    start, offset = (frame.l4_off, 6) if csum == lib.DP_CSUM_NEEDED else (0, 0)
    parsed = Parsed(frame.unfinished(), csum=csum, csum_start=start, csum_offset=offset)

    assert decode(parsed.encode()) == meta_of(parsed.view.meta)


def test_the_header_length_is_computed_and_not_the_senders() -> None:
    frame = Frame(version=6, payload=bytes(100), tcp_options=TIMESTAMPS)

    header = Parsed.of(frame, 10).encode()

    assert header == vnet(NEEDS_CSUM, 4, 10, 54, 16)[:2] + b"\x56\0\x0a\0\x36\0\x10\0"


def test_a_frame_of_one_segment_is_encoded_without_segmentation() -> None:
    """Linux drops one whose payload is not longer than gso_size (tcp_gso_segment)."""
    frame = Frame(payload=bytes(100), tcp_options=TIMESTAMPS)

    header = Parsed.of(frame, 100).encode()

    assert header == bytes((NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 16, 0))


def test_decoding_leaves_the_stripped_tag_alone() -> None:
    meta = ffi.new("struct dp_meta *", {"vlan": True})

    assert lib.dp_offload_decode(meta, vnet(), lib.DP_OFFLOAD_ALL) == 0

    assert meta.vlan


def test_numbers_without_a_flag_that_calls_for_them_are_not_kept() -> None:
    assert decode(vnet(0, 0, 1448, 34, 16)) == decode(bytes(10))


def test_a_needed_checksum_wins_over_a_verified_one() -> None:
    meta = decode(vnet(NEEDS_CSUM | DATA_VALID, 0, 0, 34, 16))

    assert meta is not None
    assert meta["csum"] == lib.DP_CSUM_NEEDED


def decodable(header: bytes, negotiated: int) -> bool:
    """Whether a header is to be taken, by the words of virtio 1.2, section 5.1.6."""
    flags, gso = header[0], header[1]
    if flags & ~(NEEDS_CSUM | DATA_VALID) or gso not in (0, 1, 4, 5, 0x81, 0x84):
        return False
    return not (
        (flags and not negotiated & 1)
        or (gso & 0x7F == 1 and not negotiated & 2)
        or (gso & 0x7F == 4 and not negotiated & 4)
        or (gso & GSO_ECN and not negotiated & 8)
        or (gso == UDP_L4 and not negotiated & 16)
    )


@pytest.mark.parametrize("negotiated", range(32))
def test_every_flag_and_type_is_taken_or_refused_as_negotiated(negotiated: int) -> None:
    for flags in range(256):
        for gso in range(256):
            header = vnet(flags, gso, 1448, 34, 16)

            assert (decode(header, negotiated) is not None) == decodable(header, negotiated)


@pytest.mark.parametrize(
    ("header", "negotiated"),
    [
        pytest.param(vnet(RSC_INFO), 15, id="coalescing-information"),
        pytest.param(vnet(0x80), 15, id="unknown-flag"),
        pytest.param(vnet(1, UFO, 1448, 34, 6), 15, id="udp-fragmentation"),
        pytest.param(vnet(1, UDP_L4, 1448, 34, 6), 15, id="uso-not-negotiated"),
        pytest.param(vnet(1, UDP_L4 | GSO_ECN, 1448, 34, 6), 31, id="ecn-of-udp"),
        pytest.param(vnet(1, 2, 1448, 34, 16), 15, id="unknown-type"),
        pytest.param(vnet(1, 0x20, 1448, 34, 16), 15, id="tunnel-type"),
        pytest.param(vnet(1, GSO_ECN, 0, 34, 16), 15, id="ecn-of-nothing"),
        pytest.param(vnet(NEEDS_CSUM, 0, 0, 34, 16), 14, id="checksum-not-negotiated"),
        pytest.param(vnet(DATA_VALID), 14, id="verified-not-negotiated"),
        pytest.param(vnet(1, 1, 1448, 34, 16), 13, id="tso4-not-negotiated"),
        pytest.param(vnet(1, 4, 1448, 54, 16), 11, id="tso6-not-negotiated"),
        pytest.param(vnet(1, 1 | GSO_ECN, 1448, 34, 16), 7, id="ecn-not-negotiated"),
    ],
)
def test_a_header_is_refused(header: bytes, negotiated: int) -> None:
    meta = ffi.new("struct dp_meta *", {"csum": 7, "gso_size": 9})

    assert lib.dp_offload_decode(meta, header, negotiated) == -1

    assert (meta.csum, meta.gso_size) == (7, 9)


# Metadata that does not fit


TCP4 = Frame(payload=bytes(range(100)), tcp_options=TIMESTAMPS)
TCP6 = evolve(TCP4, version=6)
UDP4 = evolve(TCP4, protocol=UDP)
BEHIND_OPTIONS = evolve(TCP6, extensions=((DESTINATION_OPTIONS, b"\0" + PAD_6),))
ATOMIC_FRAGMENT = evolve(TCP6, extensions=((44, b"\0\0\0\1\2\3\4"),))


def patched(frame: Frame, at: int, value: bytes) -> bytes:
    """Return the unfinished frame with *value* written over what stands *at* an offset."""
    data = frame.unfinished()
    return data[:at] + value + data[at + len(value) :]


def of_patched(frame: Frame, at: int, value: bytes, gso_size: int | None = 10) -> Parsed:
    """Return a patched frame with the metadata of the frame before."""
    meta = meta_of(Parsed.of(frame, gso_size).view.meta)
    return Parsed(patched(frame, at, value), **meta)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Parsed.of(TCP4), id="tcp4"),
        pytest.param(lambda: Parsed.of(UDP4), id="udp4"),
        pytest.param(lambda: Parsed.of(BEHIND_OPTIONS), id="tcp6-behind-options"),
        pytest.param(lambda: Parsed.of(TCP4, 8), id="tso4"),
        pytest.param(lambda: Parsed.of(BEHIND_OPTIONS, 8), id="tso6-behind-options"),
        pytest.param(lambda: of_patched(TCP4, TCP4.l4_off + 12, b"\xf0"), id="longest-tcp-header"),
    ],
)
def test_metadata_fits(make: Callable[[], Parsed]) -> None:
    assert make().fits()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Parsed.of(TCP4, csum=3), id="unknown-checksum-state"),
        pytest.param(lambda: Parsed.of(TCP4, csum_start=33), id="start-before-the-header"),
        pytest.param(lambda: Parsed.of(TCP4, csum_start=35), id="start-in-the-header"),
        pytest.param(lambda: Parsed.of(TCP4, csum_start=0), id="start-in-the-destination-mac"),
        pytest.param(lambda: Parsed.of(TCP4, csum_start=0xFFFF), id="start-past-the-end"),
        pytest.param(lambda: Parsed.of(TCP4, csum_offset=6), id="offset-of-udp-in-tcp"),
        pytest.param(lambda: Parsed.of(UDP4, csum_offset=16), id="offset-of-tcp-in-udp"),
        pytest.param(lambda: Parsed.of(TCP4, csum_offset=0xFFF0), id="offset-that-wraps"),
        pytest.param(lambda: Parsed.of(BEHIND_OPTIONS, csum_start=54), id="start-in-options"),
        pytest.param(lambda: of_patched(TCP4, 23, b"\x01", None), id="icmp"),
        pytest.param(lambda: of_patched(TCP4, 20, b"\x20\x00", None), id="first-fragment"),
        pytest.param(lambda: of_patched(TCP4, 20, b"\x00\x08", None), id="later-fragment"),
        pytest.param(lambda: Parsed.of(ATOMIC_FRAGMENT), id="atomic-fragment"),
        pytest.param(lambda: of_patched(TCP4, 12, b"\x08\x06", None), id="arp"),
        pytest.param(lambda: of_patched(TCP4, 12, b"\x81\x00", None), id="tagged"),
        pytest.param(lambda: of_patched(TCP4, 16, b"\xff\xff", None), id="malformed-ipv4"),
        pytest.param(lambda: of_patched(TCP6, 18, b"\xff\xff", None), id="malformed-ipv6"),
        pytest.param(lambda: of_patched(TCP4, 16, b"\0\x27", None), id="half-a-tcp-header"),
    ],
)
def test_a_needed_checksum_does_not_fit(make: Callable[[], Parsed]) -> None:
    """The kernel would write two bytes where csum_start and csum_offset point."""
    assert not make().fits()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Parsed.of(TCP4, 10, gso=2), id="unknown-type"),
        pytest.param(lambda: Parsed.of(TCP4, 10, gso=4), id="tcpv6-over-ipv4"),
        pytest.param(lambda: Parsed.of(TCP6, 10, gso=1), id="tcpv4-over-ipv6"),
        # Where TCP would have its data offset, this one has a good one.
        pytest.param(lambda: Parsed.of(evolve(UDP4, payload=b"\x50" * 99), 10, gso=1), id="udp"),
        pytest.param(lambda: Parsed.of(TCP4, 10, csum=0), id="complete-checksum"),
        pytest.param(lambda: Parsed.of(TCP4, 10, csum=2), id="verified-checksum"),
        pytest.param(lambda: Parsed.of(TCP4, 0), id="segments-of-nothing"),
        pytest.param(lambda: Parsed.of(TCP4, 7), id="segments-below-the-least"),
        pytest.param(lambda: Parsed.of(evolve(TCP4, payload=b""), 10), id="no-payload"),
        pytest.param(
            lambda: Parsed.of(evolve(TCP4, payload=b"", padding=bytes(40)), 10),
            id="padding-for-payload",
        ),
        pytest.param(
            lambda: Parsed.of(evolve(TCP4, payload=bytes(8 * 64 + 1)), 8),
            id="thousands-of-thin-segments",
        ),
        pytest.param(
            lambda: Parsed.of(evolve(TCP4, padding=bytes(40)), 10),
            id="padding-behind-payload",
        ),
        pytest.param(lambda: of_patched(TCP4, TCP4.l4_off + 12, b"\x40"), id="short-data-offset"),
        pytest.param(lambda: of_patched(TCP4, TCP4.l4_off + 12, b"\x00"), id="zero-data-offset"),
        pytest.param(
            lambda: of_patched(evolve(TCP4, payload=bytes(28)), TCP4.l4_off + 12, b"\xf0"),
            id="data-offset-to-the-end",
        ),
        pytest.param(
            lambda: of_patched(evolve(TCP4, payload=bytes(27)), TCP4.l4_off + 12, b"\xf0"),
            id="data-offset-past-the-end",
        ),
    ],
)
def test_segmentation_does_not_fit(make: Callable[[], Parsed]) -> None:
    assert not make().fits()


@given(
    st.sampled_from([TCP4, TCP6, UDP4, BEHIND_OPTIONS, ATOMIC_FRAGMENT]),
    st.lists(st.tuples(st.integers(0, 200), octets), max_size=6),
    st.integers(0, 250),
    st.builds(
        vnet,
        octets | st.just(NEEDS_CSUM),
        octets | st.sampled_from([0, 1, 4]),
        words | st.integers(0, 200),
        words | st.sampled_from([34, 54, 62]),
        words | st.sampled_from([6, 16]),
    ),
)
def test_whatever_fits_can_be_encoded_and_segmented(
    frame: Frame, changes: list[tuple[int, int]], length: int, header: bytes
) -> None:
    """The checks of Parsed.segments() hold for any bytes; the sanitizers see the reads."""
    data = bytearray(frame.unfinished()[: max(length, 14)])
    for at, value in changes:
        data[at % len(data)] = value
    meta = decode(header)
    if meta is None:
        return
    parsed = Parsed(bytes(data), **meta)

    if parsed.fits():
        segments = parsed.segments()

        assert decode(parsed.encode(), lib.DP_OFFLOAD_CSUM | lib.dp_offload_needs(parsed.view))
        if meta["gso"] != lib.DP_GSO_NONE:
            headers = parsed.view.l4_off + (data[parsed.view.l4_off + 12] >> 4) * 4
            payload = b"".join(segment[headers:] for segment in segments)
            assert payload == data[headers : parsed.view.l3_end]
