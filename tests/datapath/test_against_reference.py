"""The C core decides as the slow reference does, frame by frame, on random traffic."""

import os
from collections import Counter
from typing import Final

from attrs import frozen
from hypothesis import HealthCheck, given, settings

from tests.reference import DELIVERY, FILTER, Decision, Reason, Reference, Route, World

from . import traffic
from .core import VERDICTS, Core

#: More finds more, and takes longer; the same number always finds the same.
EXAMPLES: Final = int(os.environ.get("REFERENCE_EXAMPLES", "2000"))

WIRE_ONLY: Final = frozenset({Reason.UPLINK_VLAN, Reason.UPLINK_SPOOF, Reason.EGRESS_MTU})
"""Reasons that a frame from a vif never ends by."""

FROM_WIRE: Final = frozenset(
    {Reason.RUNT, Reason.OVERSIZE, Reason.RESERVED_MAC, Reason.NO_RECEIVER} | WIRE_ONLY
)
"""All reasons that a frame from the wire ends by."""

NEVER_IN_HUB: Final = frozenset({Reason.NO_RECEIVER})
"""A hub sends to everybody, whoever they are."""


@frozen(kw_only=True)
class Outcome:
    """What became of some frame, and where it came from."""

    from_uplink: bool
    hub: bool
    what: Reason | Route
    conflict: bool = False


def test_the_core_names_the_reasons_in_the_order_of_the_reference() -> None:
    """The order is that of precedence, and each counter stands at its reason's number."""
    assert ("pass", *Reason) == VERDICTS


def test_the_core_decides_as_the_reference_on_random_traffic() -> None:
    """The run must also have seen every outcome: one it never saw, it has not compared."""
    seen: Counter[Outcome] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(traffic.traffic())
    def compare(given: tuple[World, list[traffic.Event]]) -> None:
        world, events = given
        reference, core = Reference(world), Core(world)
        now_ns = 1
        for event in events:
            now_ns += event.after_ns
            if event.from_uplink:
                expected = reference.from_uplink(event.port, event.frame)
                found = core.from_uplink(event.port, event.frame)
            else:
                expected = reference.from_vif(event.port, event.frame, now_ns)
                # Twice, since a trace that took tokens would change what follows.
                for _ in range(2):
                    assert core.traced(event.port, event.frame, now_ns) == expected, event
                found = core.from_vif(event.port, event.frame, now_ns)
            assert found == expected, event
            receivers = reference.receivers(event.port, expected)
            assert core.receivers(event.port, found) == receivers, event
            seen[outcome_of(world, event, expected)] += 1

    compare()

    assert wanted_outcomes() - set(seen) == set()


def outcome_of(world: World, event: traffic.Event, decision: Decision) -> Outcome:
    """Return what a decision comes to."""
    if event.from_uplink:
        network = world.network_on(event.port)
        hub = network is not None and network.hub
    else:
        hub = world.network(world.vif(event.port).network).hub
    return Outcome(
        from_uplink=event.from_uplink,
        hub=hub,
        what=decision.reason or decision.route,
        conflict=decision.conflict is not None,
    )


def wanted_outcomes() -> set[Outcome]:
    """Return every reason and route, in each mode and direction where it can be."""
    wanted = set()
    for hub in (False, True):
        routes = {Route.FLOOD} if hub else {Route.FLOOD, Route.PORT}
        never = DELIVERY | FILTER | (NEVER_IN_HUB if hub else frozenset())
        from_vif = routes | (set(Reason) - WIRE_ONLY - never)
        # No frame that Hypothesis would draw in bulk is longer than the longest.
        from_wire = routes | (FROM_WIRE - never - {Reason.OVERSIZE})
        wanted |= {Outcome(from_uplink=False, hub=hub, what=what) for what in from_vif}
        wanted |= {Outcome(from_uplink=True, hub=hub, what=what) for what in from_wire}
        wanted.add(Outcome(from_uplink=True, hub=hub, what=Reason.UPLINK_SPOOF, conflict=True))
    return wanted
