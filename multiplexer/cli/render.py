"""Results as text for people and as JSON for programs.

A result becomes a page: lists of what it says under names, and tables.  A page
is then written as plain columns, which programs can cut, or for a terminal.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pfinet_proto import control
from pfinet_proto.attach import Offload
from pfinet_proto.jsonform import to_json
from pfinet_proto.trace import trace_text

NOTHING: Final = "-"


@attrs.frozen
class Column:
    """A column's heading; numbers stand at its right."""

    heading: str
    is_number: bool = False


@attrs.frozen
class Table:
    """Rows of text under *columns*; *empty* is said where there are no rows."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str


@attrs.frozen
class Facts:
    """What is known of one thing: pairs of a name and one or more lines."""

    pairs: tuple[tuple[str, str], ...]


@attrs.frozen
class Lines:
    """Text that is laid out already."""

    text: str


Section = Table | Facts | Lines


@attrs.frozen
class Page:
    """All that there is to say; an empty page says nothing."""

    sections: tuple[Section, ...] = ()


def as_json(result: control.Result) -> str:
    """Return *result* as the protocol has it, indented."""
    return json.dumps(to_json(result), indent=2) + "\n"


def as_text(result: control.Result) -> str:
    """Return *result* in plain aligned columns."""
    return page_as_text(page_of(result))


def as_terminal_text(result: control.Result, width: int) -> str:
    """Return *result* for a terminal of *width* columns."""
    return page_as_terminal_text(page_of(result), width)


def page_as_text(page: Page) -> str:
    """Return *page* in plain aligned columns."""
    return _join(_plain_section(section) for section in page.sections)


def page_as_terminal_text(page: Page, width: int) -> str:
    """Return *page* for a terminal of *width* columns."""
    return _join(_styled_section(section, width) for section in page.sections)


def page_of(result: control.Result) -> Page:
    """Return what people are told of *result*."""
    return Page(tuple(_SECTIONS[type(result)](result)))


def _join(sections: Iterable[str]) -> str:
    return "\n".join(sections)


def _plain_section(section: Section) -> str:
    if isinstance(section, Lines):
        return section.text
    if isinstance(section, Facts):
        width = max(len(name) for name, _ in section.pairs)
        return "".join(_plain_fact(name, text, width) for name, text in section.pairs)
    if not section.rows:
        return f"{section.empty}\n"
    lines = [tuple(column.heading for column in section.columns), *section.rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(_plain_line(line, section.columns, widths) for line in lines)


def _plain_fact(name: str, text: str, width: int) -> str:
    first, *more = text.split("\n")
    lead = " " * (width + 2)
    return "".join([f"{name:<{width}}  {first}\n", *(f"{lead}{line}\n" for line in more)])


def _plain_line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    return "  ".join(parts).rstrip() + "\n"


def _styled_section(section: Section, width: int) -> str:
    if isinstance(section, Lines):
        return section.text
    table = RichTable(box=None, pad_edge=False, show_header=isinstance(section, Table))
    if isinstance(section, Facts):
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        rows: Iterable[Sequence[str]] = section.pairs
    elif section.rows:
        for column in section.columns:
            table.add_column(column.heading, justify="right" if column.is_number else "left")
        rows = section.rows
    else:
        return f"{section.empty}\n"
    for row in rows:
        # Text, because a name in brackets is no markup.
        table.add_row(*map(Text, row))
    console = Console(width=width, force_terminal=True, highlight=False)
    with console.capture() as written:
        console.print(table)
    return written.get()


# What is said of each result


def _status(status: control.StatusInfo) -> Iterable[Section]:
    refused = "refused by the kernel"
    if not status.passrights:
        refused = f"watched for, {status.shut_out} users shut out"
    yield Facts(
        (
            ("version", status.version),
            ("up for", _duration(status.uptime_s)),
            ("configuration", status.config),
            ("kernel", status.kernel),
            ("clients' descriptors", refused),
            ("networks", str(status.networks)),
            ("uplinks", str(status.uplinks)),
            ("vifs", f"{status.vifs}, {status.attached} attached{_aside_count(status)}"),
            ("restarts", f"{status.control_restarts} of control, {status.engine_restarts} of all"),
            ("the host reaches", _reached(status)),
        )
    )


def _aside_count(status: control.StatusInfo) -> str:
    return f"; {status.set_aside} set aside" if status.set_aside else ""


def _networks(result: control.Networks) -> Iterable[Section]:
    columns = (
        Column("NETWORK"),
        Column("MODE"),
        Column("UPLINK"),
        Column("PREFIXES"),
        Column("MTU", is_number=True),
        Column("VIFS", is_number=True),
    )
    rows = tuple(
        (
            network.name,
            network.mode,
            _uplink_of(network),
            _words(network.prefixes),
            str(network.mtu),
            str(network.vifs),
        )
        for network in result.networks
    )
    yield Table(columns, rows, "no networks")


def _network(network: control.NetworkInfo) -> Iterable[Section]:
    yield Facts(
        (
            ("network", network.name),
            ("mode", network.mode),
            ("uplink", _uplink_of(network)),
            ("prefixes", _lines(network.prefixes)),
            ("gateways", _lines(network.gateways)),
            ("MTU", f"{network.mtu} bytes"),
            ("DNS servers", _lines(network.dns)),
            ("search domains", _lines(network.search)),
            ("reserved", _lines(network.reserved)),
            ("autoconf", "yes" if network.autoconf else "no"),
            ("link-local", network.link_local),
            *_limits(network.limits),
            ("vifs", str(network.vifs)),
            *_host(network.host),
        )
    )
    if network.host is not None:
        yield from _drops(network.host.counters)
        yield from _conflicts(network.host.conflicts)


def _uplinks(result: control.Uplinks) -> Iterable[Section]:
    columns = (
        Column("UPLINK"),
        Column("KIND"),
        Column("INTERFACE"),
        Column("STATE"),
        Column("EXTERNAL"),
        Column("NETWORKS"),
    )
    rows = tuple(
        (
            uplink.name,
            uplink.kind,
            uplink.interface or NOTHING,
            _state(uplink),
            _words(uplink.external),
            _words(uplink.networks),
        )
        for uplink in result.uplinks
    )
    yield Table(columns, rows, "no uplinks")


def _uplink(uplink: control.UplinkInfo) -> Iterable[Section]:
    yield Facts(
        (
            ("uplink", uplink.name),
            ("kind", uplink.kind),
            ("interface", uplink.interface or NOTHING),
            ("state", _state(uplink)),
            ("MAC", NOTHING if uplink.mac is None else str(uplink.mac)),
            ("MTU", NOTHING if uplink.mtu is None else f"{uplink.mtu} bytes"),
            ("external", _lines(uplink.external)),
            ("networks", _lines(uplink.networks)),
            *_traffic(uplink.counters, "from the wire", "to the wire"),
        )
    )
    yield from _drops(uplink.counters)


def _vifs(result: control.Vifs) -> Iterable[Section]:
    columns = (
        Column("VIF"),
        Column("OWNER"),
        Column("NETWORK"),
        Column("MAC"),
        Column("BOUND"),
        Column("HOLDER"),
        Column("DROPS", is_number=True),
        Column("CONFLICTS", is_number=True),
    )
    rows = tuple(
        (
            str(vif.name),
            vif.owner_name or str(vif.owner_uid),
            vif.network,
            str(vif.mac),
            _words((*vif.addresses, *vif.prefixes)),
            f"pid {vif.attached.pid}" if vif.attached else NOTHING,
            str(sum(vif.counters.drops.values())),
            str(len(vif.conflicts) + len(vif.host_conflicts)),
        )
        for vif in result.vifs
    )
    yield Table(columns, rows, "no vifs")
    if result.aside:
        yield _asides(result.aside)


def _asides(asides: Iterable[control.AsideInfo]) -> Section:
    columns = tuple(map(Column, ("SET ASIDE", "OWNER", "NETWORK", "BOUND", "WHY")))
    rows = tuple(
        (
            str(vif.name),
            vif.owner_name or str(vif.owner_uid),
            vif.network,
            _words((*vif.addresses, *vif.prefixes)),
            vif.why or NOTHING,
        )
        for vif in asides
    )
    return Table(columns, rows, "")


def _vif(vif: control.VifInfo) -> Iterable[Section]:
    uid = f"uid {vif.owner_uid}"
    yield Facts(
        (
            ("vif", str(vif.name)),
            ("id", vif.id),
            ("owner", uid if vif.owner_name is None else f"{vif.owner_name}, {uid}"),
            ("network", vif.network),
            ("MAC", str(vif.mac)),
            ("addresses", _lines(vif.addresses)),
            ("prefixes", _lines(vif.prefixes)),
            ("made", _maker(vif)),
            *(_limits(vif.limits) if vif.limits is not None else ()),
            *_trust(vif.trust),
            *_bound_filter(vif.filter),
            *([("claimed", _lines(vif.claimed))] if vif.claimed else []),
            *([("the host has", _lines(vif.host_conflicts))] if vif.host_conflicts else []),
            ("held by", _holder(vif.attached)),
            *_traffic(vif.counters, "from its stack", "to its stack"),
        )
    )
    yield from _drops(vif.counters)
    yield from _conflicts(vif.conflicts)


def _filters(result: control.Filters) -> Iterable[Section]:
    columns = (
        Column("UUID"),
        Column("FILTER"),
        Column("CHAIN"),
        Column("PRIORITY", is_number=True),
        Column("MADE"),
        Column("VIFS", is_number=True),
    )
    rows = tuple(
        (
            each.uuid,
            each.name,
            each.chain,
            str(each.priority),
            "stock" if each.stock else "own",
            str(each.vifs),
        )
        for each in result.filters
    )
    yield Table(columns, rows, "no filters")


def _filter(filter_: control.FilterInfo) -> Iterable[Section]:
    yield Facts(
        (
            ("filter", filter_.name),
            ("uuid", filter_.uuid),
            ("chain", f"{filter_.chain}, priority {filter_.priority}"),
            ("made", "with the installation" if filter_.stock else "by an administrator"),
            ("vifs", str(filter_.vifs)),
        )
    )


def _filter_text(filter_: control.FilterText) -> Iterable[Section]:
    yield Lines(filter_.xml)


def _sets(result: control.Sets) -> Iterable[Section]:
    columns = (Column("SET"), Column("MEMBERS", is_number=True))
    yield Table(columns, tuple((each.name, str(each.members)) for each in result.sets), "no sets")


def _set(named: control.SetInfo) -> Iterable[Section]:
    yield Facts((("set", named.name), ("members", str(named.members))))


def _set_members(named: control.SetMembers) -> Iterable[Section]:
    yield Facts((("set", named.name), ("members", _lines(named.members))))


def _traces(result: control.Traces) -> Iterable[Section]:
    yield Lines(trace_text(result.traces))


def _reloaded(reloaded: control.Reloaded) -> Iterable[Section]:
    done = "changed" if reloaded.applied or reloaded.errors else "would change"
    said = (("errors", reloaded.errors), ("warnings", reloaded.warnings))
    yield Facts(
        (
            *((name, "\n".join(lines)) for name, lines in said if lines),
            (done, "\n".join(reloaded.changes) or "nothing"),
        )
    )


def _deleted(_: control.Deleted) -> Iterable[Section]:
    return ()


_SECTIONS: Final[Mapping[type[control.Result], Callable[[Any], Iterable[Section]]]] = (
    MappingProxyType(
        {
            control.StatusInfo: _status,
            control.Networks: _networks,
            control.NetworkInfo: _network,
            control.Uplinks: _uplinks,
            control.UplinkInfo: _uplink,
            control.Vifs: _vifs,
            control.VifInfo: _vif,
            control.Filters: _filters,
            control.FilterInfo: _filter,
            control.FilterText: _filter_text,
            control.Sets: _sets,
            control.SetInfo: _set,
            control.SetMembers: _set_members,
            control.Traces: _traces,
            control.Deleted: _deleted,
            control.Reloaded: _reloaded,
        }
    )
)


# The parts of it


def _words(values: Iterable[object]) -> str:
    return " ".join(map(str, values)) or NOTHING


def _lines(values: Iterable[object]) -> str:
    return "\n".join(map(str, values)) or NOTHING


def _limits(limits: control.LimitsInfo) -> Iterable[tuple[str, str]]:
    yield "frames/s", _limit(limits.frames_per_s)
    yield "bytes/s", _limit(limits.bytes_per_s)
    yield "broadcasts/s", _limit(limits.broadcast_per_s)
    yield "copies/s", _limit(limits.copies_per_s)


def _maker(vif: control.VifInfo) -> str:
    if vif.grant is not None:
        passing = ", until its client leaves" if vif.ephemeral else ""
        return f"by its owner, by grant {vif.grant}{passing}"
    made = {"static": "by the configuration file", "dynamic": "by an administrator"}
    return made.get(vif.source, vif.source)


def _trust(trust: control.TrustInfo) -> Iterable[tuple[str, str]]:
    if trust.roles:
        yield "roles", _words(trust.roles)
    if trust.ethertypes:
        yield "EtherTypes", _words(f"{ethertype:#06x}" for ethertype in trust.ethertypes)
    if trust.link_local is not None:
        yield "link-local", trust.link_local
    if trust.trusted_tap:
        yield "tap", "trusted"


def _bound_filter(binding: control.FilterBindingInfo | None) -> Iterable[tuple[str, str]]:
    if binding is not None:
        yield "filter", binding.name
        given = [
            f"{name}={each}" for name, values in binding.parameters.items() for each in values
        ]
        yield "parameters", _lines(given)
        yield from learned_facts(binding)


def learned_facts(binding: control.FilterBindingInfo) -> Iterable[tuple[str, str]]:
    """Yield what was seen of a vif's address, and how it is looked for, where it is."""
    if binding.learned:
        yield "learned", _lines(map(_learned, binding.learned))
    if binding.learning is not None:
        yield "learning", binding.learning


