"""Frames that ask whether an address is in use, and that tell who has it now.

They are what a stack with the address sends by itself before it uses it: an
ARP probe and announcement (RFC 5227, sections 2.1.1 and 2.3), a neighbour
solicitation of duplicate address detection (RFC 4862, section 5.4.2) and an
unsolicited advertisement (RFC 4861, section 7.2.6).
"""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress

_BROADCAST: Final = b"\xff" * 6
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST: Final = 1
_ICMPV6: Final = 58
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x2000_0000
_TARGET_LINK_LAYER_ADDRESS: Final = 2
_ALL_NODES: Final = IPv6Address("ff02::1")
_SOLICITED_NODE: Final = IPv6Address("ff02::1:ff00:0")

#: A wider prefix cannot be asked for within a moment.
_LONGEST_PREFIX: Final = 16


def askable(
    addresses: Iterable[IPInterface], prefixes: Iterable[IPNetwork]
) -> tuple[IPAddress, ...]:
    """Return every address that is bound, but for prefixes of more than 16 addresses."""
    narrow = [prefix for prefix in prefixes if prefix.num_addresses <= _LONGEST_PREFIX]
    return (
        *(address.ip for address in addresses),
        *(address for prefix in narrow for address in prefix),
    )


def questions(mac: MacAddress, addresses: Sequence[IPAddress]) -> tuple[bytes, ...]:
    """Return a frame for each of *addresses* that whoever has it answers."""
    return tuple(
        _arp(mac, IPv4Address(0), address)
        if isinstance(address, IPv4Address)
        else _solicitation(mac, address)
        for address in addresses
    )


def announcements(mac: MacAddress, addresses: Sequence[IPAddress]) -> tuple[bytes, ...]:
    """Return a frame for each of *addresses* by which neighbours forget who had it before."""
    return tuple(
        _arp(mac, address, address)
        if isinstance(address, IPv4Address)
        else _advertisement(mac, address)
        for address in addresses
    )


def _arp(mac: MacAddress, sender: IPv4Address, target: IPv4Address) -> bytes:
    body = _ARP.pack(
        1, 0x0800, 6, 4, _ARP_REQUEST, mac.packed, sender.packed, bytes(6), target.packed
    )
    return _BROADCAST + mac.packed + b"\x08\x06" + body


def _solicitation(mac: MacAddress, target: IPv6Address) -> bytes:
    group = IPv6Address(_SOLICITED_NODE.packed[:13] + target.packed[13:])
    message = struct.pack("!BBHI16s", _SOLICITATION, 0, 0, 0, target.packed)
    return _icmpv6(mac, IPv6Address(0), group, message)


def _advertisement(mac: MacAddress, target: IPv6Address) -> bytes:
    message = struct.pack("!BBHI16s", _ADVERTISEMENT, 0, 0, _OVERRIDE, target.packed)
    option = struct.pack("!BB6s", _TARGET_LINK_LAYER_ADDRESS, 1, mac.packed)
    return _icmpv6(mac, target, _ALL_NODES, message + option)


def _icmpv6(mac: MacAddress, source: IPv6Address, group: IPv6Address, message: bytes) -> bytes:
    """Return a frame to a multicast *group*; the checksum of *message* is still 0."""
    ends = source.packed + group.packed
    checksum = _checksum(ends + struct.pack("!II", len(message), _ICMPV6) + message)
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255)
    packet = header + ends + message[:2] + struct.pack("!H", checksum) + message[4:]
    return b"\x33\x33" + group.packed[12:] + mac.packed + b"\x86\xdd" + packet


def _checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
