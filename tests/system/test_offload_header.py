"""An offload header that does not fit its frame is an attack: it names bytes to overwrite."""

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from pfinet_client.attachment import Attachment, connect_attach
from pfinet_proto.attach import Hello, Offload
from tests.support.lan import OWNERS, Lan, Member
from tests.support.plain import LENGTH, acting_as

from .attacks import datagram, ether

VNET_HEADER: Final = struct.Struct("<BBHHHH")
NEEDS_CSUM: Final = 1
RSC_INFO: Final = 4
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
GSO_UDP_TUNNEL: Final = 0x20
UDP_AT: Final = 34
TCP_END: Final = 54

numbers = itertools.count(1)


@attrs.frozen
class Vnet:
    """A virtio_net_hdr (virtio 1.2, section 5.1.6), without num_buffers."""

    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def pack(self) -> bytes:
        return VNET_HEADER.pack(*attrs.astuple(self))


@attrs.frozen
class OffloadClient:
    """Trudy, attached with all that can be left to others."""

    me: Member
    attachment: Attachment

    def send(self, header: Vnet, frame: bytes) -> None:
        record = header.pack() + frame
        self.attachment.data.sendall(LENGTH.pack(len(record)) + record)


@pytest.fixture(scope="module")
def client(lan: Lan) -> Iterator[OffloadClient]:
    every = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN | Offload.USO
    path = lan.lab.socket_of("trudy", "attach")
    with acting_as(OWNERS["trudy"]):
        attachment = connect_attach(str(path), Hello(offload=every), 20)
    assert attachment.welcome.offload == every
    yield OffloadClient(lan.members["trudy"], attachment)
    attachment.close()


def udp4(me: Member, you: Member, mark: bytes) -> Packet:
    return ether(me) / IP(src=me.ipv4, dst=you.ipv4) / datagram(mark)


def fragment4(me: Member, you: Member, mark: bytes) -> Packet:
    return ether(me) / IP(src=me.ipv4, dst=you.ipv4, flags="MF") / datagram(mark)


def tcp4(me: Member, you: Member, mark: bytes) -> Packet:
    return to(you) / IP(src=me.ipv4, dst=you.ipv4) / TCP() / Raw(mark.ljust(4000, b"."))


def tcp6(me: Member, you: Member, mark: bytes) -> Packet:
    return to(you) / IPv6(src=me.ipv6, dst=you.ipv6) / TCP() / Raw(mark.ljust(4000, b"."))


def to(you: Member) -> Packet:
    return Ether(dst=you.mac)


TSO4: Final = Vnet(NEEDS_CSUM, GSO_TCPV4, TCP_END, 1400, UDP_AT, 16)

Case = tuple[Vnet, Callable[[Member, Member, bytes], Packet]]
CASES: Final[dict[str, Case]] = {
    "checksum at the IPv4 source": (Vnet(NEEDS_CSUM, csum_start=26), udp4),
    "checksum in the Ethernet header": (Vnet(NEEDS_CSUM, csum_offset=6), udp4),
    "checksum outside the frame": (Vnet(NEEDS_CSUM, csum_start=9000, csum_offset=6), udp4),
    "checksum where TCP has it": (Vnet(NEEDS_CSUM, csum_start=UDP_AT, csum_offset=16), udp4),
    "checksum of a fragment": (Vnet(NEEDS_CSUM, csum_start=UDP_AT, csum_offset=6), fragment4),
    "IPv6 segmentation of IPv4": (attrs.evolve(TSO4, gso_type=GSO_TCPV6), tcp4),
    "IPv4 segmentation of IPv6": (attrs.evolve(TSO4, csum_start=TCP_END), tcp6),
    "segments of no bytes": (attrs.evolve(TSO4, gso_size=0), tcp4),
    "segmentation without a checksum": (attrs.evolve(TSO4, flags=0), tcp4),
    "UDP fragmentation": (Vnet(NEEDS_CSUM, GSO_UDP, 42, 1400, UDP_AT, 6), udp4),
    "UDP segmentation": (Vnet(NEEDS_CSUM, GSO_UDP_L4, 42, 1400, UDP_AT, 6), udp4),
    "a tunnel": (attrs.evolve(TSO4, gso_type=GSO_TCPV4 | GSO_UDP_TUNNEL), tcp4),
    "an unknown type": (attrs.evolve(TSO4, gso_type=0x42), tcp4),
    "an unknown flag": (Vnet(flags=0x80), udp4),
    "a receiver's flag": (Vnet(flags=RSC_INFO), udp4),
}


def mark() -> bytes:
    return f"<vnet {next(numbers):05}>".encode()


def fence(lan: Lan, client: OffloadClient, until: bytes) -> None:
    client.send(Vnet(), bytes(udp4(client.me, lan.members["alice"], until)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_header_that_does_not_fit_is_dropped(
    lan: Lan, client: OffloadClient, case: Case
) -> None:
    header, build = case
    sign, until = mark(), mark()
    frame = build(client.me, lan.members["alice"], sign)
    frame.src = client.me.mac
    before = lan.drops("trudy")

    client.send(header, bytes(frame))
    fence(lan, client, until)
    seen_by = [
        name
        for name, listener in lan.listeners.items()
        if any(sign in found for found in listener.frames_until(until))
    ]
    after = lan.drops("trudy")

    rises: dict[str, Any] = {name: after[name] - before.get(name, 0) for name in after}
    assert seen_by == []
    assert {name: rise for name, rise in rises.items() if rise} == {"offload_header": 1}


@pytest.mark.parametrize("name", ["alice", "outside"])
def test_a_header_that_fits_is_honoured(lan: Lan, client: OffloadClient, name: str) -> None:
    """4000 bytes of TCP arrive, as one frame or as segments of what was asked for."""
    sign, until = mark(), mark()
    frame = tcp4(client.me, lan.members[name], sign)
    frame.src = client.me.mac

    client.send(TSO4, bytes(frame))
    fence(lan, client, until)
    seen = [
        found
        for found in lan.listeners[name].frames_until(until)
        if found[6:12] == bytes.fromhex(client.me.mac.replace(":", "")) and found[23] == 6
    ]

    assert sum(len(found) - TCP_END for found in seen) == 4000
