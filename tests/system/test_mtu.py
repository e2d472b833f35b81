"""Networks of jumbo frames, and frames that do not fit."""

from collections.abc import Iterator

import pytest

from tests.support.lab import LAN
from tests.support.lan import Lan, running_lan
from tests.support.programs import ping
from tests.support.wire import send

from .attacks import lawful

SIZES = {"ipv4": 9000 - 28, "ipv6": 9000 - 48}


@pytest.fixture(scope="module")
def jumbo() -> Iterator[Lan]:
    with running_lan("jumbo", mtu=9000) as running:
        yield running


@pytest.fixture(scope="module")
def narrow() -> Iterator[Lan]:
    """A network of MTU 1500 on a wire of MTU 9000."""
    with running_lan("narrow", mtu=1500, wire_mtu=9000) as running:
        yield running


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("whom", ["bob", "outside"])
def test_a_full_frame_of_9000_bytes_arrives(jumbo: Lan, family: str, whom: str) -> None:
    there = getattr(jumbo.members[whom], family)

    assert ping(jumbo.stacks["alice"], there, "-Mdo", f"-s{SIZES[family]}")


def test_a_frame_from_the_wire_over_the_networks_mtu_is_dropped(narrow: Lan) -> None:
    outside, alice = narrow.members["outside"], narrow.members["alice"]
    large, until = b"<too large>", b"<mtu is fenced>"
    frame = lawful(outside, alice, large.ljust(4000, b"."))
    frame.dst = alice.mac

    sent = [bytes(frame), bytes(lawful(outside, alice, until))]
    before = narrow.vif("alice")["counters"]["drops"].get("egress_mtu", 0)
    before += narrow.uplink_drops().get("egress_mtu", 0)
    send(narrow.lab.outside.namespace, LAN, sent)
    seen = narrow.listeners["alice"].frames_until(until)
    after = narrow.vif("alice")["counters"]["drops"].get("egress_mtu", 0)
    after += narrow.uplink_drops().get("egress_mtu", 0)

    assert not any(large in frame for frame in seen)
    assert after == before + 1
