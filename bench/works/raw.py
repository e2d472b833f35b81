"""Frames between raw ends: as many as go, and one at a time."""

from collections.abc import Iterator
from functools import partial

from tests.support.waiting import eventually

from ..frames import udp_frame
from ..lineup import Lineup
from ..report import MICROSECONDS, RATE, Sample
from ..systems.system import System
from ..traffic.program import Traffic
from .work import Found, sample

SECONDS = 1.0
RTT_SIZE = 60


def rate(lineup: Lineup, work: str, size: int) -> Iterator[Sample]:
    """Yield how many million frames of *size* bytes arrive per second, for each system."""
    for system in lineup.systems:
        if system.raw is not None:
            measure = partial(million_per_s, lineup.traffic, system, size)
            yield sample(work, RATE, system, measure)


def million_per_s(traffic: Traffic, system: System, size: int) -> Found:
    """Send from the first end as fast as it can, and count at the second."""
    assert system.raw is not None
    source, target = system.raw
    frame = udp_frame(source.address, target.address, size, system.ethertype)
    eventually(system.is_free, f"the ends of {system.name} are free")
    counted = traffic.count(source, target, frame, SECONDS)
    return Found(counted.frames / counted.seconds / 1e6, counted.frames)


def rtt(lineup: Lineup, work: str) -> Iterator[Sample]:
    """Yield the median time to a frame's answer, for each system."""
    for system in lineup.systems:
        if system.raw is not None:
            yield sample(work, MICROSECONDS, system, partial(answer_us, lineup.traffic, system))


def answer_us(traffic: Traffic, system: System) -> Found:
    """Send from the first end, one at a time, and answer at the second."""
    assert system.raw is not None
    source, target = system.raw
    question = udp_frame(source.address, target.address, RTT_SIZE, system.ethertype)
    answer = udp_frame(target.address, source.address, RTT_SIZE, system.ethertype)
    eventually(system.is_free, f"the ends of {system.name} are free")
    return Found(traffic.rtt_us((source, source.what), (target, target.what), (question, answer)))
