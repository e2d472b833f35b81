"""Where each fuzz target begins: a few inputs that get far.

The stations are those of tests/datapath/sanitize/stations.h.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from multiplexer.policy.nwfilter.compile import compile_filter
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.syntax import Parameter
from multiplexer.policy.nwfilter.tables import (
    Between,
    Chain,
    Count,
    Field,
    InSet,
    Masked,
    Number,
    Pair,
    Row,
    Table,
    Verb,
    pack,
)
from multiplexer.stock import stock_filters
from tests.datapath import frames

#: Station 0 is a vif, 6 lives on the wire.
VIF, NEIGHBOUR, WIRE = 0, 1, 6

HEAD: Final = struct.Struct("<5B3H")  # of fuzz_switch.c
VNET: Final = struct.Struct("<BBHHHH")
LENGTH: Final = struct.Struct(">I")

NEEDS_CSUM, TCPV4, TCPV6, UDP_L4 = 1, 1, 4, 5  # virtio 1.2, 5.1.6
CSUM_OF_TCP: Final = 16
CSUM_OF_UDP: Final = 6


def mac(station: int) -> bytes:
    return bytes((0x52, 0x54, 0, 0, 0, station + 1))


def ipv4_of(station: int) -> str:
    return f"10.0.1.{station + 1}"


def ipv6_of(station: int) -> str:
    return f"fd00::{station + 1:x}"


def packets(me: int, you: int) -> Iterator[bytes]:
    """Return what a station sends to another: one frame of each kind."""
    common = (
        frames.udp(b"hello", sport=1000, dport=2000),
        frames.tcp(bytes(3000)),
    )
    for upper in (
        *common,
        frames.icmp(8),
        frames.udp(frames.dhcp(mac(me)), sport=68, dport=67),
    ):
        packet = frames.ipv4(upper, src=ipv4_of(me), dst=ipv4_of(you))
        yield frames.ethernet(packet, src=mac(me), dst=mac(you))
    for upper in (
        *common,
        frames.icmpv6(128),
        frames.neighbour_solicitation(ipv6_of(you), frames.link_layer(1, mac(me))),
        frames.neighbour_advertisement(ipv6_of(me), frames.link_layer(2, mac(me))),
        frames.router_advertisement(),
    ):
        packet = frames.ipv6(upper, src=ipv6_of(me), dst=ipv6_of(you), hop_limit=255)
        yield frames.ethernet(packet, src=mac(me), dst=mac(you))
    packet = frames.arp(1, sender_mac=mac(me), sender=ipv4_of(me), target=ipv4_of(you))
    yield frames.ethernet(packet, src=mac(me), dst=mac(you), ethertype=0x0806)


def switch() -> Iterator[bytes]:
    for me, you in ((VIF, NEIGHBOUR), (NEIGHBOUR, VIF), (WIRE, VIF), (VIF, WIRE)):
        for frame in packets(me, you):
            yield HEAD.pack(me, 0, 0, 0, 0, 0, 0, 0) + frame


def offload() -> Iterator[bytes]:
    for frame in packets(VIF, NEIGHBOUR):
        yield VNET.pack(0, 0, 0, 0, 0, 0) + frame
        for gso, start in ((TCPV4, 34), (TCPV6, 54)):
            yield VNET.pack(NEEDS_CSUM, gso, 0, 1000, start, CSUM_OF_TCP) + frame
        for start in (34, 54):
            yield VNET.pack(NEEDS_CSUM, UDP_L4, 0, 2, start, CSUM_OF_UDP) + frame


def stream() -> Iterator[bytes]:
    for options in range(8):
        head = VNET.pack(0, 0, 0, 0, 0, 0) if options & 1 else b""
        records = [
            LENGTH.pack(len(head) + len(frame)) + head + frame for frame in packets(VIF, NEIGHBOUR)
        ]
        yield bytes((options, 3)) + b"".join(records)
        yield bytes((options, 0)) + records[0]
    yield bytes((0, 1)) + LENGTH.pack(0)


PUT, POKE, POKE_AT, INDEX, RECEIVER_INDEX, TURN = range(6)  # of fuzz_ring.c


def ring() -> Iterator[bytes]:
    for options in range(8):
        head = VNET.pack(0, 0, 0, 0, 0, 0) if options & 1 else b""
        puts = [
            struct.pack("<BH", PUT, len(head) + len(frame)) + head + frame
            for frame in packets(VIF, NEIGHBOUR)
        ]
        yield bytes((options,)) + b"".join(puts)
        yield bytes((options,)) + b"".join(put + bytes((TURN,)) for put in puts)
        broken = (
            struct.pack("<BHB4s", POKE, 4096 // 8, 4, b"\xff" * 4),
            struct.pack("<BB4s", POKE_AT, 4, b"\xff" * 4) + struct.pack("<BBh", INDEX, 0, 64),
            struct.pack("<BBh", INDEX, 0, -8),
            struct.pack("<BBh", INDEX, 1, 8),
            struct.pack("<BBh", RECEIVER_INDEX, 3, 4),
        )
        for order in broken:
            yield bytes((options,)) + puts[0] + order + bytes((TURN,)) + puts[1]


REPAIR: Final = 1  # of fuzz_filter.c
OUT, IN = 0, 1


def tables() -> Iterator[Table]:
    """Return tables that have every kind of list, rule and condition."""
    address = IPv6Address(ipv6_of(VIF)).packed
    ports = Number(Field.CT, 3, 3), Count(1, 2)
    few = ((address, address), (b"\xfe", b"\xff"))
    every = (
        Row(Verb.REJECT, (Number(Field.TCP_FLAGS, 2, 2, 0x12, negated=True),), 1),
        Row(Verb.CONTINUE, (Number(Field.DSCP, 0, 63), Number(Field.TCP_OPTION, 2, 2)), 2),
        Row(Verb.DROP, (Pair((8, 128), (0, 3)),), 3),
        Row(Verb.RETURN, (Number(Field.AH, 1, 1), Number(Field.PROTOCOL, 6, 6)), 4),
    )
    of_port = [
        Number(Field.DST_PORT if n % 2 else Field.SRC_PORT, n, n, 0xFFFF) for n in range(24)
    ]
    many = tuple(Row(Verb.ACCEPT, (each, Number(Field.CT, 3, 3))) for each in of_port)
    arp_fields = (Number(Field.ARP_OPCODE, 1, 1), Number(Field.ARP_GRATUITOUS, 1, 1))
    yield Table(
        l2_out=(Row(Verb.JUMP), Row(Verb.JUMP, chain=1), Row(Verb.DROP, arp_fields)),
        l2_in=(Row(Verb.JUMP, (Number(Field.ETH_TYPE, 0x806, 0x806),), chain=1),),
        ipv4_out=(*every, *many),
        ipv4_in=(Row(Verb.DROP, ports), *many),
        ipv6_out=(*every, Row(Verb.DROP, (Between(Field.IPV6_SRC, bytes(16), address),))),
        ipv6_in=(Row(Verb.ACCEPT, (InSet(Field.IPV6_SRC, few), Number(Field.CT, 15, 15))),),
        chains=(
            Chain("mac", (Row(Verb.RETURN, (Masked(Field.ETH_SRC, mac(VIF), b"\xff" * 6),)),)),
            Chain("stp", (Row(Verb.DROP, (Number(Field.STP_ROOT_COST, 0, 9),)), *every)),
        ),
    )
    clean = resolve("clean-traffic", stock_filters(), (
        Parameter("IP", (ipv4_of(VIF),)),
        Parameter("MAC", (":".join(f"{byte:02x}" for byte in mac(VIF)),)),
    ))  # fmt: skip
    yield compile_filter(clean, {})


def filter() -> Iterator[bytes]:
    sent = b"".join(
        struct.pack("<BH", direction | 1 << 4, len(frame)) + frame
        for direction, (me, you) in ((OUT, (VIF, NEIGHBOUR)), (IN, (NEIGHBOUR, VIF)))
        for frame in packets(me, you)
        if len(frame) < 256
    )
    for table in map(pack, tables()):
        for options in (0, REPAIR):
            yield struct.pack("<BH", options, len(table)) + table + sent + sent


SEEDS: Final[Mapping[str, Callable[[], Iterator[bytes]]]] = {
    "switch": switch,
    "offload": offload,
    "stream": stream,
    "ring": ring,
    "filter": filter,
}


def plant(target: str, folder: Path) -> None:
    """Write the seeds of *target* into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (folder / f"seed-{number:02}").write_bytes(seed)
