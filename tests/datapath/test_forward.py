"""Where frames go, in both modes and both directions, and what the wire may not claim."""

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from attrs import evolve

from tests.reference import (
    Conflict,
    Decision,
    Frame,
    IPAddress,
    Meta,
    Network,
    Reason,
    Reference,
    Route,
    World,
)

from . import frames
from .core import Core
from .neighbourhood import (
    DATA_4,
    DATA_6,
    MTU,
    PEER,
    PORTS,
    ROUTER,
    STRANGER,
    TCP,
    UDP,
    UPLINK,
    USER,
    arp,
    cut,
    dad,
    ether,
    ip4,
    ip6,
    nd,
    patch,
    tagged,
    tso,
    world_of,
)
from .traffic import Persona

OTHER_NETWORK, OTHER_UPLINK = 1, 1

TO_ALL = Decision(route=Route.FLOOD, network=0)
TO_UPLINK = Decision(route=Route.PORT, port=UPLINK)
TO_PEER = Decision(route=Route.PORT, port=PORTS[PEER])
TO_USER = Decision(route=Route.PORT, port=PORTS[USER])
NOWHERE = Decision(reason=Reason.NO_RECEIVER)
SPOOF = Decision(reason=Reason.UPLINK_SPOOF)


def sent(frame: Frame, world: World | None = None) -> Decision:
    """Return what becomes of a frame of the user's."""
    world = world or world_of()
    found = Core(world).from_vif(PORTS[USER], frame, 1)
    assert found == Reference(world).from_vif(PORTS[USER], frame, 1)
    return found


def arrived(frame: Frame, world: World | None = None, *, uplink: int = UPLINK) -> Decision:
    """Return what becomes of a frame from the wire."""
    world = world or world_of()
    found = Core(world).from_uplink(uplink, frame)
    assert found == Reference(world).from_uplink(uplink, frame)
    return found


def isolated() -> World:
    """Return the network without an uplink."""
    return world_of(uplink=None)


def conflict(port: int, address: IPAddress) -> Decision:
    return evolve(SPOOF, conflict=Conflict(port=port, address=address))


# From a vif, in switch mode.


def test_unicast_to_a_neighbour_goes_to_it_alone() -> None:
    assert sent(DATA_4) == TO_PEER
    assert sent(DATA_6, isolated()) == TO_PEER


def test_unicast_to_any_other_mac_goes_to_the_uplink_alone() -> None:
    assert sent(ip4(UDP, to=STRANGER.mac)) == TO_UPLINK


def test_unicast_to_any_other_mac_has_no_receiver_without_an_uplink() -> None:
    assert sent(ip4(UDP, to=STRANGER.mac), isolated()) == NOWHERE


def test_a_frame_never_returns_to_where_it_came_from() -> None:
    assert sent(ip4(UDP, to=USER.mac)) == NOWHERE


def test_broadcast_and_multicast_go_to_all_of_the_own_network() -> None:
    assert sent(ip4(UDP, dst="255.255.255.255", to=frames.BROADCAST)) == TO_ALL
    assert sent(ip6(UDP, dst="ff02::fb", to=frames.multicast_mac("ff02::fb"))) == TO_ALL


def test_an_arp_request_goes_to_the_owner_alone() -> None:
    assert sent(arp(target=PEER.ipv4)) == TO_PEER


def test_an_arp_request_for_what_no_vif_holds_goes_to_the_uplink_alone() -> None:
    assert sent(arp(target=STRANGER.ipv4)) == TO_UPLINK
    assert sent(arp(target=STRANGER.ipv4), isolated()) == NOWHERE


def test_an_announcement_or_probe_for_the_own_address_is_an_ordinary_broadcast() -> None:
    assert sent(arp(target=USER.ipv4)) == TO_ALL
    assert sent(arp(target=USER.ipv4, sender="0.0.0.0")) == TO_ALL


def test_an_arp_reply_to_all_goes_to_all() -> None:
    """So an announcement by reply reaches those whose caches it is for (RFC 5227, section 3)."""
    assert sent(arp(2, target=PEER.ipv4)) == TO_ALL


