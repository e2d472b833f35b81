"""What a hostile client costs its neighbours: their rate beside it, of their rate alone.

The neighbours are two stacks with TCP between them: at 1 Gbit/s, which is less
than their share of a small machine, so that they should lose nothing; and at
full speed, where they need every core themselves and lose their part of the
processors to whoever is as busy, with a daemon or without.  What they lose there
to the daemon shows beside as many processes that have nothing to do with it.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.lab import Lab
from tests.support.plain import connected
from tests.support.waiting import eventually

from ..frames import udp_frame
from ..names import AT_1_GBIT, AT_FULL_SPEED, BUSY, beside, beside_busy
from ..report import Sample
from ..systems.multiplexer import (
    OWNERS,
    checked_by,
    multiplexer_run,
    multiplexer_stream,
)
from ..systems.system import RawEnd, System
from ..traffic.program import Flood, Traffic
from .stacks import gbit_per_s

PACES: Final = {AT_1_GBIT: "-b1G", AT_FULL_SPEED: "-b0"}
LONG_S: Final = 60
SIZE: Final = 60
SYSTEM: Final = "multiplexer_run"


def hostile(work: str) -> Iterator[Sample]:
    """Yield the neighbours' rate beside each kind of hostile client, of their rate alone."""
    with Lab("hostile") as lab:
        traffic = Traffic.build(lab.root)
        lab.configure(OWNERS)
        with (
            lab.daemon(),
            multiplexer_run(lab, traffic) as neighbours,
            multiplexer_stream(lab, traffic) as others,
        ):
            checked = checked_by(lab, *OWNERS)
            for kind, start in KINDS.items():
                for speed, pace in PACES.items():
                    before = checked()
                    alone = gbit_per_s(neighbours, pace).value
                    with start(lab, traffic, others):
                        rate = gbit_per_s(neighbours, pace).value
                    found = {beside(kind, speed): rate / alone}
                    if speed == AT_FULL_SPEED and kind in BUSY:
                        with spinning(traffic, BUSY[kind], others):
                            found[beside_busy(kind)] = rate / gbit_per_s(neighbours, pace).value
                    for unit, value in found.items():
                        yield Sample(work, SYSTEM, unit, value, checked() - before)


def pair(system: System) -> tuple[RawEnd, RawEnd]:
    """Return the raw ends of *system* when nobody is on them any more."""
    assert system.raw is not None
    eventually(system.is_free, f"the ends of {system.name} are free")
    return system.raw


@contextmanager
def spinning(traffic: Traffic, number: int, others: System) -> Iterator[None]:
    """Keep *number* processes busy with nothing, where the hostile ones would be."""
    place, _ = pair(others)
    with ExitStack() as until_end:
        for _ in range(number):
            until_end.enter_context(traffic.running(place, "spin"))
        yield


@contextmanager
def forging(lab: Lab, traffic: Traffic, others: System) -> Iterator[None]:
    """Flood with frames from a MAC that is somebody else's."""
    source, target = pair(others)
    frame = udp_frame(target.address, target.address, SIZE)
    with traffic.running(source, "send", source.what, frame.hex(), str(LONG_S)):
        yield


@contextmanager
def flooding(lab: Lab, traffic: Traffic, others: System) -> Iterator[None]:
    """Flood with lawful frames, to a client that takes them."""
    source, target = pair(others)
    frame = udp_frame(source.address, target.address, SIZE)
    hello = udp_frame(target.address, source.address, SIZE)
    with traffic.flood(Flood(source, target, (frame, hello), LONG_S)):
        yield


@contextmanager
def never_reading(lab: Lab, traffic: Traffic, others: System) -> Iterator[None]:
    """Flood a client that takes nothing."""
    source, target = pair(others)
    frame = udp_frame(source.address, target.address, SIZE)
    with (
        connected(lab.socket_of("raw1", "stream"), OWNERS["raw1"]),
        traffic.running(source, "send", source.what, frame.hex(), str(LONG_S)),
    ):
        yield


@contextmanager
def connecting(lab: Lab, _traffic: Traffic, _others: System) -> Iterator[None]:
    """Connect to every socket that one may, and go, as fast as it goes."""
    paths = (lab.run_dir / "control", lab.socket_of("raw0", "stream"))
    pid = os.fork()
    if pid == 0:
        try:
            connect_for_ever(paths)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def connect_for_ever(paths: tuple[Path, ...]) -> None:
    while True:
        for path in paths:
            with suppress(OSError):
                connected(path, OWNERS["raw0"]).close()


Kind = Callable[[Lab, Traffic, System], AbstractContextManager[None]]

KINDS: Final[dict[str, Kind]] = {
    "forging": forging,
    "flooding": flooding,
    "never reading": never_reading,
    "connecting": connecting,
}
