"""The report for people at a terminal."""

from collections.abc import Iterator, Sequence

from .names import OURS, PEERS, WORKS
from .report import Row
from .targets import TARGETS


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