def test_an_arp_request_to_one_mac_goes_by_the_mac() -> None:
    """A host asks again, at the MAC that it knows, before it forgets (RFC 1122, 2.3.2.1)."""
    request = arp(target=PEER.ipv4)

    assert sent(patch(request, -14, STRANGER.mac)) == TO_UPLINK
    assert sent(patch(arp(target=STRANGER.ipv4), -14, PEER.mac)) == TO_PEER


def solicitation(target: str, **header: Any) -> Frame:
    group = frames.solicited_node(target)
    options = frames.link_layer(1, USER.mac)
    return nd(
        frames.neighbour_solicitation(target, options),
        **{"dst": group, "to": frames.multicast_mac(group)} | header,
    )


def test_a_neighbour_solicitation_goes_to_the_owner_alone() -> None:
    assert sent(solicitation(PEER.ipv6)) == TO_PEER
    assert sent(solicitation(PEER.link_local)) == TO_PEER


def test_a_neighbour_solicitation_behind_extension_headers_goes_to_the_owner_alone() -> None:
    behind = nd(
        frames.neighbour_solicitation(PEER.ipv6),
        dst="ff02::1",
        to=frames.multicast_mac("ff02::1"),
        extensions=(frames.options_header(frames.HOP_BY_HOP),),
    )

    assert sent(behind) == TO_PEER


def test_a_neighbour_solicitation_for_what_no_vif_holds_goes_to_the_uplink_alone() -> None:
    assert sent(solicitation(STRANGER.ipv6)) == TO_UPLINK
    assert sent(solicitation(STRANGER.ipv6), isolated()) == NOWHERE


def test_duplicate_address_detection_is_an_ordinary_multicast() -> None:
    assert sent(dad(USER.ipv6)) == TO_ALL


def test_an_advertisement_to_all_goes_to_all() -> None:
    advertised = frames.neighbour_advertisement(USER.ipv6, frames.link_layer(2, USER.mac))

    assert sent(nd(advertised, dst="ff02::1", to=frames.multicast_mac("ff02::1"))) == TO_ALL


def test_the_owner_of_an_address_is_who_holds_the_narrowest_prefix() -> None:
    world = world_of()
    wide, narrow = world.vif(PORTS[PEER]), world.vif(PORTS[ROUTER])
    changed = {
        wide.port: evolve(wide, prefixes=(ip_network("10.0.5.0/24"), ip_network("fd00:5::/64"))),
        narrow.port: evolve(
            narrow, prefixes=(ip_network("10.0.5.7/32"), ip_network("fd00:5::7/128"))
        ),
    }
    world = evolve(world, vifs=tuple(changed.get(vif.port, vif) for vif in world.vifs))
    to_narrow = Decision(route=Route.PORT, port=narrow.port)

    assert sent(arp(target="10.0.5.7"), world) == to_narrow
    assert sent(arp(target="10.0.5.8"), world) == TO_PEER
    assert sent(solicitation("fd00:5::7"), world) == to_narrow
    assert sent(solicitation("fd00:5::8"), world) == TO_PEER


# From a vif, in hub mode.


@pytest.mark.parametrize(
    "frame",
    [
        ip4(UDP, to=STRANGER.mac),
        ip4(UDP, dst="255.255.255.255", to=frames.BROADCAST),
        arp(target=PEER.ipv4),
        solicitation(PEER.ipv6),
    ],
    ids=["stranger", "broadcast", "arp", "nd"],
)
def test_a_hub_sends_everything_to_all(frame: Frame) -> None:
    assert sent(frame, world_of(hub=True)) == TO_ALL
    assert sent(frame, world_of(hub=True, uplink=None)) == TO_ALL


@pytest.mark.parametrize("frame", [DATA_4, ip4(UDP, to=USER.mac)], ids=["neighbour", "itself"])
def test_a_hub_keeps_what_is_for_a_vif_off_the_wire(frame: Frame) -> None:
    assert sent(frame, world_of(hub=True)) == evolve(TO_ALL, route=Route.MEMBERS)


