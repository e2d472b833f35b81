"""Trio programs on every kind of stack, and one of the outside host: streams and requests.

Each program opens a stack of its own, and is measured from when it is connected.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from ..names import GBIT_IN, GBIT_OUT, MICROSECONDS, MICROSECONDS_P99, of_the_kernel_kind
from ..report import Sample
from ..systems.streams import Program, programs
from .work import Found, sample

SECONDS: Final = "1.5"
TIMES: Final = "2000"
#: What other kinds of stack are compared with.
KERNEL: Final = "trio_kernel"
WAYS: Final = {GBIT_OUT: "out", GBIT_IN: "in"}


def tcp(work: str) -> Iterator[Sample]:
    """Yield what a stream carries each way, and of lwIP's also as part of the kernel kind's."""
    with programs() as running:
        for unit, way in WAYS.items():
            kernel = 0.0
            for each in running:
                (found,) = sample(work, unit, each.system, partial(gbit_per_s, each, way))
                yield found
                if each.system.name == KERNEL:
                    kernel = found.value
                elif kernel:
                    part, compared = found.value / kernel, of_the_kernel_kind(unit)
                    yield Sample(work, found.system, compared, part, found.validated)


def gbit_per_s(on: Program, way: str) -> Found:
    (rate,) = on.run(way, SECONDS)
    return Found(rate)


def rtt(work: str) -> Iterator[Sample]:
    """Yield the median time to an answer of 64 bytes, and the 99th percentile."""
    with programs() as running:
        for each in running:
            yield from sample(work, MICROSECONDS, each.system, partial(answer_us, each))


def answer_us(on: Program) -> Found:
    median, p99 = on.run("ask", TIMES)
    return Found(median, others={MICROSECONDS_P99: p99})
