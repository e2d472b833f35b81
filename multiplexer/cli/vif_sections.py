"""What is said of vifs: whose they are, what they may do, who holds them."""

from collections.abc import Iterable

from multiplexer.cli.page import NOTHING, Column, Facts, Section, Table
from multiplexer.cli.phrases import (
    assignments,
    conflict_sections,
    drop_sections,
    duration,
    limit_facts,
    lines,
    traffic_facts,
    words,
)
from pfinet_proto import control
from pfinet_proto.attach import Offload


def of_vifs(result: control.Vifs) -> Iterable[Section]:
    """Yield the table of all vifs, and one of those that were set aside."""
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
            _owner(vif),
            vif.network,
            str(vif.mac),
            _bound(vif),
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
            _owner(vif),
            vif.network,
            _bound(vif),
            vif.why or NOTHING,
        )
        for vif in asides
    )
    return Table(columns, rows, "")


def _owner(vif: control.VifInfo | control.AsideInfo) -> str:
    return vif.owner_name or str(vif.owner_uid)


def _bound(vif: control.VifInfo | control.AsideInfo) -> str:
    return words((*vif.addresses, *vif.prefixes))


def of_vif(vif: control.VifInfo) -> Iterable[Section]:
    """Yield all there is to know of one vif, its drops and its conflicts."""
    uid = f"uid {vif.owner_uid}"
    yield Facts(
        (
            ("vif", str(vif.name)),
            ("id", vif.id),
            ("owner", uid if vif.owner_name is None else f"{vif.owner_name}, {uid}"),
            ("network", vif.network),
            ("MAC", str(vif.mac)),
            ("addresses", lines(vif.addresses)),
            ("prefixes", lines(vif.prefixes)),
            ("made", _maker(vif)),
            *(limit_facts(vif.limits) if vif.limits is not None else ()),
            *_trust(vif.trust),
            *_bound_filter(vif.filter),
            *([("claimed", lines(vif.claimed))] if vif.claimed else []),
            *([("the host has", lines(vif.host_conflicts))] if vif.host_conflicts else []),
            ("held by", _holder(vif.attached)),
            *traffic_facts(vif.counters, "from its stack", "to its stack"),
        )
    )
    yield from drop_sections(vif.counters)
    yield from conflict_sections(vif.conflicts)


def _maker(vif: control.VifInfo) -> str:
    if vif.grant is not None:
        passing = ", until its client leaves" if vif.ephemeral else ""
        return f"by its owner, by grant {vif.grant}{passing}"
    made = {"static": "by the configuration file", "dynamic": "by an administrator"}
    return made.get(vif.source, vif.source)


def _trust(trust: control.TrustInfo) -> Iterable[tuple[str, str]]:
    if trust.roles:
        yield "roles", words(trust.roles)
    if trust.ethertypes:
        yield "EtherTypes", words(f"{ethertype:#06x}" for ethertype in trust.ethertypes)
    if trust.link_local is not None:
        yield "link-local", trust.link_local
    if trust.trusted_tap:
        yield "tap", "trusted"


def _bound_filter(binding: control.FilterBindingInfo | None) -> Iterable[tuple[str, str]]:
    if binding is not None:
        yield "filter", binding.name
        yield "parameters", lines(assignments(binding.parameters))
        yield from learned_facts(binding)


def learned_facts(binding: control.FilterBindingInfo) -> Iterable[tuple[str, str]]:
    """Yield what was seen of a vif's address, and how it is looked for, where it is."""
    if binding.learned:
        yield "learned", lines(map(_learned, binding.learned))
    if binding.learning is not None:
        yield "learning", binding.learning


def _learned(learned: control.LearnedInfo) -> str:
    if learned.server is None:
        return f"IP={learned.address}"
    left = "for ever" if learned.left_s is None else f"for {duration(learned.left_s)}"
    return f"IP={learned.address} {left}, of {learned.server}"


def _holder(holder: control.Holder | None) -> str:
    if holder is None:
        return "nobody"
    offloads = [str(offload.name).lower() for offload in Offload(holder.offload)]
    return (
        f"uid {holder.uid}, pid {holder.pid}, for {duration(holder.since_s)},"
        f" by {holder.transport}, offload {words(offloads)}"
    )
