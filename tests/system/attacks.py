"""Every frame that a vif must not send, as scapy makes them, by drop reason.

A builder takes who sends, who is claimed, and a mark, and returns a frame that
carries the mark.  Its destination is set by whoever sends it, unless the
destination itself is what is wrong.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.igmp import IGMP
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption_LSRR,
    IPOption_Router_Alert,
    IPOption_SSRR,
)
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6MLQuery,
    ICMPv6ND_INDAdv,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
    PadN,
)
from scapy.layers.l2 import ARP, LLC, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.vrrp import VRRPv3
from scapy.packet import Packet, Raw

from tests.support.lan import Member

Build = Callable[[Member, Member, bytes], Packet]

BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
UNASSIGNED: Final = ("10.77.0.200", "fd77::200")
MTU: Final = 1500


@attrs.frozen
class Attack:
    """A frame that must be dropped for *reason*.

    If *to_all*, its destination is part of it, and not to be changed.
    """

    name: str
    reason: str
    build: Build
    to_all: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.name}"


ATTACKS: Final[list[Attack]] = []


def several(reason: str, builders: dict[str, Build], *, to_all: bool = False) -> None:
    """Register attacks that must all be dropped for *reason*."""
    ATTACKS.extend(Attack(name, reason, build, to_all) for name, build in builders.items())


def ether(me: Member, **fields: Any) -> Ether:
    return Ether(**{"src": me.mac, "dst": BROADCAST, **fields})


def datagram(mark: bytes) -> Packet:
    return UDP(sport=9, dport=9) / Raw(mark)


def marked(mark: bytes) -> Packet:
    """Return a neighbour discovery option that everybody skips (RFC 4727)."""
    return ICMPv6NDOptUnknown(type=253, data=mark.ljust(14, b"."))


def fragment(**fields: Any) -> Packet:
    return IPv6ExtHdrFragment(id=7, **fields)


def options() -> Packet:
    return IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])


def hop_by_hop() -> Packet:
    return IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])


# What may stand between an IPv6 header and its payload, to hide the payload.
HIDING: Final[dict[str, Callable[[], Packet | None]]] = {
    "plain": lambda: None,
    "behind hop-by-hop options": hop_by_hop,
    "behind destination options": options,
    "behind a routing header": lambda: IPv6ExtHdrRouting(addresses=[], segleft=0),
    "behind three headers": lambda: hop_by_hop() / options() / options(),
}
FRAGMENTED: Final[dict[str, Callable[[], Packet | None]]] = {
    "in an atomic fragment": lambda: fragment(offset=0, m=0),
    "in a first fragment": lambda: fragment(offset=0, m=1),
    "in a fragment behind options": lambda: options() / fragment(offset=0, m=1),
}


def over(ip: IPv6, between: Packet | None, payload: Packet) -> Packet:
    return ip / payload if between is None else ip / between / payload


def hidden(
    reason: str,
    name: str,
    ways: dict[str, Callable[[], Packet | None]],
    build: Callable[..., Packet],
) -> None:
    """Register what *build* makes, once for each of *ways* to hide its payload."""

    def hiding(between: Callable[[], Packet | None]) -> Build:
        return lambda me, you, mark: build(me, you, mark, between())

    for how, between in ways.items():
        ATTACKS.append(Attack(f"{name}, {how}", reason, hiding(between)))


# -- Ethernet ----------------------------------------------------------------

several(
    "oversize",
    {
        "one byte over the MTU": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst=you.ipv4)
            / UDP(sport=9, dport=9)
            / Raw(mark.ljust(MTU + 1 - 28, b"."))
        ),
        "jumbo frame": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6)
            / UDP(sport=9, dport=9)
            / Raw(mark.ljust(8000, b"."))
        ),
    },
)
several(
    "src_mac",
    {
        "of a neighbour": lambda me, you, mark: (
            ether(me, src=you.mac) / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "of nobody": lambda me, you, mark: (
            ether(me, src="52:54:00:00:00:99") / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "a group": lambda me, you, mark: (
            ether(me, src="01:00:5e:00:00:01") / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "of a neighbour, in ARP": lambda me, you, mark: (
            ether(me, src=you.mac)
            / ARP(op=2, hwsrc=you.mac, psrc=you.ipv4, pdst=me.ipv4)
            / Raw(mark)
        ),
        "of a neighbour, tagged": lambda me, you, mark: (
            ether(me, src=you.mac) / Dot1Q(vlan=5) / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
    },
)


def to(destination: str) -> Build:
    """Return a builder of lawful datagrams to a MAC address."""
    return lambda me, you, mark: (
        ether(me, dst=destination) / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)
    )


several(
    "reserved_mac",
    {f"to {group}": to(group) for group in (f"01:80:c2:00:00:{last:02x}" for last in range(16))},
    to_all=True,
)
several(
    "ethertype",
    {
        "LLDP": lambda me, you, mark: ether(me, type=0x88CC) / Raw(mark),
        "PPPoE discovery": lambda me, you, mark: ether(me, type=0x8863) / Raw(mark),
        "MPLS": lambda me, you, mark: ether(me, type=0x8847) / Raw(mark),
        "EAPOL": lambda me, you, mark: ether(me, type=0x888E) / Raw(mark),
        "802.3 with LLC": lambda me, you, mark: (
            Dot3(src=me.mac, dst=BROADCAST) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(mark)
        ),
    },
)

# -- IPv4 --------------------------------------------------------------------

several(
    "ipv4_malformed",
    {
        "version 5": lambda me, you, mark: (
            ether(me, type=0x0800) / IP(version=5, src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "header of 16 bytes": lambda me, you, mark: (
            ether(me) / IP(ihl=4, src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "header longer than the packet": lambda me, you, mark: (
            ether(me) / IP(ihl=15, len=40, src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "longer than the frame": lambda me, you, mark: (
            ether(me) / IP(len=1000, src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "shorter than its header": lambda me, you, mark: (
            ether(me) / IP(len=19, src=me.ipv4, dst=you.ipv4) / datagram(mark)
        ),
        "loose source route": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst=you.ipv4, options=[IPOption_LSRR(routers=[you.ipv4])])
            / datagram(mark)
        ),
        "strict source route": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst=you.ipv4, options=[IPOption_SSRR(routers=[you.ipv4])])
            / datagram(mark)
        ),
        "option of length 0": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst=you.ipv4, options=[Raw(b"\x07\x00\x04\x00")])
            / datagram(mark)
        ),
        "tiny first fragment": lambda me, you, mark: (
            ether(me) / IP(src=me.ipv4, dst=you.ipv4, proto=132, flags="MF", len=24) / Raw(mark)
        ),
        "TCP without its header": lambda me, you, mark: (
            ether(me) / IP(src=me.ipv4, dst=you.ipv4, proto=6, len=39) / Raw(mark.ljust(19))
        ),
    },
)
several(
    "ipv4_src",
    {
        "of a neighbour": lambda me, you, mark: (
            ether(me) / IP(src=you.ipv4, dst="10.77.0.1") / datagram(mark)
        ),
        "of nobody in the prefix": lambda me, you, mark: (
            ether(me) / IP(src=UNASSIGNED[0], dst=you.ipv4) / datagram(mark)
        ),
        "of the gateway": lambda me, you, mark: (
            ether(me) / IP(src="10.77.0.1", dst=you.ipv4) / datagram(mark)
        ),
        "elsewhere": lambda me, you, mark: (
            ether(me) / IP(src="192.0.2.1", dst=you.ipv4) / datagram(mark)
        ),
        "loopback": lambda me, you, mark: (
            ether(me) / IP(src="127.0.0.1", dst=you.ipv4) / datagram(mark)
        ),
        "unspecified, not DHCP": lambda me, you, mark: (
            ether(me) / IP(src="0.0.0.0", dst="255.255.255.255") / datagram(mark)
        ),
        "unspecified DHCP, not to everybody": lambda me, you, mark: (
            ether(me)
            / IP(src="0.0.0.0", dst=you.ipv4)
            / UDP(sport=68, dport=67)
            / BOOTP(chaddr=raw_mac(me), file=mark)
        ),
        "of a neighbour, with options": lambda me, you, mark: (
            ether(me)
            / IP(src=you.ipv4, dst="10.77.0.1", options=[Raw(b"\x01\x01\x01\x00")])
            / datagram(mark)
        ),
        "of a neighbour, first fragment": lambda me, you, mark: (
            ether(me) / IP(src=you.ipv4, dst="10.77.0.1", flags="MF") / datagram(mark)
        ),
        "of a neighbour, later fragment": lambda me, you, mark: (
            ether(me) / IP(src=you.ipv4, dst="10.77.0.1", frag=10) / Raw(mark.ljust(16, b"."))
        ),
        "of a neighbour, ICMP": lambda me, you, mark: (
            ether(me) / IP(src=you.ipv4, dst="10.77.0.1") / ICMP() / Raw(mark)
        ),
        "of a neighbour, TCP": lambda me, you, mark: (
            ether(me) / IP(src=you.ipv4, dst="10.77.0.1") / TCP(flags="R") / Raw(mark)
        ),
    },
)

# -- ARP ---------------------------------------------------------------------


def arp(me: Member, mark: bytes, **fields: Any) -> Packet:
    return ether(me) / ARP(**{"hwsrc": me.mac, "psrc": me.ipv4, **fields}) / Raw(mark)


several(
    "arp_malformed",
    {
        "of another hardware": lambda me, you, mark: arp(me, mark, hwtype=6, pdst=you.ipv4),
        "of another protocol": lambda me, you, mark: arp(me, mark, ptype=0x86DD, pdst=you.ipv4),
        "reverse request": lambda me, you, mark: arp(me, mark, op=3, pdst=you.ipv4),
        "reverse reply": lambda me, you, mark: arp(me, mark, op=4, pdst=you.ipv4),
        "opcode 0": lambda me, you, mark: arp(me, mark, op=0, pdst=you.ipv4),
        "truncated": lambda me, you, mark: (
            ether(me, type=0x0806) / Raw(bytes(ARP(hwsrc=me.mac, psrc=me.ipv4))[:8] + mark)
        ),
    },
)
several(
    "arp_sender",
    {
        "reply with a neighbour's address": lambda me, you, mark: arp(
            me, mark, op=2, psrc=you.ipv4, pdst="10.77.0.1"
        ),
        "request with a neighbour's address": lambda me, you, mark: arp(
            me, mark, op=1, psrc=you.ipv4, pdst="10.77.0.1"
        ),
        "announcement of a neighbour's address": lambda me, you, mark: arp(
            me, mark, op=1, psrc=you.ipv4, pdst=you.ipv4
        ),
        "announcement of the gateway": lambda me, you, mark: arp(
            me, mark, op=2, psrc="10.77.0.1", pdst="10.77.0.1"
        ),
        "reply with a neighbour's MAC": lambda me, you, mark: arp(
            me, mark, op=2, hwsrc=you.mac, pdst="10.77.0.1"
        ),
        "reply from nobody": lambda me, you, mark: arp(
            me, mark, op=2, psrc="0.0.0.0", pdst=you.ipv4
        ),
        "probe with a neighbour's MAC": lambda me, you, mark: arp(
            me, mark, op=1, hwsrc=you.mac, psrc="0.0.0.0", pdst=you.ipv4
        ),
    },
)

# -- IPv6 --------------------------------------------------------------------

several(
    "ipv6_malformed",
    {
        "version 4": lambda me, you, mark: (
            ether(me, type=0x86DD) / IPv6(version=4, src=me.ipv6, dst=you.ipv6) / datagram(mark)
        ),
        "longer than the frame": lambda me, you, mark: (
            ether(me) / IPv6(plen=1000, src=me.ipv6, dst=you.ipv6) / datagram(mark)
        ),
        "jumbogram": lambda me, you, mark: (
            ether(me)
            / IPv6(plen=0, src=me.ipv6, dst=you.ipv6)
            / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=1000)])
            / datagram(mark)
        ),
        "header only in part": lambda me, you, mark: (
            ether(me, type=0x86DD) / Raw(bytes(IPv6(src=me.ipv6, dst=you.ipv6))[:20] + mark)
        ),
        "source route": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6)
            / IPv6ExtHdrRouting(type=0, addresses=["fd77::1"], segleft=1)
            / datagram(mark)
        ),
    },
)
hidden(
    "ipv6_src",
    "of a neighbour",
    HIDING | FRAGMENTED | {"in a later fragment": lambda: fragment(offset=20, m=0)},
    lambda me, you, mark, between: (
        ether(me) / over(IPv6(src=you.ipv6, dst="fd77::1"), between, datagram(mark))
    ),
)
several(
    "ipv6_src",
    {
        "of nobody in the prefix": lambda me, you, mark: (
            ether(me) / IPv6(src=UNASSIGNED[1], dst=you.ipv6) / datagram(mark)
        ),
        "link-local of a neighbour": lambda me, you, mark: (
            ether(me) / IPv6(src=you.link_local, dst="ff02::1") / datagram(mark)
        ),
        "elsewhere": lambda me, you, mark: (
            ether(me) / IPv6(src="2001:db8::1", dst=you.ipv6) / datagram(mark)
        ),
        "a group": lambda me, you, mark: (
            ether(me) / IPv6(src="ff02::1", dst=you.ipv6) / datagram(mark)
        ),
        "unspecified, a datagram": lambda me, you, mark: (
            ether(me) / IPv6(src="::", dst="ff02::1") / datagram(mark)
        ),
        "unspecified, not a solicitation": lambda me, you, mark: (
            ether(me)
            / IPv6(src="::", dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt=me.ipv6)
            / marked(mark)
        ),
        "header chain of a neighbour's truncated": lambda me, you, mark: (
            ether(me)
            / IPv6(src=you.ipv6, dst="fd77::1", nh=60)
            / Raw(b"\x3c\xff" + mark.ljust(14, b"."))
        ),
    },
)
several(
    "ext_header",
    {
        "chain of nine": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6)
            / options()
            / options()
            / options()
            / options()
            / options()
            / options()
            / options()
            / options()
            / options()
            / datagram(mark)
        ),
        "longer than the packet": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6, nh=60)
            / Raw(b"\x3c\xff" + mark.ljust(14, b"."))
        ),
        "experimental": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6, nh=253)
            / Raw(b"\x11\x00" + b"\0" * 6 + mark)
        ),
        "hop-by-hop options not first": lambda me, you, mark: (
            ether(me) / IPv6(src=me.ipv6, dst=you.ipv6) / options() / hop_by_hop() / datagram(mark)
        ),
        "not whole in the first fragment": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6)
            / fragment(nh=60, offset=0, m=1)
            / Raw(b"\x3a\x03" + mark.ljust(14, b"."))
        ),
        "first fragment without its TCP header": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst=you.ipv6)
            / fragment(nh=6, offset=0, m=1)
            / Raw(mark.ljust(16, b"."))
        ),
    },
)

# -- neighbour discovery -------------------------------------------------------


def nd(me: Member, mark: bytes, between: Packet | None, message: Packet, **ip: Any) -> Packet:
    """Return a neighbour discovery frame to all nodes, from *me* unless *ip* says else."""
    fields = {"src": me.ipv6, "dst": "ff02::1", "hlim": 255, **ip}
    return ether(me) / over(IPv6(**fields), between, message / marked(mark))


hidden(
    "nd_spoof",
    "advertisement of a neighbour's address",
    HIDING | FRAGMENTED,
    lambda me, you, mark, between: nd(
        me, mark, between, ICMPv6ND_NA(tgt=you.ipv6, R=0) / ICMPv6NDOptDstLLAddr(lladdr=me.mac)
    ),
)
hidden(
    "nd_spoof",
    "solicitation",
    FRAGMENTED,
    lambda me, you, mark, between: nd(
        me, mark, between, ICMPv6ND_NS(tgt=you.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=me.mac)
    ),
)
several(
    "nd_spoof",
    {
        "advertisement of the gateway": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_NA(tgt="fd77::1") / ICMPv6NDOptDstLLAddr(lladdr=me.mac)
        ),
        "advertisement of a neighbour's link-local address": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_NA(tgt=you.link_local)
        ),
        "advertisement with a neighbour's MAC": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_NA(tgt=me.ipv6) / ICMPv6NDOptDstLLAddr(lladdr=you.mac)
        ),
        "solicitation with a neighbour's MAC": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_NS(tgt=you.ipv6) / ICMPv6NDOptSrcLLAddr(lladdr=you.mac)
        ),
        "router solicitation with a neighbour's MAC": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=you.mac)
        ),
        "two MACs, one a neighbour's": lambda me, you, mark: nd(
            me,
            mark,
            None,
            ICMPv6ND_NS(tgt=you.ipv6)
            / ICMPv6NDOptSrcLLAddr(lladdr=me.mac)
            / ICMPv6NDOptSrcLLAddr(lladdr=you.mac),
        ),
        "through a router": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_NA(tgt=me.ipv6), hlim=64
        ),
        "detection of a neighbour's address": lambda me, you, mark: nd(
            me,
            mark,
            None,
            ICMPv6ND_NS(tgt=you.ipv6),
            src="::",
            dst="ff02::1:ff00:" + you.ipv6.rpartition(":")[2],
        ),
        "option of length 0": lambda me, you, mark: nd(
            me, mark, None, ICMPv6ND_NS(tgt=you.ipv6) / Raw(b"\x01\x00" + b"\0" * 6)
        ),
        "inverse advertisement": lambda me, you, mark: nd(me, mark, None, ICMPv6ND_INDAdv()),
        "router renumbering": lambda me, you, mark: nd(
            me, mark, None, Raw(b"\x8a\x00\x00\x00" + b"\0" * 12), nh=58
        ),
    },
)
hidden(
    "ra_guard",
    "router advertisement",
    HIDING | FRAGMENTED,
    lambda me, you, mark, between: nd(
        me,
        mark,
        between,
        ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="fd66::", prefixlen=64),
        src=me.link_local,
    ),
)
several(
    "ra_guard",
    {
        "ICMP router advertisement": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst="224.0.0.1", ttl=1)
            / ICMP(type=9)
            / Raw(mark.ljust(16, b"."))
        ),
    },
)
hidden(
    "redirect",
    "ICMPv6",
    HIDING | FRAGMENTED,
    lambda me, you, mark, between: nd(
        me, mark, between, ICMPv6ND_Redirect(tgt=me.link_local, dst="fd77::1"), dst=you.ipv6
    ),
)
several(
    "redirect",
    {
        "ICMP": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst=you.ipv4)
            / ICMP(type=5, code=1, gw=me.ipv4)
            / IP(src=you.ipv4, dst="10.77.0.1")
            / datagram(mark)
        ),
        "ICMP, first fragment": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst=you.ipv4, flags="MF")
            / ICMP(type=5, code=1, gw=me.ipv4)
            / Raw(mark)
        ),
    },
)

several(
    "router_message",
    {
        "IGMP query": lambda me, you, mark: (
            ether(me) / IP(src=me.ipv4, dst="224.0.0.1", ttl=1) / IGMP(type=0x11) / Raw(mark)
        ),
        "IGMP query with router alert": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst="224.0.0.1", ttl=1, options=[IPOption_Router_Alert()])
            / IGMP(type=0x11)
            / Raw(mark)
        ),
        "multicast router discovery": lambda me, you, mark: (
            ether(me) / IP(src=me.ipv4, dst="224.0.0.106", ttl=1) / IGMP(type=0x30) / Raw(mark)
        ),
        "PIM hello": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst="224.0.0.13", ttl=1, proto=103)
            / Raw(b"\x20\0\0\0" + mark)
        ),
        "VRRP advertisement": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst="224.0.0.18", proto=112)
            / VRRPv3(addrlist=["10.77.0.1"])
            / Raw(mark)
        ),
        "VRRP over IPv6": lambda me, you, mark: (
            ether(me) / IPv6(src=me.link_local, dst="ff02::12", nh=112) / Raw(b"1" * 8 + mark)
        ),
    },
)
hidden(
    "router_message",
    "MLD query",
    HIDING | FRAGMENTED,
    lambda me, you, mark, between: (
        ether(me)
        / over(
            IPv6(src=me.link_local, dst="ff02::1", hlim=1), between, ICMPv6MLQuery() / Raw(mark)
        )
    ),
)

# -- DHCP --------------------------------------------------------------------


def raw_mac(of: Member) -> bytes:
    return bytes.fromhex(of.mac.replace(":", ""))


def dhcp(ip: IP, ports: tuple[int, int], mark: bytes, kind: str, **fields: Any) -> Packet:
    return (
        ip
        / UDP(sport=ports[0], dport=ports[1])
        / BOOTP(file=mark, **fields)
        / DHCP(options=[("message-type", kind), "end"])
    )


several(
    "dhcp_server",
    {
        "offer": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst="255.255.255.255"),
                (67, 68),
                mark,
                "offer",
                op=2,
                yiaddr=you.ipv4,
                chaddr=raw_mac(you),
            )
        ),
        "offer to one": lambda me, you, mark: (
            ether(me)
            / dhcp(IP(src=me.ipv4, dst=you.ipv4), (67, 68), mark, "ack", op=2, yiaddr=you.ipv4)
        ),
        "offer, first fragment": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst="255.255.255.255", flags="MF"), (67, 68), mark, "offer", op=2
            )
        ),
        "offer, with options": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst=you.ipv4, options=[Raw(b"\x01\x01\x01\x00")]),
                (67, 68),
                mark,
                "offer",
                op=2,
            )
        ),
        "between servers": lambda me, you, mark: (
            ether(me) / dhcp(IP(src=me.ipv4, dst=you.ipv4), (67, 67), mark, "offer", op=2)
        ),
    },
)
hidden(
    "dhcp_server",
    "DHCPv6 advertisement",
    HIDING | FRAGMENTED,
    lambda me, you, mark, between: (
        ether(me)
        / over(
            IPv6(src=me.link_local, dst=you.link_local),
            between,
            UDP(sport=547, dport=546) / DHCP6_Advertise(trid=1) / Raw(mark),
        )
    ),
)
several(
    "dhcp_client",
    {
        "for a neighbour": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src="0.0.0.0", dst="255.255.255.255"),
                (68, 67),
                mark,
                "discover",
                chaddr=raw_mac(you),
            )
        ),
    },
    to_all=True,
)
several(
    "dhcp_client",
    {
        "release for a neighbour": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst="10.77.0.1"),
                (68, 67),
                mark,
                "release",
                ciaddr=you.ipv4,
                chaddr=raw_mac(you),
            )
        ),
        "release of a neighbour's address": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst="10.77.0.1"),
                (68, 67),
                mark,
                "release",
                ciaddr=you.ipv4,
                chaddr=raw_mac(me),
            )
        ),
        "relayed": lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst="10.77.0.1"),
                (68, 67),
                mark,
                "discover",
                giaddr=me.ipv4,
                chaddr=raw_mac(me),
            )
        ),
    },
)

# -- ICMP errors ---------------------------------------------------------------

several(
    "icmp_error",
    {
        "about a neighbour's packet": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst="10.77.0.1")
            / ICMP(type=3, code=4)
            / IP(src="10.77.0.1", dst=you.ipv4)
            / datagram(mark)
        ),
        "about no packet": lambda me, you, mark: (
            ether(me) / IP(src=me.ipv4, dst="10.77.0.1") / ICMP(type=11) / Raw(mark)
        ),
        "about a neighbour's packet, first fragment": lambda me, you, mark: (
            ether(me)
            / IP(src=me.ipv4, dst="10.77.0.1", flags="MF")
            / ICMP(type=3, code=1)
            / IP(src="10.77.0.1", dst=you.ipv4)
            / datagram(mark)
        ),
    },
)
hidden(
    "icmp_error",
    "packet too big, about a neighbour's",
    HIDING | FRAGMENTED,
    lambda me, you, mark, between: (
        ether(me)
        / over(
            IPv6(src=me.ipv6, dst="fd77::1"),
            between,
            ICMPv6PacketTooBig(mtu=1280) / IPv6(src="fd77::1", dst=you.ipv6) / datagram(mark),
        )
    ),
)
several(
    "icmp_error",
    {
        "unreachable, about a neighbour's": lambda me, you, mark: (
            ether(me)
            / IPv6(src=me.ipv6, dst="fd77::1")
            / ICMPv6DestUnreach(code=4)
            / IPv6(src="fd77::1", dst=you.ipv6)
            / datagram(mark)
        ),
    },
)

# -- tags ----------------------------------------------------------------------

TAGS: Final[dict[str, Callable[[], Packet]]] = {
    "802.1Q": lambda: Dot1Q(vlan=5),
    "802.1Q priority": lambda: Dot1Q(vlan=0, prio=6),
    "802.1ad": lambda: Dot1AD(vlan=5),
    "802.1ad and 802.1Q": lambda: Dot1AD(vlan=5) / Dot1Q(vlan=6),
    "two 802.1Q": lambda: Dot1Q(vlan=5) / Dot1Q(vlan=6),
}


def lawful(me: Member, you: Member, mark: bytes) -> Packet:
    return ether(me) / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)


def tagged(build: Build, tag: Callable[[], Packet]) -> Build:
    """Return a builder of what *build* makes, with *tag* in it."""

    def with_tag(me: Member, you: Member, mark: bytes) -> Packet:
        frame = build(me, you, mark)
        inner = bytes(frame)[14:]
        kind = int.from_bytes(bytes(frame)[12:14], "big")
        tags = tag()
        tags.lastlayer().type = kind
        return Ether(dst=frame.dst, src=frame.src) / tags / Raw(inner)

    return with_tag


def all_tagged() -> Iterator[Attack]:
    """Yield every attack so far in an 802.1Q tag, and a lawful frame in each kind of tag.

    What is looked at before the tag is found first all the same.
    """
    for how, tag in TAGS.items():
        yield Attack(f"lawful datagram in {how}", "vlan_tag", tagged(lawful, tag))
    first = ("src_mac", "reserved_mac", "oversize")
    for plain in ATTACKS:
        reason = plain.reason if plain.reason in first else "vlan_tag"
        if "tagged" not in plain.name and plain.reason != "ethertype":
            build = tagged(plain.build, TAGS["802.1Q"])
            yield Attack(f"{plain.reason}, {plain.name}, tagged", reason, build, plain.to_all)


ATTACKS.extend(list(all_tagged()))


def frames(
    attack: Attack, me: Member, you: Member, mark: bytes, destinations: list[str]
) -> list[bytes]:
    """Return the attack's frame once for each destination that it leaves open."""
    built = attack.build(me, you, mark)
    if attack.to_all:
        return [bytes(built)]
    framed = []
    for destination in destinations:
        built.dst = destination
        framed.append(bytes(built))
    return framed
