"""Frames for a trace: from text, from a capture, and as requests that fit."""

import struct

import pytest

from pfinet_proto.control import (
    MAX_REQUEST_BYTES,
    MAX_TRACED,
    MAX_TRACED_BYTES,
    Trace,
    TraceReceiver,
    Traces,
    TraceStep,
    VifTrace,
    encode_request,
)
from pfinet_proto.errors import BadMessage
from pfinet_proto.trace import (
    join_traces,
    read_frames,
    read_hex,
    read_pcap_untrusted,
    trace_requests,
    trace_text,
)
from pfinet_proto.values import VifName

NAME = VifName("lab-1")
FRAMES = [bytes(range(60)), b"", b"\xff" * 1514]


def capture(
    frames: list[bytes], order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1
) -> bytes:
    head = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 65535, link)
    records = [
        struct.pack(f"{order}IIII", 1, 2, len(frame), len(frame)) + frame for frame in frames
    ]
    return head + b"".join(records)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_a_capture_of_any_byte_order_and_clock_gives_its_frames(order: str, magic: int) -> None:
    assert read_pcap_untrusted(capture(FRAMES, order, magic)) == FRAMES


def test_a_capture_cut_anywhere_gives_whole_frames_or_an_error() -> None:
    data = capture(FRAMES[:2])
    whole = {24: [], 24 + 16 + 60: FRAMES[:1], len(data): FRAMES[:2]}

    for end in range(len(data) + 1):
        if end in whole:
            assert read_pcap_untrusted(data[:end]) == whole[end]
        else:
            with pytest.raises(BadMessage):
                read_pcap_untrusted(data[:end])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GIF89a", "no pcap file"),
        (b"\x0a\x0d\x0d\x0a" + bytes(28), "a pcapng file, wanted pcap"),
        (capture([], link=113), "link type is 113, wanted 1"),
        (
            capture([])[:24] + struct.pack("<IIII", 0, 0, 4, 1514) + b"abcd",
            "frame 1 was captured only in part, 4 of 1514 bytes",
        ),
        (capture([]) + struct.pack("<IIII", 0, 0, 2**32 - 1, 2**32 - 1), "ends within frame 1"),
        (capture([]) + b"xyz", "ends within the header of frame 1"),
    ],
)
def test_what_is_no_whole_capture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadMessage, match=message):
        read_pcap_untrusted(data)


def test_frames_may_be_written_with_blanks_and_colons() -> None:
    for text in ("ffee01", "0xFFEE01", "ff:ee:01", " ff ee\n01 "):
        assert read_hex(text) == b"\xff\xee\x01"


@pytest.mark.parametrize("text", ["f", "xx", "ff-ee", "é" * 2])
def test_what_is_no_hexadecimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted pairs of hexadecimal digits"):
        read_hex(text)


def test_the_frames_of_all_arguments_come_in_their_order() -> None:
    assert read_frames(["01", "02"], "f", capture([b"\3"])) == [b"\1", b"\2", b"\3"]
    with pytest.raises(ValueError, match="there is no frame to trace"):
        read_frames([], None, b"")
    with pytest.raises(ValueError, match="x: no pcap file"):
        read_frames([], "x", b"")


@pytest.mark.parametrize("length", [14, 1514, MAX_TRACED_BYTES])
def test_frames_are_asked_about_in_requests_that_fit(length: int) -> None:
    frames = [bytes([number]) * length for number in range(70)]

    requests = list(trace_requests(NAME, frames))

    assert [text for request in requests for text in request.frames] == [f.hex() for f in frames]
    assert all(len(request.frames) <= MAX_TRACED for request in requests)
    assert all(
        len(encode_request(request, 2**53 - 1)) <= 4 + MAX_REQUEST_BYTES for request in requests
    )


def test_a_frame_that_no_network_can_have_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="frame 2 is 9015 bytes, wanted at most 9014"):
        list(trace_requests(NAME, [b"", bytes(9015)]))


@pytest.mark.parametrize("frames", [("f",), ("zz",), ("00" * 9015,), ("",) * 33])
def test_a_request_holds_only_frames(frames: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="frames"):
        VifTrace(NAME, frames)


def test_traces_are_told_frame_by_frame() -> None:
    dropped = Trace("60 bytes", "src_mac", (TraceStep("frame", "pass"),), ())
    passed = Trace(
        "90 bytes",
        "pass",
        (TraceStep("forward", "pass: to two"),),
        (TraceReceiver("vif", "bob", None), TraceReceiver("vif", None, "detached")),
        7,
    )
    joined = join_traces([Traces(NAME, (dropped,)), Traces(NAME, (passed,))])

    assert trace_text(joined.traces) == (
        "1  60 bytes\n"
        "   frame    pass\n"
        "\n"
        "2  90 bytes\n"
        "   forward  pass: to two\n"
        "   receiver vif bob\n"
        "   receiver another vif, which drops it: detached\n"
        "   receiver and 7 more\n"
    )
