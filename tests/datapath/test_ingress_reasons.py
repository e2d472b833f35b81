"""Every reason of ingress validation by example, each beside its nearest frame that passes."""

from ipaddress import IPv4Address
from typing import Final

import pytest
from attrs import evolve, frozen

from tests.reference import Frame, Gso, Limits, Meta, Reason, Reference

from . import frames
from .core import Core
from .frames import Upper
from .neighbourhood import (
    ANY,
    DATA_4,
    DATA_6,
    LAB,
    LLDP,
    MTU,
    PEER,
    PORTS,
    ROUTER,
    SERVER,
    TCP,
    UDP,
    USER,
    arp,
    cut,
    dad,
    dhcp4,
    ether,
    ip4,
    ip6,
    nd,
    offload,
    patch,
    tagged,
    tso,
    world_of,
)
from .traffic import Persona

NS_PER_S: Final = 1_000_000_000


def error4(about_dst: str, kept: int = 28) -> Upper:
    """Return what says that a packet from the peer's address to *about_dst* did not arrive."""
    about = frames.ipv4(frames.udp(sport=9, dport=9), src=PEER.ipv4, dst=about_dst)
    return frames.icmp(3, 3, bytes(4) + about[:kept])


def error6(about_dst: str, kept: int = 48, kind: int = 1) -> Upper:
    about = frames.ipv6(frames.udp(sport=9, dport=9), src=PEER.ipv6, dst=about_dst)
    return frames.icmpv6(kind, 0, bytes(4) + about[:kept])


ONE_BYTE: Final = frames.tcp(b"x")
NO_PROTOCOL: Final = 132
LINK_LOCAL_PEER: Final = PEER.link_local

SLLA, TLLA = (frames.link_layer(kind, USER.mac) for kind in (1, 2))
FOREIGN_SLLA, FOREIGN_TLLA = (frames.link_layer(kind, PEER.mac) for kind in (1, 2))
NS: Final = frames.neighbour_solicitation(PEER.ipv6, SLLA)
NA: Final = frames.neighbour_advertisement(USER.ipv6, TLLA)
RA: Final = frames.router_advertisement()
HOP: Final = frames.options_header(frames.HOP_BY_HOP)
OPTIONS: Final = frames.options_header()
ATOMIC: Final = frames.fragment_header()
FIRST: Final = frames.fragment_header(more=True)


@frozen(kw_only=True)
class Example:
    """A frame that is dropped, and one like it that is not, and who sends them."""

    reason: Reason
    why: str
    dropped: Frame
    passes: Frame
    by: Persona
    passes_by: Persona

    def __str__(self) -> str:
        return f"{self.reason}: {self.why}"


def example(
    reason: Reason,
    why: str,
    dropped: Frame,
    passes: Frame,
    *,
    by: Persona = USER,
    passes_by: Persona | None = None,
) -> Example:
    return Example(
        reason=reason,
        why=why,
        dropped=dropped,
        passes=passes,
        by=by,
        passes_by=passes_by or by,
    )


LENGTH_EXAMPLES: Final = (
    example(
        Reason.RUNT,
        "a byte less than an Ethernet header",
        cut(ether(b"", LLDP, by=LAB), 1),
        ether(b"", LLDP, by=LAB),
        by=LAB,
    ),
    example(
        Reason.OVERSIZE,
        "a byte more than the MTU and an Ethernet header",
        ip4(frames.udp(bytes(MTU - 27), sport=4000, dport=53)),
        ip4(frames.udp(bytes(MTU - 28), sport=4000, dport=53)),
    ),
    example(
        Reason.OVERSIZE,
        "segments that would be a byte more than the MTU",
        tso(ip4(TCP), MTU - 39),
        tso(ip4(TCP), MTU - 40),
    ),
    example(
        Reason.OVERSIZE,
        "segments of which TCP options make more than the MTU",
        tso(ip4(frames.tcp(bytes(3000), options=bytes(12))), MTU - 40),
        tso(ip4(frames.tcp(bytes(3000), options=bytes(12))), MTU - 52),
    ),
    example(
        Reason.OVERSIZE,
        "a segmentation frame that is longer than any IPv6 packet",
        tso(evolve(DATA_6, data=ip6(frames.tcp(bytes(65515))).data + b"\0"), gso=Gso.TCPV6),
        tso(ip6(frames.tcp(bytes(65515))), gso=Gso.TCPV6),
    ),
)

