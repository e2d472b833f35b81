"""Builders of valid frames, from the inside out.

    ethernet(ipv4(udp(b"hello", sport=1000, dport=53), src=..., dst=...), ...)

What stands in an IP packet is an `Upper`; the network header's builder completes
its checksum, since the addresses belong to that.  Extension headers of IPv6 are
given with a next header of 0, which the chain then fills in.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

from tests.support.gso_frames import ones_sum

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 58, 132, 136
HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AH, NO_NEXT_HEADER = 0, 43, 44, 50, 51, 59
DESTINATION_OPTIONS, MOBILITY, HIP, SHIM6 = 60, 135, 139, 140

BROADCAST: Final = b"\xff" * 6
PAD_6: Final = bytes((1, 4, 0, 0, 0, 0))
"""A PadN option that fills an options header of 8 bytes (RFC 8200, section 4.2)."""

HEARTBEAT: Final = bytes((4, 0, 0, 4))
"""A chunk of SCTP without information (RFC 9260, 3.3.5)."""


@frozen
class Upper:
    """What stands behind an IP header; *checksum_at* is None where no checksum is due."""

    protocol: int
    data: bytes
    checksum_at: int | None = None
    over_pseudo_header: bool = True


def u16(value: int) -> bytes:
    """Return 16 bits, big-endian."""
    return value.to_bytes(2, "big")


def mac(text: str) -> bytes:
    """Return the bytes of a MAC in the usual notation."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet(payload: bytes, *, dst: bytes, src: bytes, ethertype: int | None = None) -> bytes:
    """Return a frame; the EtherType of an IP payload is found from its version."""
    if ethertype is None:
        ethertype = {4: IPV4, 6: IPV6}[payload[0] >> 4]
    return dst + src + u16(ethertype) + payload


def tagged(frame: bytes, *, tpid: int = 0x8100, tci: int = 0) -> bytes:
    """Return a frame with a VLAN tag (IEEE 802.1Q, 9.6)."""
    return frame[:12] + u16(tpid) + u16(tci) + frame[12:]


def multicast_mac(group: str) -> bytes:
    """Return the MAC of a multicast group (RFC 1112, 6.4, and RFC 2464, section 7)."""
    if ":" in group:
        return b"\x33\x33" + IPv6Address(group).packed[12:]
    low = IPv4Address(group).packed[1:]
    return bytes((0x01, 0x00, 0x5E, low[0] & 0x7F)) + low[1:]


def solicited_node(target: str) -> str:
    """Return the group that the holders of *target* listen to (RFC 4291, 2.7.1)."""
    return str(
        IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + IPv6Address(target).packed[13:])
    )


