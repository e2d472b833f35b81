"""A hub copies to all, and still lets nobody be somebody else."""

from collections.abc import Iterator

import pytest

from tests.support.lan import Lan, running_lan
from tests.support.programs import ping, tcpdump
from tests.support.wire import send

from .attacks import lawful


@pytest.fixture(scope="module")
def hub() -> Iterator[Lan]:
    with running_lan("hub", mode="hub") as running:
        yield running


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_everybody_reaches_everybody(hub: Lan, family: str) -> None:
    for whom in ("bob", "outside"):
        assert ping(hub.stacks["alice"], getattr(hub.members[whom], family))
    assert ping(hub.lab.outside, getattr(hub.members["bob"], family))


def test_a_third_stack_sees_the_unicast_of_two_others_and_the_wire_does_not(hub: Lan) -> None:
    alice, bob = hub.stacks["alice"], hub.members["bob"]
    sign, until = b"<seen on a hub>", b"<seen by all>"
    frame = lawful(hub.members["alice"], bob, sign)
    frame.dst = bob.mac
    fence = lawful(hub.members["alice"], bob, until)

    mallory = hub.stacks["mallory"]
    with tcpdump(mallory, mallory.interface) as capture:
        send(alice.namespace, alice.interface, [bytes(frame), bytes(fence)])
        assert sign in capture.frames_until(sign)[-1]
    assert not any(sign in found for found in hub.listeners["outside"].frames_until(until))


def test_a_third_stack_sees_what_goes_to_the_wire(hub: Lan) -> None:
    alice, outside = hub.stacks["alice"], hub.members["outside"]
    sign = b"<to the wire and all>"
    frame = lawful(hub.members["alice"], outside, sign)
    frame.dst = outside.mac

    send(alice.namespace, alice.interface, [bytes(frame)])

    for listener in hub.listeners.values():
        if listener is not hub.listeners["alice"]:
            assert sign in listener.frames_until(sign)[-1]


def test_a_forged_source_is_dropped(hub: Lan) -> None:
    mallory, alice = hub.stacks["mallory"], hub.members["alice"]
    sign, until = b"<forged>", b"<hub is fenced>"
    forged = lawful(hub.members["mallory"], hub.members["bob"], sign)
    forged.src = alice.mac
    fence = lawful(hub.members["mallory"], hub.members["bob"], until)
    before = hub.drops("mallory").get("src_mac", 0)

    send(mallory.namespace, mallory.interface, [bytes(forged), bytes(fence)])

    for listener in hub.listeners.values():
        assert not any(sign in frame for frame in listener.frames_until(until))
    assert hub.drops("mallory")["src_mac"] == before + 1
