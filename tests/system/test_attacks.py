"""What scapy can forge reaches nobody, and is counted by its name.

Each attack goes three ways at once: to a neighbour, to the outside host, and to
everybody.  A lawful frame follows: who has that one has all that came before.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator

import attrs
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.support.lan import OWNERS, Lan
from tests.support.plain import StreamClient
from tests.support.wire import send

from . import attacks

numbers = itertools.count(1)


@attrs.frozen
class Attacker:
    """Somebody with a way in."""

    name: str
    send: Callable[[Iterable[bytes]], int]


@pytest.fixture(scope="module")
def kernel_stack(lan: Lan) -> Attacker:
    """Mallory, root in a stack of the kernel, where any MTU may be set."""
    stack = lan.stacks["mallory"]
    stack.run("ip", "link", "set", stack.interface, "mtu", "9000")
    return Attacker("mallory", lambda frames: send(stack.namespace, stack.interface, frames))


@pytest.fixture(scope="module")
def stream_client(lan: Lan) -> Iterator[Attacker]:
    """Trudy, who speaks to the daemon with no stack at all."""
    with StreamClient(lan.lab.socket_of("trudy", "stream"), OWNERS["trudy"]) as client:
        yield Attacker("trudy", client.send)


@pytest.fixture(params=["kernel_stack", "stream_client"])
def attacker(request: pytest.FixtureRequest) -> Attacker:
    found: Attacker = request.getfixturevalue(request.param)
    return found


def mark() -> bytes:
    """Return bytes that no other frame of this session has, fewer than an Ethernet header's."""
    return f"<mark {next(numbers):05}>".encode()


def fence(lan: Lan, attacker: Attacker, until: bytes) -> bytes:
    me = lan.members[attacker.name]
    frame = Ether(src=me.mac, dst=attacks.BROADCAST) / IP(src=me.ipv4, dst="255.255.255.255")
    return bytes(frame / UDP(sport=9, dport=9) / Raw(until))


def arrived(lan: Lan, marked: bytes, until: bytes) -> list[str]:
    """Return who saw *marked* before *until*."""
    return [
        name
        for name, listener in lan.listeners.items()
        if any(marked in frame for frame in listener.frames_until(until))
    ]


def assert_dropped(
    lan: Lan, attacker: Attacker, frames: list[bytes], marked: bytes, reason: str
) -> None:
    before = lan.drops(attacker.name)
    until = mark()
    attacker.send([*frames, fence(lan, attacker, until)])
    seen_by = arrived(lan, marked, until)
    after = lan.drops(attacker.name)

    rises = {name: after[name] - before.get(name, 0) for name in after}
    assert seen_by == []
    assert {name: rise for name, rise in rises.items() if rise} == {reason: len(frames)}


@pytest.mark.parametrize("attack", attacks.ATTACKS, ids=str)
def test_a_forged_frame_is_dropped_and_counted(
    lan: Lan, attacker: Attacker, attack: attacks.Attack
) -> None:
    me, you = lan.members[attacker.name], lan.members["alice"]
    marked = mark()
    to = [lan.members["bob"].mac, lan.members["outside"].mac, attacks.BROADCAST]

    frames = attacks.frames(attack, me, you, marked, to)

    assert_dropped(lan, attacker, frames, marked, attack.reason)


def test_a_frame_without_an_ethernet_header_is_a_runt(lan: Lan, stream_client: Attacker) -> None:
    marked = mark()

    assert len(marked) < 14
    assert_dropped(lan, stream_client, [marked, b"\xff"], marked, "runt")


def test_the_listeners_see_the_lawful_twin_of_a_forged_frame(lan: Lan, attacker: Attacker) -> None:
    """Else all the tests above would pass with deaf listeners."""
    marked, until = mark(), mark()
    frame = attacks.lawful(lan.members[attacker.name], lan.members["alice"], marked)

    attacker.send([bytes(frame), fence(lan, attacker, until)])

    assert arrived(lan, marked, until) == ["alice", "bob", "outside"]
