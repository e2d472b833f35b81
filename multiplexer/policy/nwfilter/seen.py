"""A frame as the slow evaluator sees it: bytes become what attributes ask for.

It reads frames that are as they should be; what is malformed the datapath
drops before any rule.  What a frame has not is None.
"""

from collections.abc import Callable
from typing import Final

import attrs

IPV4: Final = 0x0800
ARP: Final = 0x0806
RARP: Final = 0x8035
VLAN: Final = 0x8100
IPV6: Final = 0x86DD

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ESP: Final = 50
AH: Final = 51
ICMPV6: Final = 58
NO_NEXT: Final = 59

WITH_PORTS: Final = (TCP, UDP, 33, 132, 136)
_FRAGMENT: Final = 44
_WITH_LENGTH: Final = (0, 43, 60, 135, 139, 140)
_BPDU: Final = bytes.fromhex("424203000000")


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


@attrs.frozen
class ArpSeen:
    """*addresses* are sender MAC and IP, target MAC and IP, of Ethernet and IPv4 only."""

    hwtype: int
    protocol: int
    opcode: int
    addresses: tuple[bytes, bytes, bytes, bytes] | None


@attrs.frozen
class IpSeen:
    """An IP packet; *upper* is what stands behind its headers, None where nothing is read of it.

    A *fragment* is *later* if it is not the first.
    """

    version: int
    src: bytes
    dst: bytes
    protocol: int
    dscp: int
    upper: bytes | None
    fragment: bool = False
    later: bool = False
    has_ah: bool = False
    #: What all pieces of a packet have in common.
    piece: tuple[object, ...] = ()

    @property
    def ports(self) -> tuple[int, int] | None:
        if self.upper is None or self.protocol not in WITH_PORTS or len(self.upper) < 4:
            return None
        return _u16(self.upper, 0), _u16(self.upper, 2)

    @property
    def icmp(self) -> tuple[int, int] | None:
        wanted = ICMP if self.version == 4 else ICMPV6
        if self.upper is None or self.protocol != wanted:
            return None
        return self.upper[0], self.upper[1]

    @property
    def tcp_flags(self) -> int | None:
        if self.upper is None or self.protocol != TCP:
            return None
        return self.upper[13] & 0x3F

    @property
    def tcp_options(self) -> frozenset[int] | None:
        if self.upper is None or self.protocol != TCP:
            return None
        options = self.upper[20 : (self.upper[12] >> 4) * 4]
        kinds = set()
        while options:
            kinds.add(options[0])
            # As Linux looks for one (xt_tcp): a length of 0 is passed over, and 1 is taken.
            length = options[1] if options[0] >= 2 and len(options) > 1 else 1
            options = options[length or 1 :]
        return frozenset(kinds)


@attrs.frozen
class Seen:
    """A frame."""

    data: bytes
    dst: bytes
    src: bytes
    ethertype: int
    arp: ArpSeen | None
    ip: IpSeen | None

    @property
    def vlan(self) -> tuple[int, int] | None:
        """The number of its VLAN and the type within."""
        if self.ethertype != VLAN or len(self.data) < 18:
            return None
        return _u16(self.data, 14) & 0xFFF, _u16(self.data, 16)

    @property
    def bpdu(self) -> bytes | None:
        """The BPDU, from its protocol on."""
        if self.ethertype >= 0x600 or self.data[14:20] != _BPDU or len(self.data) < 21:
            return None
        return self.data[17:]

    @property
    def configuration(self) -> bytes | None:
        """The BPDU, if it is a configuration."""
        bpdu = self.bpdu
        return bpdu if bpdu is not None and len(bpdu) >= 35 and bpdu[3] == 0 else None


def see(data: bytes) -> Seen:
    """Return what stands in a frame."""
    ethertype = _u16(data, 12)
    readers: dict[int, Callable[[bytes], IpSeen]] = {IPV4: _see_ipv4, IPV6: _see_ipv6}
    reader = readers.get(ethertype)
    return Seen(
        data,
        data[:6],
        data[6:12],
        ethertype,
        _see_arp(data[14:]) if ethertype in (ARP, RARP) else None,
        None if reader is None else reader(data[14:]),
    )


def _see_arp(arp: bytes) -> ArpSeen | None:
    if len(arp) < 8:
        return None
    addresses = None
    if arp[:6] == bytes.fromhex("000108000604") and len(arp) >= 28:
        addresses = (arp[8:14], arp[14:18], arp[18:24], arp[24:28])
    return ArpSeen(_u16(arp, 0), _u16(arp, 2), _u16(arp, 6), addresses)


def _see_ipv4(ip: bytes) -> IpSeen:
    header, total, place = (ip[0] & 15) * 4, _u16(ip, 2), _u16(ip, 6)
    src, dst, protocol = ip[12:16], ip[16:20], ip[9]
    return IpSeen(
        4,
        src,
        dst,
        protocol,
        ip[1] >> 2,
        ip[header:total] if place & 0x1FFF == 0 else None,
        place & 0x3FFF != 0,
        place & 0x1FFF != 0,
        piece=(src, dst, protocol, _u16(ip, 4)),
    )


def _see_ipv6(ip: bytes) -> IpSeen:
    src, dst, following = ip[8:24], ip[24:40], ip[6]
    rest = ip[40 : 40 + _u16(ip, 4)]
    dscp = _u16(ip, 0) >> 6 & 0x3F
    has_ah = fragment = False
    piece: tuple[object, ...] = ()
    while following in (*_WITH_LENGTH, AH, _FRAGMENT):
        if following == _FRAGMENT:
            fragment = True
            piece = (src, dst, rest[4:8])
            length = 8
            if _u16(rest, 2) >> 3:
                return IpSeen(6, src, dst, rest[0], dscp, None, True, True, has_ah, piece)
        elif following == AH:
            has_ah = True
            length = (rest[1] + 2) * 4
        else:
            length = (rest[1] + 1) * 8
        following, rest = rest[0], rest[length:]
    upper = None if following in (ESP, NO_NEXT) else rest
    return IpSeen(6, src, dst, following, dscp, upper, fragment, False, has_ah, piece)
