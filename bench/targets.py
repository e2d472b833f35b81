"""The figures to reach, as ratios of one run where that is what counts."""

from collections.abc import Iterable
from typing import Final

import attrs

from .names import (
    AT_1_GBIT,
    BUSY,
    CLEAN_TRAFFIC,
    CORE,
    FLOODING,
    FLOWS,
    GBIT,
    GBIT_IN,
    GBIT_OUT,
    HOSTILE,
    LIMITED,
    MANY_RULES,
    MIB,
    MICROSECONDS,
    OF_HALF_THE_WIRE,
    OF_TWO,
    RATE,
    SECONDS,
    beside,
    beside_busy,
    fair_share,
    of_limit,
    of_unfiltered,
)
from .report import Row


@attrs.frozen
class Target:
    """A figure to reach: of *system*'s median, in *unit*, as a multiple of *peer*'s if any."""

    work: str
    system: str
    unit: str
    wanted: float
    peer: str | None = None
    at_most: bool = False

    def found(self, rows: Iterable[Row]) -> float | None:
        """Return the figure as *rows* have it; None if they do not."""
        medians = {
            row.system: row.median
            for row in rows
            if (row.work, row.unit) == (self.work, self.unit)
        }
        if self.system not in medians:
            return None
        if self.peer is None:
            return medians[self.system]
        return medians[self.system] / medians[self.peer] if medians.get(self.peer) else None

    def is_reached(self, found: float) -> bool:
        return found <= self.wanted if self.at_most else found >= self.wanted

    @property
    def bound(self) -> str:
        """What is wanted, in words."""
        bound = "at most" if self.at_most else "at least"
        of = f" {self.unit}" if self.peer is None else f" x {self.peer}"
        return f"{bound} {self.wanted:g}{of}"

    def __str__(self) -> str:
        return f"{self.work} {self.system}: {self.bound}"


RAW: Final = ("multiplexer_stream", "multiplexer_ring")

TARGETS: Final = (
    Target("frames_60", "multiplexer_stream", RATE, 5, "bridge_veth"),
    Target("frames_60", "multiplexer_stream", RATE, 10, "vde_switch"),
    Target("frames_60", "multiplexer_ring", RATE, 20, "bridge_veth"),
    Target("frames_60", "multiplexer_ring", RATE, 40, "vde_switch"),
    Target("frames_1514", "multiplexer_ring", RATE, 3, "bridge_veth"),
    Target("tcp_1", "multiplexer_run", GBIT, 0.5, "bridge_veth"),
    Target("tcp_1", "multiplexer_run", GBIT, 7, "vde_switch"),
    Target("tcp_1", "multiplexer_run", GBIT, 3, "ovs_userspace"),
    Target("tcp_1", "multiplexer_trusted_tap", GBIT, 0.6, "bridge_veth"),
    Target("rtt_kernel", "multiplexer_run", MICROSECONDS, 1, "vde_switch", at_most=True),
    Target(
        "rtt_kernel_one_core", "multiplexer_run", MICROSECONDS, 0.5, "vde_switch", at_most=True
    ),
    Target("rtt_raw_one_core", "multiplexer_ring", MICROSECONDS, 2, "bridge_veth", at_most=True),
    Target("uplink_out", "multiplexer_ring", RATE, 1, "bridge_tap"),
    Target("uplink_in", "multiplexer_ring", RATE, 1, "bridge_tap"),
    Target("scale_1000", "multiplexer_stream", SECONDS, 10, at_most=True),
    Target("scale_1000", "multiplexer_stream", MIB, 200, at_most=True),
    *(Target("scale_1000", system, OF_TWO, 0.9) for system in RAW),
    *(
        Target("trio_tcp", system, unit, 1.2)
        for system in ("trio_lwip", "trio_lwip_source")
        for unit in (GBIT_OUT, GBIT_IN)
    ),
    *(Target("trio_tcp", "trio_kernel", unit, 0.8, "trio_run") for unit in (GBIT_OUT, GBIT_IN)),
    Target("idle_1000", "multiplexer_stream", CORE, 0.5, at_most=True),
    *(
        Target("fairness", system, unit, 0.9)
        for system in RAW
        for unit in (*map(fair_share, FLOODING), OF_HALF_THE_WIRE)
    ),
    *(
        Target("fairness", system, of_limit(limit), wanted, at_most=wanted > 1)
        for system in RAW
        for limit in LIMITED
        for wanted in (0.98, 1.02)
    ),
    *(
        Target("filtered_60", system, of_unfiltered(filter_, flows), wanted)
        for system in RAW
        for filter_, wanted in ((CLEAN_TRAFFIC, 0.7), (MANY_RULES, 0.4))
        for flows in FLOWS
    ),
    *(
        Target("hostile_neighbour", "multiplexer_run", beside(kind, AT_1_GBIT), 0.9)
        for kind in HOSTILE
    ),
    *(Target("hostile_neighbour", "multiplexer_run", beside_busy(kind), 0.9) for kind in BUSY),
)