OFFLOAD_EXAMPLES: Final = tuple(
    example(Reason.OFFLOAD_HEADER, why, dropped, passes)
    for why, dropped, passes in (
        (
            "a checksum that would be written over the source address",
            offload(ip4(ONE_BYTE), at=10),
            offload(ip4(ONE_BYTE)),
        ),
        (
            "a checksum that is not where TCP has its own",
            offload(ip4(ONE_BYTE), field=14),
            offload(ip4(ONE_BYTE), field=16),
        ),
        (
            "TCP's checksum offset in UDP",
            offload(DATA_4, field=16),
            offload(DATA_4, field=6),
        ),
        (
            "a checksum behind IPv6 headers that starts where they do",
            offload(ip6(ONE_BYTE, extensions=(OPTIONS,)), at=54),
            offload(ip6(ONE_BYTE, extensions=(OPTIONS,)), at=62),
        ),
        (
            "a checksum in a first fragment: it covers what is not there",
            offload(ip4(UDP, more=True), field=6),
            offload(ip4(UDP), field=6),
        ),
        (
            "a checksum in an atomic fragment",
            offload(ip6(UDP, extensions=(ATOMIC,)), at=62, field=6),
            offload(ip6(UDP, extensions=(OPTIONS,)), at=62, field=6),
        ),
        ("a checksum in ARP, which has none", offload(arp()), arp()),
        (
            "a checksum in ICMP, which no stack leaves to do",
            offload(ip4(frames.icmp(8)), field=2),
            ip4(frames.icmp(8)),
        ),
        (
            "a checksum in a packet that is malformed besides",
            patch(offload(DATA_4, field=6), 0, b"\x55"),
            offload(DATA_4, field=6),
        ),
        (
            "a checksum behind a broken chain of extension headers",
            offload(ip6(UDP, extensions=(OPTIONS, HOP)), at=70, field=6),
            offload(ip6(UDP, extensions=(HOP, OPTIONS)), at=70, field=6),
        ),
        (
            "segmentation for IPv6 in IPv4",
            tso(ip4(TCP), gso=Gso.TCPV6, at=34),
            tso(ip4(TCP), gso=Gso.TCPV4),
        ),
        (
            "segmentation for IPv4 in IPv6",
            tso(ip6(TCP), gso=Gso.TCPV4, at=54),
            tso(ip6(TCP), gso=Gso.TCPV6),
        ),
        ("segmentation of UDP", tso(DATA_4, field=6), offload(DATA_4, field=6)),
        (
            "segmentation with the checksum said to be done",
            evolve(tso(ip4(TCP)), meta=Meta(gso=Gso.TCPV4, gso_size=1000)),
            tso(ip4(TCP)),
        ),
        ("segments smaller than TCP makes them", tso(ip4(ONE_BYTE), 7), tso(ip4(ONE_BYTE), 8)),
        (
            "segmentation of no payload",
            tso(ip4(frames.tcp())),
            tso(ip4(ONE_BYTE)),
        ),
        (
            "segmentation of a TCP header that says it is shorter than itself",
            patch(tso(ip4(TCP)), 32, b"\x40"),
            patch(tso(ip4(TCP)), 32, b"\x50"),
        ),
        (
            "segmentation of a TCP header that is not whole",
            patch(tso(ip4(ONE_BYTE)), 32, b"\x60"),
            patch(tso(ip4(ONE_BYTE)), 32, b"\x50"),
        ),
        (
            "segmentation to a group: TCP has no such peers",
            tso(ip4(TCP, to=frames.BROADCAST)),
            tso(ip4(TCP)),
        ),
    )
)

