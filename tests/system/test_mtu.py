"""Networks of jumbo frames, and frames that do not fit."""

from collections.abc import Iterator

import pytest

from tests.support.lab import LAN, NIC, Lab
from tests.support.lan import Lan, running_lan
from tests.support.netns import run
from tests.support.programs import ping
from tests.support.waiting import eventually
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


def test_a_network_over_the_uplinks_mtu_is_an_error_of_the_file(lab: Lab) -> None:
    lab.configure({"alice": 20001}, mtu=9000)

    done = run(lab.host.namespace.command(lab.daemon_command()), check=False, env=lab.environment)

    assert done.returncode != 0
    assert f"{lab.config}:" in done.stderr
    assert "1500" in done.stderr
    assert "9000" in done.stderr


def test_a_nic_whose_mtu_falls_below_the_networks_is_not_used_until_it_rises(lab: Lab) -> None:
    """Nobody is told that 1500 bytes fit where they do not."""
    lab.configure({"alice": 20001})
    with lab.daemon(), lab.user(20001).stack("alice") as alice:
        assert ping(alice, "10.77.0.1")
        lab.host.run("ip", "link", "set", NIC, "mtu", "1400")
        eventually(lambda: not lab.ask("uplink.show", name="wire")["up"], "the uplink is unused")
        assert "1400" in lab.ask("uplink.show", name="wire")["error"]

        lab.host.run("ip", "link", "set", NIC, "mtu", "1500")
        assert ping(alice, "10.77.0.1")
        assert lab.ask("uplink.show", name="wire")["error"] is None
