"""Frames between raw ends: as many as go, and one at a time.

The ends are two vifs, or what the peers have for that, or one of them and what
the cable of the system's NIC ends at.
"""

from collections.abc import Iterator
from functools import partial

import attrs

from tests.support.waiting import eventually

from ..frames import udp_frame
from ..lineup import Lineup
from ..names import MICROSECONDS, MICROSECONDS_P99, RATE
from ..report import Sample
from ..systems.system import System
from ..traffic.program import Flood, Traffic
from .work import Found, sample

SECONDS = 1.0
RTT_SIZE = 60


def rate(lineup: Lineup, work: str, size: int) -> Iterator[Sample]:
    """Yield how many million frames of *size* bytes arrive per second, for each system."""
    for system in lineup.systems:
        if system.raw is not None:
            yield from sample(
                work, RATE, system, partial(million_per_s, lineup.traffic, system, size)
            )


def uplink_out(lineup: Lineup, work: str, size: int) -> Iterator[Sample]:
    """Yield the same from an end to the wire, for each system that has a NIC."""
    for system in lineup.systems:
        if system.raw is not None and system.wire is not None:
            there = attrs.evolve(system, raw=(system.raw[0], system.wire.end))
            measure = partial(million_per_s, lineup.traffic, there, size)
            yield from sample(work, RATE, there, measure)


def uplink_in(lineup: Lineup, work: str, size: int) -> Iterator[Sample]:
    """Yield the same from the wire to an end; what is checked then is what came from there."""
    for system in lineup.systems:
        if system.raw is not None and system.wire is not None:
            back = attrs.evolve(
                system, raw=(system.wire.end, system.raw[0]), checked=system.wire.checked
            )
            measure = partial(million_per_s, lineup.traffic, back, size)
            yield from sample(work, RATE, back, measure)


def million_per_s(traffic: Traffic, system: System, size: int) -> Found:
    """Send from the first end as fast as it can, and count at the second."""
    assert system.raw is not None
    source, target = system.raw
    frame = udp_frame(source.address, target.address, size, system.ethertype)
    hello = udp_frame(target.address, source.address, RTT_SIZE, system.ethertype)
    eventually(system.is_free, f"the ends of {system.name} are free")
    counted = traffic.count(Flood(source, target, (frame, hello), SECONDS))
    return Found(counted.frames / counted.seconds / 1e6, counted.frames)


def rtt(lineup: Lineup, work: str) -> Iterator[Sample]:
    """Yield the median time to a frame's answer, and the 99th percentile, for each system."""
    for system in lineup.systems:
        if system.raw is not None:
            measure = partial(answer_us, lineup.traffic, system)
            yield from sample(work, MICROSECONDS, system, measure)


def answer_us(traffic: Traffic, system: System) -> Found:
    """Send from the first end, one at a time, and answer at the second."""
    assert system.raw is not None
    source, target = system.raw
    question = udp_frame(source.address, target.address, RTT_SIZE, system.ethertype)
    answer = udp_frame(target.address, source.address, RTT_SIZE, system.ethertype)
    eventually(system.is_free, f"the ends of {system.name} are free")
    took = traffic.rtt((source, source.what), (target, target.what), (question, answer))
    return Found(took.median_us, others={MICROSECONDS_P99: took.p99_us})
