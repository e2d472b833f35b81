"""What a binding means for a stack, and what leads from one to another."""

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from pfinet_client.configuration import (
    INTERFACE,
    Action,
    AddAddress,
    AddRoute,
    RemoveAddress,
    RemoveRoute,
    Route,
    SetLink,
    SetSysctl,
    StartLink,
    WriteNames,
    changes,
    configuration,
    start,
)
from pfinet_proto.values import MacAddress
from tests.client.fake_daemon import binding

V4, V6 = binding(1).addresses
MAC = binding(1).mac
ANNOUNCE = SetLink(mac=MAC)


def changed(**fields: Any) -> list[Action]:
    """Return what leads from `binding(1)` to the same with other *fields*."""
    return changes(configuration(binding(1)), configuration(binding(1, **fields)))


# One configuration.


def test_a_start_has_everything_before_the_interface_goes_up_and_routes_after_it() -> None:
    actions = start(configuration(binding(1)))

    kinds = [type(action) for action in actions if not isinstance(action, SetSysctl)]
    assert kinds == [SetLink, AddAddress, AddAddress, StartLink, AddRoute, AddRoute]
    assert actions[0] == SetLink(MAC, 1500)
    assert actions.index(StartLink()) > max(
        number for number, action in enumerate(actions) if isinstance(action, SetSysctl)
    )


def test_a_stack_without_a_bound_prefix_listens_to_no_router() -> None:
    values = configuration(binding(1, prefixes=(ip_network("10.9.5.0/24"),))).sysctls

    assert values[f"ipv6/conf/{INTERFACE}/accept_ra"] == "0"
    assert values[f"ipv6/conf/{INTERFACE}/autoconf"] == "0"
    assert values[f"ipv6/conf/{INTERFACE}/router_solicitations"] == "0"


def test_a_stack_with_a_bound_ipv6_prefix_listens_as_the_kernel_does_by_default() -> None:
    values = configuration(binding(1, prefixes=(ip_network("fd09:5::/64"),))).sysctls

    assert values[f"ipv6/conf/{INTERFACE}/accept_ra"] == "1"
    assert values[f"ipv6/conf/{INTERFACE}/autoconf"] == "1"
    assert values[f"ipv6/conf/{INTERFACE}/router_solicitations"] == "-1"
    assert values[f"ipv6/conf/{INTERFACE}/addr_gen_mode"] == "0"


def test_an_mtu_too_small_for_ipv6_leaves_its_settings_alone() -> None:
    values = configuration(binding(1, mtu=1279)).sysctls

    assert not any(path.startswith("ipv6/") for path in values)


def test_resolv_conf_without_name_servers_is_a_comment() -> None:
    text = configuration(binding(1, dns=(), search=())).resolv_conf

    assert text == "# vif v1, network lab\n"


# From one to another.


def test_nothing_changed_is_nothing_to_do() -> None:
    assert changed() == []


def test_a_new_address_is_there_before_the_old_one_is_gone_and_is_announced() -> None:
    other = ip_interface("10.9.0.7/24")

    assert changed(addresses=(other, V6)) == [AddAddress(other), RemoveAddress(V4), ANNOUNCE]


def test_an_address_that_goes_is_only_removed() -> None:
    assert changed(addresses=(V4,)) == [RemoveAddress(V6)]


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ("10.9.0.1/24", "10.9.0.1/16", [AddAddress, RemoveAddress]),
        ("fd09::1/64", "fd09::1/48", [RemoveAddress, AddAddress]),
    ],
)
def test_a_new_prefix_length_keeps_an_address_as_well_as_its_protocol_can(
    old: str, new: str, kinds: list[type[Action]]
) -> None:
    before, after = (
        configuration(binding(1, addresses=(ip_interface(text),))) for text in (old, new)
    )

    assert [type(action) for action in changes(before, after)] == [*kinds, SetLink]


def test_a_new_gateway_comes_before_the_old_one_goes() -> None:
    old, other = (ip_address(text) for text in ("10.9.0.254", "10.9.0.253"))

    assert changed(gateways=(other, ip_address("fd09::254"))) == [
        AddRoute(Route(other, 1024)),
        RemoveRoute(Route(old, 1024)),
    ]


def test_ipv4_routes_that_the_kernel_took_with_the_last_address_are_made_again() -> None:
    assert changed(addresses=(V6,)) == [
        RemoveAddress(V4),
        AddRoute(Route(ip_address("10.9.0.254"), 1024)),
    ]


def test_a_new_mtu_is_set_alone() -> None:
    assert changed(mtu=1400) == [SetLink(mtu=1400)]


def test_an_mtu_that_lets_ipv6_back_in_sets_all_that_belongs_to_it() -> None:
    small = configuration(binding(1, mtu=1000, addresses=(V4,)))

    actions = changes(small, configuration(binding(1)))

    assert actions[0] == SetLink(mtu=1500)
    assert SetSysctl(f"ipv6/conf/{INTERFACE}/accept_dad", "0") in actions
    assert {AddAddress(V6), AddAddress(ip_interface("fe80::5054:ff:fe00:1/64"))} <= set(actions)


def test_a_new_mac_address_brings_its_link_local_address_along() -> None:
    assert changed(mac=MacAddress(b"\x52\x54\0\0\0\x09")) == [
        AddAddress(ip_interface("fe80::5054:ff:fe00:9/64")),
        RemoveAddress(ip_interface("fe80::5054:ff:fe00:1/64")),
        SetLink(mac=MacAddress(b"\x52\x54\0\0\0\x09")),
    ]


def test_a_bound_prefix_lets_the_stack_listen_to_routers() -> None:
    assert changed(prefixes=(ip_network("fd09:5::/64"),)) == [
        SetSysctl(f"ipv6/conf/{INTERFACE}/accept_ra", "1"),
        SetSysctl(f"ipv6/conf/{INTERFACE}/autoconf", "1"),
        SetSysctl(f"ipv6/conf/{INTERFACE}/router_solicitations", "-1"),
    ]


def test_with_a_prefix_goes_the_address_that_the_stack_made_under_it() -> None:
    bound = configuration(binding(1, prefixes=(ip_network("fd09:5::/64"),)))

    actions = changes(bound, configuration(binding(1)))

    assert RemoveAddress(ip_interface("fd09:5::5054:ff:fe00:1/64")) in actions


def test_new_name_servers_are_a_new_resolv_conf() -> None:
    assert changed(dns=(ip_address("10.9.0.54"),), search=()) == [
        WriteNames("# vif v1, network lab\nnameserver 10.9.0.54\n")
    ]
