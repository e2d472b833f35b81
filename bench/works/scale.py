"""Very many vifs, defined and attached: what that takes, and what it costs the others."""

import statistics
import time
from collections.abc import Iterator

from ..names import CORE, MIB, OF_TWO, RATE, SECONDS
from ..report import Sample
from ..systems.crowd import crowd
from ..traffic.program import Traffic
from .raw import million_per_s

FEW = 2
SIZE = 60
TRIES = 5
#: For what the attaching and the questions have left to be done.
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 10.0
SYSTEM = "multiplexer_stream"


def scale(work: str, size: int) -> Iterator[Sample]:
    """Yield start-up time, memory, and the rate between two of *size* beside that of two alone."""
    with crowd(size, "many") as many, crowd(FEW, "few") as few:
        traffic = Traffic.build(many.lab.root)
        many.say_something()
        memory_mib = many.memory_mib()
        rates: dict[str, list[float]] = {"many": [], "few": []}
        with many.as_system() as of_many, few.as_system() as of_few:
            for _ in range(TRIES):
                rates["many"].append(million_per_s(traffic, of_many, SIZE).value)
                rates["few"].append(million_per_s(traffic, of_few, SIZE).value)
        checked = many.frames_checked()
        rate, alone = (statistics.median(rates[name]) for name in ("many", "few"))
        for unit, value in (
            (SECONDS, many.start_s),
            (MIB, memory_mib),
            (RATE, rate),
            (OF_TWO, rate / alone),
        ):
            yield Sample(work, SYSTEM, unit, value, checked)


def idle(work: str, size: int) -> Iterator[Sample]:
    """Yield how much of a core the daemon takes while all are attached and nobody sends."""
    with crowd(size, "idle") as many:
        many.say_something()
        time.sleep(SETTLE_SECONDS)
        before_s, start_s = many.cpu_s(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        used_s, took_s = many.cpu_s() - before_s, time.monotonic() - start_s
        checked = many.frames_checked()
        yield Sample(work, SYSTEM, CORE, 100 * used_s / took_s, checked)
