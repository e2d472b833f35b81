"""Files that a command reads, whole: none so long that the machine suffers."""

import sys
from pathlib import Path
from typing import Final

STDIN: Final = "-"


def read_at_most(file: str, most_bytes: int) -> bytes:
    """Return what *file* holds, or standard input for ``-``.

    Raises:
        ValueError: if that is more than *most_bytes*; it is not read to its end.
        OSError: if it cannot be read.
    """
    if file == STDIN:
        octets = sys.stdin.buffer.read(most_bytes + 1)
    else:
        with Path(file).open("rb") as opened:
            octets = opened.read(most_bytes + 1)
    if len(octets) > most_bytes:
        raise ValueError(f"longer than {most_bytes} bytes")
    return octets
