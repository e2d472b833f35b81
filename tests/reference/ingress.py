"""May this vif send this frame?

CHECKS is the design's table of ingress validation: a reason, and the question
whether it applies.  They are asked in order, so each may rely on all those
before it having said no: behind RUNT there is an Ethernet header, behind
IPV4_MALFORMED an IPv4 packet can be parsed.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from attrs import frozen

from tests.support.gso_frames import ones_sum

from . import packet as wire
from .packet import Arp, Csum, Frame, Gso, MalformedPacket, Packet, Transport
from .reasons import Reason
from .world import IPAddress, Vif

BROADCAST_MAC: Final = b"\xff" * 6
UNSPECIFIED: Final = IPv6Address("::")
SOLICITED_NODE: Final = IPv6Network("ff02::1:ff00:0/104")
LINK_LOCAL: Final = IPv6Network("fe80::/64")

MAX_GSO_FRAME_LEN: Final = 14 + 40 + 65535
MIN_GSO_SIZE: Final = 8
MAX_THIN_SEGMENTS: Final = 64
MAX_UDP_SEGMENTS: Final = 128
DHCP_PORTS: Final = (67, 68, 546, 547)

REPORT, DONE, REPORT_V2 = 131, 132, 143
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
REDIRECT_V6, RENUMBERING, INVERSE_SOLICITATION, INVERSE_ADVERTISEMENT = 137, 138, 141, 142
QUERY, MULTICAST_ROUTER, NO_MULTICAST_ROUTER = 130, 151, 153
SOURCE_LINK_LAYER, TARGET_LINK_LAYER = 1, 2

ICMP_ERRORS = frozenset({3, 4, 11, 12})
IGMP, PIM, VRRP = 2, 103, 112
#: Query, DVMRP, PIM version 1, and the start and end of multicast router discovery.
IGMP_OF_ROUTERS = frozenset({0x11, 0x13, 0x14, 0x30, 0x32})
ICMPV6_OF_ROUTERS = frozenset({QUERY, MULTICAST_ROUTER, NO_MULTICAST_ROUTER})
ICMP_REDIRECT, ICMP_ROUTER_ADVERTISEMENT = 5, 9


@frozen
class Case:
    """A frame on trial: who sent it, and into a network of which MTU."""

    vif: Vif
    mtu: int
    frame: Frame


def reason_to_drop(case: Case) -> Reason | None:
    """Return the first reason that applies; None if the vif may send the frame."""
    return next((reason for reason, applies in CHECKS if applies(case)), None)


# What several checks look at.


def packet_of(frame: Frame) -> Packet | None:
    """Return a well-formed IP packet, or None."""
    try:
        return wire.parse_ip(frame)
    except MalformedPacket:
        return None


def transport_of(frame: Frame, version: int, protocol: int) -> bytes | None:
    """Return the visible transport header of that kind and all behind it, or None."""
    packet = packet_of(frame)
    if packet is None or packet.version != version or packet.transport is None:
        return None
    return packet.transport.data if packet.transport.protocol == protocol else None


def cut_of(frame: Frame) -> Transport | None:
    """Return what a segmentation frame says is cut, over either IP version: all of it."""
    packet = packet_of(frame)
    transport = packet and packet.transport
    protocol = wire.UDP if frame.meta.gso is Gso.UDP else wire.TCP
    return transport if transport and transport.protocol == protocol else None


def header_len(transport: Transport) -> int:
    """Return the length of a UDP header, or what TCP's data offset says, in bytes."""
    return 8 if transport.protocol == wire.UDP else 4 * (transport.data[12] >> 4)


