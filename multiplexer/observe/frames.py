"""A frame in one line of words, for people who trace it.

Any bytes have a description: what is not there is not told.  Nothing is decided
by it.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

from pfinet_proto.values import MacAddress

#: Lengths and offsets from the frame's start: RFC 826, RFC 791, RFC 8200.
_ETHERNET: Final = 14
_ARP_END: Final = _ETHERNET + 28
_IPV4_END: Final = _ETHERNET + 20
_IPV6_END: Final = _ETHERNET + 40

#: IANA, "Protocol Numbers".
_PROTOCOLS: Final[Mapping[int, str]] = MappingProxyType(
    {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
)
_WITH_PORTS: Final = frozenset({6, 17})

#: RFC 4861, section 4: those that have a target.
_NEIGHBOUR: Final[Mapping[int, str]] = MappingProxyType(
    {135: "neighbour solicitation for", 136: "neighbour advertisement of"}
)


def protocol_name(number: int) -> str:
    """Return the name of an IP protocol, or its number."""
    return _PROTOCOLS.get(number, f"protocol {number}")


def describe(frame: bytes, l4_proto: int | None, l4_offset: int | None) -> str:
    """Return what *frame* is; the transport header is where the datapath found it."""
    if len(frame) < _ETHERNET:
        return f"{len(frame)} bytes"
    ends = f"{MacAddress(frame[6:12])} to {MacAddress(frame[:6])}"
    return f"{len(frame)} bytes, {ends}, {_packet(frame, l4_proto, l4_offset)}"


def _packet(frame: bytes, l4_proto: int | None, l4_offset: int | None) -> str:
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == 0x0806:
        return _arp(frame)
    if ethertype == 0x0800 and len(frame) >= _IPV4_END:
        ends = _ends(frame[_ETHERNET + 12 : _ETHERNET + 16], frame[_ETHERNET + 16 : _IPV4_END])
        return f"IPv4 {ends}{_transport(frame, l4_proto, l4_offset)}"
    if ethertype == 0x86DD and len(frame) >= _IPV6_END:
        ends = _ends(frame[_ETHERNET + 8 : _ETHERNET + 24], frame[_ETHERNET + 24 : _IPV6_END])
        return f"IPv6 {ends}{_transport(frame, l4_proto, l4_offset)}"
    return f"EtherType {ethertype:#06x}" if ethertype >= 0x0600 else "802.3 length"


def _ends(source: bytes, destination: bytes) -> str:
    return f"{ip_address(source)} to {ip_address(destination)}"


def _arp(frame: bytes) -> str:
    if len(frame) < _ARP_END:
        return "ARP, cut short"
    sender, target = (ip_address(frame[at : at + 4]) for at in (_ETHERNET + 14, _ETHERNET + 24))
    match int.from_bytes(frame[_ETHERNET + 6 : _ETHERNET + 8], "big"):
        case 1:
            return f"ARP, {sender} asks for {target}"
        case 2:
            mac = MacAddress(frame[_ETHERNET + 8 : _ETHERNET + 14])
            return f"ARP, {sender} is at {mac}"
        case opcode:
            return f"ARP, operation {opcode}"


def _transport(frame: bytes, proto: int | None, offset: int | None) -> str:
    if proto is None or offset is None:
        return ""
    name = protocol_name(proto)
    if proto in _WITH_PORTS:
        source, destination = (
            int.from_bytes(frame[at : at + 2], "big") for at in (offset, offset + 2)
        )
        return f", {name} port {source} to {destination}"
    if proto == 58 and frame[offset] in _NEIGHBOUR and len(frame) >= offset + 24:
        target = ip_address(frame[offset + 8 : offset + 24])
        return f", {_NEIGHBOUR[frame[offset]]} {target}"
    if proto in (1, 58):
        return f", {name} type {frame[offset]}"
    return f", {name}"
