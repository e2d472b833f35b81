"""What was measured, as values: samples, the rows made of them, their ratios.

Pure.  A row says how often a number was measured, and one of ours also how
many frames the daemon's own counters say that it checked in that work: without
that it is not a row.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

WORKS: Final = (
    "frames_60",
    "frames_1514",
    "tcp_1",
    "tcp_4",
    "rtt_kernel",
    "rtt_raw",
    "scale_1000",
    "idle_1000",
    "hostile_neighbour",
    "survival",
)

PEERS: Final = ("bridge_veth", "bridge_tap", "macvlan", "vde_switch", "ovs_userspace")
OURS: Final = ("multiplexer_stream", "multiplexer_run", "multiplexer_trusted_tap")
SYSTEMS: Final = (*PEERS, *OURS)

#: Fewer say nothing about how far a number can be trusted.
MIN_RUNS: Final = 5


class BadRow(ValueError):
    """A row that must not be written; the text says which, and why."""


@attrs.frozen
class Sample:
    """What one run found.  *validated* is None where nothing of ours ran."""

    work: str
    system: str
    unit: str
    value: float
    validated: int | None = None


@attrs.frozen
class Row:
    """All runs of one number: *n* of them; *validated* is their sum."""

    work: str
    system: str
    unit: str
    n: int
    median: float
    min: float
    max: float
    validated: int | None

    def __attrs_post_init__(self) -> None:
        where = f"{self.work}, {self.system}, {self.unit}"
        if self.work not in WORKS:
            raise BadRow(f'{where}: no work is called "{self.work}"')
        if self.system not in SYSTEMS:
            raise BadRow(f'{where}: no system is called "{self.system}"')
        if self.n < MIN_RUNS:
            raise BadRow(f"{where}: {self.n} runs, wanted at least {MIN_RUNS}")
        if not self.min <= self.median <= self.max:
            raise BadRow(f"{where}: {self.median} is not within {self.min} to {self.max}")
        if self.system in OURS and not self.validated:
            raise BadRow(f"{where}: the daemon counted no frame that it checked")
        if self.system in PEERS and self.validated is not None:
            raise BadRow(f"{where}: validated is {self.validated}, and nobody else checks")


Key = tuple[str, str, str]


def rows_of(samples: Iterable[Sample]) -> list[Row]:
    """Return a row for each number, in the order in which they first came.

    Raises:
        BadRow: if one must not be written.
    """
    runs: dict[Key, list[Sample]] = {}
    for sample in samples:
        runs.setdefault((sample.work, sample.system, sample.unit), []).append(sample)
    return [_row_of(*key, found) for key, found in runs.items()]


def _row_of(work: str, system: str, unit: str, found: Sequence[Sample]) -> Row:
    values = [sample.value for sample in found]
    counts = [sample.validated for sample in found]
    if any((count is None) != (counts[0] is None) for count in counts):
        raise BadRow(f"{work}, {system}, {unit}: validated is missing in some runs")
    return Row(
        work,
        system,
        unit,
        len(values),
        round(statistics.median(values), 4),
        round(min(values), 4),
        round(max(values), 4),
        None if None in counts else sum(count for count in counts if count is not None),
    )


def document(machine: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the text of a results file."""
    content = {"machine": machine, "rows": [attrs.asdict(row) for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def read_rows(text: str) -> list[Row]:
    """Return the rows of a results file.

    Raises:
        BadRow: if one of them is none.
    """
    try:
        return [Row(**row) for row in json.loads(text)["rows"]]
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise BadRow(f"not a results file: {error}") from error


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

    def __str__(self) -> str:
        bound = "at most" if self.at_most else "at least"
        of = "" if self.peer is None else f" x {self.peer}"
        unit = f" {self.unit}" if self.peer is None else ""
        return f"{self.work} {self.system}: {bound} {self.wanted:g}{unit}{of}"


RATE: Final = "Mframe/s"
GBIT: Final = "Gbit/s"
MICROSECONDS: Final = "us"
SECONDS: Final = "s"
MIB: Final = "MiB"
OF_TWO: Final = "of the rate with 2"
CORE: Final = "% of a core"

#: What hostile clients do, and how fast their neighbours go.
HOSTILE: Final = ("forging", "flooding", "never reading", "connecting")
AT_1_GBIT: Final = "at 1 Gbit/s"
AT_FULL_SPEED: Final = "at full speed"


#: Which process is killed, and what flows meanwhile.
KILLED: Final = ("control", "engine", "broker")
STREAMS: Final = ("TCP", "datagrams")


def pause(stream: str, role: str) -> str:
    """Return the unit of the longest pause of *stream* when *role* is killed."""
    return f"s without {stream}, {role} killed"


def beside(kind: str, speed: str) -> str:
    """Return the unit of a rate beside a client that does *kind*, as part of the rate alone."""
    return f"of alone, {kind}, {speed}"


TARGETS: Final = (
    Target("frames_60", "multiplexer_stream", RATE, 5, "bridge_veth"),
    Target("frames_60", "multiplexer_stream", RATE, 10, "vde_switch"),
    Target("tcp_1", "multiplexer_run", GBIT, 5, "vde_switch"),
    Target("tcp_1", "multiplexer_run", GBIT, 0.4, "bridge_veth"),
    Target("scale_1000", "multiplexer_stream", SECONDS, 10, at_most=True),
    Target("scale_1000", "multiplexer_stream", MIB, 200, at_most=True),
    Target("scale_1000", "multiplexer_stream", OF_TWO, 0.9),
    Target("idle_1000", "multiplexer_stream", CORE, 1, at_most=True),
    *(
        Target("hostile_neighbour", "multiplexer_run", beside(kind, AT_1_GBIT), 0.9)
        for kind in HOSTILE
    ),
)


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a report for people."""
    for work in WORKS:
        of_work = [row for row in rows if row.work == work]
        if of_work:
            yield ""
            yield from _table(work, of_work)
    checks = [(target, target.found(rows)) for target in TARGETS]
    if any(found is not None for _, found in checks):
        yield ""
        yield "wanted"
    for target, found in checks:
        if found is not None:
            verdict = "reached" if target.is_reached(found) else "MISSED"
            yield f"  {target!s:84}{found:9.2f}  {verdict}"


def _table(work: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the rows of one work, each of ours as a multiple of every peer."""
    peers = [row for row in rows if row.system in PEERS]
    yield f"{work:64}{'median':>10}{'min':>10}{'max':>10}  of each peer"
    for row in rows:
        line = f"  {row.system:24}{row.unit:38}{row.median:10.3f}{row.min:10.3f}{row.max:10.3f}"
        ratios = [
            f"{peer.system} {row.median / peer.median:.2f}"
            for peer in peers
            if row.system in OURS and row.unit == peer.unit and peer.median
        ]
        yield "  ".join([line, ", ".join(ratios)]).rstrip()
