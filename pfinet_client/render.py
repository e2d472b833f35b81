"""What `pfinet list` and `pfinet show` print: values to text, nothing else."""

from collections.abc import Iterable, Sequence

from pfinet_proto.attach import Offload
from pfinet_proto.control import Conflict, FilterBindingInfo, Holder, Located, VifInfo


def vif_table(vifs: Iterable[VifInfo]) -> str:
    """Return one line for each vif, under a heading."""
    rows = [("VIF", "NETWORK", "ADDRESSES", "HELD BY")]
    rows += [
        (str(vif.name), vif.network, _bound(vif) or "-", _short_holder(vif.attached))
        for vif in vifs
    ]
    return _columns(rows)


def vif_page(vif: VifInfo, located: Located | None = None) -> str:
    """Return all there is to know of one vif: binding, holder, counters, drops, conflicts.

    *located*, which only its owner gets, is where its sockets are.
    """
    counters = vif.counters
    rows = [
        ("vif", str(vif.name)),
        ("network", vif.network),
        ("MAC address", str(vif.mac)),
        ("addresses", ", ".join(map(str, vif.addresses)) or "-"),
        ("prefixes", ", ".join(map(str, vif.prefixes)) or "-"),
        ("made by", _maker(vif)),
        ("held by", _long_holder(vif.attached)),
        ("sent", f"{counters.rx_frames} frames, {counters.rx_bytes} bytes"),
        ("received", f"{counters.tx_frames} frames, {counters.tx_bytes} bytes"),
        ("dropped", _columns(_drops(counters.drops.items())) or "nothing"),
        ("conflicts", "\n".join(_conflicts(vif)) or "none"),
    ]
    if vif.filter is not None:
        rows.append(("filter", _filter(vif.filter)))
        if vif.filter.learned:
            learned = " ".join(str(each.address) for each in vif.filter.learned)
            rows.append(("may use", learned))
        elif vif.filter.learning is not None:
            rows.append(("may use", f"the first address by {vif.filter.learning}"))
    if vif.claimed:
        rows.append(("claimed", "\n".join(map(str, vif.claimed))))
    if located is not None:
        rows.append(("sockets", "\n".join(map(located.path, located.kinds))))
    return "\n".join(_labelled(label, text) for label, text in rows)


def _bound(vif: VifInfo) -> str:
    return ", ".join(map(str, (*vif.addresses, *vif.prefixes)))


def _maker(vif: VifInfo) -> str:
    if vif.grant is not None:
        passing = ", until its client leaves" if vif.ephemeral else ""
        return f"you, by grant {vif.grant}{passing}"
    return "the configuration file" if vif.source == "static" else "the administrator"


def _filter(binding: FilterBindingInfo) -> str:
    given = binding.parameters.items()
    words = [f"{name}={value}" for name, values in given for value in values]
    return " ".join((binding.name, *words))


def _short_holder(holder: Holder | None) -> str:
    return "-" if holder is None else f"pid {holder.pid}"


def _long_holder(holder: Holder | None) -> str:
    if holder is None:
        return "nobody"
    offload = " ".join(str(each.name).lower() for each in Offload(holder.offload))
    how = f"by {holder.transport}" + (f" with {offload}" if offload else "")
    return f"pid {holder.pid}, uid {holder.uid}, {how}, for {_duration(holder.since_s)}"


def _duration(seconds: int) -> str:
    """Return the two largest units of a time."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    counts = []
    for unit, length in units:
        count, seconds = divmod(seconds, length)
        counts.append((count, unit))
    first = next((n for n, (count, _) in enumerate(counts) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in counts[first : first + 2])


def _drops(drops: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    return [(reason, str(count)) for reason, count in sorted(drops) if count]


def _conflicts(vif: VifInfo) -> Iterable[str]:
    yield from map(_conflict, vif.conflicts)
    for address in vif.host_conflicts:
        yield f"{address} is the host's now, too"


def _conflict(conflict: Conflict) -> str:
    claimed = "the MAC address" if conflict.address is None else str(conflict.address)
    return f"{claimed} claimed by {conflict.mac}, {conflict.count} times"


_LABEL_WIDTH = 13


def _labelled(label: str, text: str) -> str:
    first, *more = text.split("\n")
    return "\n".join([f"{label:<{_LABEL_WIDTH}}{first}", *(" " * _LABEL_WIDTH + m for m in more)])


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
