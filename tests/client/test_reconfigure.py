"""A stack whose binding changes while it runs, by an update or over a restart of the daemon."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import attrs
import pytest

from pfinet_proto.attach import Update, encode
from pfinet_proto.values import MacAddress
from tests.client.client_user import ClientUser, RunningStack
from tests.client.fake_daemon import FakeDaemon, binding
from tests.support.conversation import echo_program, talk_program
from tests.support.lab import interpreter

ECHO, TALK = echo_program("10.9.0.2"), talk_program("10.9.0.2")
#: Runs each line that it is given, and says when it has.
SHELL = 'while read line; do sh -c "$line"; echo done; done'


def run(stack: RunningStack, line: str) -> str:
    """Return what a line of shell prints inside."""
    stack.say(line)
    printed = []
    while (read := stack.read_line()) != "done":
        printed.append(read)
    return "\n".join(printed)


@contextmanager
def changed_stack(user: ClientUser, **changes: Any) -> Iterator[RunningStack]:
    """Run a stack whose binding has changed; it has been applied when this yields."""
    with user.stack("v1", SHELL) as stack:
        change(user.daemon, **changes)
        settle(user.daemon, stack)
        yield stack


def change(daemon: FakeDaemon, **changes: Any) -> None:
    port = daemon.ports["v1"]
    port.binding = attrs.evolve(port.binding, **changes)
    assert port.attach is not None
    port.attach.send(encode(Update(port.binding)))


def settle(daemon: FakeDaemon, stack: RunningStack) -> None:
    """Wait until the updates up to now have been applied.

    The client takes the daemon's words in turn, so it has applied them when it
    has been told to go and has come back.
    """
    daemon.close()
    daemon.start()
    assert "attaching again" in stack.read_error_line()
    assert stack.read_error_line() == "pfinet: vif v1: attached again, by stream"


def link(stack: RunningStack) -> Any:
    (shown,) = json.loads(run(stack, "ip -j address show pfinet0"))
    return shown


def addresses(stack: RunningStack) -> set[str]:
    return {f"{each['local']}/{each['prefixlen']}" for each in link(stack)["addr_info"]}


def test_addresses_come_and_go(alice: ClientUser) -> None:
    wanted = ("10.9.0.1/24", "10.9.0.7/24", "fd09::7/64")
    with changed_stack(alice, addresses=tuple(map(ip_interface, wanted))) as stack:
        assert addresses(stack) == {*wanted, "fe80::5054:ff:fe00:1/64"}


def test_the_first_of_several_addresses_of_a_prefix_goes_alone(daemon: FakeDaemon) -> None:
    """The kernel would take the others along, if it were not told better."""
    first, second = ip_interface("10.9.0.1/24"), ip_interface("10.9.0.7/24")
    daemon.ports["v1"].binding = binding(1, addresses=(first, second))
    with changed_stack(ClientUser(20001, daemon), addresses=(second,)) as stack:
        assert addresses(stack) == {"10.9.0.7/24", "fe80::5054:ff:fe00:1/64"}
        assert "via 10.9.0.254" in run(stack, "ip route show default")


@pytest.mark.parametrize("address", ["10.9.0.1/16", "fd09::1/48"])
def test_a_prefix_length_changes(alice: ClientUser, address: str) -> None:
    with changed_stack(alice, addresses=(ip_interface(address),)) as stack:
        assert addresses(stack) == {address, "fe80::5054:ff:fe00:1/64"}


def test_gateways_change(alice: ClientUser) -> None:
    wanted = tuple(map(ip_address, ("10.9.0.253", "fd09::253")))
    with changed_stack(alice, gateways=wanted) as stack:
        shown = run(stack, "ip route show default; ip -6 route show default").splitlines()

    assert [line.split()[2] for line in shown] == ["10.9.0.253", "fd09::253"]


def test_routes_are_there_when_ipv4_went_and_came_back(alice: ClientUser) -> None:
    four, six = binding(1).addresses
    with alice.stack("v1", SHELL) as stack:
        change(alice.daemon, addresses=(six,))
        change(alice.daemon, addresses=(six, four))
        settle(alice.daemon, stack)

        assert "via 10.9.0.254" in run(stack, "ip route show default")


def test_the_mtu_changes(alice: ClientUser) -> None:
    with changed_stack(alice, mtu=1300) as stack:
        assert link(stack)["mtu"] == 1300
        assert "fd09::1/64" in addresses(stack)


def test_the_mac_address_changes_and_with_it_the_link_local_address(alice: ClientUser) -> None:
    with changed_stack(alice, mac=MacAddress.parse("52:54:00:00:00:99")) as stack:
        assert link(stack)["address"] == "52:54:00:00:00:99"
        assert "fe80::5054:ff:fe00:99/64" in addresses(stack)
        assert "fe80::5054:ff:fe00:1/64" not in addresses(stack)


def test_a_bound_prefix_changes_whether_routers_are_listened_to(alice: ClientUser) -> None:
    setting = "cat /proc/sys/net/ipv6/conf/pfinet0/accept_ra"
    with changed_stack(alice, prefixes=(ip_network("fd09:5::/64"),)) as stack:
        assert run(stack, setting) == "1"
        change(alice.daemon, prefixes=())
        settle(alice.daemon, stack)
        assert run(stack, setting) == "0"


@pytest.mark.parametrize("servers", [("10.9.0.54",), ("10.9.0.53", "10.9.0.54", "fd09::54")])
def test_names_change_for_the_processes_inside(
    alice: ClientUser, servers: tuple[str, ...]
) -> None:
    """A shorter text leaves nothing of a longer one."""
    with changed_stack(alice, dns=tuple(map(ip_address, servers)), search=("b.example",)) as stack:
        shown = run(stack, "cat /etc/resolv.conf").splitlines()

    wanted = [f"nameserver {server}" for server in servers]
    assert shown == ["# vif v1, network lab", *wanted, "search b.example"]


def test_a_new_address_is_announced_to_the_neighbours(alice: ClientUser) -> None:
    wanted = ip_interface("10.9.0.7/24")
    port = alice.daemon.ports["v1"]
    with alice.stack("v1", SHELL):
        change(alice.daemon, addresses=(*binding(1).addresses, wanted))

        with alice.daemon.changed:
            assert alice.daemon.changed.wait_for(
                lambda: any(is_gratuitous_arp(each, wanted.ip.packed) for each in port.records), 20
            )


def is_gratuitous_arp(record: bytes, address: bytes) -> bool:
    frame = record[10:]
    return frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == address


def test_what_the_user_did_before_is_no_failure(alice: ClientUser) -> None:
    """The user is root inside, and may have added or removed the same."""
    four, six = binding(1).addresses
    other = ip_interface("10.9.0.7/24")
    with alice.stack("v1", SHELL) as stack:
        run(stack, f"ip address add {other} dev pfinet0; ip address del {six} dev pfinet0")
        change(alice.daemon, addresses=(four, other))
        settle(alice.daemon, stack)

        assert addresses(stack) == {str(four), str(other), "fe80::5054:ff:fe00:1/64"}


def test_what_cannot_be_changed_is_told_and_the_rest_is_done(alice: ClientUser) -> None:
    """A renamed interface has its settings elsewhere."""
    rename = "ip link set pfinet0 down; ip link set pfinet0 name lan0; ip link set lan0 up"
    with alice.stack("v1", SHELL) as stack:
        run(stack, rename)
        change(alice.daemon, prefixes=(ip_network("fd09:5::/64"),), mtu=1400)

        said = [stack.read_error_line() for _ in range(3)]
        setting = "/proc/sys/net/ipv6/conf/pfinet0/accept_ra"
        assert said[0] == f"pfinet: vif v1: cannot change {setting}: No such file or directory"
        settle(alice.daemon, stack)
        assert run(stack, "cat /sys/class/net/lan0/mtu") == "1400"


def test_a_binding_that_changed_while_the_daemon_was_away_is_applied(alice: ClientUser) -> None:
    port = alice.daemon.ports["v1"]
    with alice.stack("v1", SHELL) as stack:
        alice.daemon.close()
        port.binding = attrs.evolve(port.binding, addresses=(ip_interface("10.9.0.7/24"),))
        alice.daemon.start()
        assert "attaching again" in stack.read_error_line()
        assert stack.read_error_line() == "pfinet: vif v1: attached again, by stream"

        assert addresses(stack) == {"10.9.0.7/24", "fe80::5054:ff:fe00:1/64"}


def test_a_connection_over_an_unchanged_address_survives_all_that_changes(
    alice: ClientUser, bob: ClientUser
) -> None:
    python = interpreter().executable
    with bob.stack("v2", f"exec {python} -c '{ECHO}'") as server:
        assert server.read_line() == "listening"
        with alice.stack("v1", f"exec {python} -c '{TALK}'") as client:
            client.say("before")
            assert client.read_line() == "before"

            change(
                alice.daemon,
                mtu=1400,
                addresses=(ip_interface("10.9.0.7/24"), ip_interface("10.9.0.1/24")),
                gateways=(ip_address("10.9.0.253"),),
                dns=(),
            )
            settle(alice.daemon, client)

            client.say("after")
            assert client.read_line() == "after"
