"""What passes between the wire and the vifs, whatever kind of NIC there is."""

import itertools
import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.support.lab import LAN
from tests.support.lan import OWNERS, Lan, running_lan
from tests.support.plain import StreamClient
from tests.support.wire import send

from .attacks import BROADCAST, lawful, marked

numbers = itertools.count(1)


def mark() -> bytes:
    return f"<uplink {next(numbers):05}>".encode()


@pytest.fixture(scope="module", params=["veth", "macvlan"])
def lan(request: pytest.FixtureRequest) -> Iterator[Lan]:
    with running_lan(f"uplink-{request.param}", nic=request.param) as running:
        yield running


def from_wire(lan: Lan, *frames: Packet) -> None:
    send(lan.lab.outside.namespace, LAN, map(bytes, frames))


def seen(lan: Lan, name: str, sign: bytes) -> bool:
    """Return whether a frame with *sign* came from the wire, by a fence behind it."""
    until = mark()
    from_wire(lan, lawful(lan.members["outside"], lan.members["alice"], until))
    return any(sign in frame for frame in lan.listeners[name].frames_until(until))


def test_unicast_from_the_wire_reaches_its_vif_alone(lan: Lan) -> None:
    sign = mark()
    frame = lawful(lan.members["outside"], lan.members["alice"], sign)
    frame.dst = lan.members["alice"].mac

    from_wire(lan, frame)

    until = mark()
    from_wire(lan, lawful(lan.members["outside"], lan.members["alice"], until))
    assert any(sign in found for found in lan.listeners["alice"].frames_until(until))
    assert not any(sign in found for found in lan.listeners["bob"].frames_until(until))


def test_unicast_from_the_wire_for_others_reaches_nobody(lan: Lan) -> None:
    sign = mark()
    frame = lawful(lan.members["outside"], lan.members["alice"], sign)
    frame.dst = "02:00:00:00:00:77"

    from_wire(lan, frame)

    assert not seen(lan, "alice", sign)


@pytest.mark.parametrize("group", [BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:fb"])
def test_groups_from_the_wire_reach_everybody(lan: Lan, group: str) -> None:
    sign = mark()
    frame = lawful(lan.members["outside"], lan.members["alice"], sign)
    frame.dst = group

    from_wire(lan, frame)

    until = mark()
    from_wire(lan, lawful(lan.members["outside"], lan.members["alice"], until))
    for name in ("alice", "bob"):
        assert any(sign in found for found in lan.listeners[name].frames_until(until))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_question_from_the_wire_reaches_whom_it_is_about_alone(lan: Lan, family: str) -> None:
    sign, until = mark(), mark()
    outside, alice = lan.members["outside"], lan.members["alice"]
    if family == "ipv4":
        frame = Ether(src=outside.mac, dst=BROADCAST)
        frame /= ARP(op=1, hwsrc=outside.mac, psrc=outside.ipv4, pdst=alice.ipv4) / Raw(sign)
    else:
        frame = Ether(src=outside.mac, dst="33:33:ff:00:00:11")
        frame /= IPv6(src=outside.ipv6, dst="ff02::1:ff00:11") / ICMPv6ND_NS(tgt=alice.ipv6)
        frame /= marked(sign)

    from_wire(lan, frame, lawful(outside, alice, until))

    assert any(sign in found for found in lan.listeners["alice"].frames_until(until))
    assert not any(sign in found for found in lan.listeners["bob"].frames_until(until))


def test_what_a_vif_sends_to_the_wire_comes_back_to_nobody(lan: Lan) -> None:
    """A packet socket sees what is sent on its interface as well."""
    sign, until = mark(), mark()
    alice = lan.stacks["alice"]
    frame = lawful(lan.members["alice"], lan.members["outside"], sign)
    frame.dst = lan.members["outside"].mac
    fence = lawful(lan.members["alice"], lan.members["outside"], until)

    send(alice.namespace, alice.interface, [bytes(frame)])
    assert sign in lan.listeners["outside"].frames_until(sign)[-1]
    send(alice.namespace, alice.interface, [bytes(fence)])

    assert not any(sign in found for found in lan.listeners["bob"].frames_until(until))
    assert lan.uplink_drops().get("uplink_spoof", 0) == 0


def test_a_checksum_that_the_wire_left_out_is_completed(lan: Lan) -> None:
    """A local peer leaves it to a NIC that never sees the frame; trudy cannot do it herself."""
    sign = mark()
    trudy = lan.members["trudy"]
    lan.lab.outside.run("ip", "neigh", "replace", trudy.ipv4, "lladdr", trudy.mac, "dev", LAN)
    with StreamClient(lan.lab.socket_of("trudy", "stream"), OWNERS["trudy"]) as client:
        client.send([bytes(lawful(trudy, lan.members["alice"], sign))])
        lan.listeners["alice"].frames_until(sign)
        with lan.lab.outside.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(sign, (trudy.ipv4, 9))
        frame = Ether(client.receive_until(sign)[-1])

    found = frame[UDP].chksum
    del frame[UDP].chksum
    assert found == Ether(bytes(frame))[UDP].chksum


def test_the_uplink_is_shown(lan: Lan) -> None:
    shown = lan.lab.query("uplink", "show", "wire")

    assert shown["present"]
    assert shown["up"]
    assert shown["interface"] == "nic0"
    assert shown["counters"]["rx_frames"] > 0
    assert shown["counters"]["tx_frames"] > 0