def test_a_hub_checks_its_senders_like_a_switch() -> None:
    forged = ip4(UDP, src=PEER.ipv4)

    assert sent(forged, world_of(hub=True)) == Decision(reason=Reason.IPV4_SRC)


# From the wire.


def foreign4(**header: Any) -> Frame:
    """Return an IPv4 packet of a stranger's to the user."""
    given: dict[str, Any] = {"to": USER.mac, "dst": USER.ipv4}
    return ip4(UDP, by=STRANGER, **(given | header))


def foreign6(upper: frames.Upper = UDP, **header: Any) -> Frame:
    """Return an IPv6 packet of a stranger's to the user."""
    given: dict[str, Any] = {"to": USER.mac, "dst": USER.ipv6, "hop_limit": 255}
    return ip6(upper, by=STRANGER, **(given | header))


def foreign_arp(operation: int = 1, *, sender: str = STRANGER.ipv4, target: str) -> Frame:
    """Return an ARP packet of a stranger's to all."""
    payload = frames.arp(operation, sender_mac=STRANGER.mac, sender=sender, target=target)
    return ether(payload, frames.ARP, by=STRANGER, dst=frames.BROADCAST)


def to_group(frame: Frame, group: str = "ff02::1") -> Frame:
    return patch(frame, -14, frames.multicast_mac(group))


def test_unicast_from_the_wire_goes_to_the_vif_that_holds_the_mac() -> None:
    assert arrived(foreign4()) == TO_USER
    assert arrived(foreign6()) == TO_USER


def test_unicast_from_the_wire_to_any_other_mac_has_no_receiver() -> None:
    """Not the uplink: a frame never returns to where it came from."""
    assert arrived(foreign4(to=frames.mac("02:00:00:00:00:42"))) == NOWHERE


def test_broadcast_from_the_wire_goes_to_all() -> None:
    assert arrived(foreign4(to=frames.BROADCAST, dst="255.255.255.255")) == TO_ALL


def test_requests_from_the_wire_go_to_the_owner_alone() -> None:
    assert arrived(foreign_arp(target=USER.ipv4)) == TO_USER
    assert arrived(to_group(foreign6(frames.neighbour_solicitation(USER.ipv6)))) == TO_USER


def test_requests_from_the_wire_for_what_no_vif_holds_have_no_receiver() -> None:
    assert arrived(foreign_arp(target="10.0.1.200")) == NOWHERE
    assert arrived(to_group(foreign6(frames.neighbour_solicitation("fd00::200")))) == NOWHERE


def test_a_probe_from_the_wire_reaches_the_owner_who_defends_its_address() -> None:
    assert arrived(foreign_arp(sender="0.0.0.0", target=USER.ipv4)) == TO_USER
    probe = foreign6(frames.neighbour_solicitation(USER.ipv6), src="::")
    assert arrived(to_group(probe)) == TO_USER


def test_a_hub_sends_everything_from_the_wire_to_all() -> None:
    hub = world_of(hub=True)

    assert arrived(foreign4(), hub) == TO_ALL
    assert arrived(foreign4(to=frames.mac("02:00:00:00:00:42")), hub) == TO_ALL
    assert arrived(foreign_arp(target=USER.ipv4), hub) == TO_ALL


def test_an_uplink_without_a_network_has_no_receivers() -> None:
    world = evolve(isolated(), idle_uplinks=(UPLINK,))

    assert arrived(foreign4(), world) == NOWHERE


@pytest.mark.parametrize("hub", [False, True])
def test_lengths_from_the_wire_are_checked(hub: bool) -> None:
    world = world_of(hub=hub)
    longest = foreign4().data.ljust(14 + 40 + 65535, b"\0")

    assert arrived(Frame(b"\xff" * 13), world) == Decision(reason=Reason.RUNT)
    assert arrived(Frame(longest), world) == Decision(reason=Reason.EGRESS_MTU)
    assert arrived(Frame(longest + b"\0"), world) == Decision(reason=Reason.OVERSIZE)


