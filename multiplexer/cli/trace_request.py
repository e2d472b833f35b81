"""What `trace` asks: what would become of frames, written in hexadecimal or captured."""

from collections.abc import Sequence
from typing import Final

from multiplexer.cli.arguments import COMPLETE_FILE, Misuse, argument
from multiplexer.cli.input_files import read_at_most
from pfinet_proto import control
from pfinet_proto.trace import MAX_CAPTURE_BYTES, read_frames, trace_requests
from pfinet_proto.values import VifName

FRAMES: Final = (
    argument(
        "--hex",
        metavar="FRAME",
        action="extend",
        nargs="+",
        default=[],
        help="frames in hexadecimal, from the destination MAC on",
    ),
    argument(
        "--pcap",
        metavar="FILE",
        complete=COMPLETE_FILE,
        help="a capture; - is what is piped in",
    ),
)


def trace(name: VifName, hex: Sequence[str], pcap: str | None) -> tuple[control.VifTrace, ...]:
    """Return the requests that `trace` is.

    Raises:
        Misuse: if there is no frame, or the capture is none.
        ValueError: if the capture is too long.
        OSError: if the capture cannot be read.
    """
    capture = read_capture(pcap)
    try:
        return tuple(trace_requests(name, read_frames(hex, pcap, capture)))
    except ValueError as error:
        raise Misuse(str(error)) from None


def read_capture(path: str | None) -> bytes:
    """Return what a file holds, or standard input as ``-``; nothing without a path.

    Raises:
        ValueError: if it is too long.
        OSError: if it cannot be read.
    """
    if path is None:
        return b""
    try:
        return read_at_most(path, MAX_CAPTURE_BYTES)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
