"""The filters of the bridges that ours are compared with let pass what they should alone."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from bench.frames import tcp_frame
from bench.names import CLEAN_TRAFFIC, MANY_RULES, NO_FILTER
from bench.systems.netfilter import filtered_bridges
from bench.systems.system import RawEnd, System
from tests.support.lab import Lab

PORTS = range(10_000, 10_003)
ETH_P_ALL = 3
LONGEST_S = 20


@pytest.fixture(scope="module")
def bridges() -> Iterator[dict[str, System]]:
    with Lab("netfilter") as lab, filtered_bridges(lab, PORTS) as systems:
        yield systems


def opened(end: RawEnd) -> socket.socket:
    with end.place.namespace.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind((end.what.removeprefix("packet:"), ETH_P_ALL))
    sock.settimeout(LONGEST_S)
    return sock


def passes(system: System, frame: bytes, *before: bytes) -> bool:
    """Return whether *frame* comes to the second end, before one that every filter lets pass.

    Those *before* it go from the second end to the first.
    """
    assert system.raw is not None
    source, target = system.raw
    end = tcp_frame(source.address, target.address, (2000, PORTS[0]))
    with ExitStack() as until_end:
        out, into = (until_end.enter_context(closing(opened(each))) for each in system.raw)
        for each in before:
            into.send(each)
            while out.recv(2048) != each:
                pass
        out.send(frame)
        out.send(end)
        found = False
        while (got := into.recv(2048)) != end:
            found |= got == frame
        return found


def segment(system: System, sport: int, dport: int) -> bytes:
    assert system.raw is not None
    return tcp_frame(system.raw[0].address, system.raw[1].address, (sport, dport))


def answer_to(system: System, sport: int, dport: int) -> bytes:
    """Return what the second end asked, so that a segment from *sport* to *dport* answers it."""
    assert system.raw is not None
    return tcp_frame(system.raw[1].address, system.raw[0].address, (dport, sport))


def test_a_thousand_rules_let_pass_what_is_served_and_what_was_asked_for(
    bridges: dict[str, System],
) -> None:
    system = bridges[MANY_RULES]

    assert passes(system, segment(system, 1024, PORTS[-1]))
    assert not passes(system, segment(system, 1024, PORTS[-1] + 1))
    asked = answer_to(system, PORTS[1], 3000)
    assert passes(system, segment(system, PORTS[1], 3000), asked)
    assert passes(bridges[NO_FILTER], segment(bridges[NO_FILTER], 1024, PORTS[-1] + 1))


def forged(system: System) -> Iterator[tuple[Packet, bool]]:
    """Yield frames, and whether clean-traffic lets them pass."""
    assert system.raw is not None
    source, target = (end.address for end in system.raw)
    mac, ip = str(source.mac), str(source.ipv4)
    for src_mac, src_ip in ((mac, ip), ("52:54:00:00:00:99", ip), (mac, "10.83.0.9")):
        lawful = (src_mac, src_ip) == (mac, ip)
        link = Ether(src=src_mac, dst=str(target.mac))
        yield link / IP(src=src_ip, dst=str(target.ipv4)) / TCP(sport=5, dport=6), lawful
        yield link / ARP(op=2, hwsrc=src_mac, psrc=src_ip, pdst=str(target.ipv4)), lawful
    yield Ether(src=mac, dst=str(target.mac), type=0x88B5) / b"else", False


def test_clean_traffic_in_ebtables_lets_nobody_be_somebody_else(
    bridges: dict[str, System],
) -> None:
    system, open_ = bridges[CLEAN_TRAFFIC], bridges[NO_FILTER]
    for frame, lawful in forged(system):
        assert passes(system, bytes(frame)) == lawful, frame
    for frame, _ in forged(open_):
        assert passes(open_, bytes(frame)), frame
