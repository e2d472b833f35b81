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
TRIES = 3
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
        checked = many.frames_checked()
        yield Sample(work, SYSTEM, SECONDS, many.start_s, checked)
        yield Sample(work, SYSTEM, MIB, memory_mib, checked)
        with many.as_systems() as among_many, few.as_systems() as among_few:
            for pair, alone in zip(among_many, among_few, strict=True):
                checked = many.frames_checked()
                rates, rates_alone = [], []
                for _ in range(TRIES):
                    rates.append(million_per_s(traffic, pair, SIZE).value)
                    rates_alone.append(million_per_s(traffic, alone, SIZE).value)
                checked = many.frames_checked() - checked
                rate = statistics.median(rates)
                of_two = rate / statistics.median(rates_alone)
                yield Sample(work, pair.name, RATE, rate, checked)
                yield Sample(work, pair.name, OF_TWO, of_two, checked)


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
