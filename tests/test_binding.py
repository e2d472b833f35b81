"""What of an address or a prefix another takes, as Python's own slower method says it."""

from ipaddress import IPv6Network, ip_address, ip_interface, ip_network

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.binding import Claim, claims, may_be_derived, overlap
from multiplexer.model import Mode, Network
from pfinet_proto.control import VifCreate
from pfinet_proto.values import IPNetwork, MacAddress, VifName


@st.composite
def prefixes(draw: st.DrawFn) -> IPNetwork:
    """Few of the leading bits differ, so that many overlap."""
    bits = draw(st.sampled_from([32, 128]))
    length = draw(st.integers(0, bits))
    address = draw(st.integers(0, 7)) << (bits - 3) | draw(st.integers(0, 3))
    return ip_network((address, length), strict=False)


@given(prefixes(), prefixes())
def test_two_prefixes_overlap_as_python_says(one: IPNetwork, other: IPNetwork) -> None:
    assert overlap(one, other) == (one.version == other.version and one.overlaps(other))


@given(prefixes(), prefixes())
def test_a_claim_touches_the_addresses_of_its_prefix(one: IPNetwork, other: IPNetwork) -> None:
    address = other.network_address

    assert Claim(one, "prefixes").touches(address) == (address in one)


@pytest.mark.parametrize("address", ["fe80::1", "fe80::1%eth0"])
def test_the_scope_of_an_address_is_no_part_of_it(address: str) -> None:
    assert Claim(ip_network("fe80::1/128"), "mac").touches(ip_address(address))


LAN = Network("lan", Mode.SWITCH, None, (ip_network("10.0.1.0/24"), ip_network("fd00::/64")))
MAC = MacAddress.parse("02:00:00:00:00:0a")


@pytest.mark.parametrize(
    ("wanted", "derived"),
    [
        (
            VifCreate(VifName("v"), addresses=(ip_interface("10.0.1.5/24"),)),
            ["fe80::ff:fe00:a"],
        ),
        (
            VifCreate(VifName("v"), addresses=(ip_interface("fd00::5/64"),)),
            ["fe80::ff:fe00:a", "fd00::ff:fe00:a"],
        ),
        (
            VifCreate(VifName("v"), prefixes=(ip_network("fd00::a:0/112"),)),
            ["fe80::ff:fe00:a", "fd00::ff:fe00:a"],
        ),
    ],
    ids=["IPv4 alone", "IPv6 address", "IPv6 prefix"],
)
def test_who_was_given_nothing_of_ipv6_makes_no_address_in_the_networks_prefix(
    wanted: VifCreate, derived: list[str]
) -> None:
    made = [claim.prefix for claim in claims(LAN, wanted, MAC) if claim.is_derived]

    assert [str(prefix.network_address) for prefix in made] == derived


@given(st.binary(min_size=6, max_size=6), st.integers(64, 128))
def test_each_prefix_that_holds_a_derived_address_may_be_one(mac: bytes, length: int) -> None:
    derived = MacAddress(mac).eui64(IPv6Network("fd00::/64"))

    assert may_be_derived(LAN, ip_network((derived, length), strict=False))


@pytest.mark.parametrize(
    "prefix", ["fd00::1/128", "fd00::1:0/112", "fd00::5054:fe:0:0/96", "fd00::ff:fd00:0/104"]
)
def test_a_prefix_without_the_mark_of_derived_addresses_holds_none(prefix: str) -> None:
    assert not may_be_derived(LAN, ip_network(prefix))


def test_where_stacks_make_no_address_in_the_prefix_none_is_derived() -> None:
    other = ip_network("fd01::/64")
    derived = ip_network("fd00::ff:fe00:a/128")

    assert may_be_derived(LAN, derived)
    assert not may_be_derived(attrs.evolve(LAN, autoconf=False), derived)
    assert not may_be_derived(attrs.evolve(LAN, prefixes=(ip_network("fd00::/56"),)), derived)
    assert not may_be_derived(LAN, ip_network("10.0.1.0/28"))
    assert may_be_derived(attrs.evolve(LAN, prefixes=(other,)), other)
