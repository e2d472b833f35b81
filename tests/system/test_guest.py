"""A real virtual machine on a vif, as `pfinet qemu` says: it talks, and cannot spoof."""

import shlex
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from tests.support.guest import Guest, Image, running_guest
from tests.support.lan import OWNERS, Lan
from tests.support.programs import ping
from tests.support.wire import send

from .attacks import lawful

WHO = "trudy"
NOBODYS_MAC = "52:54:00:99:99:99"
NOBODYS_ADDRESS = "10.77.0.99"


@pytest.fixture(scope="module")
def guest(lan: Lan) -> Iterator[Guest]:
    """Trudy's virtual machine, with the addresses that are bound to her vif."""
    member = lan.members[WHO]
    image = Image.build(lan.lab.root / "guest")
    user = lan.lab.user(OWNERS[WHO])
    arguments = shlex.split(user.pfinet("qemu", WHO).stdout)
    with running_guest(user, image, arguments) as running:
        running.run("ip link set eth0 up")
        running.run(f"ip address add {member.ipv4}/24 dev eth0")
        running.run(f"ip address add {member.ipv6}/64 dev eth0")
        yield running


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("whom", ["bob", "outside"])
def test_a_guest_is_answered(lan: Lan, guest: Guest, whom: str, family: str) -> None:
    assert guest.ping(getattr(lan.members[whom], family))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_guest_answers(lan: Lan, guest: Guest, family: str) -> None:
    assert ping(lan.stacks["alice"], getattr(lan.members[WHO], family))


def test_a_guest_with_another_mac_reaches_nobody(lan: Lan, guest: Guest) -> None:
    """Its own kernel lets it be whoever it likes; its vif does not."""
    before = lan.drops(WHO).get("src_mac", 0)
    guest.run("ip link set eth0 down")
    guest.run(f"ip link set eth0 address {NOBODYS_MAC} up")
    try:
        answered = guest.ping(lan.members["bob"].ipv4, "-W1")
    finally:
        guest.run("ip link set eth0 down")
        guest.run(f"ip link set eth0 address {lan.members[WHO].mac} up")

    assert not answered
    assert lan.drops(WHO)["src_mac"] > before
    assert_nobody_saw(lan, bytes.fromhex(NOBODYS_MAC.replace(":", "")))
    assert guest.ping(lan.members["bob"].ipv4)


def test_a_guest_with_another_address_reaches_nobody(lan: Lan, guest: Guest) -> None:
    bob = lan.members["bob"].ipv4
    assert guest.ping(bob)  # so that it need not ask for bob's MAC, as somebody else
    before = lan.drops(WHO).get("ipv4_src", 0)
    guest.run(f"ip address add {NOBODYS_ADDRESS}/24 dev eth0")
    try:
        answered = guest.ping(bob, "-W1", "-I", NOBODYS_ADDRESS)
    finally:
        guest.run(f"ip address del {NOBODYS_ADDRESS}/24 dev eth0")

    assert not answered
    assert lan.drops(WHO)["ipv4_src"] > before
    assert_nobody_saw(lan, IPv4Address(NOBODYS_ADDRESS).packed)


def assert_nobody_saw(lan: Lan, forged: bytes) -> None:
    """Raise if bob or the outside host received a frame from that MAC or IPv4 address."""
    until = b"<nobody saw it>"
    alice = lan.stacks["alice"]
    for who in ("bob", "outside"):
        fence = lawful(lan.members["alice"], lan.members[who], until)
        send(alice.namespace, alice.interface, [bytes(fence)])
        frames = lan.listeners[who].frames_until(until)
        assert [frame for frame in frames if forged in (frame[6:12], frame[26:30])] == []
