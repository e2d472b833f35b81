"""What the machine itself can do: copy a frame, and wake somebody who sleeps."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ..names import FLOOR, ONE_CORE, RATE, TWO_CORES
from ..report import Sample
from ..traffic.program import Traffic

SIZE: Final = 1514
SECONDS: Final = 1.0
TIMES: Final = 3000


def memcpy(work: str) -> Iterator[Sample]:
    """Yield how many frames one core copies from one buffer to another."""
    with TemporaryDirectory() as folder:
        copied, took_s = Traffic.build(Path(folder)).alone("copy", str(SIZE), str(SECONDS))
    yield Sample(work, FLOOR, RATE, copied / took_s / 1e6)


def wakeup(work: str) -> Iterator[Sample]:
    """Yield the median time from a byte's sending until the other process has it.

    A machine with one processor has no row for two.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    pairs = {ONE_CORE: first, **({TWO_CORES: others[0]} if others else {})}
    with TemporaryDirectory() as folder:
        traffic = Traffic.build(Path(folder))
        for unit, second in pairs.items():
            (median_us,) = traffic.alone("wake", str(first), str(second), str(TIMES))
            yield Sample(work, FLOOR, unit, median_us)
