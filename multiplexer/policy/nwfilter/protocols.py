"""Every protocol of the filter language and every attribute of each, in one table.

The parser, the canonical printer, the tables of multiplexer-filter(5) and the
compiler are all driven by it, so none knows an attribute that another does
not.  Attributes stand in the order in which they are printed.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from .values import (
    Boolean,
    Comment,
    Integer,
    IpMask,
    IpsetFlags,
    IpsetName,
    Ipv4,
    Ipv6,
    Mac,
    MacMask,
    States,
    TcpFlagMatch,
    ValueType,
)


class Layer(enum.Enum):
    """L2 rules stand in chains and know no state; L3 rules stand in one list per family."""

    L2 = 2
    L3 = 3


@attrs.frozen
class Attribute:
    """An attribute of a protocol.

    *follows* names the attribute that this one completes: the address of a
    mask, the start of a range, the type of a code.  It is negated as that one
    is, and has no effect without it.
    """

    name: str
    type: ValueType
    meaning: str
    follows: str | None = None

    @property
    def ends_range(self) -> bool:
        """True if this is the last value of a range that *follows* begins."""
        return self.follows is not None and self.name.endswith(("end", "to", "-hi"))

    @property
    def mirror(self) -> str:
        """The attribute that says the same of a frame that goes the other way."""
        for here, there in (("src", "dst"), ("dst", "src")):
            for before in ("", "arp"):
                if self.name.startswith(before + here):
                    return before + there + self.name.removeprefix(before + here)
        return self.name


@attrs.frozen
class Protocol:
    """What a rule looks at: frames of *ethertype* and, within, of IP protocol *number*.

    Either is None where any will do.
    """

    name: str
    layer: Layer
    ethertype: int | None
    number: int | None
    attributes: tuple[Attribute, ...]

    def attribute(self, name: str) -> Attribute:
        """Return the attribute called *name*, which may be one of ALIASES.

        Raises:
            KeyError: if there is none.
        """
        return self.table[ALIASES.get((self.name, name), name)]

    @property
    def table(self) -> Mapping[str, Attribute]:
        """The attributes by name."""
        return _TABLES[self.name]


ETHERTYPES: Final[Mapping[str, int]] = MappingProxyType(
    {"arp": 0x0806, "rarp": 0x8035, "ipv4": 0x0800, "ipv6": 0x86DD, "vlan": 0x8100}
)

#: RFC 826, RFC 903, RFC 1931, RFC 2390, RFC 1577.
OPCODES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "Request": 1,
        "Reply": 2,
        "Request_Reverse": 3,
        "Reply_Reverse": 4,
        "DRARP_Request": 5,
        "DRARP_Reply": 6,
        "DRARP_Error": 7,
        "InARP_Request": 8,
        "ARP_NAK": 9,
    }
)

IP_PROTOCOLS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "tcp": 6,
        "udp": 17,
        "udplite": 136,
        "esp": 50,
        "ah": 51,
        "icmp": 1,
        "igmp": 2,
        "sctp": 132,
        "icmpv6": 58,
    }
)

#: The protocols whose ports an ip or ipv6 rule may ask for: tcp, udp, dccp, sctp, udplite.
WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})

MAC: Final = Mac()
MAC_MASK: Final = MacMask()
UINT8: Final = Integer("UINT8", 0xFF)
UINT16: Final = Integer("UINT16", 0xFFFF)
UINT32: Final = Integer("UINT32", 0xFFFFFFFF)
DSCP: Final = Integer("UINT6", 63)
VLAN_ID: Final = Integer("UINT12", 4095)
COUNT: Final = Integer("COUNT", 0xFFFF, accepts_hexadecimal=False)
PROTOCOL_ID: Final = Integer("ETHERTYPE", 0xFFFF, 0x600, ETHERTYPES)
ENCAPSULATED: Final = Integer("ENCAPSULATED", 0xFFFF, 0x3C, ETHERTYPES)
OPCODE: Final = Integer("OPCODE", 0xFFFF, names=OPCODES, keeps_hexadecimal=False)
IP_PROTOCOL: Final = Integer("PROTOCOL", 0xFF, names=IP_PROTOCOLS)
BOOLEAN: Final = Boolean()
IPV4: Final = Ipv4()
IPV4_MASK: Final = IpMask("IP_MASK", 32)
IPV6: Final = Ipv6()
IPV6_MASK: Final = IpMask("IPV6_MASK", 128)

COMMENT: Final = Attribute("comment", Comment(), "a remark, without effect")

_MACS: Final = (
    Attribute("srcmacaddr", MAC, "source MAC address"),
    Attribute("srcmacmask", MAC_MASK, "mask of srcmacaddr", "srcmacaddr"),
    Attribute("dstmacaddr", MAC, "destination MAC address"),
    Attribute("dstmacmask", MAC_MASK, "mask of dstmacaddr", "dstmacaddr"),
)

_PORTS: Final = (
    Attribute("srcportstart", UINT16, "source port, or the first of a range"),
    Attribute("srcportend", UINT16, "last source port of the range", "srcportstart"),
    Attribute("dstportstart", UINT16, "destination port, or the first of a range"),
    Attribute("dstportend", UINT16, "last destination port of the range", "dstportstart"),
)


def _addresses(address: ValueType, mask: ValueType) -> tuple[Attribute, ...]:
    return (
        Attribute("srcipaddr", address, "source address"),
        Attribute("srcipmask", mask, "mask of srcipaddr", "srcipaddr"),
        Attribute("dstipaddr", address, "destination address"),
        Attribute("dstipmask", mask, "mask of dstipaddr", "dstipaddr"),
    )


def _ranged(name: str, type: ValueType, meaning: str) -> tuple[Attribute, ...]:
    return (
        Attribute(name, type, f"{meaning}, or the first of a range"),
        Attribute(f"{name}-hi", type, f"last {name} of the range", name),
    )


_STP: Final = (
    *_MACS[:2],
    Attribute("type", UINT8, "type of BPDU"),
    Attribute("flags", UINT8, "flags"),
    *_ranged("root-priority", UINT16, "priority of the root bridge"),
    Attribute("root-address", MAC, "MAC address of the root bridge"),
    Attribute("root-address-mask", MAC_MASK, "mask of root-address", "root-address"),
    *_ranged("root-cost", UINT32, "cost of the path to the root"),
    *_ranged("sender-priority", UINT16, "priority of the sending bridge"),
    Attribute("sender-address", MAC, "MAC address of the sending bridge"),
    Attribute("sender-address-mask", MAC_MASK, "mask of sender-address", "sender-address"),
    *_ranged("port", UINT16, "port identifier"),
    *_ranged("age", UINT16, "message age timer"),
    *_ranged("max-age", UINT16, "maximum age timer"),
    *_ranged("hello-time", UINT16, "hello timer"),
    *_ranged("forward-delay", UINT16, "forward delay"),
    COMMENT,
)

_ARP: Final = (
    *_MACS,
    Attribute("hwtype", UINT16, "hardware type"),
    Attribute("protocoltype", UINT16, "protocol type"),
    Attribute("opcode", OPCODE, "operation"),
    Attribute("arpsrcmacaddr", MAC, "sender hardware address"),
    Attribute("arpdstmacaddr", MAC, "target hardware address"),
    Attribute("arpsrcipaddr", IPV4, "sender protocol address"),
    Attribute("arpsrcipmask", IPV4_MASK, "mask of arpsrcipaddr", "arpsrcipaddr"),
    Attribute("arpdstipaddr", IPV4, "target protocol address"),
    Attribute("arpdstipmask", IPV4_MASK, "mask of arpdstipaddr", "arpdstipaddr"),
    Attribute("gratuitous", BOOLEAN, "true: sender and target protocol address are the same"),
    COMMENT,
)

_IP: Final = (
    *_MACS,
    *_addresses(IPV4, IPV4_MASK),
    Attribute("protocol", IP_PROTOCOL, "protocol within"),
    *_PORTS,
    Attribute("dscp", DSCP, "differentiated services code point"),
    COMMENT,
)

# A code needs no type here: then it is the code of any type.
_IPV6: Final = (
    *_MACS,
    *_addresses(IPV6, IPV6_MASK),
    Attribute("protocol", IP_PROTOCOL, "protocol within"),
    *_PORTS,
    Attribute("type", UINT8, "ICMPv6 type, or the first of a range"),
    Attribute("typeend", UINT8, "last ICMPv6 type of the range", "type"),
    Attribute("code", UINT8, "ICMPv6 code, or the first of a range"),
    Attribute("codeend", UINT8, "last ICMPv6 code of the range", "code"),
    COMMENT,
)

_ICMP: Final = (
    Attribute("type", UINT8, "ICMP type"),
    Attribute("code", UINT8, "ICMP code", "type"),
)

_TCP: Final = (
    Attribute("option", UINT8, "kind of an option that is there"),
    Attribute("flags", TcpFlagMatch(), "which flags are looked at, and which of them are set"),
)


def _l3(name: str, number: int | None, *own: Attribute) -> Protocol:
    """Return an L3 protocol; its name says the family, but for icmpv6."""
    is_ipv6 = name.endswith(("-ipv6", "v6"))
    address, mask = (IPV6, IPV6_MASK) if is_ipv6 else (IPV4, IPV4_MASK)
    return Protocol(
        name,
        Layer.L3,
        ETHERTYPES["ipv6" if is_ipv6 else "ipv4"],
        number,
        (
            *_MACS,
            *_addresses(address, mask),
            Attribute("srcipfrom", address, "source address, or the first of a range"),
            Attribute("srcipto", address, "last source address of the range", "srcipfrom"),
            Attribute("dstipfrom", address, "destination address, or the first of a range"),
            Attribute("dstipto", address, "last destination address of the range", "dstipfrom"),
            Attribute("dscp", DSCP, "differentiated services code point"),
            Attribute(
                "connlimit-above",
                COUNT,
                "the source has more connections than this, with this one",
            ),
            Attribute("state", States(), "states of connection tracking"),
            Attribute("ipset", IpsetName(), "name of a set that holds the frame"),
            Attribute("ipsetflags", IpsetFlags(), "what of the frame the set holds", "ipset"),
            *own,
            COMMENT,
        ),
    )


def _both(name: str, number: int | None, *own: Attribute) -> tuple[Protocol, Protocol]:
    return _l3(name, number, *own), _l3(f"{name}-ipv6", number, *own)


_ALL: Final = (
    Protocol(
        "mac",
        Layer.L2,
        None,
        None,
        (*_MACS, Attribute("protocolid", PROTOCOL_ID, "protocol within, the EtherType"), COMMENT),
    ),
    Protocol(
        "vlan",
        Layer.L2,
        ETHERTYPES["vlan"],
        None,
        (
            *_MACS,
            Attribute("vlanid", VLAN_ID, "VLAN identifier"),
            Attribute("encap-protocol", ENCAPSULATED, "protocol within the VLAN"),
            COMMENT,
        ),
    ),
    Protocol("stp", Layer.L2, None, None, _STP),
    Protocol("arp", Layer.L2, ETHERTYPES["arp"], None, _ARP),
    Protocol("rarp", Layer.L2, ETHERTYPES["rarp"], None, _ARP),
    Protocol("ip", Layer.L2, ETHERTYPES["ipv4"], None, _IP),
    Protocol("ipv6", Layer.L2, ETHERTYPES["ipv6"], None, _IPV6),
    *_both("tcp", 6, *_PORTS, *_TCP),
    *_both("udp", 17, *_PORTS),
    *_both("udplite", 136),
    *_both("esp", 50),
    *_both("ah", 51),
    *_both("sctp", 132, *_PORTS),
    _l3("icmp", 1, *_ICMP),
    _l3("icmpv6", 58, *_ICMP),
    *_both("igmp", 2),
    *_both("all", None),
)

PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {protocol.name: protocol for protocol in _ALL}
)

_TABLES: Final[Mapping[str, Mapping[str, Attribute]]] = MappingProxyType(
    {
        protocol.name: MappingProxyType({each.name: each for each in protocol.attributes})
        for protocol in _ALL
    }
)

#: Names that libvirt's page gives to what its code calls otherwise: accepted, never printed.
ALIASES: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("stp", "port_hi"): "port-hi",
        ("stp", "msg-age"): "age",
        ("stp", "msg-age-hi"): "age-hi",
    }
)