def test_a_frame_from_the_wire_must_fit_the_network_mtu() -> None:
    fits = Frame(foreign4().data.ljust(MTU + 14, b"\0"))

    assert arrived(fits) == TO_USER
    assert arrived(Frame(fits.data + b"\0")) == Decision(reason=Reason.EGRESS_MTU)


def test_segments_from_the_wire_must_fit_the_network_mtu() -> None:
    long = ip4(TCP, by=STRANGER, to=USER.mac, dst=USER.ipv4)

    assert arrived(tso(long, MTU - 40)) == TO_USER
    assert arrived(tso(long, MTU - 39)) == Decision(reason=Reason.EGRESS_MTU)


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8, 0x9100, 0x9200, 0x9300])
def test_a_tag_in_the_bytes_from_the_wire_is_dropped(tpid: int) -> None:
    assert arrived(tagged(foreign4(), tpid)) == Decision(reason=Reason.UPLINK_VLAN)


def test_a_tag_that_the_kernel_took_from_the_bytes_is_dropped() -> None:
    stripped = evolve(foreign4(), meta=Meta(vlan=True))

    assert arrived(stripped) == Decision(reason=Reason.UPLINK_VLAN)


def test_reserved_groups_from_the_wire_are_dropped() -> None:
    bridges = frames.mac("01:80:c2:00:00:0f")

    assert arrived(foreign4(to=bridges)) == Decision(reason=Reason.RESERVED_MAC)
    assert arrived(foreign4(to=frames.mac("01:80:c2:00:00:10"))) == TO_ALL


# What the wire may not claim.


@pytest.mark.parametrize("hub", [False, True])
def test_a_bound_mac_from_the_wire_is_a_spoof(hub: bool) -> None:
    stolen = patch(foreign4(), -8, PEER.mac)

    assert arrived(stolen, world_of(hub=hub)) == SPOOF


def test_a_group_as_source_mac_from_the_wire_is_a_spoof() -> None:
    assert arrived(patch(foreign4(), -8, b"\x03")) == SPOOF


def test_a_bound_mac_raises_no_conflict_even_in_arp() -> None:
    """There is no foreign MAC to show: most likely our own frame came back."""
    reflected = patch(foreign_arp(sender=PEER.ipv4, target=USER.ipv4), -8, PEER.mac)

    assert arrived(reflected) == SPOOF


def test_a_bound_ip_source_from_the_wire_is_a_spoof_and_no_conflict() -> None:
    assert arrived(foreign4(src=PEER.ipv4)) == SPOOF
    assert arrived(foreign6(src=PEER.ipv6)) == SPOOF
    assert arrived(foreign6(src=PEER.link_local)) == SPOOF


def test_a_bound_source_is_a_spoof_in_packets_that_a_vif_might_not_send() -> None:
    """Receivers take some of what the parser does not, so nothing may hide a source."""
    spoof4, spoof6 = foreign4(src=PEER.ipv4), foreign6(src=PEER.ipv6)
    routed = (frames.routing_header(segments_left=1),)
    options = frames.options_header()

    for hidden in (
        ip4(UDP, by=STRANGER, src=PEER.ipv4, to=USER.mac, options=b"\x83\x03\x04\x00"),
        ip4(TCP, by=STRANGER, src=PEER.ipv4, to=USER.mac, more=True, part=slice(16)),
        ip4(UDP, by=STRANGER, src=PEER.ipv4, to=USER.mac, offset=8),
        cut(spoof4, 1),
        foreign6(src=PEER.ipv6, extensions=routed),
        foreign6(src=PEER.ipv6, extensions=(options,) * 9),
        foreign6(src=PEER.ipv6, extensions=(frames.fragment_header(offset=8),)),
        cut(spoof6, 1),
    ):
        assert arrived(hidden) == SPOOF


def test_arp_from_the_wire_for_a_bound_address_raises_a_conflict_with_its_holder() -> None:
    wanted = conflict(PORTS[PEER], IPv4Address(PEER.ipv4))

    assert arrived(foreign_arp(1, sender=PEER.ipv4, target=USER.ipv4)) == wanted
    assert arrived(foreign_arp(2, sender=PEER.ipv4, target=USER.ipv4)) == wanted
    announced = foreign_arp(sender=PEER.ipv4, target=PEER.ipv4)
    assert arrived(announced, world_of(hub=True)) == wanted


