"""What the host is in a network: its interface, its addresses and its routes."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from multiplexer.host_port import (
    MAX_INTERFACE_BYTES,
    FoundAddress,
    interface_of,
    mac_of,
    own_addresses,
    routes_to,
    wanted_routes,
)
from multiplexer.model import MAX_BOUND, Mode, Network, Vif
from pfinet_proto.values import MacAddress, VifName

LAN = Network("lan", Mode.SWITCH, None, (ip_network("10.0.1.0/24"), ip_network("fd00::/64")))
TAP, NIC = 7, 2


def found(*texts: str, interface: int = NIC) -> list[FoundAddress]:
    return [FoundAddress(interface, ip_address(text)) for text in texts]


@pytest.mark.parametrize(
    ("network", "interface"),
    [
        ("lan", "mx-lan"),
        ("twelve-chars", "mx-twelve-chars"),
        ("thirteen-long", "mx-thirtee-9121"),
        ("thirteen-lonh", "mx-thirtee-2e9a"),
    ],
)
def test_an_interface_is_named_after_its_network_and_never_too_long(
    network: str, interface: str
) -> None:
    assert interface_of(network) == interface
    assert len(interface) <= MAX_INTERFACE_BYTES


def test_the_mac_is_a_stations_own_and_another_in_each_network() -> None:
    assert mac_of("lan").packed[:2] == b"\x52\x54"
    assert mac_of("lan") == mac_of("lan")
    assert mac_of("lan") != mac_of("lab")


def test_the_hosts_addresses_are_those_that_its_other_interfaces_have_in_the_network() -> None:
    addresses = [
        *found("127.0.0.1", "10.0.1.2", "10.0.2.2", "fe80::2", "fd00::2", "fd01::2"),
        *found("10.0.1.9", "fd00::9", interface=TAP),
    ]

    own = own_addresses(LAN, addresses, {TAP}, ())

    assert own == (ip_address("10.0.1.2"), ip_address("fd00::2"))


def test_an_address_that_is_on_two_interfaces_is_one() -> None:
    addresses = found("10.0.1.2") + found("10.0.1.2", interface=1)

    assert own_addresses(LAN, addresses, {TAP}, ()) == (ip_address("10.0.1.2"),)


def test_an_address_that_a_vif_is_bound_to_is_not_the_hosts_there() -> None:
    addresses = found("10.0.1.2", "10.0.1.65")

    own = own_addresses(LAN, addresses, {TAP}, {ip_network("10.0.1.64/28")})

    assert own == (ip_address("10.0.1.2"),)


def test_an_address_that_is_preferred_as_a_source_comes_first() -> None:
    addresses = [
        FoundAddress(NIC, ip_address("fd00::dead"), rank=2),
        FoundAddress(NIC, ip_address("fd00::7"), rank=1),
        FoundAddress(NIC, ip_address("fd00::2")),
    ]

    own = own_addresses(LAN, addresses, {TAP}, ())

    assert [str(address) for address in own] == ["fd00::2", "fd00::7", "fd00::dead"]


def test_a_host_with_more_addresses_than_a_port_can_have_has_the_first_of_them() -> None:
    many = found(*(f"10.0.1.{n}" for n in range(1, 60)), *(f"fd00::{n}" for n in range(1, 60)))

    own = own_addresses(LAN, many, {TAP}, ())

    assert len([address for address in own if address.version == 4]) == MAX_BOUND[4]
    assert len([address for address in own if address.version == 6]) == MAX_BOUND[6] - 1


def test_there_is_a_route_to_all_that_a_vif_is_bound_to_but_its_link_local_address() -> None:
    mac = MacAddress.parse("52:54:00:12:34:56")
    vif = Vif(
        id="0" * 32,
        name=VifName("alice"),
        owner_uid=1000,
        owner_name=None,
        network="lan",
        mac=mac,
        addresses=(ip_interface("10.0.1.5/24"),),
        prefixes=(ip_network("fd00::5:0/112"),),
    )

    routes = routes_to(LAN, vif)

    assert set(map(str, routes)) == {
        "10.0.1.5/32",
        "fd00::5:0/112",
        "fd00::5054:ff:fe12:3456/128",
    }


def test_a_route_prefers_the_hosts_first_address_of_its_family() -> None:
    prefixes = [ip_network("10.0.1.5/32"), ip_network("fd00::5/128")]
    addresses = [ip_address(text) for text in ("10.0.1.2", "10.0.1.3", "fd00::2")]

    assert wanted_routes(prefixes, addresses) == {
        prefixes[0]: addresses[0],
        prefixes[1]: addresses[2],
    }


def test_without_an_address_of_a_family_there_is_no_route_of_it() -> None:
    prefixes = [ip_network("10.0.1.5/32"), ip_network("fd00::5/128")]

    assert list(wanted_routes(prefixes, [ip_address("10.0.1.2")])) == [prefixes[0]]
