"""The frames that raw ends exchange."""

import struct
from ipaddress import IPv4Address

import attrs

from pfinet_proto.values import MacAddress

IPV4 = 0x0800
#: For experiments (IEEE 802): no stack behind a peer's port spends time on it.
EXPERIMENTAL = 0x88B5


def internet_checksum(data: bytes) -> int:
    """Return the checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@attrs.frozen
class HostAddress:
    """Who a frame is from, or for."""

    mac: MacAddress
    ipv4: IPv4Address


def tcp_frame(source: HostAddress, target: HostAddress, ports: tuple[int, int]) -> bytes:
    """Return an Ethernet frame of 60 bytes that holds a segment of an established connection.

    The first two bytes of its payload are the complement of the first of *ports*, the
    source's: both together can be others without another checksum.
    """
    payload = struct.pack("!H", 0xFFFF - ports[0]) + b"...."
    tcp = struct.pack("!HHIIBBHHH", *ports, 1, 1, 0x50, 0x10, 0xFFFF, 0, 0) + payload
    pseudo = source.ipv4.packed + target.ipv4.packed + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", internet_checksum(pseudo + tcp)) + tcp[18:]
    return _in_ipv4(source, target, 6, tcp)


def udp_frame(source: HostAddress, target: HostAddress, size: int, ethertype: int = IPV4) -> bytes:
    """Return an Ethernet frame of *size* bytes that holds a whole UDP datagram.

    With another *ethertype* it is the same bytes, but for those two.
    """
    payload = b"bench".ljust(size - 14 - 20 - 8, b".")
    udp = struct.pack("!4H", 1000, 1000, 8 + len(payload), 0) + payload
    return _in_ipv4(source, target, 17, udp, ethertype)


def _in_ipv4(
    source: HostAddress,
    target: HostAddress,
    protocol: int,
    payload: bytes,
    ethertype: int = IPV4,
) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    head += source.ipv4.packed + target.ipv4.packed
    head = head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:]
    return target.mac.packed + source.mac.packed + struct.pack("!H", ethertype) + head + payload
