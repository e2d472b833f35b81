"""What `top` shows: the counters of two looks, as rates.

Pure: a look is what the daemon said and when, and two of them make a page.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from multiplexer.cli.page import NOTHING, Column, Facts, Page, Table
from pfinet_proto.control import Counters, UplinkInfo, VifInfo

_PREFIXES: Final = ("", "k", "M", "G", "T")


@attrs.frozen
class Look:
    """All counters at *at_s*, on any clock that only goes forward."""

    at_s: float
    vifs: tuple[VifInfo, ...]
    uplinks: tuple[UplinkInfo, ...] = ()


@attrs.frozen
class Rates:
    """How fast one port's counters rise, each per second; *drops* by reason."""

    kind: str
    name: str
    owner: str
    pid: int | None
    rx_frames: float
    rx_bits: float
    tx_frames: float
    tx_bits: float
    drops: Mapping[str, float]

    @property
    def activity(self) -> float:
        """What the busiest have most of: frames each way, and those that were dropped."""
        return self.rx_frames + self.tx_frames + sum(self.drops.values())


def rates_between(before: Look, now: Look) -> tuple[Rates, ...]:
    """Return the rates of every port that is there *now*: uplinks, then vifs, the busiest first.

    What a new port counts, and what counters count that began anew, rose since *before*.
    """
    seconds = max(now.at_s - before.at_s, 1e-6)
    uplinks = {uplink.name: uplink.counters for uplink in before.uplinks}
    vifs = {vif.id: vif.counters for vif in before.vifs}
    rates = [
        _rates("uplink", uplink.name, "", None, uplinks.get(uplink.name), uplink.counters, seconds)
        for uplink in now.uplinks
        if uplink.counters is not None
    ]
    own = [
        _rates(
            "vif",
            str(vif.name),
            vif.owner_name or str(vif.owner_uid),
            vif.attached.pid if vif.attached is not None else None,
            vifs.get(vif.id),
            vif.counters,
            seconds,
        )
        for vif in now.vifs
    ]
    own.sort(key=lambda rates: (-rates.activity, rates.name))
    return (*rates, *own)


def _rates(
    kind: str,
    name: str,
    owner: str,
    pid: int | None,
    before: Counters | None,
    now: Counters,
    seconds: float,
) -> Rates:
    def per_second(new: int, old: int) -> float:
        return (new - old if new >= old else new) / seconds

    old = before if before is not None else Counters(0, 0, 0, 0, {})
    drops = {
        reason: per_second(count, old.drops.get(reason, 0)) for reason, count in now.drops.items()
    }
    return Rates(
        kind,
        name,
        owner,
        pid,
        per_second(now.rx_frames, old.rx_frames),
        8 * per_second(now.rx_bytes, old.rx_bytes),
        per_second(now.tx_frames, old.tx_frames),
        8 * per_second(now.tx_bytes, old.tx_bytes),
        {reason: rate for reason, rate in drops.items() if rate > 0},
    )


def page_of_rates(rates: tuple[Rates, ...], most_rows: int | None, note: str) -> Page:
    """Return *rates* as a table of *most_rows* rows at most, below a *note*."""
    shown = rates if most_rows is None else rates[: max(most_rows, 1)]
    vifs = [rate for rate in rates if rate.kind == "vif"]
    attached = sum(rate.pid is not None for rate in vifs)
    head = [("vifs", f"{len(vifs)}, {attached} attached{_left_out(len(rates) - len(shown))}")]
    if note:
        head.append(("note", note))
    columns = (
        Column("PORT"),
        Column("OWNER"),
        Column("PID", is_number=True),
        Column("FROM frame/s", is_number=True),
        Column("bit/s", is_number=True),
        Column("TO frame/s", is_number=True),
        Column("bit/s", is_number=True),
        Column("DROP/s", is_number=True),
        Column("MOSTLY FOR"),
    )
    rows = tuple(tuple(_cells(rate)) for rate in shown)
    return Page((Facts(tuple(head)), Table(columns, rows, "no vifs")))


def _left_out(count: int) -> str:
    return f", {count} more than fit here" if count else ""


def _cells(rates: Rates) -> Iterator[str]:
    drops = sum(rates.drops.values())
    yield rates.name if rates.kind == "vif" else f"{rates.name} ({rates.kind})"
    yield rates.owner or NOTHING
    yield NOTHING if rates.pid is None else str(rates.pid)
    yield from map(short, (rates.rx_frames, rates.rx_bits, rates.tx_frames, rates.tx_bits, drops))
    yield max(rates.drops, key=rates.drops.__getitem__) if rates.drops else NOTHING


def short(rate: float) -> str:
    """Return *rate* in at most three digits and a decimal prefix: ``0``, ``12``, ``3.4k``."""
    for prefix in _PREFIXES:
        if rate < 999.5 or prefix == _PREFIXES[-1]:
            break
        rate /= 1000
    digits = 1 if rate < 9.95 and (prefix or rate != int(rate)) else 0
    return f"{rate:.{digits}f}{prefix}"
