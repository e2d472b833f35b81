"""What of an address or a prefix another takes, as Python's own slower method says it."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.binding import Claim, claims, overlap
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
