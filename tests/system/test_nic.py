"""The NIC goes down, goes away, and comes back."""

from collections.abc import Iterator

import pytest

from tests.support.lab import LAN, NIC, Lab, Stack
from tests.support.programs import ping
from tests.support.waiting import eventually


@pytest.fixture
def alice(lab: Lab) -> Iterator[Stack]:
    lab.configure({"alice": 20001, "bob": 20002})
    with lab.daemon(), lab.user(20001).stack("alice") as stack:
        assert ping(stack, "10.77.0.1")
        yield stack


def uplink(lab: Lab, key: str) -> bool:
    return bool(lab.ask("uplink.show", name="wire")[key])


def test_a_nic_that_was_down_is_used_again(lab: Lab, alice: Stack) -> None:
    lab.host.run("ip", "link", "set", NIC, "down")
    eventually(lambda: not uplink(lab, "up"), "the uplink is down")
    lab.host.run("ip", "link", "set", NIC, "up")

    assert ping(alice, "10.77.0.1")
    assert ping(alice, "fd77::1")
    assert uplink(lab, "up")


def test_a_cable_that_was_out_is_used_again(lab: Lab, alice: Stack) -> None:
    lab.outside.run("ip", "link", "set", LAN, "down")
    eventually(lambda: not uplink(lab, "up"), "the uplink is down")
    lab.outside.run("ip", "link", "set", LAN, "up")

    assert ping(alice, "10.77.0.1")


def test_a_nic_that_was_deleted_is_used_again(lab: Lab, alice: Stack) -> None:
    mac = lab.ask("vif.show", name="alice")["mac"]
    lab.host.run("ip", "link", "delete", NIC)
    eventually(lambda: not uplink(lab, "present"), "the uplink is gone")
    lab.plug_in()

    assert ping(alice, "10.77.0.1")
    assert ping(alice, "fd77::1")
    assert lab.ask("vif.show", name="alice")["mac"] == mac


def test_a_nic_may_come_after_the_daemon(lab: Lab) -> None:
    lab.host.run("ip", "link", "delete", NIC)
    lab.configure({"alice": 20001, "bob": 20002})
    with lab.daemon(), lab.user(20001).stack("alice") as stack:
        with lab.user(20002).stack("bob"):
            assert ping(stack, "10.77.0.12")
        lab.plug_in()

        assert ping(stack, "10.77.0.1")


def test_users_reach_each_other_while_the_nic_is_down(lab: Lab, alice: Stack) -> None:
    lab.host.run("ip", "link", "set", NIC, "down")
    with lab.user(20002).stack("bob"):
        assert ping(alice, "10.77.0.12")
        assert ping(alice, "fd77::12")


def test_a_nic_that_can_filter_does_not_become_promiscuous() -> None:
    """The kernel makes a veth promiscuous by itself when more than one MAC is asked for."""
    with Lab("filtering", nic="macvlan") as lab:
        lab.configure({"alice": 20001})
        with lab.daemon(), lab.user(20001).stack("alice") as alice:
            assert ping(alice, "fd77::1")
            shown = lab.host.run("ip", "-d", "-o", "link", "show", NIC).stdout

    assert "promiscuity 0" in shown
    assert "allmulti 1" in shown