ETHERNET_EXAMPLES: Final = (
    example(
        Reason.SRC_MAC,
        "a neighbour's MAC",
        ip4(UDP, by=PEER, src=USER.ipv4),
        ip4(UDP),
    ),
    example(
        Reason.SRC_MAC,
        "the bound MAC with the group bit set",
        patch(DATA_4, -8, bytes((USER.mac[0] | 1,))),
        DATA_4,
    ),
    *(
        example(
            Reason.RESERVED_MAC,
            f"to 01:80:c2:00:00:{last:02x}, which bridges keep to themselves",
            ip4(UDP, to=frames.mac(f"01:80:c2:00:00:{last:02x}")),
            ip4(UDP, to=frames.mac("01:80:c2:00:00:10")),
        )
        for last in (0x00, 0x0E, 0x0F)
    ),
    *(
        example(Reason.VLAN_TAG, f"a tag of type {tpid:04x}", tagged(DATA_4, tpid), DATA_4)
        for tpid in (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
    ),
    example(Reason.VLAN_TAG, "a priority tag", tagged(DATA_4, tci=0xE000), DATA_4),
    example(Reason.VLAN_TAG, "a tag in a tag", tagged(tagged(DATA_4), 0x88A8), DATA_4),
    example(
        Reason.VLAN_TAG,
        "a tag from a vif that may use any EtherType",
        tagged(ip4(UDP, by=ANY)),
        ether(b"", 0x1234, by=ANY),
        by=ANY,
    ),
    example(
        Reason.ETHERTYPE,
        "LLDP from a vif that may not",
        ether(bytes(46), LLDP),
        ether(bytes(46), LLDP, by=LAB),
        passes_by=LAB,
    ),
    example(
        Reason.ETHERTYPE,
        "an EtherType beside the one that is allowed",
        ether(bytes(46), LLDP + 1, by=LAB),
        ether(bytes(46), LLDP, by=LAB),
        by=LAB,
    ),
    example(
        Reason.ETHERTYPE,
        "a length instead of a type (IEEE 802.3), as spanning tree has it",
        ether(bytes(46), 46),
        ether(bytes(46), 46, by=ANY),
        passes_by=ANY,
    ),
)

IPV4_EXAMPLES: Final = (
    *(
        example(Reason.IPV4_MALFORMED, why, dropped, passes)
        for why, dropped, passes in (
            ("a header that is cut off", Frame(DATA_4.data[:33]), DATA_4),
            ("version 6", patch(DATA_4, 0, b"\x65"), DATA_4),
            ("a header length of 16", patch(DATA_4, 0, b"\x44"), DATA_4),
            ("a header longer than the packet", patch(DATA_4, 0, b"\x4f"), DATA_4),
            ("a packet shorter than its header", patch(DATA_4, 2, b"\x00\x13"), DATA_4),
            (
                "a packet longer than the frame",
                cut(DATA_4, 1),
                evolve(DATA_4, data=DATA_4.data + bytes(10)),
            ),
            (
                "a loose source route",
                ip4(UDP, options=b"\x83\x07\x04\x0a\x00\x01\x02\x00"),
                ip4(UDP, options=b"\x07\x07\x04\x0a\x00\x01\x02\x00"),
            ),
            (
                "a strict source route behind padding",
                ip4(UDP, options=b"\x01\x89\x07\x04\x0a\x00\x01\x02"),
                ip4(UDP, options=b"\x00\x89\x07\x04\x0a\x00\x01\x02"),
            ),
            (
                "an option that counts less than itself",
                ip4(UDP, options=b"\x94\x01\x00\x00"),
                ip4(UDP, options=b"\x94\x02\x00\x00"),
            ),
            (
                "an option beyond the header",
                ip4(UDP, options=b"\x94\x05\x00\x00"),
                ip4(UDP, options=b"\x94\x04\x00\x00"),
            ),
            (
                "an option without its length",
                ip4(UDP, options=b"\x01\x01\x01\x94"),
                ip4(UDP, options=b"\x01\x01\x01\x01"),
            ),
            (
                "a first fragment with 7 bytes of payload",
                ip4(frames.raw(NO_PROTOCOL, bytes(7)), more=True),
                ip4(frames.raw(NO_PROTOCOL, bytes(8)), more=True),
            ),
            (
                "a TCP header that is not whole, in the first fragment or the only one",
                ip4(frames.tcp(), part=slice(19)),
                ip4(frames.tcp()),
            ),
            (
                "a TCP header that goes on in the next fragment",
                ip4(frames.tcp(), more=True, part=slice(16)),
                ip4(frames.tcp(bytes(4)), more=True),
            ),
            (
                "a fragment that lies over the flags of a TCP header (RFC 3128)",
                ip4(frames.tcp(bytes(12)), offset=8, part=slice(8, None)),
                ip4(frames.tcp(bytes(12)), offset=16, part=slice(16, None)),
            ),
            (
                "a fragment so near the begin of TCP, with more behind it",
                ip4(frames.tcp(bytes(12)), offset=8, more=True, part=slice(8, 16)),
                ip4(UDP, offset=8, more=True, part=slice(8)),
            ),
            (
                "a UDP header that is not whole",
                ip4(UDP, part=slice(7)),
                ip4(UDP, part=slice(8)),
            ),
            (
                "an ICMP header that is not whole",
                ip4(frames.icmp(8), part=slice(7)),
                ip4(frames.icmp(8), part=slice(8)),
            ),
            (
                "a fragment that ends beyond the longest packet",
                ip4(frames.raw(NO_PROTOCOL, bytes(8)), offset=65528),
                ip4(frames.raw(NO_PROTOCOL, bytes(7)), offset=65528),
            ),
        )
    ),
    *(
        example(Reason.IPV4_SRC, why, dropped, passes)
        for why, dropped, passes in (
            ("a neighbour's address", ip4(UDP, src=PEER.ipv4), DATA_4),
            ("an address of nobody's", ip4(UDP, src="10.0.1.200"), DATA_4),
            ("a multicast address", ip4(UDP, src="224.0.0.1"), DATA_4),
            (
                "a neighbour's address in a later fragment",
                ip4(UDP, src=PEER.ipv4, offset=8),
                ip4(UDP, offset=8),
            ),
            (
                "no address, and not DHCP's ports",
                dhcp4(frames.dhcp(USER.mac), sport=69),
                dhcp4(frames.dhcp(USER.mac)),
            ),
            (
                "no address, to one host",
                dhcp4(frames.dhcp(USER.mac), dst=PEER.ipv4),
                dhcp4(frames.dhcp(USER.mac)),
            ),
            (
                "no address, to one MAC",
                dhcp4(frames.dhcp(USER.mac), to=PEER.mac),
                dhcp4(frames.dhcp(USER.mac)),
            ),
            (
                "no address, in a fragment",
                dhcp4(frames.dhcp(USER.mac), more=True),
                dhcp4(frames.dhcp(USER.mac)),
            ),
            (
                "no address, over TCP",
                ip4(
                    frames.tcp(sport=68, dport=67),
                    src="0.0.0.0",
                    dst="255.255.255.255",
                    to=frames.BROADCAST,
                ),
                dhcp4(frames.dhcp(USER.mac)),
            ),
        )
    ),
)

ARP_EXAMPLES: Final = (
    *(
        example(Reason.ARP_MALFORMED, why, dropped, arp())
        for why, dropped in (
            ("shorter than 28 bytes", cut(arp(), 1)),
            ("for IEEE 802 instead of Ethernet", patch(arp(), 0, b"\x00\x06")),
            ("for IPv6", patch(arp(), 2, b"\x86\xdd")),
            ("with hardware addresses of 8 bytes", patch(arp(), 4, b"\x08")),
            ("with protocol addresses of 16 bytes", patch(arp(), 5, b"\x10")),
            ("RARP's operation", arp(3)),
            ("an operation of 0", arp(0)),
        )
    ),
    *(
        example(Reason.ARP_SENDER, why, dropped, passes)
        for why, dropped, passes in (
            ("a neighbour's MAC inside a frame with the own", arp(sender_mac=PEER.mac), arp()),
            ("a neighbour's address", arp(2, sender=PEER.ipv4), arp(2)),
            (
                "an announcement of a neighbour's address",
                arp(sender=PEER.ipv4, target=PEER.ipv4),
                arp(target=USER.ipv4),
            ),
            (
                "no address in a reply",
                arp(2, sender="0.0.0.0", target=USER.ipv4),
                arp(1, sender="0.0.0.0", target=USER.ipv4),
            ),
            (
                "a probe for a neighbour's address, which it would give up",
                arp(sender="0.0.0.0", target=PEER.ipv4),
                arp(sender="0.0.0.0", target=USER.ipv4),
            ),
        )
    ),
)

IPV6_EXAMPLES: Final = (
    *(
        example(Reason.IPV6_MALFORMED, why, dropped, passes)
        for why, dropped, passes in (
            ("a header that is cut off", Frame(DATA_6.data[:53]), DATA_6),
            ("version 4", patch(DATA_6, 0, b"\x45"), DATA_6),
            (
                "a payload longer than the frame",
                cut(DATA_6, 1),
                evolve(DATA_6, data=DATA_6.data + bytes(10)),
            ),
            (
                "no payload length: a jumbogram's",
                patch(ip6(UDP, extensions=(HOP,)), 4, b"\x00\x00"),
                ip6(frames.raw(frames.NO_NEXT_HEADER)),
            ),
            (
                "a routing header with somewhere else to go",
                ip6(UDP, extensions=(frames.routing_header(segments_left=1),)),
                ip6(UDP, extensions=(frames.routing_header(),)),
            ),
            (
                "a routing header like that, before the chain breaks",
                ip6(UDP, extensions=(frames.routing_header(segments_left=1), HOP)),
                ip6(UDP, extensions=(HOP, frames.routing_header())),
            ),
        )
    ),
    *(
        example(Reason.IPV6_SRC, why, dropped, passes)
        for why, dropped, passes in (
            ("a neighbour's address", ip6(UDP, src=PEER.ipv6), DATA_6),
            ("a neighbour's link-local address", ip6(UDP, src=LINK_LOCAL_PEER), DATA_6),
            (
                "a neighbour's address before extension headers",
                ip6(UDP, src=PEER.ipv6, extensions=(HOP, OPTIONS)),
                ip6(UDP, src=USER.link_local, extensions=(HOP, OPTIONS)),
            ),
            (
                "a neighbour's address in a later fragment",
                ip6(UDP, src=PEER.ipv6, extensions=(frames.fragment_header(offset=8),)),
                ip6(UDP, extensions=(frames.fragment_header(offset=8),)),
            ),
            (
                "a neighbour's address before a broken chain",
                ip6(UDP, src=PEER.ipv6, extensions=(OPTIONS, HOP)),
                ip6(UDP, extensions=(HOP, OPTIONS)),
            ),
            ("no address, over UDP", ip6(UDP, src="::"), DATA_6),
            (
                "no address, in a solicitation to the holder itself",
                dad(USER.ipv6, dst=PEER.ipv6),
                dad(USER.ipv6),
            ),
            (
                "no address, in a group report that is a fragment",
                ip6(frames.icmpv6(143), src="::", extensions=(ATOMIC,)),
                ip6(frames.icmpv6(143), src="::", extensions=(HOP,)),
            ),
            (
                "no address, in an echo request",
                ip6(frames.icmpv6(128), src="::"),
                nd(frames.router_solicitation(), src="::"),
            ),
        )
    ),
)

ND_EXAMPLES: Final = (
    *(
        example(Reason.ND_SPOOF, why, dropped, passes)
        for why, dropped, passes in (
            ("a hop limit that a router could have lowered", nd(NS, hop_limit=254), nd(NS)),
            (
                "a code other than 0",
                nd(frames.icmpv6(133, 1)),
                nd(frames.icmpv6(133, 0)),
            ),
            (
                "a solicitation that is cut off",
                nd(frames.neighbour_solicitation(PEER.ipv6), part=slice(23)),
                nd(frames.neighbour_solicitation(PEER.ipv6)),
            ),
            (
                "an option of length 0",
                nd(frames.neighbour_solicitation(PEER.ipv6, b"\x0e\x00" + bytes(6))),
                nd(frames.neighbour_solicitation(PEER.ipv6, b"\x0e\x01" + bytes(6))),
            ),
            (
                "an option beyond the packet",
                nd(frames.neighbour_solicitation(PEER.ipv6, b"\x0e\x02" + bytes(6))),
                nd(frames.neighbour_solicitation(PEER.ipv6, b"\x0e\x02" + bytes(14))),
            ),
            (
                "a byte too little for an option",
                nd(frames.neighbour_solicitation(PEER.ipv6, SLLA + b"\x0e")),
                nd(NS),
            ),
            (
                "a neighbour's MAC as source, soliciting a neighbour",
                nd(frames.neighbour_solicitation(PEER.ipv6, FOREIGN_SLLA)),
                nd(NS),
            ),
            (
                "a neighbour's MAC as source, soliciting a router",
                nd(frames.router_solicitation(FOREIGN_SLLA)),
                nd(frames.router_solicitation(SLLA)),
            ),
            (
                "a neighbour's MAC behind the own",
                nd(frames.neighbour_solicitation(PEER.ipv6, SLLA + FOREIGN_SLLA)),
                nd(frames.neighbour_solicitation(PEER.ipv6, SLLA + SLLA)),
            ),
            (
                "a neighbour's MAC in an option that the message should not have",
                nd(frames.neighbour_solicitation(PEER.ipv6, FOREIGN_TLLA)),
                nd(frames.neighbour_solicitation(PEER.ipv6, TLLA)),
            ),
            (
                "a neighbour's MAC advertised",
                nd(frames.neighbour_advertisement(USER.ipv6, FOREIGN_TLLA)),
                nd(NA),
            ),
            (
                "a MAC option of 16 bytes",
                nd(frames.neighbour_solicitation(PEER.ipv6, b"\x01\x02" + USER.mac + bytes(8))),
                nd(NS),
            ),
            (
                "a neighbour's address advertised",
                nd(frames.neighbour_advertisement(PEER.ipv6, TLLA)),
                nd(NA),
            ),
            (
                "a neighbour's link-local address advertised",
                nd(frames.neighbour_advertisement(LINK_LOCAL_PEER, TLLA)),
                nd(frames.neighbour_advertisement(USER.link_local, TLLA)),
            ),
            (
                "duplicate address detection for a neighbour's address, to keep it from it",
                dad(PEER.ipv6),
                dad(USER.ipv6),
            ),
            ("a MAC from nobody's address", dad(USER.ipv6, SLLA), dad(USER.ipv6)),
            (
                "a neighbour's address advertised, behind extension headers",
                nd(frames.neighbour_advertisement(PEER.ipv6), extensions=(HOP, OPTIONS)),
                nd(frames.neighbour_advertisement(USER.ipv6), extensions=(HOP, OPTIONS)),
            ),
            (
                "an honest advertisement in an atomic fragment",
                nd(NA, extensions=(ATOMIC,)),
                nd(NA, extensions=(OPTIONS,)),
            ),
            (
                "a solicitation in a first fragment",
                nd(NS, extensions=(FIRST,)),
                nd(NS),
            ),
            (
                "renumbering in a fragment",
                nd(frames.icmpv6(138), extensions=(ATOMIC,)),
                nd(frames.icmpv6(139)),
            ),
        )
    ),
    *(
        example(
            Reason.ND_SPOOF,
            f"{name}, which only routers need",
            nd(frames.icmpv6(kind)),
            nd(frames.icmpv6(kind), by=ROUTER),
            passes_by=ROUTER,
        )
        for name, kind in (
            ("renumbering", 138),
            ("inverse solicitation", 141),
            ("inverse advertisement", 142),
        )
    ),
    example(
        Reason.ND_SPOOF,
        "a neighbour's address advertised by a router: no role may",
        nd(frames.neighbour_advertisement(PEER.ipv6), by=ROUTER),
        nd(frames.neighbour_advertisement(ROUTER.ipv6), by=ROUTER),
        by=ROUTER,
    ),
    example(
        Reason.ND_SPOOF,
        "a router's advertisement in an atomic fragment (RFC 6980)",
        nd(RA, by=ROUTER, extensions=(ATOMIC,)),
        nd(RA, by=ROUTER),
        by=ROUTER,
    ),
)

ROLE_EXAMPLES: Final = (
    *(
        example(
            Reason.RA_GUARD,
            why,
            nd(RA, **header),
            nd(RA, by=ROUTER, extensions=(HOP, OPTIONS)),
            passes_by=ROUTER,
        )
        for why, header in (
            ("a router advertisement", {}),
            ("a router advertisement behind extension headers", {"extensions": (HOP, OPTIONS)}),
            ("a router advertisement in a first fragment", {"extensions": (FIRST,)}),
            ("a router advertisement in an atomic fragment", {"extensions": (OPTIONS, ATOMIC)}),
        )
    ),
    example(
        Reason.RA_GUARD,
        "ICMP router discovery (RFC 1256)",
        ip4(frames.icmp(9)),
        ip4(frames.icmp(9), by=ROUTER),
        passes_by=ROUTER,
    ),
    example(
        Reason.REDIRECT,
        "ICMP",
        ip4(frames.icmp(5)),
        ip4(frames.icmp(5), by=ROUTER),
        passes_by=ROUTER,
    ),
    example(
        Reason.REDIRECT,
        "ICMPv6",
        nd(frames.icmpv6(137, body=bytes(36))),
        nd(frames.icmpv6(137, body=bytes(36)), by=ROUTER),
        passes_by=ROUTER,
    ),
    *(
        example(
            Reason.ROUTER_MESSAGE,
            why,
            ip4(frames.raw(2, bytes((kind,)) + bytes(7))),
            ip4(frames.raw(2, bytes((0x16,)) + bytes(7))),
        )
        for why, kind in (
            ("an IGMP query, which makes its sender the querier", 0x11),
            ("DVMRP", 0x13),
            ("PIM version 1", 0x14),
            ("multicast router discovery (RFC 4286)", 0x30),
            ("the end of a multicast router", 0x32),
        )
    ),
    example(
        Reason.ROUTER_MESSAGE,
        "an IGMP query in a first fragment",
        ip4(frames.raw(2, b"\x11" + bytes(15)), more=True, part=slice(8)),
        ip4(frames.raw(2, b"\x11" + bytes(15)), more=True, part=slice(8), by=ROUTER),
        passes_by=ROUTER,
    ),
    *(
        example(
            Reason.ROUTER_MESSAGE,
            why,
            ip6(frames.icmpv6(kind, body=bytes(20)), hop_limit=1, extensions=(HOP,)),
            ip6(frames.icmpv6(kind, body=bytes(20)), hop_limit=1, extensions=(HOP,), by=ROUTER),
            passes_by=ROUTER,
        )
        for why, kind in (
            ("an MLD query", 130),
            ("multicast router discovery over IPv6", 151),
            ("the end of a multicast router, over IPv6", 153),
        )
    ),
    *(
        example(
            Reason.ROUTER_MESSAGE,
            f"{name} over IPv{4 if ip is ip4 else 6}",
            ip(frames.raw(protocol, bytes(8))),
            ip(frames.raw(protocol, bytes(8)), by=ROUTER),
            passes_by=ROUTER,
        )
        for name, protocol in (("PIM", 103), ("VRRP", 112))
        for ip in (ip4, ip6)
    ),
    example(
        Reason.DHCP_SERVER,
        "an offer to a client",
        ip4(frames.udp(bytes(240), sport=67, dport=68)),
        ip4(frames.udp(bytes(240), sport=67, dport=68), by=SERVER),
        passes_by=SERVER,
    ),
    example(
        Reason.DHCP_SERVER,
        "an offer in a first fragment",
        ip4(frames.udp(bytes(240), sport=67, dport=68), more=True, part=slice(8)),
        ip4(frames.udp(bytes(240), sport=67, dport=69), more=True, part=slice(8)),
    ),
    example(
        Reason.DHCP_SERVER,
        "an answer to a relay",
        ip4(frames.udp(bytes(240), sport=67, dport=67)),
        ip4(frames.udp(bytes(240), sport=67, dport=67), by=SERVER),
        passes_by=SERVER,
    ),
    example(
        Reason.DHCP_SERVER,
        "an offer from another port, which clients take as well",
        ip4(frames.udp(bytes(240), sport=4000, dport=68)),
        ip4(frames.udp(bytes(240), sport=4000, dport=69)),
    ),
    example(
        Reason.DHCP_SERVER,
        "an answer of DHCPv6 from another port",
        ip6(frames.udp(bytes(4), sport=4000, dport=546)),
        ip6(frames.udp(bytes(4), sport=4000, dport=547)),
    ),
    example(
        Reason.DHCP_SERVER,
        "a client's message as if relayed, by the port",
        ip6(frames.udp(bytes((1, 0, 0, 0)), sport=547, dport=547)),
        ip6(frames.udp(bytes((1, 0, 0, 0)), sport=546, dport=547)),
    ),
    example(
        Reason.DHCP_SERVER,
        "a client's message as if relayed, by the type",
        ip6(frames.udp(bytes((12, 0, 0, 0)), sport=546, dport=547)),
        ip6(frames.udp(bytes((11, 0, 0, 0)), sport=546, dport=547)),
    ),
    example(
        Reason.DHCP_SERVER,
        "an answer of DHCPv6",
        ip6(frames.udp(bytes(4), sport=547, dport=546)),
        ip6(frames.udp(bytes(4), sport=546, dport=547)),
    ),
    example(
        Reason.DHCP_SERVER,
        "an answer of DHCPv6 behind extension headers",
        ip6(frames.udp(bytes(4), sport=547, dport=546), extensions=(OPTIONS,)),
        ip6(frames.udp(bytes(4), sport=547, dport=546), extensions=(OPTIONS,), by=SERVER),
        passes_by=SERVER,
    ),
    *(
        example(Reason.DHCP_CLIENT, why, dropped, dhcp4(frames.dhcp(USER.mac)))
        for why, dropped in (
            ("for a neighbour's MAC", dhcp4(frames.dhcp(PEER.mac))),
            ("as if relayed", dhcp4(frames.dhcp(USER.mac, relay=PEER.ipv4))),
            ("a reply to a server", dhcp4(frames.dhcp(USER.mac, op=2))),
            ("cut off before the end of the MAC", dhcp4(frames.dhcp(USER.mac)[:43])),
            (
                "for other hardware than Ethernet",
                dhcp4(frames.with_byte(frames.dhcp(USER.mac), 1, 6)),
            ),
            (
                "for a MAC of another length",
                dhcp4(frames.with_byte(frames.dhcp(USER.mac), 2, 8)),
            ),
            (
                "that renews or gives back a neighbour's address",
                dhcp4(frames.dhcp(USER.mac, client=PEER.ipv4)),
            ),
            *(
                (why, dhcp4(frames.dhcp(USER.mac, options=options + b"\xff")))
                for why, options in (
                    ("by a neighbour's identifier", frames.option(61, b"\1" + PEER.mac)),
                    ("by an identifier cut in two", frames.option(61, b"\1") * 2),
                    (
                        "that declines a neighbour's address",
                        frames.option(53, b"\4")
                        + frames.option(50, IPv4Address(PEER.ipv4).packed),
                    ),
                    ("with options in other fields", frames.option(52, b"\1")),
                    ("with an option cut short", b"\x0c\x09name"),
                )
            ),
            (
                "for a neighbour's MAC, from a port that servers answer as well",
                dhcp4(frames.dhcp(PEER.mac), sport=1068, src=USER.ipv4),
            ),
        )
    ),
    *(
        example(Reason.ICMP_ERROR, why, dropped, passes)
        for why, dropped, passes in (
            ("about a packet to a neighbour", ip4(error4(PEER.ipv4)), ip4(error4(USER.ipv4))),
            (
                "about a packet with no destination",
                ip4(error4(USER.ipv4, kept=19)),
                ip4(error4(USER.ipv4, kept=20)),
            ),
            (
                "about an IPv6 packet, over IPv4",
                patch(ip4(error4(USER.ipv4)), 28, b"\x65"),
                ip4(error4(USER.ipv4)),
            ),
            (
                "about an IPv6 packet to a neighbour",
                ip6(error6(PEER.ipv6)),
                ip6(error6(USER.ipv6)),
            ),
            (
                "about an IPv6 packet with no destination",
                ip6(error6(USER.ipv6, kept=39)),
                ip6(error6(USER.ipv6, kept=40)),
            ),
            (
                "of type 0, which nobody has and hosts pass up",
                ip6(error6(PEER.ipv6, kind=0)),
                ip6(error6(USER.ipv6, kind=0)),
            ),
            (
                "of a type that nobody knows, which hosts pass up as well",
                ip6(error6(PEER.ipv6, kind=100)),
                ip6(error6(PEER.ipv6, kind=128)),
            ),
            (
                "behind extension headers",
                ip6(error6(PEER.ipv6, kind=2), extensions=(HOP, OPTIONS)),
                ip6(error6(USER.ipv6, kind=2), extensions=(HOP, OPTIONS)),
            ),
        )
    ),
    example(
        Reason.ICMP_ERROR,
        "about a packet to a neighbour, from none of its routers",
        ip4(error4(PEER.ipv4)),
        ip4(error4(PEER.ipv4), by=ROUTER),
        passes_by=ROUTER,
    ),
)

CHAIN_EXAMPLES: Final = tuple(
    example(Reason.EXT_HEADER, why, dropped, passes)
    for why, dropped, passes in (
        (
            "nine of them",
            ip6(UDP, extensions=(OPTIONS,) * 9),
            ip6(UDP, extensions=(OPTIONS,) * 8),
        ),
        (
            "hop-by-hop options that are not the first",
            ip6(UDP, extensions=(OPTIONS, HOP)),
            ip6(UDP, extensions=(HOP, OPTIONS)),
        ),
        (
            "a header that says it is longer than the packet",
            patch(ip6(UDP, extensions=(OPTIONS,)), 41, b"\x02"),
            patch(ip6(UDP, extensions=(OPTIONS,)), 41, b"\x00"),
        ),
        (
            "a header of which only a part is there",
            ip6(frames.raw(frames.DESTINATION_OPTIONS, bytes(7))),
            ip6(frames.raw(frames.NO_NEXT_HEADER, bytes(7))),
        ),
        (
            "a header for experiments, which may hide any other",
            ip6(frames.raw(253, bytes(8))),
            ip6(frames.raw(NO_PROTOCOL, bytes(8))),
        ),
        (
            "a TCP header that is not whole",
            ip6(frames.tcp(), part=slice(19)),
            ip6(frames.tcp()),
        ),
        (
            "a UDP header that goes on in the next fragment (RFC 7112)",
            ip6(UDP, extensions=(FIRST,), part=slice(0)),
            ip6(UDP, extensions=(FIRST,), part=slice(8)),
        ),
        (
            "an advertisement of which the first fragment shows the type only",
            nd(NA, extensions=(FIRST, OPTIONS), part=slice(7)),
            ip6(UDP, extensions=(FIRST, OPTIONS), part=slice(8)),
        ),
        (
            "a chain that goes on in the next fragment",
            patch(ip6(UDP, extensions=(FIRST, OPTIONS)), 49, b"\x7f"),
            ip6(UDP, extensions=(FIRST, OPTIONS)),
        ),
        (
            "an authentication header that counts in words and says too many",
            patch(ip6(UDP, extensions=(frames.authentication_header(),)), 41, b"\x09"),
            ip6(UDP, extensions=(frames.authentication_header(),)),
        ),
    )
)

EXAMPLES: Final = (
    *LENGTH_EXAMPLES,
    *OFFLOAD_EXAMPLES,
    *ETHERNET_EXAMPLES,
    *IPV4_EXAMPLES,
    *ARP_EXAMPLES,
    *IPV6_EXAMPLES,
    *ND_EXAMPLES,
    *ROLE_EXAMPLES,
    *CHAIN_EXAMPLES,
)


@pytest.mark.parametrize("given", EXAMPLES, ids=str)
def test_a_frame_is_dropped_for_its_reason_and_its_neighbour_is_not(given: Example) -> None:
    for subject in (Reference(world_of()), Core(world_of())):
        dropped = subject.from_vif(PORTS[given.by], given.dropped, 1)
        passed = subject.from_vif(PORTS[given.passes_by], given.passes, 1)

        assert dropped.reason == given.reason
        assert passed.reason is None


def test_there_is_an_example_of_each_reason_of_ingress_validation() -> None:
    reasons = list(Reason)
    table = reasons[: reasons.index(Reason.FILTER_OUT)]

    assert {given.reason for given in EXAMPLES} == set(table)


def test_of_several_reasons_the_first_in_the_order_is_named() -> None:
    """Each frame here has what is wrong with all frames behind it, and one thing more."""
    spoofed = ip6(frames.router_advertisement(), src=PEER.ipv6)
    with_tag = tagged(spoofed)
    to_bridges = patch(with_tag, -14, frames.mac("01:80:c2:00:00:00"))
    from_peer = patch(to_bridges, -8, PEER.mac)
    unfinished = offload(from_peer)
    too_long = evolve(unfinished, data=unfinished.data + bytes(MTU))
    core = Core(world_of())

    reasons = [
        core.from_vif(PORTS[USER], frame, 1).reason
        for frame in (too_long, unfinished, from_peer, to_bridges, with_tag, spoofed)
    ]

    assert reasons == [
        Reason.OVERSIZE,
        Reason.OFFLOAD_HEADER,
        Reason.SRC_MAC,
        Reason.RESERVED_MAC,
        Reason.VLAN_TAG,
        Reason.IPV6_SRC,
    ]


def test_a_port_that_is_no_vif_may_send_nothing() -> None:
    core = Core(world_of())

    assert core.from_vif(PORTS[ANY] + 1, DATA_4, 1).reason == Reason.SRC_MAC
    assert core.from_vif(0, DATA_4, 1).reason == Reason.SRC_MAC


# Limits: what a vif may send depends on what it sent before.


def verdicts(limits: Limits, *sent: tuple[float, Frame], hub: bool = False) -> list[Reason | None]:
    """Return why each frame of the user's was dropped, given when it was sent, in seconds."""
    world = world_of(limits, hub=hub)
    core, reference = Core(world), Reference(world)
    times = [(NS_PER_S + round(at_s * NS_PER_S), frame) for at_s, frame in sent]
    found = [core.from_vif(PORTS[USER], frame, now_ns).reason for now_ns, frame in times]
    assert found == [
        reference.from_vif(PORTS[USER], frame, now_ns).reason for now_ns, frame in times
    ]
    return found


NONE_LEFT: Final = Reason.RATE_LIMIT
TOO_MANY: Final = Reason.BROADCAST_LIMIT
GROUP_FRAME: Final = ip4(UDP, dst="224.0.0.251", to=frames.multicast_mac("224.0.0.251"))


def test_frames_beyond_a_second_worth_are_dropped_until_time_brings_more() -> None:
    limits = Limits(frames_per_s=2)

    assert verdicts(
        limits, (0, DATA_4), (0, DATA_4), (0, DATA_4), (0.499, DATA_4), (0.5, DATA_4)
    ) == [None, None, NONE_LEFT, NONE_LEFT, None]


def test_an_idle_hour_saves_up_no_more_than_a_second_worth() -> None:
    limits = Limits(frames_per_s=2)

    assert verdicts(limits, (0, DATA_4), *[(3600, DATA_4)] * 3) == [None, None, None, NONE_LEFT]


def test_a_clock_that_goes_back_brings_nothing() -> None:
    limits = Limits(frames_per_s=1)

    assert verdicts(limits, (9, DATA_4), (0, DATA_4), (9, DATA_4), (10, DATA_4)) == [
        *(None, NONE_LEFT, NONE_LEFT, None)
    ]


def test_bytes_are_counted_with_the_ethernet_header() -> None:
    limits = Limits(bytes_per_s=2 * len(DATA_4.data))

    assert verdicts(limits, *[(0, DATA_4)] * 3) == [None, None, NONE_LEFT]


def test_a_segmentation_frame_counts_as_the_frames_it_becomes() -> None:
    three = tso(ip4(frames.tcp(bytes(3000))), 1000)
    four = tso(ip4(frames.tcp(bytes(3001))), 1000)

    assert verdicts(Limits(frames_per_s=3), (0, four), (0, three), (0, DATA_4)) == [
        *(NONE_LEFT, None, NONE_LEFT)
    ]


def test_broadcasts_have_a_limit_that_unicast_does_not_feel() -> None:
    limits = Limits(broadcast_per_s=1)

    assert verdicts(limits, (0, GROUP_FRAME), (0, GROUP_FRAME), (0, DATA_4), (1, GROUP_FRAME)) == [
        *(None, TOO_MANY, None, None)
    ]


def test_a_directed_request_is_a_broadcast_to_its_sender_and_one_copy() -> None:
    assert verdicts(Limits(broadcast_per_s=1), (0, arp()), (0, arp())) == [None, TOO_MANY]
    assert verdicts(Limits(copies_per_s=1), (0, arp()), (0, arp())) == [None, TOO_MANY]


def test_copies_to_all_members_and_the_uplink_are_charged_to_the_sender() -> None:
    assert verdicts(Limits(copies_per_s=6), (0, GROUP_FRAME), (0, arp())) == [None, TOO_MANY]
    assert verdicts(Limits(copies_per_s=5), (0, GROUP_FRAME), (0, arp())) == [TOO_MANY, None]


def test_a_hub_charges_copies_of_unicast_too() -> None:
    assert verdicts(Limits(copies_per_s=6), *[(0, DATA_4)] * 2, hub=True) == [None, TOO_MANY]


def test_members_that_are_down_cost_no_copy() -> None:
    world = world_of(Limits(copies_per_s=2))
    down = evolve(
        world,
        vifs=tuple(evolve(vif, up=vif.port in (PORTS[USER], PORTS[PEER])) for vif in world.vifs),
    )
    core = Core(down)

    reasons = [core.from_vif(PORTS[USER], GROUP_FRAME, 1).reason for _ in range(2)]

    assert reasons == [None, TOO_MANY]


def test_a_frame_that_is_dropped_costs_nothing() -> None:
    """A vif is not made to pay for what another limit, or another check, refused."""
    forged = ip4(UDP, src=PEER.ipv4)

    assert verdicts(Limits(frames_per_s=1), (0, forged), (0, DATA_4)) == [Reason.IPV4_SRC, None]
    assert verdicts(
        Limits(frames_per_s=2, broadcast_per_s=1),
        *[(0, GROUP_FRAME)] * 2,
        (0, DATA_4),
        (0, DATA_4),
    ) == [None, TOO_MANY, None, NONE_LEFT]


def test_a_frame_that_nobody_receives_counts_all_the_same() -> None:
    """Else a flood to nobody would have no limit."""
    to_itself = ip4(UDP, to=USER.mac)

    assert verdicts(Limits(frames_per_s=1), (0, to_itself), (0, to_itself)) == [
        *(Reason.NO_RECEIVER, NONE_LEFT)
    ]


def test_limits_are_each_vif_s_own() -> None:
    core = Core(world_of(Limits(frames_per_s=1)))
    from_peer = ip4(UDP, by=PEER, dst=USER.ipv4, to=USER.mac)

    reasons = [
        core.from_vif(PORTS[who], frame, 1).reason
        for who, frame in ((USER, DATA_4), (USER, DATA_4), (PEER, from_peer), (PEER, from_peer))
    ]

    assert reasons == [None, NONE_LEFT, None, None]
