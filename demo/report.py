"""What the demo has shown so far, for people."""

import sys
from collections.abc import Sequence

GREEN = 32
RED = 31


class Report:
    """Prints each finding as it is made, and remembers those that should not be."""

    def __init__(self) -> None:
        self.shown = 0
        self.failed: list[str] = []

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def check(self, good: bool, text: str) -> None:
        """Say *text*, and that it is as it must be, or not."""
        self.shown += 1
        if not good:
            self.failed.append(text)
        self.say(f"  {painted('ok  ', GREEN) if good else painted('FAIL', RED)}  {text}")

    def verdict(self) -> int:
        """Say how it went, and return the exit status."""
        self.say()
        if self.failed:
            self.say(painted(f"FAILED: {len(self.failed)} of {self.shown} findings:", RED))
            for text in self.failed:
                self.say(f"  {text}")
            return 1
        self.say(painted(f"All {self.shown} findings are as they must be.", GREEN))
        return 0


def painted(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[m" if sys.stdout.isatty() else text


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return one row of a table."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
