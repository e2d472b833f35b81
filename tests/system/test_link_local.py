"""Link-local addresses by first come, with the kernel's own stable-privacy addresses too."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.support.lab import LAN
from tests.support.lan import Lan, Member, running_lan
from tests.support.plain import StreamClient
from tests.support.programs import ping
from tests.support.waiting import eventually

OWNER = 20010
FIRST_COME = """
[vif.guest]
owner = "20010"
network = "lan"
addresses = ["10.77.0.90/24"]
link-local = "first-come"

[vif.other]
owner = "20010"
network = "lan"
addresses = ["10.77.0.91/24"]
link-local = "first-come"
"""

ALL = "33:33:00:00:00:01"


def stable(number: int) -> str:
    """Return an address as RFC 7217 makes them."""
    return f"fe80::a1b2:c3d4:e5f6:{number:x}"


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with running_lan("link-local", extra=FIRST_COME) as running:
        yield running


@contextmanager
def client(lan: Lan, name: str) -> Iterator[tuple[StreamClient, Member]]:
    with StreamClient(lan.lab.socket_of(name, "stream"), OWNER) as stream:
        yield stream, Member(lan.vif(name)["mac"], "10.77.0.90", "::")
    eventually(lambda: lan.vif(name)["attached"] is None, f"{name} is free")


def dad(me: Member, address: str) -> bytes:
    """Return what asks whether anybody has *address* (RFC 4862, section 5.4.2)."""
    low = IPv6Address(address).packed[13:]
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + low)
    mac = "33:33:ff:" + low.hex(":")
    frame = Ether(src=me.mac, dst=mac) / IPv6(src="::", dst=str(group), hlim=255)
    return bytes(frame / ICMPv6ND_NS(tgt=address))


def said_from(me: Member, address: str, mark: bytes) -> bytes:
    frame: Packet = Ether(src=me.mac, dst=ALL) / IPv6(src=address, dst="ff02::1")
    return bytes(frame / UDP(sport=9, dport=9) / Raw(mark))


def advertised(me: Member, address: str) -> bytes:
    return bytes(
        Ether(src=me.mac, dst=ALL)
        / IPv6(src=me.link_local, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=address, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=me.mac)
    )


def hear(lan: Lan, stream: StreamClient, frame: bytes, mark: bytes) -> None:
    """Send *frame* until it arrives, as the claim it depends on becomes firm."""

    def arrives() -> bool:
        stream.send([frame])
        return any(mark in found for found in lan.listeners["bob"].frames_now())

    eventually(arrives, f"{mark!r} arrives")


def test_a_claimed_address_works_and_is_shown(lan: Lan) -> None:
    with client(lan, "guest") as (stream, me):
        stream.send([dad(me, stable(1)), said_from(me, stable(1), b"<too soon>")])
        hear(lan, stream, said_from(me, stable(1), b"<mine>"), b"<mine>")

        assert lan.vif("guest")["claimed"] == [stable(1)]
        assert lan.drops("guest")["ipv6_src"] >= 1
        assert stable(1) in lan.lab.multiplexerctl("vif", "show", "guest").stdout


def test_the_second_who_claims_it_is_refused(lan: Lan) -> None:
    before = lan.drops("other")
    with client(lan, "guest") as (stream, me), client(lan, "other") as (second, you):
        stream.send([dad(me, stable(2))])
        hear(lan, stream, said_from(me, stable(2), b"<first>"), b"<first>")
        second.send(
            [
                dad(you, stable(2)),
                said_from(you, stable(2), b"<second>"),
                advertised(you, stable(2)),
            ]
        )

        def dropped() -> tuple[int, int]:
            now = lan.drops("other")
            nd_spoof, ipv6_src = (
                now.get(name, 0) - before.get(name, 0) for name in ("nd_spoof", "ipv6_src")
            )
            return nd_spoof, ipv6_src

        eventually(lambda: dropped() == (2, 1), "all three are dropped")
        assert lan.vif("other")["claimed"] == []


def test_it_is_free_again_when_its_client_has_left(lan: Lan) -> None:
    with client(lan, "guest") as (stream, me):
        stream.send([dad(me, stable(3))])
        eventually(lambda: lan.vif("guest")["claimed"] == [stable(3)], "the claim is noted")
    assert lan.vif("guest")["claimed"] == []
    with client(lan, "other") as (stream, you):
        stream.send([dad(you, stable(3))])
        hear(lan, stream, said_from(you, stable(3), b"<heir>"), b"<heir>")


def test_a_station_on_the_wire_keeps_its_address(lan: Lan) -> None:
    """The outside kernel answers the duplicate address detection itself."""
    lan.lab.outside.run("ip", "address", "add", f"{stable(4)}/64", "dev", LAN, "nodad")
    before = lan.drops("guest").get("nd_spoof", 0)
    with client(lan, "guest") as (stream, me):
        stream.send([dad(me, stable(4))])
        answer = stream.receive_until(IPv6Address(stable(4)).packed)[-1]
        assert Ether(answer)[ICMPv6ND_NA].tgt == stable(4)
        stream.send([advertised(me, stable(4))])
        eventually(lambda: lan.drops("guest").get("nd_spoof", 0) > before, "the lie is dropped")

        assert lan.vif("guest")["claimed"] == []
    assert ping(lan.stacks["alice"], f"{stable(4)}%{lan.stacks['alice'].interface}")


def test_the_kernels_stable_private_address_works(lan: Lan) -> None:
    """Its own duplicate address detection claims it, and what follows finds it firm."""
    lan.lab.multiplexerctl(
        *("vif", "create", "carol", "--owner", str(OWNER), "--address", "10.77.0.92/24"),
        *("--link-local", "first-come"),
    )
    alice = lan.stacks["alice"]
    with lan.lab.user(OWNER).stack("carol") as carol:
        carol.run("ip", "link", "set", carol.interface, "down")
        carol.run("ip", "link", "set", carol.interface, "addrgenmode", "random")
        carol.run("sysctl", "-qw", f"net.ipv6.conf.{carol.interface}.accept_dad=1")
        carol.run("ip", "link", "set", carol.interface, "up")
        eventually(lambda: lan.vif("carol")["claimed"] != [], "carol's kernel claims an address")
        (address,) = lan.vif("carol")["claimed"]

        assert "ff:fe" not in address
        assert ping(alice, f"{address}%{alice.interface}")
