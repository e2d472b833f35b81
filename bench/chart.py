"""What the plot shows: a panel for each work that systems are compared in, and one of shares.

Pure; `plot.py` draws it.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from .names import CPU_PER_GBIT, GBIT, MICROSECONDS, OURS, RATE
from .report import Row

#: The works in which every system that can takes part, and the unit that is compared.
COMPARED: Final = {
    "frames_60": RATE,
    "frames_1514": RATE,
    "uplink_out": RATE,
    "uplink_in": RATE,
    "tcp_1": GBIT,
    "tcp_4": GBIT,
    "cpu_per_gbit": CPU_PER_GBIT,
    "rtt_kernel": MICROSECONDS,
    "rtt_kernel_one_core": MICROSECONDS,
    "rtt_raw": MICROSECONDS,
    "rtt_raw_one_core": MICROSECONDS,
}
SMALLER_IS_BETTER: Final = (CPU_PER_GBIT, MICROSECONDS)


@attrs.frozen
class Bar:
    """One number: its median, and the range of its runs."""

    name: str
    median: float
    min: float
    max: float
    is_ours: bool


@attrs.frozen
class Panel:
    """Numbers of one unit beside each other, the best first where that is what they are for."""

    title: str
    unit: str
    bars: tuple[Bar, ...]


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Return the panels for which *rows* have something to show."""
    found = [_compared(rows, work, unit) for work, unit in COMPARED.items()]
    found.append(_shares(rows))
    return [panel for panel in found if panel.bars]


def _compared(rows: Sequence[Row], work: str, unit: str) -> Panel:
    of_work = [row for row in rows if (row.work, row.unit) == (work, unit)]
    of_work.sort(key=lambda row: row.median, reverse=unit not in SMALLER_IS_BETTER)
    better = "less" if unit in SMALLER_IS_BETTER else "more"
    bars = tuple(_bar(row, row.system) for row in of_work)
    return Panel(work, f"{unit}, {better} is better", bars)


def _shares(rows: Sequence[Row]) -> Panel:
    """Return the panel of what is a part of something that it should be near to."""
    shares = [row for row in rows if row.unit.startswith("of ")]
    bars = tuple(_bar(row, f"{row.work}: {row.unit}") for row in shares)
    return Panel("shares", "of what it should be near to", bars)


def _bar(row: Row, name: str) -> Bar:
    return Bar(name, row.median, row.min, row.max, row.system in OURS)