def _learned(learned: control.LearnedInfo) -> str:
    if learned.server is None:
        return f"IP={learned.address}"
    left = "for ever" if learned.left_s is None else f"for {_duration(learned.left_s)}"
    return f"IP={learned.address} {left}, of {learned.server}"


def _limit(rate: int) -> str:
    return str(rate) if rate else "no limit"


def _uplink_of(network: control.NetworkInfo) -> str:
    if network.uplink is None:
        return NOTHING
    return network.uplink if network.uplink_port else f"{network.uplink} (not joined)"


def _state(uplink: control.UplinkInfo) -> str:
    if uplink.interface is None:
        return NOTHING
    if uplink.error is not None:
        return uplink.error
    if not uplink.present:
        return "missing"
    return "up" if uplink.up else "down"


def _holder(holder: control.Holder | None) -> str:
    if holder is None:
        return "nobody"
    offloads = [str(offload.name).lower() for offload in Offload(holder.offload)]
    return (
        f"uid {holder.uid}, pid {holder.pid}, for {_duration(holder.since_s)},"
        f" by {holder.transport}, offload {_words(offloads)}"
    )


def _traffic(
    counters: control.Counters | None, received: str, sent: str
) -> Iterable[tuple[str, str]]:
    if counters is not None:
        yield received, f"{counters.rx_frames} frames, {counters.rx_bytes} bytes"
        yield sent, f"{counters.tx_frames} frames, {counters.tx_bytes} bytes"