def segments(frame: Frame) -> int:
    """Return how many frames a segmentation frame becomes that offload_fits()."""
    cut = cut_of(frame)
    if frame.meta.gso is Gso.NONE or cut is None:
        return 1
    return -((header_len(cut) - len(cut.data)) // frame.meta.gso_size)


def bytes_sent(frame: Frame) -> int:
    """Return the bytes of all the frames that a frame becomes that offload_fits()."""
    cut = cut_of(frame)
    if frame.meta.gso is Gso.NONE or cut is None:
        return len(frame.data)
    return len(frame.data) + (segments(frame) - 1) * (cut.offset + header_len(cut))


def fits_mtu(frame: Frame, mtu: int) -> bool:
    """Return whether a frame, or each of its segments, is within an MTU."""
    if frame.meta.gso is Gso.NONE:
        return len(frame.data) <= mtu + wire.ETHERNET_LEN
    if len(frame.data) > MAX_GSO_FRAME_LEN:
        return False
    cut = cut_of(frame)
    if cut is None:
        return True
    ip_headers_len = cut.offset - wire.ETHERNET_LEN
    return ip_headers_len + header_len(cut) + frame.meta.gso_size <= mtu


def offload_fits(frame: Frame) -> bool:
    """Return whether the metadata says nothing but what the headers say too."""
    meta = frame.meta
    if meta.csum is not Csum.NEEDED:
        return meta.gso is Gso.NONE
    packet = packet_of(frame)
    if packet is None or packet.fragment or packet.transport is None:
        return False
    transport = packet.transport
    if meta.csum_start != transport.offset:
        return False
    if meta.csum_offset != {wire.TCP: 16, wire.UDP: 6}.get(transport.protocol):
        return False
    if meta.gso is Gso.NONE:
        return True
    if frame.is_to_group or transport.offset + len(transport.data) != len(frame.data):
        return False
    if meta.gso is Gso.UDP:
        return udp_offload_fits(frame, transport)
    return (
        transport.protocol == wire.TCP
        and packet.version == {Gso.TCPV4: 4, Gso.TCPV6: 6}[meta.gso]
        and 20 <= header_len(transport) < len(transport.data)
        and meta.gso_size >= MIN_GSO_SIZE
        and (
            meta.gso_size >= transport.offset + header_len(transport)
            or segments(frame) <= MAX_THIN_SEGMENTS
        )
    )


def udp_offload_fits(frame: Frame, udp: Transport) -> bool:
    """Return whether a frame can be cut into datagrams, none of which has to be looked into."""
    return (
        udp.protocol == wire.UDP
        and int.from_bytes(udp.data[4:6], "big") == len(udp.data) > 8
        and frame.meta.gso_size > 0
        and segments(frame) <= MAX_UDP_SEGMENTS
        and udp_ports(udp.data)[1] not in DHCP_PORTS
    )


# One question per reason.


def is_runt(case: Case) -> bool:
    return len(case.frame.data) < wire.ETHERNET_LEN


def is_oversize(case: Case) -> bool:
    return not fits_mtu(case.frame, case.mtu)


def has_wrong_offload_header(case: Case) -> bool:
    return not offload_fits(case.frame)


def has_wrong_source_mac(case: Case) -> bool:
    return case.frame.source != case.vif.mac


def is_to_reserved_mac(case: Case) -> bool:
    return is_reserved(case.frame.destination)


def is_reserved(mac: bytes) -> bool:
    """Return whether a MAC is one that bridges keep to themselves (IEEE 802.1Q, 8.6.3)."""
    return mac[:5] == bytes.fromhex("0180c20000") and mac[5] < 0x10


def is_tagged(case: Case) -> bool:
    return case.frame.ethertype in wire.VLAN_TAGS


def has_foreign_ethertype(case: Case) -> bool:
    allowed = {wire.IPV4, wire.ARP, wire.IPV6} | case.vif.ethertypes
    return case.frame.ethertype not in allowed and not case.vif.any_ethertype


def is_malformed_ipv4(case: Case) -> bool:
    return case.frame.ethertype == wire.IPV4 and packet_of(case.frame) is None


def has_foreign_ipv4_source(case: Case) -> bool:
    packet = packet_of(case.frame)
    if packet is None or packet.version != 4 or case.vif.has(packet.source):
        return False
    return not (packet.source == IPv4Address("0.0.0.0") and is_dhcp_broadcast(case.frame, packet))


def is_dhcp_broadcast(frame: Frame, packet: Packet) -> bool:
    """Return whether a host without an address may send this (RFC 2131, section 4.1)."""
    return (
        not packet.fragment
        and packet.transport is not None
        and packet.transport.protocol == wire.UDP
        and udp_ports(packet.transport.data) == (68, 67)
        and packet.destination == IPv4Address("255.255.255.255")
        and frame.destination == BROADCAST_MAC
    )


def udp_ports(datagram: bytes) -> tuple[int, int]:
    """Return source and destination port."""
    return wire.u16(datagram, 0), wire.u16(datagram, 2)


def is_malformed_arp(case: Case) -> bool:
    return case.frame.ethertype == wire.ARP and arp_of(case.frame) is None


def arp_of(frame: Frame) -> Arp | None:
    """Return a well-formed ARP packet, or None."""
    if frame.ethertype != wire.ARP:
        return None
    try:
        return wire.parse_arp(frame.payload)
    except MalformedPacket:
        return None


def has_foreign_arp_sender(case: Case) -> bool:
    arp = arp_of(case.frame)
    if arp is None:
        return False
    is_probe = (
        arp.operation == Arp.REQUEST
        and arp.sender == IPv4Address("0.0.0.0")
        and case.vif.has(arp.target)
    )
    return arp.sender_mac != case.vif.mac or not (is_probe or case.vif.has(arp.sender))


def is_malformed_ipv6(case: Case) -> bool:
    return case.frame.ethertype == wire.IPV6 and packet_of(case.frame) is None


def has_foreign_ipv6_source(case: Case) -> bool:
    packet = packet_of(case.frame)
    if packet is None or packet.version != 6 or case.vif.has(packet.source):
        return False
    return packet.source != UNSPECIFIED or not may_be_unspecified(case.frame, packet)


def may_be_unspecified(frame: Frame, packet: Packet) -> bool:
    """Return whether a host that has no address yet may send this."""
    icmp = transport_of(frame, 6, wire.ICMPV6)
    if icmp is None or packet.fragment:
        return False
    if icmp[0] == NEIGHBOUR_SOLICITATION:
        return packet.destination in SOLICITED_NODE
    return icmp[0] in (REPORT, DONE, REPORT_V2, ROUTER_SOLICITATION)


def spoofs_neighbours(case: Case) -> bool:
    packet = packet_of(case.frame)
    icmp = transport_of(case.frame, 6, wire.ICMPV6)
    if packet is None or icmp is None:
        return False
    kind = icmp[0]
    if kind in (RENUMBERING, INVERSE_SOLICITATION, INVERSE_ADVERTISEMENT):
        return packet.fragment or not case.vif.router
    if kind in (ROUTER_ADVERTISEMENT, REDIRECT_V6):
        return packet.fragment and case.vif.router
    if kind not in (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT):
        return False
    return packet.fragment or not is_honest_neighbour_message(case.vif, case.frame, packet, icmp)


def is_honest_neighbour_message(vif: Vif, frame: Frame, packet: Packet, icmp: bytes) -> bool:
    """Return whether an RS, NS or NA is valid (RFC 4861, 6.1 and 7.1) and claims its own only."""
    kind, code = icmp[0], icmp[1]
    fixed_len = 8 if kind == ROUTER_SOLICITATION else 24
    if packet.hop_limit != 255 or code != 0 or len(icmp) < fixed_len:
        return False
    try:
        options = parse_neighbour_options(icmp[fixed_len:])
    except MalformedPacket:
        return False
    for option, value in options:
        if option in (SOURCE_LINK_LAYER, TARGET_LINK_LAYER) and value != vif.mac:
            return False
    from_nobody = packet.source == UNSPECIFIED
    if from_nobody and any(option == SOURCE_LINK_LAYER for option, _ in options):
        return False
    claims_target = kind == NEIGHBOUR_ADVERTISEMENT or (
        kind == NEIGHBOUR_SOLICITATION and from_nobody
    )
    if not claims_target:
        return True
    target = IPv6Address(icmp[8:24])
    return vif.has(target) or newly_claimed(vif, frame) == target


def newly_claimed(vif: Vif, frame: Frame) -> IPv6Address | None:
    """Return the address that a frame claims by first come, if it may be one at all.

    Whoever holds it must hear of it and take it seriously: it goes to the target's
    solicited-node group, is behind no extension header, and its checksum is right.
    """
    packet = packet_of(frame)
    icmp = transport_of(frame, 6, wire.ICMPV6)
    if not vif.first_come or packet is None or packet.transport is None or icmp is None:
        return None
    if icmp[0] != NEIGHBOUR_SOLICITATION or packet.source != UNSPECIFIED or len(icmp) < 24:
        return None
    target = IPv6Address(icmp[8:24])
    group = IPv6Address(int(SOLICITED_NODE.network_address) | int(target) & 0xFFFFFF)
    if (
        packet.transport.offset != 14 + 40
        or packet.destination != group
        or frame.destination != bytes.fromhex("3333") + group.packed[12:]
    ):
        return None
    pseudo = packet.source.packed + packet.destination.packed
    pseudo += len(icmp).to_bytes(4, "big") + bytes((0, 0, 0, wire.ICMPV6))
    if ones_sum(pseudo + icmp) != 0xFFFF or vif.has(target):
        return None
    return target if looks_random(target) else None


def looks_random(address: IPv6Address) -> bool:
    """Return whether it is link-local, and neither made of a MAC nor typed by hand."""
    identifier = address.packed[8:]
    return address in LINK_LOCAL and identifier[3:5] != b"\xff\xfe" and identifier[:4] != bytes(4)


def parse_neighbour_options(data: bytes) -> list[tuple[int, bytes]]:
    """Return kind and value of each option (RFC 4861, section 4.6)."""
    options = []
    while data:
        if len(data) < 2 or data[1] == 0 or 8 * data[1] > len(data):
            raise MalformedPacket("option does not fit")
        end = 8 * data[1]
        options.append((data[0], data[2:end]))
        data = data[end:]
    return options


def icmp_is(frame: Frame, v4: int, v6: int) -> bool:
    """Return whether a frame is ICMP of type *v4*, or ICMPv6 of type *v6*."""
    icmp, icmpv6 = transport_of(frame, 4, wire.ICMP), transport_of(frame, 6, wire.ICMPV6)
    return (icmp is not None and icmp[0] == v4) or (icmpv6 is not None and icmpv6[0] == v6)


def plays_router(case: Case) -> bool:
    advertises = icmp_is(case.frame, ICMP_ROUTER_ADVERTISEMENT, ROUTER_ADVERTISEMENT)
    return advertises and not case.vif.router


def redirects(case: Case) -> bool:
    return icmp_is(case.frame, ICMP_REDIRECT, REDIRECT_V6) and not case.vif.router


def speaks_as_router(case: Case) -> bool:
    """Return whether a frame tells switches or hosts that its sender routes, without the role."""
    igmp = transport_of(case.frame, 4, IGMP)
    icmpv6 = transport_of(case.frame, 6, wire.ICMPV6)
    of_router = (
        (igmp is not None and igmp[:1] and igmp[0] in IGMP_OF_ROUTERS)
        or (icmpv6 is not None and icmpv6[0] in ICMPV6_OF_ROUTERS)
        or any(
            transport_of(case.frame, version, protocol) is not None
            for version in (4, 6)
            for protocol in (PIM, VRRP)
        )
    )
    return bool(of_router) and not case.vif.router


def plays_dhcp_server(case: Case) -> bool:
    udp, udp6 = (transport_of(case.frame, version, wire.UDP) for version in (4, 6))
    serves = (udp is not None and (udp_ports(udp)[1] == 68 or udp_ports(udp) == (67, 67))) or (
        udp6 is not None and is_dhcpv6_of_server(udp6)
    )
    return serves and not case.vif.dhcp_server


def is_dhcpv6_of_server(udp: bytes) -> bool:
    """Return whether a datagram is a server's or a relay's; one that says nothing may be."""
    source, destination = udp_ports(udp)
    relayed = udp[8:9] in (b"", bytes((12,)), bytes((13,)))
    return destination == 546 or (destination == 547 and (source == 547 or relayed))


def is_foreign_dhcp_client(case: Case) -> bool:
    udp = transport_of(case.frame, 4, wire.UDP)
    # A server answers whatever port it came from; from 67 it is a server's or relay's.
    if udp is None or udp_ports(udp)[1] != 67 or udp_ports(udp)[0] == 67:
        return False
    packet = packet_of(case.frame)
    message = udp[8:]
    if packet is None or packet.fragment or len(message) < 44:
        return True
    is_request_over_ethernet = message[0:3] == bytes((1, 1, 6))
    relay, client_mac = message[24:28], message[28:34]
    if not (is_request_over_ethernet and relay == bytes(4) and client_mac == case.vif.mac):
        return True
    renewed = IPv4Address(message[12:16])
    if int(renewed) and not case.vif.has(renewed):
        return True
    if message[236:240] != bytes.fromhex("63825363"):
        return False
    options = dhcp_options_of(message[240:])
    return options is None or is_foreign_dhcp_identity(case.vif, options)


def dhcp_options_of(data: bytes) -> list[tuple[int, bytes]] | None:
    """Return the options of a message up to their end (RFC 2132, section 2); None: cut short."""
    options = []
    while data and data[0] != 255:
        if data[0] == 0:
            data = data[1:]
            continue
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        options.append((data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return options


def is_foreign_dhcp_identity(vif: Vif, options: list[tuple[int, bytes]]) -> bool:
    codes = [code for code, _ in options]
    if 52 in codes or any(codes.count(code) > 1 for code in (50, 53, 61)):
        return True
    found = dict(options)
    if len(found.get(53, b"?")) != 1 or len(found.get(50, b"four")) != 4:
        return True
    identifier = found.get(61, b"")
    if identifier[:1] == bytes((1,)) and identifier[1:] != vif.mac:
        return True
    declines = found.get(53) == bytes((4,)) and 50 in found
    return declines and not vif.has(IPv4Address(found[50]))


def is_foreign_icmp_error(case: Case) -> bool:
    if case.vif.router:
        return False
    icmp, icmpv6 = (
        transport_of(case.frame, 4, wire.ICMP),
        transport_of(case.frame, 6, wire.ICMPV6),
    )
    destination: IPAddress
    if icmp is not None and icmp[0] in ICMP_ERRORS:
        embedded = icmp[8:]
        if len(embedded) < 20 or embedded[0] >> 4 != 4:
            return True
        destination = IPv4Address(embedded[16:20])
    elif icmpv6 is not None and icmpv6[0] <= 127:
        embedded = icmpv6[8:]
        if len(embedded) < 40 or embedded[0] >> 4 != 6:
            return True
        destination = IPv6Address(embedded[24:40])
    else:
        return False
    return not case.vif.has(destination)


def has_broken_chain(case: Case) -> bool:
    packet = packet_of(case.frame)
    return packet is not None and packet.broken_chain


CHECKS: Final[tuple[tuple[Reason, Callable[[Case], bool]], ...]] = (
    (Reason.RUNT, is_runt),
    (Reason.OVERSIZE, is_oversize),
    (Reason.OFFLOAD_HEADER, has_wrong_offload_header),
    (Reason.SRC_MAC, has_wrong_source_mac),
    (Reason.RESERVED_MAC, is_to_reserved_mac),
    (Reason.VLAN_TAG, is_tagged),
    (Reason.ETHERTYPE, has_foreign_ethertype),
    (Reason.IPV4_MALFORMED, is_malformed_ipv4),
    (Reason.IPV4_SRC, has_foreign_ipv4_source),
    (Reason.ARP_MALFORMED, is_malformed_arp),
    (Reason.ARP_SENDER, has_foreign_arp_sender),
    (Reason.IPV6_MALFORMED, is_malformed_ipv6),
    (Reason.IPV6_SRC, has_foreign_ipv6_source),
    (Reason.ND_SPOOF, spoofs_neighbours),
    (Reason.RA_GUARD, plays_router),
    (Reason.REDIRECT, redirects),
    (Reason.ROUTER_MESSAGE, speaks_as_router),
    (Reason.DHCP_SERVER, plays_dhcp_server),
    (Reason.DHCP_CLIENT, is_foreign_dhcp_client),
    (Reason.ICMP_ERROR, is_foreign_icmp_error),
    (Reason.EXT_HEADER, has_broken_chain),
)
