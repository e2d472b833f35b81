"""The host's taps in a namespace of their own, against the kernel."""

import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import attrs
import pytest

from multiplexer.host_port import FoundAddress, mac_of
from multiplexer.model import Mode, Network
from multiplexer.uplinks.host_tap import HostState, HostTap, HostTaps
from multiplexer.uplinks.rtnetlink import Route, RouteSocket
from pfinet_proto.values import IPNetwork
from tests.support.netns import NetworkNamespace, run

LAN = Network(
    "lan", Mode.SWITCH, None, (ip_network("10.0.1.0/24"), ip_network("fd00::/64")), host=True
)
LAB = Network("lab", Mode.SWITCH, None, (ip_network("10.0.2.0/24"),), mtu=9000, host=True)
AWAY = Network("away", Mode.SWITCH, None, (ip_network("10.0.3.0/24"),))

IPV4, IPV6 = ip_network("10.0.1.5/32"), ip_network("fd00::5/128")


@attrs.frozen
class Machine:
    """A namespace with the taps of LAN and LAB, and what asks the kernel there."""

    namespace: NetworkNamespace
    hosts: HostTaps
    netlink: RouteSocket

    def ip(self, line: str) -> str:
        return run(self.namespace.command(["ip", *line.split()])).stdout

    def refresh(self) -> dict[str, bool]:
        """Return which networks' ports changed, and whether their taps are new."""
        before = {host.network.name: host.tap for host in self.hosts}
        with self.namespace.entered():
            self.hosts.refresh()
        changed = [(host.network.name, host.tap) for host in self.hosts.take_changes()]
        return {name: tap not in (None, before[name]) for name, tap in changed}

    def change_routes(
        self, add: tuple[IPNetwork, ...] = (), drop: tuple[IPNetwork, ...] = ()
    ) -> None:
        with self.namespace.entered():
            self.hosts.change_routes("lan", add, drop)

    @property
    def lan(self) -> HostTap:
        return self.hosts["lan"]

    def routes(self) -> set[IPNetwork]:
        assert self.lan.tap is not None
        return {route.prefix for route in self.netlink.routes(self.lan.tap.index)}

    def on_tap(self) -> set[str]:
        assert self.lan.tap is not None
        index = self.lan.tap.index
        found = [each for each in self.netlink.addresses() if each.interface == index]
        return {str(each.address) for each in found if not each.address.is_link_local}


@pytest.fixture
def machine() -> Iterator[Machine]:
    namespace = NetworkNamespace.create(f"host{os.getpid()}")
    with namespace.entered():
        hosts, netlink = HostTaps([LAN, LAB, AWAY]), RouteSocket()
    made = Machine(namespace, hosts, netlink)
    made.ip("address add 10.0.1.2/24 dev lo")
    made.ip("address add fd00::2/64 dev lo nodad")
    try:
        made.refresh()
        yield made
    finally:
        hosts.close()
        netlink.close()
        namespace.delete()


def test_there_is_a_tap_in_each_network_that_the_host_is_in(machine: Machine) -> None:
    links = machine.ip("-o link show")

    assert "mx-lan" in links
    assert "mx-lab" in links
    assert "mx-away" not in links
    assert str(mac_of("lan")) in machine.ip("link show mx-lan")
    assert "mtu 9000" in machine.ip("link show mx-lab")


def test_its_state_is_told_and_then_nothing_more_changes(machine: Machine) -> None:
    own = (ip_address("10.0.1.2"), ip_address("fd00::2"))

    assert machine.lan.state == HostState(present=True, up=True, addresses=own, error=None)
    assert machine.refresh() == {}


@pytest.mark.parametrize("when", ["addresses", "do"])
def test_a_failure_of_the_kernel_is_the_state_until_it_is_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It may be short of memory; the broker, which looks, must not end by it."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    machine.ip("link delete mx-lan")
    with monkeypatch.context() as patch:
        patch.setattr(RouteSocket, when, fail)
        machine.refresh()
        assert machine.hosts.is_stale
        assert machine.lan.state.error == "netlink: No buffer space available"

    machine.refresh()
    assert not machine.hosts.is_stale
    assert machine.lan.state.error is None
    assert machine.on_tap() == {"10.0.1.2", "fd00::2"}


def test_the_hosts_addresses_are_on_it_without_the_network_around_them(machine: Machine) -> None:
    assert machine.on_tap() == {"10.0.1.2", "fd00::2"}
    assert "10.0.1.0/24" not in machine.ip("route show dev mx-lan")
    assert machine.ip("-6 route show fd00::/64 dev mx-lan") == ""


def test_an_address_that_goes_is_taken_off_and_its_routes_prefer_another(machine: Machine) -> None:
    machine.change_routes(add=(IPV4,))
    machine.ip("address add 10.0.1.3/32 dev lo")
    machine.ip("address delete 10.0.1.2/24 dev lo")

    assert machine.refresh() == {"lan": False}

    assert machine.on_tap() == {"10.0.1.3", "fd00::2"}
    assert "src 10.0.1.3" in machine.ip("route show 10.0.1.5")