def test_arp_of_any_kind_for_a_bound_address_raises_a_conflict_with_its_holder() -> None:
    """Some hosts take a sender's address from operations that they do not answer."""
    odd = foreign_arp(9, sender=PEER.ipv4, target=USER.ipv4)

    assert arrived(odd) == conflict(PORTS[PEER], IPv4Address(PEER.ipv4))


def test_an_advertisement_of_a_bound_address_raises_a_conflict_with_its_holder() -> None:
    advertised = foreign6(frames.neighbour_advertisement(PEER.ipv6))

    assert arrived(advertised) == conflict(PORTS[PEER], IPv6Address(PEER.ipv6))


def test_a_solicitation_from_a_bound_address_raises_a_conflict_with_its_holder() -> None:
    asked = foreign6(frames.neighbour_solicitation(USER.ipv6), src=PEER.ipv6)

    assert arrived(asked) == conflict(PORTS[PEER], IPv6Address(PEER.ipv6))


def test_of_two_bound_addresses_in_an_advertisement_the_target_is_the_conflict() -> None:
    both = foreign6(frames.neighbour_advertisement(PEER.ipv6), src=ROUTER.ipv6)
    from_bound = foreign6(frames.neighbour_advertisement(STRANGER.ipv6), src=ROUTER.ipv6)

    assert arrived(both) == conflict(PORTS[PEER], IPv6Address(PEER.ipv6))
    assert arrived(from_bound) == conflict(PORTS[ROUTER], IPv6Address(ROUTER.ipv6))


def test_router_advertisements_from_the_wire_are_welcome() -> None:
    assert arrived(to_group(foreign6(frames.router_advertisement()))) == TO_ALL


# Two networks with the same addresses.


def with_other_network() -> World:
    """Return the network and another of the same bindings, at ports 100 higher."""
    world = world_of()
    twins = tuple(evolve(vif, port=vif.port + 100, network=OTHER_NETWORK) for vif in world.vifs)
    other = Network(id=OTHER_NETWORK, uplink=OTHER_UPLINK)
    return World((*world.networks, other), world.vifs + twins)


def with_peer_elsewhere() -> World:
    """Return both networks, and the peer in the other only."""
    world = with_other_network()
    return evolve(world, vifs=tuple(vif for vif in world.vifs if vif.port != PORTS[PEER]))


def test_networks_do_not_see_each_other() -> None:
    world = with_other_network()
    twin = Decision(route=Route.PORT, port=PORTS[USER] + 100)

    assert sent(DATA_4, world) == TO_PEER
    assert arrived(foreign4(), world) == TO_USER
    assert arrived(foreign4(), world, uplink=OTHER_UPLINK) == twin


def test_what_is_bound_in_another_network_is_nobody_s() -> None:
    world = with_peer_elsewhere()

    assert sent(ip4(UDP, to=PEER.mac), world) == TO_UPLINK
    assert sent(arp(target=PEER.ipv4), world) == TO_UPLINK
    assert sent(solicitation(PEER.ipv6), world) == TO_UPLINK
    assert arrived(foreign4(src=PEER.ipv4), world) == TO_USER
    assert arrived(foreign4(src=PEER.ipv4), world, uplink=OTHER_UPLINK) == SPOOF


# The host's own port.

TO_VIFS = evolve(TO_ALL, route=Route.MEMBERS)


def with_host(who: Persona, *, hub: bool = False) -> World:
    """Return the network with the host in somebody's place."""
    world = world_of(hub=hub)
    host = evolve(world.vif(PORTS[who]), host=True)
    return evolve(world, vifs=(host, *(vif for vif in world.vifs if vif.port != host.port)))


def given_a_broadcast(world: World, port: int) -> set[int]:
    """Return who is given a broadcast from *port*."""
    found = Core(world).receivers(port, TO_ALL)
    assert found == Reference(world).receivers(port, TO_ALL)
    return set(found)


