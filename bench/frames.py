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


def udp_frame(source: HostAddress, target: HostAddress, size: int, ethertype: int = IPV4) -> bytes:
    """Return an Ethernet frame of *size* bytes that holds a whole UDP datagram.

    With another *ethertype* it is the same bytes, but for those two.
    """
    payload = b"bench".ljust(size - 14 - 20 - 8, b".")
    udp = struct.pack("!4H", 1000, 1000, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    head += source.ipv4.packed + target.ipv4.packed
    head = head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:]
    return target.mac.packed + source.mac.packed + struct.pack("!H", ethertype) + head + udp
