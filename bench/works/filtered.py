"""What a network filter costs: frames of one connection, or of many, through two filtered ends.

The frames are segments of TCP, and the rules are of TCP's ports: of a thousand, theirs is the
last.  What is measured is the rate with a filter at both ends beside the rate without one, of
the same frames in the same round.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from tests.support.lab import Lab
from tests.support.waiting import eventually

from ..frames import tcp_frame
from ..names import CLEAN_TRAFFIC, FILTERS, FLOWS, MANY_RULES, NO_FILTER, of_unfiltered
from ..names import filtered as rate_of
from ..report import Sample
from ..systems.multiplexer import RAW_SOCKETS, between
from ..systems.netfilter import filter_of_ports, filtered_bridges
from ..systems.system import System
from ..traffic.program import Flood, Traffic
from .work import Found, sample

SECONDS: Final = 1.0

#: What the rules are of, and the connections: the last rule's port is theirs.
PORTS: Final = range(10_000, 11_000)
FROM_PORT: Final = 1024

#: The vifs at whose both ends a filter is, and the name of that.
VIFS: Final = {
    NO_FILTER: ("open0", "open1"),
    CLEAN_TRAFFIC: ("clean0", "clean1"),
    MANY_RULES: ("ports0", "ports1"),
}
NAMES: Final = {NO_FILTER: None, CLEAN_TRAFFIC: "clean-traffic", MANY_RULES: "ports"}
FIRST_UID: Final = 20001
FIRST_NUMBER: Final = 11


def filtered(work: str) -> Iterator[Sample]:
    """Yield the rates of the bridge and of ours by each filter, and as parts of those by none."""
    with Lab("filtered") as lab:
        traffic = Traffic.build(lab.root)
        lab.configure({})
        with lab.daemon(), filtered_bridges(lab, PORTS) as bridges:
            make_vifs(lab)
            ours = (
                {name: between(lab, *vifs, kind) for name, vifs in VIFS.items()}
                for kind in RAW_SOCKETS
            )
            for systems in (bridges, *ours):
                for flows in FLOWS:
                    yield from by_each_filter(work, traffic, systems, flows)


def make_vifs(lab: Lab) -> None:
    """Define the filter of many rules, and make two vifs for each filter."""
    path = lab.root / "ports.xml"
    path.write_text(filter_of_ports("ports", PORTS))
    lab.multiplexerctl("filter", "define", str(path))
    number = FIRST_NUMBER
    for filter_, vifs in VIFS.items():
        for vif in vifs:
            name = NAMES[filter_]
            bound = () if name is None else ("--filter", name)
            owner, address = str(FIRST_UID + number - FIRST_NUMBER), f"10.77.0.{number}/24"
            # Nobody else is on the wire, so it need not be asked.
            of = ("--owner", owner, "--address", address, "--force")
            lab.multiplexerctl("vif", "create", vif, *of, *bound)
            number += 1


def by_each_filter(
    work: str, traffic: Traffic, systems: Mapping[str, System], flows: int
) -> Iterator[Sample]:
    """Yield the rate by each filter, and as part of that by none."""
    rates = {}
    for filter_, system in systems.items():
        measure = partial(million_per_s, traffic, system, flows)
        (found,) = sample(work, rate_of(filter_, flows), system, measure)
        rates[filter_] = found
        yield found
    for filter_ in FILTERS:
        found = rates[filter_]
        part = found.value / rates[NO_FILTER].value
        yield Sample(work, found.system, of_unfiltered(filter_, flows), part, found.validated)


def million_per_s(traffic: Traffic, system: System, flows: int) -> Found:
    """Send from the first end as fast as it can, and count at the second."""
    assert system.raw is not None
    source, target = system.raw
    ports = (FROM_PORT, PORTS[-1])
    frame = tcp_frame(source.address, target.address, ports)
    hello = tcp_frame(target.address, source.address, ports[::-1])
    eventually(system.is_free, f"the ends of {system.name} are free")
    counted = traffic.count(Flood(source, target, (frame, hello), SECONDS, varies=flows > 1))
    return Found(counted.frames / counted.seconds / 1e6, counted.frames)
