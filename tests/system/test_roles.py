"""What a role and a further EtherType let through, and that it is no more than that."""

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6MLQuery, ICMPv6ND_RA, ICMPv6ND_Redirect, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.support.lan import Lan, Member, running_lan
from tests.support.plain import StreamClient
from tests.support.waiting import eventually

from . import attacks
from .attacks import dhcp, ether, lawful, marked, raw_mac

OWNER = 20010
TRUSTED = """
[vif.router]
owner = "20010"
network = "lan"
addresses = ["10.77.0.80/24", "fd77::80/64"]
roles = ["router"]

[vif.server]
owner = "20010"
network = "lan"
addresses = ["10.77.0.81/24", "fd77::81/64"]
roles = ["dhcp-server"]

[vif.lab]
owner = "20010"
network = "lan"
addresses = ["10.77.0.82/24", "fd77::82/64"]
ethertypes = [0x88cc]
"""
NUMBERS = {"router": 80, "server": 81, "lab": 82}

NEAREST_BRIDGE = "01:80:c2:00:00:0e"
ANOTHER_GROUP = "01:1b:19:00:00:00"


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with running_lan("roles", extra=TRUSTED) as running:
        yield running


def member(lan: Lan, name: str) -> Member:
    number = NUMBERS[name]
    return Member(lan.vif(name)["mac"], f"10.77.0.{number}", f"fd77::{number}")


Build = Callable[[Member, Member, bytes], Packet]

OF_A_ROUTER: dict[str, tuple[str, Build]] = {
    "router advertisement": (
        "ra_guard",
        lambda me, you, mark: (
            ether(me, dst="33:33:00:00:00:01")
            / IPv6(src=me.link_local, dst="ff02::1", hlim=255)
            / ICMPv6ND_RA(routerlifetime=0)
            / marked(mark)
        ),
    ),
    "redirect": (
        "redirect",
        lambda me, you, mark: (
            ether(me, dst=you.mac)
            / IPv6(src=me.link_local, dst=you.ipv6, hlim=255)
            / ICMPv6ND_Redirect(tgt=me.link_local, dst="fd99::1")
            / marked(mark)
        ),
    ),
    "MLD query": (
        "router_message",
        lambda me, you, mark: (
            ether(me, dst="33:33:00:00:00:01")
            / IPv6(src=me.link_local, dst="ff02::1", hlim=1)
            / ICMPv6MLQuery()
            / Raw(mark)
        ),
    ),
    "error about a packet to another": (
        "icmp_error",
        lambda me, you, mark: (
            ether(me, dst=you.mac)
            / IP(src=me.ipv4, dst=you.ipv4)
            / ICMP(type=11)
            / IP(src=you.ipv4, dst="192.0.2.1")
            / Raw(mark)
        ),
    ),
}

OF_A_SERVER: dict[str, tuple[str, Build]] = {
    "DHCP offer": (
        "dhcp_server",
        lambda me, you, mark: (
            ether(me)
            / dhcp(
                IP(src=me.ipv4, dst="255.255.255.255"),
                (67, 68),
                mark,
                "offer",
                op=2,
                chaddr=raw_mac(you),
            )
        ),
    ),
}

OF_THE_LAB: dict[str, tuple[str, Build]] = {
    "LLDP to one station": (
        "ethertype",
        lambda me, you, mark: Ether(src=me.mac, dst=you.mac, type=0x88CC) / Raw(mark),
    ),
    "LLDP to another group": (
        "ethertype",
        lambda me, you, mark: Ether(src=me.mac, dst=ANOTHER_GROUP, type=0x88CC) / Raw(mark),
    ),
}

TRUSTED_WITH = {"router": OF_A_ROUTER, "server": OF_A_SERVER, "lab": OF_THE_LAB}


def rises(lan: Lan, name: str, before: dict[str, int]) -> dict[str, int]:
    now = lan.drops(name)
    return {why: now[why] - before.get(why, 0) for why in now if now[why] != before.get(why, 0)}


@pytest.mark.parametrize("what", [what for kinds in TRUSTED_WITH.values() for what in kinds])
@pytest.mark.parametrize("who", TRUSTED_WITH)
def test_each_may_send_what_it_is_trusted_with_and_nothing_else(
    lan: Lan, who: str, what: str
) -> None:
    (reason, build), trusted = next(
        (kinds[what], name) for name, kinds in TRUSTED_WITH.items() if what in kinds
    )
    me, bob = member(lan, who), lan.members["bob"]
    sign, until = f"<{who}:{what[:8]}>".encode(), f"<after {who}>".encode()
    before = lan.drops(who)

    with StreamClient(lan.lab.socket_of(who, "stream"), OWNER) as client:
        client.send([bytes(build(me, bob, sign)), bytes(lawful(me, bob, until))])
        seen = lan.listeners["bob"].frames_until(until)
        eventually(lambda: lan.vif(who)["attached"] is not None, "attached")

    assert any(sign in frame for frame in seen) == (who == trusted)
    assert rises(lan, who, before) == ({} if who == trusted else {reason: 1})
    eventually(lambda: lan.vif(who)["attached"] is None, "free again")


@pytest.mark.parametrize("who", TRUSTED_WITH)
def test_no_trust_covers_a_false_source(lan: Lan, who: str) -> None:
    me, bob, alice = member(lan, who), lan.members["bob"], lan.members["alice"]
    liar = Member(me.mac, alice.ipv4, alice.ipv6)
    forged = {
        "src_mac": lawful(alice, bob, b"<mac>"),
        "ipv4_src": lawful(liar, bob, b"<ipv4>"),
        "arp_sender": attacks.arp(
            me, b"<arp>", op=2, hwsrc=me.mac, psrc=alice.ipv4, pdst=bob.ipv4
        ),
        "reserved_mac": Ether(src=me.mac, dst=NEAREST_BRIDGE, type=0x88CC) / Raw(b"<lldp>"),
        "vlan_tag": attacks.tagged(lawful, attacks.TAGS["802.1Q"])(me, bob, b"<tag>"),
    }
    before = lan.drops(who)

    with StreamClient(lan.lab.socket_of(who, "stream"), OWNER) as client:
        client.send(map(bytes, forged.values()))
        eventually(lambda: len(rises(lan, who, before)) >= len(forged), "all are dropped")

    assert rises(lan, who, before) == dict.fromkeys(forged, 1)
    eventually(lambda: lan.vif(who)["attached"] is None, "free again")
