"""Frames that a stack has to bear: what each protocol says, at odds with its rules."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

_ETHERNET: Final = 14
_LONGEST: Final = 1514
#: Where ICMP, IGMP, TCP, UDP and ICMPv6 have their checksums.
_SUMS: Final = {1: 2, 2: 2, 6: 16, 17: 6, 58: 2}
#: Numbers at which lengths and offsets go wrong.
_EDGES: Final = (0, 1, 7, 8, 0x7F, 0x80, 0xFF)


def _over_ipv4(source: str, target: str) -> list[Packet]:
    ip = IP(src=source, dst=target)
    inner = IP(src=target, dst=source) / UDP(sport=53, dport=53) / Raw(bytes(8))
    return [
        ip / ICMP() / Raw(bytes(56)),
        ip / ICMP(type=3, code=4, nexthopmtu=68) / inner,
        ip / ICMP(type=5, gw=source) / inner,
        *(
            ip / TCP(sport=1024, dport=80, flags=flags, seq=1, options=[("MSS", 1460)])
            for flags in ("S", "SA", "A", "PA", "F", "R", "SFRPAU")
        ),
        ip / TCP(dport=80, flags="S", options=[("WScale", 14), ("SAckOK", b""), ("MSS", 0)]),
        ip / UDP(sport=1024, dport=53) / Raw(bytes(100)),
        IP(src=source, dst=target, flags="MF", id=7) / UDP(dport=53, len=2000) / Raw(bytes(64)),
        IP(src=source, dst=target, frag=3, id=7, proto=17) / Raw(bytes(64)),
        IP(src=source, dst="224.0.0.1", proto=2, ttl=1) / Raw(b"\x11\x01" + bytes(6)),
        IP(src=source, dst="255.255.255.255") / UDP(sport=67, dport=68) / Raw(bytes(240)),
    ]


def _over_ipv6(source: str, target: str) -> list[Packet]:
    ip = IPv6(src=source, dst=target, hlim=255)
    everybody = IPv6(src=source, dst="ff02::1", hlim=255)
    inner = IPv6(src=target, dst=source) / UDP(sport=53, dport=53) / Raw(bytes(8))
    return [
        ip / ICMPv6EchoRequest(data=bytes(56)),
        ip / ICMPv6DestUnreach() / inner,
        ip / ICMPv6PacketTooBig(mtu=0) / inner,
        everybody
        / ICMPv6ND_RA()
        / ICMPv6NDOptSrcLLAddr()
        / ICMPv6NDOptMTU(mtu=1)
        / ICMPv6NDOptPrefixInfo(prefix="fd66::"),
        ip / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:66:66"),
        ip / ICMPv6ND_NA(tgt=source) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:66:66"),
        ip / ICMPv6ND_Redirect(tgt=source, dst="fd66::1") / ICMPv6NDOptDstLLAddr(),
        everybody / ICMPv6MLQuery(mladdr="ff02::1:ff00:1"),
        ip / TCP(sport=1024, dport=80, flags="S", options=[("MSS", 1440)]),
        ip / UDP(sport=1024, dport=53) / Raw(bytes(100)),
        ip / IPv6ExtHdrHopByHop() / UDP(dport=53) / Raw(bytes(8)),
        ip / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting() / UDP(dport=53) / Raw(bytes(8)),
        ip / IPv6ExtHdrFragment(m=1, id=7) / UDP(dport=53, len=2000) / Raw(bytes(64)),
        ip / IPv6ExtHdrFragment(offset=3, id=7, nh=17) / Raw(bytes(64)),
    ]


def seeds(mac: str, source_mac: str, ipv4: tuple[str, str], ipv6: tuple[str, str]) -> list[bytes]:
    """Return a frame of each sort; *ipv4* and *ipv6* are who sends and who gets it."""
    arps = [ARP(op=op, psrc=ipv4[0], pdst=ipv4[1], hwsrc=source_mac) for op in (1, 2)]
    return [
        bytes(Ether(src=source_mac, dst=mac) / packet)
        for packet in (*arps, *_over_ipv4(*ipv4), *_over_ipv6(*ipv6))
    ]


def hostile_frames(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield frames without end that begin as *seeds* do, and mostly bear the right checksums."""
    chance = random.Random(seed)
    while True:
        frame = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(6)):
            _mutate(frame, chance, seeds)
        del frame[_LONGEST:]
        if chance.random() < 0.8:
            _sum_up(frame)
        yield bytes(frame)


def _mutate(frame: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    """Change what is behind the addresses of Ethernet."""
    at = chance.randrange(12, len(frame)) if len(frame) > 12 else len(frame)
    match chance.randrange(6):
        case 0 | 1 if at < len(frame):
            frame[at] = chance.randrange(256)
        case 2 if at < len(frame):
            frame[at] = chance.choice(_EDGES)
        case 3:
            del frame[max(at, _ETHERNET) :]
        case 4:
            frame[at:at] = chance.randbytes(chance.choice((1, 4, 8, 40, 1400)))
        case 5:
            frame[at:] = chance.choice(seeds)[at:]


def _sum_up(frame: bytearray) -> None:
    """Make right the checksums that are where they belong."""
    if frame[12:14] == b"\x08\x00" and len(frame) >= 34:
        start, protocol = _ETHERNET + 4 * (frame[14] & 15), frame[23]
        _put(frame, 24, _ETHERNET, start, b"")
        addresses, zero = bytes(frame[26:34]), bytes(1)
    elif frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
        start, protocol = 54, frame[20]
        addresses, zero = bytes(frame[22:54]), bytes(3)
    else:
        return
    length = max(len(frame) - start, 0).to_bytes(2, "big")
    pseudo = addresses + zero + bytes((protocol,)) + length
    if protocol in _SUMS:
        is_alone = protocol in (1, 2)
        _put(frame, start + _SUMS[protocol], start, len(frame), b"" if is_alone else pseudo)


def _put(frame: bytearray, where: int, start: int, end: int, pseudo: bytes) -> None:
    """Put at *where* the checksum of a part of the frame and its pseudo-header."""
    if start <= where and where + 2 <= min(end, len(frame)):
        frame[where : where + 2] = bytes(2)
        found = checksum(pseudo + bytes(frame[start:end]))
        frame[where : where + 2] = found.to_bytes(2, "big")
