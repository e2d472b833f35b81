"""What is said of networks and uplinks, and of the host's own port in a network."""

from collections.abc import Iterable

from multiplexer.cli.page import NOTHING, Column, Facts, Section, Table
from multiplexer.cli.phrases import (
    conflict_sections,
    drop_sections,
    limit_facts,
    lines,
    traffic_facts,
    words,
)
from pfinet_proto import control


def of_networks(result: control.Networks) -> Iterable[Section]:
    """Yield the table of all networks."""
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
            words(network.prefixes),
            str(network.mtu),
            str(network.vifs),
        )
        for network in result.networks
    )
    yield Table(columns, rows, "no networks")


def of_network(network: control.NetworkInfo) -> Iterable[Section]:
    """Yield all there is to know of one network, and what the host's port in it has dropped."""
    yield Facts(
        (
            ("network", network.name),
            ("mode", network.mode),
            ("uplink", _uplink_of(network)),
            ("prefixes", lines(network.prefixes)),
            ("gateways", lines(network.gateways)),
            ("MTU", f"{network.mtu} bytes"),
            ("DNS servers", lines(network.dns)),
            ("search domains", lines(network.search)),
            ("reserved", lines(network.reserved)),
            ("autoconf", "yes" if network.autoconf else "no"),
            ("link-local", network.link_local),
            *limit_facts(network.limits),
            ("filter", network.filter or NOTHING),
            ("vifs", str(network.vifs)),
            *_host(network.host),
        )
    )
    if network.host is not None:
        yield from drop_sections(network.host.counters)
        yield from conflict_sections(network.host.conflicts)


def _uplink_of(network: control.NetworkInfo) -> str:
    if network.uplink is None:
        return NOTHING
    return network.uplink if network.uplink_port else f"{network.uplink} (not joined)"


def _host(host: control.HostPortInfo | None) -> Iterable[tuple[str, str]]:
    if host is None:
        yield "host", "reaches no vif, and none reaches it (host = false)"
        return
    yield "host", host.error or _host_state(host)
    yield "host's interface", f"{host.interface}, MAC {host.mac}"
    yield "host's addresses", lines(host.addresses)
    yield from traffic_facts(host.counters, "from the host", "to the host")


def _host_state(host: control.HostPortInfo) -> str:
    if not host.present:
        return "missing"
    if not host.up:
        return "down"
    return "up" if host.addresses else "has no address in this network, so it reaches no vif"


def of_uplinks(result: control.Uplinks) -> Iterable[Section]:
    """Yield the table of all uplinks."""
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
            words(uplink.external),
            words(uplink.networks),
        )
        for uplink in result.uplinks
    )
    yield Table(columns, rows, "no uplinks")


def of_uplink(uplink: control.UplinkInfo) -> Iterable[Section]:
    """Yield all there is to know of one uplink, and its drops."""
    yield Facts(
        (
            ("uplink", uplink.name),
            ("kind", uplink.kind),
            ("interface", uplink.interface or NOTHING),
            ("state", _state(uplink)),
            ("MAC", NOTHING if uplink.mac is None else str(uplink.mac)),
            ("MTU", NOTHING if uplink.mtu is None else f"{uplink.mtu} bytes"),
            ("external", lines(uplink.external)),
            ("networks", lines(uplink.networks)),
            *traffic_facts(uplink.counters, "from the wire", "to the wire"),
        )
    )
    yield from drop_sections(uplink.counters)


def _state(uplink: control.UplinkInfo) -> str:
    if uplink.interface is None:
        return NOTHING
    if uplink.error is not None:
        return uplink.error
    if not uplink.present:
        return "missing"
    return "up" if uplink.up else "down"
