"""What of an address or a prefix another takes, as Python's own slower method says it."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.binding import Claim, overlap
from pfinet_proto.values import IPNetwork


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
