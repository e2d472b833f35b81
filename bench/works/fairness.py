"""Whether each vif gets its share, and no more than its limit.

Beside vifs that flood as it does itself, a vif's fair share is an equal part of
all that the engine takes from them: what else the machine is busy with they all
suffer from alike.  A frame to the wire costs the engine more than one to a
neighbour; who floods that way should have half of its time, and leave half of
what the neighbour has alone.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

import attrs

from tests.support.lab import Lab

from ..frames import udp_frame
from ..names import FLOODING, LIMITED, OF_HALF_THE_WIRE, fair_share, of_limit
from ..report import Sample
from ..systems.multiplexer import RAW_SOCKETS, between, checked_by
from ..systems.system import System
from ..traffic.program import Flood, Traffic, counted
from .raw import million_per_s
from .work import Found, sample

SIZE: Final = 60
SECONDS: Final = 2.0
#: For floods to fill every queue.
SETTLING_S: Final = 0.5
LONG_S: Final = 60.0

#: Two vifs each: the first sends to the second.
NEAR: Final = ("near0", "near1")
FLOODS: Final = tuple((f"flood{number}", f"drain{number}") for number in range(max(FLOODING)))
LIMITED_VIFS: Final = {limit: (f"limited{n}", f"beyond{n}") for n, limit in enumerate(LIMITED)}
FIRST_UID: Final = 20001

#: How much, and the size of the frames for which that is a small part of what would go.
LIMITS: Final = {"frames_per_s": (100_000, 60), "bytes_per_s": (12_500_000, 1514)}


def fairness(work: str) -> Iterator[Sample]:
    """Yield a neighbour's rate of its fair share, and limited vifs' rates of their limits."""
    with Lab("fairness") as lab:
        traffic = Traffic.build(lab.root)
        configure(lab)
        with lab.daemon():
            for kind in RAW_SOCKETS:
                yield from between_clients(work, lab, traffic, kind)


def between_clients(work: str, lab: Lab, traffic: Traffic, kind: str) -> Iterator[Sample]:
    """Yield the same where all are raw clients of one kind."""
    near = between(lab, *NEAR, kind)
    for number in FLOODING:
        floods = [between(lab, *pair, kind) for pair in FLOODS[:number]]
        share = partial(of_fair_share, lab, traffic, near, floods)
        yield from sample(work, fair_share(number), near, share)
    share = partial(of_half_of_alone, traffic, near, between(lab, *FLOODS[0], kind))
    yield from sample(work, OF_HALF_THE_WIRE, near, share)
    for limit, pair in LIMITED_VIFS.items():
        limited = between(lab, *pair, kind)
        rate = partial(of_its_limit, traffic, limited, limit)
        yield from sample(work, of_limit(limit), limited, rate)


def configure(lab: Lab) -> None:
    """Write a configuration with all vifs, each of a user of its own."""
    pairs = (NEAR, *FLOODS, *LIMITED_VIFS.values())
    names = [name for pair in pairs for name in pair]
    limits = (
        f"\n[vif.{LIMITED_VIFS[limit][0]}.limits]\n{limit} = {LIMITS[limit][0]}\n"
        for limit in LIMITED
    )
    owners = {name: uid for uid, name in enumerate(names, FIRST_UID)}
    lab.configure(owners, extra="".join(limits))


def frames_of(system: System, size: int = SIZE) -> tuple[bytes, bytes]:
    """Return the frame that floods from the first end to the second, and the second's hello."""
    assert system.raw is not None
    source, target = (end.address for end in system.raw)
    return (
        udp_frame(source, target, size, system.ethertype),
        udp_frame(target, source, SIZE, system.ethertype),
    )


def of_fair_share(lab: Lab, traffic: Traffic, near: System, floods: list[System]) -> Found:
    """Return what arrives from *near*, as part of an equal share of what is taken from all."""
    senders = (NEAR[0], *(source for source, _ in FLOODS[: len(floods)]))
    taken = checked_by(lab, *senders)
    with ExitStack() as until_end:
        for flood in floods:
            assert flood.raw is not None
            until_end.enter_context(traffic.flood(Flood(*flood.raw, frames_of(flood), LONG_S)))
        assert near.raw is not None
        counter = until_end.enter_context(
            traffic.flood(Flood(*near.raw, frames_of(near), SECONDS))
        )
        time.sleep(SETTLING_S)
        before, start_s = taken(), time.monotonic()
        time.sleep(SECONDS - SETTLING_S)
        fair = (taken() - before) / (time.monotonic() - start_s) / len(senders)
        arrived = counted(counter)
    return Found(arrived.frames / arrived.seconds / fair, arrived.frames)


def of_half_of_alone(traffic: Traffic, near: System, flood: System) -> Found:
    """Return the rate of *near* beside one who floods the wire, as part of half of it alone."""
    assert flood.raw is not None
    assert flood.wire is not None
    source, target = flood.raw[0], flood.wire.end
    alone = million_per_s(traffic, near, SIZE)
    frame = udp_frame(source.address, target.address, SIZE, flood.ethertype)
    with traffic.running(source, "send", source.what, frame.hex(), str(LONG_S)):
        time.sleep(SETTLING_S)
        rate = million_per_s(traffic, near, SIZE)
    return Found(rate.value / (alone.value / 2), alone.frames + rate.frames)


def of_its_limit(traffic: Traffic, limited: System, limit: str) -> Found:
    """Return what arrives of a flood from a vif with *limit*, as part of that.

    A bucket holds what a second brings; the flood empties it while the counter warms up.
    """
    most, size = LIMITS[limit]
    rate = million_per_s(traffic, limited, size)
    per_frame = size if limit == "bytes_per_s" else 1
    return attrs.evolve(rate, value=rate.value * 1e6 * per_frame / most)
