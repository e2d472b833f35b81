"""Networks that share a daemon, and perhaps a NIC's owner, share no frame."""

from collections.abc import Iterator

import pytest

from tests.support.lab import LAN
from tests.support.lan import Lan, Member, running_lan
from tests.support.plain import StreamClient
from tests.support.wire import send

from .attacks import lawful

ISLANDS = """
[uplink.nothing]
kind = "none"

[network.island]
uplink = "nothing"
prefixes = ["10.80.0.0/24"]

[network.elsewhere]
uplink = "wire"
prefixes = ["10.81.0.0/24"]

[vif.friday]
owner = "20010"
network = "island"
addresses = ["10.80.0.5/24"]

[vif.saturday]
owner = "20010"
network = "island"
addresses = ["10.80.0.6/24"]

[vif.sunday]
owner = "20010"
network = "elsewhere"
addresses = ["10.81.0.7/24"]
"""
OWNER = 20010
ADDRESSES = {"friday": "10.80.0.5", "saturday": "10.80.0.6", "sunday": "10.81.0.7"}


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with running_lan("islands", extra=ISLANDS) as running:
        yield running


def member(lan: Lan, name: str) -> Member:
    return Member(lan.vif(name)["mac"], ADDRESSES[name], "fd80::1")


def client(lan: Lan, name: str) -> StreamClient:
    return StreamClient(lan.lab.socket_of(name, "stream"), OWNER)


def fence(lan: Lan, until: bytes) -> None:
    """Send what all on the LAN see, from the LAN."""
    alice = lan.stacks["alice"]
    frame = lawful(lan.members["alice"], lan.members["bob"], until)
    send(alice.namespace, alice.interface, [bytes(frame)])


def test_a_network_without_an_uplink_works_inside(lan: Lan) -> None:
    sign = b"<on the island>"
    with client(lan, "friday") as friday, client(lan, "saturday") as saturday:
        friday.send([bytes(lawful(member(lan, "friday"), member(lan, "saturday"), sign))])
        assert sign in saturday.receive_until(sign)[-1]


@pytest.mark.parametrize("name", ["friday", "sunday"])
def test_nothing_leaves_a_network_that_is_not_on_the_wire(lan: Lan, name: str) -> None:
    """Sunday's network names the uplink, but its prefix is not one that the wire has."""
    sign, until = f"<from {name}>".encode(), f"<after {name}>".encode()
    me = member(lan, name)
    everybody = lawful(me, lan.members["alice"], sign)
    alice = lawful(me, lan.members["alice"], sign)
    alice.dst = lan.members["alice"].mac
    outside = lawful(me, lan.members["outside"], sign)
    outside.dst = lan.members["outside"].mac
    before = lan.drops(name).get("no_receiver", 0)

    with client(lan, name) as sender:
        sender.send(map(bytes, (everybody, alice, outside)))
        while lan.drops(name).get("no_receiver", 0) < before + 2:
            pass
    fence(lan, until)

    for who in ("bob", "outside"):
        assert not any(sign in frame for frame in lan.listeners[who].frames_until(until))


@pytest.mark.parametrize("name", ["friday", "sunday"])
def test_nothing_from_the_wire_reaches_a_network_that_is_not_on_it(lan: Lan, name: str) -> None:
    sign, until = b"<from the wire>", b"<home fence>"
    other = "saturday" if name == "friday" else name
    there = member(lan, name)
    everybody = lawful(lan.members["outside"], there, sign)
    frame = lawful(lan.members["outside"], there, sign)
    frame.dst = there.mac
    with client(lan, name) as receiver:
        send(lan.lab.outside.namespace, LAN, [bytes(everybody), bytes(frame)])
        lan.listeners["alice"].frames_until(sign)
        if other == name:
            seen = receiver.receive_now()
        else:
            with client(lan, other) as sender:
                sender.send([bytes(lawful(member(lan, other), there, until))])
                seen = receiver.receive_until(until)

    assert not any(sign in found for found in seen)


def test_an_address_means_nothing_on_another_network(lan: Lan) -> None:
    """Friday may not use alice's address, nor alice friday's."""
    sign = b"<wrong network>"
    me = member(lan, "friday")
    frame = lawful(Member(me.mac, lan.members["alice"].ipv4, "fd80::1"), me, sign)
    before = lan.drops("friday").get("ipv4_src", 0)
    with client(lan, "friday") as friday, client(lan, "saturday") as saturday:
        until = b"<right network>"
        friday.send([bytes(frame), bytes(lawful(me, member(lan, "saturday"), until))])
        assert not any(sign in found for found in saturday.receive_until(until))

    assert lan.drops("friday")["ipv4_src"] == before + 1