def test_the_host_reaches_vifs_as_a_vif_does() -> None:
    assert sent(DATA_4, with_host(USER)) == TO_PEER
    assert sent(arp(target=PEER.ipv4), with_host(USER)) == TO_PEER
    assert sent(solicitation(PEER.ipv6), with_host(USER)) == TO_PEER


def test_nothing_from_the_host_goes_to_the_wire() -> None:
    """It has its NIC for that."""
    host = with_host(USER)

    assert sent(ip4(UDP, to=STRANGER.mac), host) == NOWHERE
    assert sent(arp(target=STRANGER.ipv4), host) == NOWHERE
    assert sent(solicitation(STRANGER.ipv6), host) == NOWHERE
    assert sent(ip4(UDP, dst="255.255.255.255", to=frames.BROADCAST), host) == TO_VIFS
    assert sent(arp(target=USER.ipv4), host) == TO_VIFS
    assert sent(dad(USER.ipv6), host) == TO_VIFS


def test_nothing_from_the_host_goes_to_the_wire_of_a_hub() -> None:
    for frame in (ip4(UDP, to=STRANGER.mac), DATA_4, arp(target=STRANGER.ipv4)):
        assert sent(frame, with_host(USER, hub=True)) == TO_VIFS


def test_the_host_is_checked_like_a_vif() -> None:
    host = with_host(USER)

    assert sent(ip4(UDP, src=PEER.ipv4), host) == Decision(reason=Reason.IPV4_SRC)
    assert sent(arp(sender=PEER.ipv4), host) == Decision(reason=Reason.ARP_SENDER)


def test_what_a_vif_sends_to_the_host_goes_there_and_not_to_the_wire() -> None:
    assert sent(DATA_4, with_host(PEER)) == TO_PEER
    assert sent(arp(target=PEER.ipv4), with_host(PEER)) == TO_PEER
    assert sent(solicitation(PEER.ipv6), with_host(PEER)) == TO_PEER
    assert PORTS[PEER] in given_a_broadcast(with_host(PEER), PORTS[USER])


@pytest.mark.parametrize("hub", [False, True])
@pytest.mark.parametrize(
    "frame",
    [ip4(UDP, dst=STRANGER.ipv4), ip4(UDP, dst="255.255.255.255"), ip6(UDP, dst=STRANGER.ipv6)],
)
def test_the_host_is_no_router_of_vifs(frame: Frame, hub: bool) -> None:
    """A host that forwards, for whatever else it does, would take them out of the network."""
    assert sent(frame, with_host(PEER, hub=hub)) == NOWHERE


def test_the_host_gets_what_is_for_a_group_also_at_its_own_mac() -> None:
    """No host routes that without a daemon for it; neighbour discovery may need it (RFC 6085)."""
    assert sent(ip4(UDP, dst="224.0.0.1"), with_host(PEER)) == TO_PEER
    assert sent(ip6(UDP, dst="ff02::1"), with_host(PEER)) == TO_PEER
    assert sent(ip6(UDP, dst=PEER.link_local), with_host(PEER)) == TO_PEER


def test_nothing_from_the_wire_goes_to_the_hosts_port() -> None:
    host = with_host(USER)

    assert arrived(foreign4(), host) == NOWHERE
    assert arrived(foreign_arp(target=USER.ipv4), host) == NOWHERE
    asked = to_group(foreign6(frames.neighbour_solicitation(USER.ipv6)))
    assert arrived(asked, host) == NOWHERE
    others = set(PORTS.values()) - {PORTS[USER]}
    assert given_a_broadcast(host, UPLINK) == others
    assert given_a_broadcast(with_host(USER, hub=True), UPLINK) == others


def test_a_stranger_on_the_wire_cannot_claim_the_hosts_address() -> None:
    claimed = foreign_arp(sender=USER.ipv4, target=PEER.ipv4)

    expected = conflict(PORTS[USER], IPv4Address(USER.ipv4))
    assert arrived(claimed, with_host(USER)) == expected
    assert arrived(foreign4(src=USER.ipv4, to=PEER.mac), with_host(USER)) == SPOOF
