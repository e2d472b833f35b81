"""Ethernet frames by hand: what an intruder sends, and its lawful twins.

Addresses are packed: 6 bytes of MAC, 4 of IPv4, 16 of IPv6.  Every frame
carries a mark, by which it is known wherever it comes out.
"""

import struct
from ipaddress import IPv6Address
from typing import Final

BROADCAST: Final = b"\xff" * 6
ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
ALL_NODES: Final = IPv6Address("ff02::1").packed
EVERYBODY: Final = b"\xff" * 4

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_VLAN: Final = 0x8100
ETHERTYPE_IPV6: Final = 0x86DD

PROTOCOL_UDP: Final = 17
PROTOCOL_ICMPV6: Final = 58

PORT_DISCARD: Final = 9
PORT_DHCP_SERVER: Final = 67
PORT_DHCP_CLIENT: Final = 68

# An experimental option (RFC 4727): whoever does not know it skips it.
ND_OPTION_EXPERIMENT: Final = 253
ND_OPTION_TARGET_MAC: Final = 2
ND_OPTION_SOURCE_MAC: Final = 1
ND_OPTION_PREFIX: Final = 3


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    return destination + source + struct.pack("!H", ethertype) + payload


def tagged(frame: bytes, vlan: int = 5) -> bytes:
    """Return *frame* with an 802.1Q tag."""
    return frame[:12] + struct.pack("!HH", ETHERTYPE_VLAN, vlan) + frame[12:]


def checksum(data: bytes) -> int:
    """Return the Internet checksum of *data* (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    addresses = source + destination
    own = checksum(start + b"\0\0" + addresses)
    return start + struct.pack("!H", own) + addresses + payload


def ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + (
        source + destination + payload
    )


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """Return what a checksum covers besides the packet (RFC 768; RFC 8200, section 8.1)."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!IHBB", length, 0, 0, protocol)


def udp(source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    """Return a UDP datagram in IPv4 or IPv6, as the addresses are."""
    length = 8 + len(payload)
    zero = struct.pack("!HHHH", *ports, length, 0) + payload
    own = checksum(pseudo_header(source, destination, PROTOCOL_UDP, length) + zero) or 0xFFFF
    datagram = struct.pack("!HHHH", *ports, length, own) + payload
    wrap = ipv4 if len(source) == 4 else ipv6
    return wrap(source, destination, PROTOCOL_UDP, datagram)


def icmpv6(source: bytes, destination: bytes, kind: int, body: bytes) -> bytes:
    zero = struct.pack("!BBH", kind, 0, 0) + body
    own = checksum(pseudo_header(source, destination, PROTOCOL_ICMPV6, len(zero)) + zero)
    return ipv6(source, destination, PROTOCOL_ICMPV6, struct.pack("!BBH", kind, 0, own) + body)


def nd_option(kind: int, value: bytes) -> bytes:
    """Return a neighbour discovery option, padded to a multiple of 8 bytes."""
    value += b"\0" * (-(len(value) + 2) % 8)
    return struct.pack("!BB", kind, (len(value) + 2) // 8) + value


def udp_frame(destination: tuple[bytes, bytes], source: tuple[bytes, bytes], mark: bytes) -> bytes:
    """Return a datagram between (MAC, address) pairs."""
    ethertype = ETHERTYPE_IPV4 if len(source[1]) == 4 else ETHERTYPE_IPV6
    packet = udp(source[1], destination[1], (PORT_DISCARD, PORT_DISCARD), mark)
    return ethernet(destination[0], source[0], ethertype, packet)


def arp_reply(destination: bytes, source: bytes, claimed: bytes, mark: bytes) -> bytes:
    """Return the announcement that IPv4 address *claimed* is at MAC *source*."""
    body = struct.pack("!HHBBH", 1, ETHERTYPE_IPV4, 6, 4, 2)
    body += source + claimed + destination + claimed
    return ethernet(destination, source, ETHERTYPE_ARP, body + mark)


def neighbour_advertisement(
    destination: bytes, source: tuple[bytes, bytes], claimed: bytes, mark: bytes
) -> bytes:
    """Return the announcement that IPv6 address *claimed* is at the source's MAC."""
    override = 0x2000_0000
    body = struct.pack("!I", override) + claimed
    body += nd_option(ND_OPTION_TARGET_MAC, source[0])
    body += nd_option(ND_OPTION_EXPERIMENT, mark)
    packet = icmpv6(source[1], ALL_NODES, 136, body)
    return ethernet(destination, source[0], ETHERTYPE_IPV6, packet)


def router_advertisement(
    destination: bytes, source: tuple[bytes, bytes], prefix: bytes, mark: bytes
) -> bytes:
    """Return the announcement of a router for half an hour, and of *prefix*/64."""
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    body += nd_option(ND_OPTION_SOURCE_MAC, source[0])
    body += nd_option(ND_OPTION_PREFIX, struct.pack("!BBIII", 64, 0xC0, 1800, 1800, 0) + prefix)
    body += nd_option(ND_OPTION_EXPERIMENT, mark)
    packet = icmpv6(source[1], ALL_NODES, 134, body)
    return ethernet(destination, source[0], ETHERTYPE_IPV6, packet)


def dhcp_offer(
    destination: bytes, source: tuple[bytes, bytes], offered: bytes, mark: bytes
) -> bytes:
    """Return the offer of an address by a server at the source (RFC 2131)."""
    header = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x1234, 0, 0x8000)
    addresses = b"\0" * 4 + offered + source[1] + b"\0" * 4
    client = destination.ljust(16, b"\0")
    names = mark.ljust(64, b"\0") + b"\0" * 128
    options = bytes.fromhex("63825363 350102 3604") + source[1] + b"\x03\x04" + source[1]
    message = header + addresses + client + names + options + b"\xff"
    packet = udp(source[1], EVERYBODY, (PORT_DHCP_SERVER, PORT_DHCP_CLIENT), message)
    return ethernet(destination, source[0], ETHERTYPE_IPV4, packet)
