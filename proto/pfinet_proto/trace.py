"""Frames that somebody wants traced: read from text or a capture, and asked about.

Both command lines take frames as hexadecimal digits or as a pcap file, and
print what the daemon says in the same way.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from pfinet_proto.control import (
    MAX_REQUEST_BYTES,
    MAX_TRACED,
    MAX_TRACED_BYTES,
    Trace,
    TraceReceiver,
    Traces,
    VifTrace,
)
from pfinet_proto.errors import BadMessage
from pfinet_proto.values import VifName

#: draft-ietf-opsawg-pcap, section 4: with timestamps in microseconds, and in nanoseconds.
_NANOSECONDS: Final = 0xA1B23C4D
_MAGICS: Final = (0xA1B2C3D4, _NANOSECONDS)
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
_FILE_HEADER: Final = 24
_RECORD_HEADER: Final = 16
#: The upper bits of the field tell of a frame check sequence.
_LINK_TYPE_BITS: Final = 0x0FFFFFFF
_ETHERNET: Final = 1

#: A longer capture is not read: all of it is held at once.
MAX_CAPTURE_BYTES: Final = 256 * 1024 * 1024

#: Of a request's bytes, so much is left to what is not a frame.
_ENVELOPE_BYTES: Final = 1024


def read_hex(text: str) -> bytes:
    """Return the frame that *text* is in hexadecimal; blanks, colons and a 0x do not matter.

    Raises:
        ValueError: if it is none.
    """
    digits = re.sub(r"[\s:]", "", text.removeprefix("0x"))
    try:
        frame = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"{text!r:.60} is no frame, wanted pairs of hexadecimal digits") from None
    return frame


@attrs.frozen
class Captured:
    """A frame, and when it was captured: nanoseconds since 1970."""

    time_ns: int
    frame: bytes


def read_pcap_untrusted(data: bytes) -> list[bytes]:
    """Return the Ethernet frames of a capture, as read_capture_untrusted() does."""
    return [captured.frame for captured in read_capture_untrusted(data)]


def read_capture_untrusted(data: bytes) -> list[Captured]:
    """Return the Ethernet frames of a capture, and their times (draft-ietf-opsawg-pcap).

    Raises:
        BadMessage: if it is none, of another link type, or has only parts of a frame.
    """
    order = next((o for o in "<>" if data[:4] in {struct.pack(f"{o}I", m) for m in _MAGICS}), None)
    if data[:4] == _PCAPNG:
        raise BadMessage("a pcapng file, wanted pcap: `tcpdump -r FILE -w NEW` makes one of it")
    if order is None or len(data) < _FILE_HEADER:
        raise BadMessage("no pcap file")
    link_type = struct.unpack_from(f"{order}I", data, 20)[0] & _LINK_TYPE_BITS
    if link_type != _ETHERNET:
        raise BadMessage(f"link type is {link_type}, wanted {_ETHERNET} (Ethernet)")
    unit_ns = 1 if struct.unpack_from(f"{order}I", data)[0] == _NANOSECONDS else 1000
    frames: list[Captured] = []
    at = _FILE_HEADER
    while at < len(data):
        number = len(frames) + 1
        if len(data) - at < _RECORD_HEADER:
            raise BadMessage(f"ends within the header of frame {number}")
        seconds, fraction, captured, length = struct.unpack_from(f"{order}IIII", data, at)
        at += _RECORD_HEADER
        if captured > len(data) - at:
            raise BadMessage(f"ends within frame {number}")
        if captured < length:
            raise BadMessage(
                f"frame {number} was captured only in part, {captured} of {length} bytes"
            )
        time_ns = seconds * 1_000_000_000 + fraction * unit_ns
        frames.append(Captured(time_ns, data[at : at + captured]))
        at += captured
    return frames


def read_frames(hex: Iterable[str], pcap: str | None, capture: bytes) -> list[bytes]:
    """Return the frames of the arguments of a command: texts, and the file *pcap*.

    *capture* is what the file holds.

    Raises:
        ValueError: if one of them is none, or there is none at all.
    """
    frames = [read_hex(text) for text in hex]
    if pcap is not None:
        try:
            frames += read_pcap_untrusted(capture)
        except BadMessage as error:
            raise ValueError(f"{pcap}: {error}") from None
    if not frames:
        raise ValueError("there is no frame to trace, wanted --hex or --pcap")
    return frames


def trace_requests(name: VifName, frames: Sequence[bytes]) -> Iterator[VifTrace]:
    """Yield what to ask about *frames*, as few requests as they fit in.

    Raises:
        ValueError: if a frame is longer than can be traced.
    """
    for number, frame in enumerate(frames, start=1):
        if len(frame) > MAX_TRACED_BYTES:
            raise ValueError(
                f"frame {number} is {len(frame)} bytes, wanted at most {MAX_TRACED_BYTES}"
            )
    some: list[str] = []
    room = MAX_REQUEST_BYTES - _ENVELOPE_BYTES
    for text in (frame.hex() for frame in frames):
        if some and (len(some) == MAX_TRACED or len(text) + 3 > room):
            yield VifTrace(name, tuple(some))
            some, room = [], MAX_REQUEST_BYTES - _ENVELOPE_BYTES
        some.append(text)
        room -= len(text) + 3
    if some:
        yield VifTrace(name, tuple(some))


def join_traces(parts: Sequence[Traces]) -> Traces:
    """Return what several requests about one vif gave as one result."""
    return Traces(parts[0].vif, tuple(trace for part in parts for trace in part.traces))


def trace_text(traces: Iterable[Trace]) -> str:
    """Return *traces* for people, numbered from 1."""
    return "\n".join(
        "".join(f"{line}\n" for line in _lines(number, trace))
        for number, trace in enumerate(traces, start=1)
    )


def _lines(number: int, trace: Trace) -> Iterator[str]:
    yield f"{number}  {trace.frame}"
    for step in trace.steps:
        yield f"   {step.step:<9}{step.text}"
    for receiver in trace.receivers:
        yield f"   {'receiver':<9}{_receiver(receiver)}"
    if trace.more:
        yield f"   {'receiver':<9}and {trace.more} more"


def _receiver(receiver: TraceReceiver) -> str:
    name = (
        f"{receiver.kind} {receiver.name}"
        if receiver.name is not None
        else f"another {receiver.kind}"
    )
    return name if receiver.drop is None else f"{name}, which drops it: {receiver.drop}"