def _drops(counters: control.Counters | None) -> Iterable[Section]:
    if counters is not None:
        columns = (Column("DROPPED FOR"), Column("FRAMES", is_number=True))
        rows = tuple((reason, str(count)) for reason, count in sorted(counters.drops.items()))
        yield Table(columns, rows, "nothing was dropped")


def _conflicts(conflicts: Sequence[control.Conflict]) -> Iterable[Section]:
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


def _reached(status: control.StatusInfo) -> str:
    if not status.host_networks:
        return "no vif, and none reaches it (see network show)"
    return f"the vifs of {', '.join(status.host_networks)}"


def _host(host: control.HostPortInfo | None) -> Iterable[tuple[str, str]]:
    if host is None:
        yield "host", "reaches no vif, and none reaches it (host = false)"
        return
    yield "host", host.error or _host_state(host)
    yield "host's interface", f"{host.interface}, MAC {host.mac}"
    yield "host's addresses", _lines(host.addresses)
    yield from _traffic(host.counters, "from the host", "to the host")


def _host_state(host: control.HostPortInfo) -> str:
    if not host.present:
        return "missing"
    if not host.up:
        return "down"
    return "up" if host.addresses else "has no address in this network, so it reaches no vif"


def _duration(seconds: int) -> str:
    """Return a time in its two largest units: ``3 d 4 h``, ``5 min 6 s``."""
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    d, h = divmod(hours, 24)
    if d:
        return f"{d} d {h} h"
    if h:
        return f"{h} h {m} min"
    return f"{m} min {s} s" if m else f"{s} s"