def ipv4(
    upper: Upper,
    *,
    src: str,
    dst: str,
    ttl: int = 64,
    options: bytes = b"",
    offset: int = 0,
    more: bool = False,
    part: slice = slice(None),
) -> bytes:
    """Return an IPv4 packet; a fragment holds *part* of *upper*, at *offset* bytes."""
    ends = IPv4Address(src).packed + IPv4Address(dst).packed
    payload = finish(upper, ends)[part]
    header = (
        bytes((0x40 | (20 + len(options)) // 4, 0))
        + u16(20 + len(options) + len(payload))
        + u16(0x1234)
        + u16(0x2000 * more | offset // 8)
        + bytes((ttl, upper.protocol, 0, 0))
        + ends
        + options
    )
    return header[:10] + u16(ones_sum(header) ^ 0xFFFF) + header[12:] + payload


def ipv6(
    upper: Upper,
    *,
    src: str,
    dst: str,
    hop_limit: int = 64,
    extensions: tuple[Upper, ...] = (),
    part: slice = slice(None),
) -> bytes:
    """Return an IPv6 packet; *part* is what a fragment holds of *upper*."""
    ends = IPv6Address(src).packed + IPv6Address(dst).packed
    payload = finish(upper, ends)[part]
    kinds = [header.protocol for header in extensions] + [upper.protocol]
    chain = b"".join(
        bytes((following,)) + header.data[1:]
        for following, header in zip(kinds[1:], extensions, strict=True)
    )
    return (
        bytes((0x60, 0, 0, 0))
        + u16(len(chain) + len(payload))
        + bytes((kinds[0], hop_limit))
        + ends
        + chain
        + payload
    )


def finish(upper: Upper, ends: bytes) -> bytes:
    """Return an upper-layer packet with its checksum (RFC 9293, RFC 768, RFC 8200 section 8.1)."""
    if upper.checksum_at is None:
        return upper.data
    pseudo = ends + len(upper.data).to_bytes(4, "big") + bytes((0, 0, 0, upper.protocol))
    summed = (pseudo if upper.over_pseudo_header else b"") + upper.data
    checksum = u16(ones_sum(summed) ^ 0xFFFF)
    if upper.protocol == UDP and checksum == b"\0\0":
        checksum = b"\xff\xff"
    return upper.data[: upper.checksum_at] + checksum + upper.data[upper.checksum_at + 2 :]


def raw(protocol: int, data: bytes = b"") -> Upper:
    """Return an upper-layer packet of any protocol, as it is."""
    return Upper(protocol, data)


def udp(payload: bytes = b"", *, sport: int, dport: int) -> Upper:
    """Return a UDP datagram (RFC 768)."""
    header = u16(sport) + u16(dport) + u16(8 + len(payload)) + u16(0)
    return Upper(UDP, header + payload, 6)


def udplite(payload: bytes = b"", *, sport: int, dport: int) -> Upper:
    """Return a UDP-Lite packet whose checksum covers all of it (RFC 3828)."""
    return Upper(UDPLITE, u16(sport) + u16(dport) + bytes(4) + payload, 6)


def sctp(chunk: bytes = HEARTBEAT, *, sport: int, dport: int, tag: int = 1) -> Upper:
    """Return an SCTP packet of one chunk (RFC 9260), without its checksum."""
    return Upper(SCTP, u16(sport) + u16(dport) + tag.to_bytes(4, "big") + bytes(4) + chunk)


def tcp(
    payload: bytes = b"", *, sport: int = 40000, dport: int = 80, options: bytes = b""
) -> Upper:
    """Return a TCP segment with ACK set (RFC 9293); *options* are whole words."""
    header = u16(sport) + u16(dport) + bytes(8) + bytes((5 + len(options) // 4 << 4, 0x10))
    return Upper(TCP, header + u16(0xFFFF) + bytes(4) + options + payload, 16)


def icmp(kind: int, code: int = 0, body: bytes = bytes(4)) -> Upper:
    """Return an ICMP message (RFC 792); *body* is all behind its checksum."""
    return Upper(ICMP, bytes((kind, code, 0, 0)) + body, 2, over_pseudo_header=False)


def icmpv6(kind: int, code: int = 0, body: bytes = bytes(4)) -> Upper:
    """Return an ICMPv6 message (RFC 4443); *body* is all behind its checksum."""
    return Upper(ICMPV6, bytes((kind, code, 0, 0)) + body, 2)


def link_layer(kind: int, address: bytes) -> bytes:
    """Return the option for the source's (1) or target's (2) MAC (RFC 4861, 4.6.1)."""
    return bytes((kind, 1)) + address


def router_solicitation(options: bytes = b"") -> Upper:
    """Return an RS (RFC 4861, 4.1)."""
    return icmpv6(133, body=bytes(4) + options)


def router_advertisement(options: bytes = b"") -> Upper:
    """Return an RA with a lifetime of half an hour (RFC 4861, 4.2)."""
    return icmpv6(134, body=bytes((64, 0)) + u16(1800) + bytes(8) + options)


def neighbour_solicitation(target: str, options: bytes = b"") -> Upper:
    """Return an NS (RFC 4861, 4.3)."""
    return icmpv6(135, body=bytes(4) + IPv6Address(target).packed + options)


def neighbour_advertisement(target: str, options: bytes = b"") -> Upper:
    """Return an NA that overrides (RFC 4861, 4.4)."""
    return icmpv6(136, body=bytes((0x20, 0, 0, 0)) + IPv6Address(target).packed + options)


def arp(
    operation: int,
    *,
    sender_mac: bytes,
    sender: str,
    target: str,
    target_mac: bytes = bytes(6),
) -> bytes:
    """Return an ARP packet for IPv4 over Ethernet (RFC 826)."""
    return (
        bytes((0, 1, 8, 0, 6, 4))
        + u16(operation)
        + sender_mac
        + IPv4Address(sender).packed
        + target_mac
        + IPv4Address(target).packed
    )


def dhcp(
    client_mac: bytes,
    *,
    op: int = 1,
    relay: str = "0.0.0.0",
    client: str = "0.0.0.0",
    yours: str = "0.0.0.0",
    options: bytes = bytes((53, 1, 1, 255)),
) -> bytes:
    """Return a DHCP message; its only option is the type, discover (RFC 2131, section 2)."""
    return (
        bytes((op, 1, 6, 0))
        + bytes.fromhex("12345678")
        + bytes(4)
        + IPv4Address(client).packed
        + IPv4Address(yours).packed
        + bytes(4)
        + IPv4Address(relay).packed
        + client_mac.ljust(16, b"\0")
        + bytes(64 + 128)
        + bytes.fromhex("63825363")
        + options
    )


def option(code: int, value: bytes) -> bytes:
    """Return an option of DHCP (RFC 2132, section 2)."""
    return bytes((code, len(value))) + value


def options_header(kind: int = DESTINATION_OPTIONS, options: bytes = PAD_6) -> Upper:
    """Return a hop-by-hop or destination options header; *options* fill up its words."""
    return Upper(kind, bytes((0, (len(options) + 2) // 8 - 1)) + options)


def routing_header(*, kind: int = 0, segments_left: int = 0) -> Upper:
    """Return a routing header with an address (RFC 8200, section 4.4)."""
    return Upper(ROUTING, bytes((0, 2, kind, segments_left)) + bytes(20))


def fragment_header(*, offset: int = 0, more: bool = False) -> Upper:
    """Return a fragment header (RFC 8200, section 4.5); *offset* in bytes, a multiple of 8."""
    return Upper(FRAGMENT, bytes((0, 0)) + u16(offset | more) + bytes.fromhex("00001234"))


def authentication_header(value: bytes = bytes(12)) -> Upper:
    """Return an AH (RFC 4302); *value* is its integrity check value, in whole words."""
    return Upper(AH, bytes((0, (12 + len(value)) // 4 - 2)) + bytes(10) + value)


def with_byte(frame: bytes, at: int, value: int) -> bytes:
    """Return a frame with one byte changed."""
    return frame[:at] + bytes((value,)) + frame[at + 1 :]
