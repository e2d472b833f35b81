"""What is said in the same words of more than one kind of thing."""

from collections.abc import Iterable, Mapping, Sequence

from multiplexer.cli.page import NOTHING, Column, Section, Table
from pfinet_proto import control


def words(values: Iterable[object]) -> str:
    """Return *values* in one line."""
    return " ".join(map(str, values)) or NOTHING


def lines(values: Iterable[object]) -> str:
    """Return *values*, each in a line of its own."""
    return "\n".join(map(str, values)) or NOTHING


def assignments(parameters: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what the variables of a filter stand for, as ``NAME=VALUE``."""
    return [f"{name}={each}" for name, values in parameters.items() for each in values]


def duration(seconds: int) -> str:
    """Return a time in its two largest units: ``3 d 4 h``, ``5 min 6 s``."""
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    d, h = divmod(hours, 24)
    if d:
        return f"{d} d {h} h"
    if h:
        return f"{h} h {m} min"
    return f"{m} min {s} s" if m else f"{s} s"


def limit_facts(limits: control.LimitsInfo) -> Iterable[tuple[str, str]]:
    """Yield what a vif may send, each per second."""
    yield "frames/s", _limit(limits.frames_per_s)
    yield "bytes/s", _limit(limits.bytes_per_s)
    yield "broadcasts/s", _limit(limits.broadcast_per_s)
    yield "copies/s", _limit(limits.copies_per_s)


def _limit(rate: int) -> str:
    return str(rate) if rate else "no limit"


def traffic_facts(
    counters: control.Counters | None, received: str, sent: str
) -> Iterable[tuple[str, str]]:
    """Yield what a port has counted, if it has; *received* and *sent* name the two ways."""
    if counters is not None:
        yield received, f"{counters.rx_frames} frames, {counters.rx_bytes} bytes"
        yield sent, f"{counters.tx_frames} frames, {counters.tx_bytes} bytes"


def drop_sections(counters: control.Counters | None) -> Iterable[Section]:
    """Yield the drops of a port by their reasons, if it counts any."""
    if counters is not None:
        columns = (Column("DROPPED FOR"), Column("FRAMES", is_number=True))
        rows = tuple((reason, str(count)) for reason, count in sorted(counters.drops.items()))
        yield Table(columns, rows, "nothing was dropped")


def conflict_sections(conflicts: Sequence[control.Conflict]) -> Iterable[Section]:
    """Yield the table of *conflicts* for addresses, if there are any."""
    if conflicts:
        columns = (Column("FOREIGN MAC"), Column("CLAIMED"), Column("TIMES", is_number=True))
        rows = tuple(
            (
                str(conflict.mac),
                NOTHING if conflict.address is None else str(conflict.address),
                str(conflict.count),
            )
            for conflict in conflicts
        )
        yield Table(columns, rows, "no address conflicts")
