"""Programs on two kernel stacks: TCP by iperf3, and datagrams one at a time."""

import json
import time
from collections.abc import Iterator
from functools import partial

from tests.support.programs import running

from ..lineup import Lineup
from ..machine import busy_s
from ..names import CPU_PER_GBIT, GBIT, MICROSECONDS, MICROSECONDS_P99
from ..report import Sample
from ..systems.system import System
from ..traffic.program import Traffic
from .work import Found, sample

TCP_SECONDS = 2
#: How long the machine is watched doing nothing, before each transfer.
IDLE_SECONDS = 0.5
QUESTION, ANSWER = b"question".ljust(18), b"answer".ljust(18)


def tcp(lineup: Lineup, work: str, streams: int) -> Iterator[Sample]:
    """Yield what *streams* TCP connections carry from one stack to the other together."""
    for system in lineup.systems:
        if system.stacks is not None:
            yield from sample(work, GBIT, system, partial(gbit_per_s, system, f"-P{streams}"))


def gbit_per_s(system: System, *options: str) -> Found:
    """Return what iperf3, run with *options*, received in the second stack, in 1e9 bit/s."""
    received = transferred(system, *options)
    return Found(float(received["bits_per_second"]) / 1e9)


def transferred(system: System, *options: str) -> dict[str, float]:
    """Run iperf3 with *options* from the first stack, and return what the second received."""
    assert system.stacks is not None
    client, server = system.stacks
    with running(
        server.place, "iperf3", "-s", "-1", "--forceflush", "-B", server.address, until="listening"
    ):
        done = client.place.run("iperf3", "-J", "-c", server.address, f"-t{TCP_SECONDS}", *options)
    received: dict[str, float] = json.loads(done.stdout)["end"]["sum_received"]
    return received


def cpu_per_gbit(lineup: Lineup, work: str) -> Iterator[Sample]:
    """Yield the processor time that one TCP connection takes for each Gbit, for each system."""
    for system in lineup.systems:
        if system.stacks is not None:
            yield from sample(work, CPU_PER_GBIT, system, partial(cpu_s_per_gbit, system))


def cpu_s_per_gbit(system: System) -> Found:
    """Return what the whole machine was busy for each Gbit, beyond what it is without."""
    start_s, before_s = time.monotonic(), busy_s()
    time.sleep(IDLE_SECONDS)
    idle_busy = (busy_s() - before_s) / (time.monotonic() - start_s)
    start_s, before_s = time.monotonic(), busy_s()
    received = transferred(system)
    used_s = busy_s() - before_s - idle_busy * (time.monotonic() - start_s)
    return Found(used_s / (received["bytes"] * 8 / 1e9))


def rtt(lineup: Lineup, work: str) -> Iterator[Sample]:
    """Yield the median time to a datagram's answer, and the 99th percentile, between stacks."""
    for system in lineup.systems:
        if system.stacks is not None and not system.translates:
            measure = partial(answer_us, lineup.traffic, system)
            yield from sample(work, MICROSECONDS, system, measure)


def answer_us(traffic: Traffic, system: System) -> Found:
    """Ask from one stack and answer in the other, one datagram at a time."""
    assert system.stacks is not None
    client, server = system.stacks
    took = traffic.rtt(
        (client, f"udp:{client.address}:{server.address}"),
        (server, f"udp:{server.address}:{client.address}"),
        (QUESTION, ANSWER),
    )
    return Found(took.median_us, others={MICROSECONDS_P99: took.p99_us})
