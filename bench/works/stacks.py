"""Programs on two kernel stacks: TCP by iperf3, and datagrams one at a time."""

import json
from collections.abc import Iterator
from functools import partial

from tests.support.programs import running

from ..lineup import Lineup
from ..report import GBIT, MICROSECONDS, Sample
from ..systems.system import System
from ..traffic.program import Traffic
from .work import Found, sample

TCP_SECONDS = 2
QUESTION, ANSWER = b"question".ljust(18), b"answer".ljust(18)


def tcp(lineup: Lineup, work: str, streams: int) -> Iterator[Sample]:
    """Yield what *streams* TCP connections carry from one stack to the other together."""
    for system in lineup.systems:
        if system.stacks is not None:
            yield sample(work, GBIT, system, partial(gbit_per_s, system, f"-P{streams}"))


def gbit_per_s(system: System, *options: str) -> Found:
    """Return what iperf3, run with *options*, received in the second stack, in 1e9 bit/s."""
    assert system.stacks is not None
    client, server = system.stacks
    with running(
        server.place, "iperf3", "-s", "-1", "--forceflush", "-B", server.address, until="listening"
    ):
        done = client.place.run("iperf3", "-J", "-c", server.address, f"-t{TCP_SECONDS}", *options)
    received = json.loads(done.stdout)["end"]["sum_received"]
    return Found(float(received["bits_per_second"]) / 1e9)


def rtt(lineup: Lineup, work: str) -> Iterator[Sample]:
    """Yield the median time to a small UDP datagram's answer, between the stacks."""
    for system in lineup.systems:
        if system.stacks is not None:
            yield sample(work, MICROSECONDS, system, partial(answer_us, lineup.traffic, system))


def answer_us(traffic: Traffic, system: System) -> Found:
    """Ask from one stack and answer in the other, one datagram at a time."""
    assert system.stacks is not None
    client, server = system.stacks
    return Found(
        traffic.rtt_us(
            (client, f"udp:{client.address}:{server.address}"),
            (server, f"udp:{server.address}:{client.address}"),
            (QUESTION, ANSWER),
        )
    )
