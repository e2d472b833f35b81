"""What strangers on the wire may not send to the users of a switch."""

import itertools

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from tests.support.lab import LAN
from tests.support.lan import Lan
from tests.support.wire import send

from .attacks import BROADCAST, TAGS, lawful, marked, tagged

numbers = itertools.count(1)


def mark() -> bytes:
    return f"<wire {next(numbers):05}>".encode()


def assert_dropped_from_wire(lan: Lan, frames: list[bytes], sign: bytes, reason: str) -> None:
    until = mark()
    fence = bytes(lawful(lan.members["outside"], lan.members["alice"], until))
    before = lan.uplink_drops()
    send(lan.lab.outside.namespace, LAN, [*frames, fence])
    seen_by = [
        name
        for name in ("alice", "bob")
        if any(sign in frame for frame in lan.listeners[name].frames_until(until))
    ]
    after = lan.uplink_drops()

    assert seen_by == []
    assert after.get(reason, 0) - before.get(reason, 0) == len(frames)


@pytest.mark.parametrize("how", TAGS)
def test_a_tagged_frame_is_dropped(lan: Lan, how: str) -> None:
    """The kernel takes one tag out of the frame; it must be seen all the same."""
    sign = mark()
    build = tagged(lawful, TAGS[how])
    frame = build(lan.members["outside"], lan.members["alice"], sign)
    frames = [bytes(frame)]
    frame.dst = lan.members["alice"].mac
    frames.append(bytes(frame))

    assert_dropped_from_wire(lan, frames, sign, "uplink_vlan")


@pytest.mark.parametrize("last", [0x00, 0x02, 0x0E])
def test_a_frame_to_a_reserved_group_is_dropped(lan: Lan, last: int) -> None:
    sign = mark()
    frame = lawful(lan.members["outside"], lan.members["alice"], sign)
    frame.dst = f"01:80:c2:00:00:{last:02x}"

    assert_dropped_from_wire(lan, [bytes(frame)], sign, "reserved_mac")


def test_a_frame_with_the_mac_of_a_user_is_dropped(lan: Lan) -> None:
    sign = mark()
    frame = lawful(lan.members["outside"], lan.members["alice"], sign)
    frame.src = lan.members["bob"].mac

    assert_dropped_from_wire(lan, [bytes(frame)], sign, "uplink_spoof")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_packet_with_the_address_of_a_user_is_dropped(lan: Lan, family: str) -> None:
    sign = mark()
    outside, bob = lan.members["outside"], lan.members["bob"]
    frame = lawful(outside, lan.members["alice"], sign)
    if family == "ipv4":
        frame = Ether(src=outside.mac, dst=BROADCAST) / frame.payload
        frame.payload.src = bob.ipv4
    else:
        frame = Ether(src=outside.mac, dst="33:33:00:00:00:01")
        frame /= IPv6(src=bob.ipv6, dst="ff02::1", nh=59) / Raw(sign)

    assert_dropped_from_wire(lan, [bytes(frame)], sign, "uplink_spoof")


def test_a_claim_to_the_address_of_a_user_is_dropped_and_shown(lan: Lan) -> None:
    """The owner and the administrator see who claims it, and how often."""
    sign = mark()
    bob, stranger = lan.members["bob"], "02:00:00:00:00:99"
    arp = Ether(src=stranger, dst=BROADCAST)
    arp /= ARP(op=2, hwsrc=stranger, psrc=bob.ipv4, pdst=bob.ipv4) / Raw(sign)
    nd = Ether(src=stranger, dst="33:33:00:00:00:01")
    nd /= IPv6(src="fe80::99", dst="ff02::1") / ICMPv6ND_NA(tgt=bob.ipv6)
    nd = nd / ICMPv6NDOptDstLLAddr(lladdr=stranger) / marked(sign)
    before = sum(found["count"] for found in lan.vif("bob")["conflicts"])

    assert_dropped_from_wire(lan, [bytes(arp), bytes(nd)], sign, "uplink_spoof")

    for shown in (lan.vif("bob"), lan.stacks["bob"].user.show("bob")):
        assert sum(found["count"] for found in shown["conflicts"]) == before + 2
        assert {found["mac"] for found in shown["conflicts"]} == {stranger}


def test_unicast_for_nobody_here_is_dropped(lan: Lan) -> None:
    """A veth lets in all that is on its cable."""
    sign = mark()
    frame = lawful(lan.members["outside"], lan.members["alice"], sign)
    frame.dst = "02:00:00:00:00:77"

    assert_dropped_from_wire(lan, [bytes(frame)], sign, "no_receiver")