def test_routes_come_and_go_with_the_vifs(machine: Machine) -> None:
    machine.change_routes(add=(IPV4, IPV6))
    assert machine.routes() == {IPV4, IPV6}

    machine.change_routes(add=(ip_network("10.0.1.64/28"),), drop=(IPV4,))
    assert machine.routes() == {IPV6, ip_network("10.0.1.64/28")}


def test_a_route_that_is_asked_for_again_stays(machine: Machine) -> None:
    machine.change_routes(add=(IPV4,))
    machine.change_routes(add=(IPV4,))

    assert machine.routes() == {IPV4}
    assert machine.lan.state.error is None


def test_what_the_next_control_does_not_ask_for_again_goes(machine: Machine) -> None:
    machine.change_routes(add=(IPV4, IPV6))

    machine.hosts.begin_claims()
    machine.change_routes(add=(IPV4,))
    assert machine.routes() == {IPV4, IPV6}

    with machine.namespace.entered():
        machine.hosts.end_unclaimed()
    assert machine.routes() == {IPV4}


def test_a_host_without_an_address_of_a_family_has_no_routes_of_it(machine: Machine) -> None:
    machine.ip("address delete 10.0.1.2/24 dev lo")
    machine.refresh()

    machine.change_routes(add=(IPV4, IPV6))
    assert machine.routes() == {IPV6}

    machine.ip("address add 10.0.1.2/24 dev lo")
    machine.refresh()
    assert machine.routes() == {IPV4, IPV6}


def test_an_address_that_becomes_a_vifs_is_the_hosts_no_more_until_the_vif_goes(
    machine: Machine,
) -> None:
    its = ip_network("10.0.1.2/32")

    machine.change_routes(add=(its,))
    assert machine.lan.state.addresses == (ip_address("fd00::2"),)

    machine.change_routes(drop=(its,))
    assert ip_address("10.0.1.2") in machine.lan.state.addresses


@pytest.mark.parametrize(
    "damage",
    [
        ("link set mx-lan down", "link set mx-lan up"),
        ("route delete 10.0.1.5 dev mx-lan", "-6 address delete fd00::2/128 dev mx-lan"),
        ("address add 10.9.9.9/32 dev mx-lan",),
    ],
)
def test_what_somebody_else_has_changed_is_put_right(
    machine: Machine, damage: tuple[str, ...]
) -> None:
    machine.change_routes(add=(IPV4, IPV6))
    for line in damage:
        machine.ip(line)

    machine.refresh()

    assert machine.routes() == {IPV4, IPV6}
    assert machine.on_tap() == {"10.0.1.2", "fd00::2"}


def test_a_tap_that_is_deleted_is_made_again(machine: Machine) -> None:
    machine.change_routes(add=(IPV4,))
    machine.ip("link delete mx-lan")

    assert machine.refresh() == {"lan": True}
    assert machine.routes() == {IPV4}


def test_a_name_that_is_taken_is_told_and_used_when_it_is_free(machine: Machine) -> None:
    machine.ip("link delete mx-lan")
    machine.ip("link add mx-lan type veth peer name other")

    assert machine.refresh() == {"lan": False}
    assert machine.lan.state.error == 'there is another interface "mx-lan"'
    assert not machine.lan.state.present

    machine.ip("link delete mx-lan")
    assert machine.refresh() == {"lan": True}
    assert machine.lan.state.error is None


def test_a_route_of_the_administrators_is_left_alone_and_told(machine: Machine) -> None:
    machine.ip("route add 10.0.1.5/32 dev lo")

    machine.change_routes(add=(IPV4,))

    assert machine.lan.state.error == "route to 10.0.1.5/32: File exists"
    assert "dev lo" in machine.ip("route show 10.0.1.5")


def test_the_taps_go_when_they_are_closed(machine: Machine) -> None:
    machine.hosts.close()

    assert "mx-" not in machine.ip("-o link show")


def test_a_thousand_routes_are_told_in_the_order_of_their_requests(machine: Machine) -> None:
    from multiplexer.uplinks.rtnetlink import add_route

    assert machine.lan.tap is not None
    index, source = machine.lan.tap.index, ip_address("10.0.1.2")
    routes = [Route(ip_network((167773000 + n, 32)), source) for n in range(1000)]
    routes[500] = routes[499]

    errors = machine.netlink.do([add_route(index, route) for route in routes])

    assert [number for number, code in enumerate(errors) if code] == [500]
    assert len(machine.netlink.routes(index)) == 999


def test_addresses_that_cannot_be_a_source_yet_are_not_found(machine: Machine) -> None:
    machine.ip("link add left type veth peer name right")
    machine.ip("link set left up")
    machine.ip("link set right up")
    machine.ip("address add fd00::7/64 dev left")

    with machine.namespace.entered():
        index = socket.if_nametoindex("left")
    assert FoundAddress(index, ip_address("fd00::7")) not in machine.netlink.addresses()
