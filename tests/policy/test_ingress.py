"""Rows of the vif table: byte by byte, and back again."""

import re
from ipaddress import IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer import model
from multiplexer.binding import bound_prefixes
from multiplexer.host_port import mac_of
from multiplexer.model import (
    Config,
    Limits,
    LinkLocal,
    Mode,
    Network,
    OwnLimits,
    Role,
    Trust,
    Vif,
)
from multiplexer.policy.ingress import (
    VIF_ROW_LEN,
    VifRow,
    compile_host,
    compile_vif,
    decode_vif,
)
from pfinet_proto.values import MacAddress, VifName

CORE = Path(__file__).parents[2] / "multiplexer" / "datapath" / "core"

MAC = MacAddress.parse("52:54:00:12:34:56")
LAN = Network(
    "lan", Mode.SWITCH, None, (ip_network("10.0.1.0/24"), ip_network("fd00:1::/64")), mtu=9000
)
ISLAND = Network("island", Mode.HUB, None, (ip_network("192.168.0.0/24"),))
CONFIG = Config(networks=(ISLAND, LAN))
VIF = Vif(
    id="0" * 32,
    name=VifName("alice"),
    owner_uid=1000,
    owner_name="alice",
    network="lan",
    mac=MAC,
    addresses=(ip_interface("10.0.1.5/24"), ip_interface("fd00:1::5/64")),
    prefixes=(ip_network("10.0.1.64/28"),),
    limits=OwnLimits(1, 8_000_000_000, 500, 50_000),
)

GOLDEN = (
    # network id 1, mtu 9000, flags, 2 IPv4, 3 IPv6, no EtherTypes
    "0100 2823 00 02 03 00"
    "525400123456 0000"
    # 1 frame/s, 8 000 000 000 byte/s, 500 and 50 000
    "0100000000000000 0050d6dc01000000 f401000000000000 50c3000000000000"
    # 10.0.1.5/32, 10.0.1.64/28, and 14 unused
    "0a00010520 0a0001401c" + "0000000000" * 14 +
    # fd00:1::5/128, the link-local and the autoconfigured address, and 29 unused
    "fd000001000000000000000000000005 80"
    "fe80000000000000505400fffe123456 80"
    "fd00000100000000505400fffe123456 80"
    + "00" * 17 * 29
    +
    # no EtherTypes
    "00" * 16
)


def test_a_row_is_the_golden_one_byte_by_byte() -> None:
    assert compile_vif(CONFIG, VIF).hex() == GOLDEN.replace(" ", "")


def test_roles_and_ethertypes_are_in_the_row() -> None:
    trust = Trust(frozenset(Role), ethertypes=(0x88CC, 0x0842))

    row = decode_vif(compile_vif(CONFIG, attrs.evolve(VIF, trust=trust)))

    assert (row.flags, row.ethertypes) == (3, (0x88CC, 0x0842))


def test_limits_that_a_vif_does_not_have_are_its_networks() -> None:
    vif = attrs.evolve(VIF, limits=OwnLimits(bytes_per_s=5))

    assert decode_vif(compile_vif(CONFIG, vif)).limits == Limits(bytes_per_s=5)


def test_a_row_reads_back_as_what_was_compiled() -> None:
    assert decode_vif(compile_vif(CONFIG, VIF)) == VifRow(
        network_id=1,
        mtu=9000,
        flags=0,
        mac=MAC,
        limits=Limits(1, 8_000_000_000, 500, 50_000),
        prefixes=(
            ip_network("10.0.1.5/32"),
            ip_network("10.0.1.64/28"),
            ip_network("fd00:1::5/128"),
            ip_network("fe80::5054:ff:fe12:3456/128"),
            ip_network("fd00:1::5054:ff:fe12:3456/128"),
        ),
    )


def test_without_autoconf_only_the_link_local_address_is_derived() -> None:
    config = Config(networks=(attrs.evolve(LAN, autoconf=False),))

    prefixes = decode_vif(compile_vif(config, VIF)).prefixes

    assert ip_network("fe80::5054:ff:fe12:3456/128") in prefixes
    assert ip_network("fd00:1::5054:ff:fe12:3456/128") not in prefixes


def test_a_prefix_that_is_no_64_has_no_autoconfigured_address() -> None:
    """Autoconfiguration needs 64 bits for the identifier (RFC 4862, section 5.5.3)."""
    network = attrs.evolve(LAN, prefixes=(ip_network("fd00:1::/48"),))
    vif = attrs.evolve(VIF, addresses=(ip_interface("fd00:1::5/48"),), prefixes=())

    prefixes = decode_vif(compile_vif(Config(networks=(network,)), vif)).prefixes

    assert [str(prefix) for prefix in prefixes] == [
        "fd00:1::5/128",
        "fe80::5054:ff:fe12:3456/128",
    ]


def test_a_vif_with_ipv4_alone_still_has_its_link_local_address() -> None:
    vif = attrs.evolve(
        VIF, network="island", addresses=(ip_interface("192.168.0.2/24"),), prefixes=()
    )

    row = decode_vif(compile_vif(CONFIG, vif))

    assert (row.network_id, row.mtu) == (0, 1500)
    assert row.prefixes == (
        ip_network("192.168.0.2/32"),
        ip_network("fe80::5054:ff:fe12:3456/128"),
    )


def test_what_is_bound_twice_stands_in_the_row_once() -> None:
    """The datapath refuses a row that has one prefix twice: each is a key of its index."""
    vif = attrs.evolve(
        VIF,
        addresses=(ip_interface("10.0.1.5/24"), ip_interface("fd00:1::5054:ff:fe12:3456/64")),
        prefixes=(ip_network("10.0.1.5/32"),),
    )

    prefixes = decode_vif(compile_vif(CONFIG, vif)).prefixes

    assert len(prefixes) == len(set(prefixes)) == 3


def test_more_prefixes_than_a_row_holds_are_no_row() -> None:
    many = tuple(ip_interface(f"10.0.1.{n}/24") for n in range(10, 27))

    with pytest.raises(ValueError, match="bound to 17 IPv4 and 1 IPv6"):
        compile_vif(CONFIG, attrs.evolve(VIF, addresses=many, prefixes=()))


def test_a_vif_of_an_unknown_network_is_no_row() -> None:
    with pytest.raises(KeyError, match="gone"):
        compile_vif(CONFIG, attrs.evolve(VIF, network="gone"))


@pytest.mark.parametrize("row", [b"", bytes(VIF_ROW_LEN - 1), bytes(VIF_ROW_LEN + 1)])
def test_a_row_of_another_length_is_not_read(row: bytes) -> None:
    with pytest.raises(ValueError, match=f"{len(row)} bytes, not 688"):
        decode_vif(row)


@pytest.mark.parametrize(("offset", "count"), [(5, 17), (6, 33), (7, 9)])
def test_a_row_that_counts_more_than_it_holds_is_not_read(offset: int, count: int) -> None:
    row = bytearray(compile_vif(CONFIG, VIF))
    row[offset] = count

    with pytest.raises(ValueError, match="vif row counts"):
        decode_vif(bytes(row))


@pytest.mark.parametrize(
    ("of_network", "own", "flags"),
    [
        (LinkLocal.EUI64, None, 0),
        (LinkLocal.FIRST_COME, None, 16),
        (LinkLocal.EUI64, LinkLocal.FIRST_COME, 16),
        (LinkLocal.FIRST_COME, LinkLocal.EUI64, 0),
    ],
)
def test_a_vif_may_claim_what_its_own_word_or_else_its_networks_says(
    of_network: LinkLocal, own: LinkLocal | None, flags: int
) -> None:
    config = attrs.evolve(CONFIG, networks=(attrs.evolve(LAN, link_local=of_network),))
    vif = attrs.evolve(VIF, trust=attrs.evolve(VIF.trust, link_local=own))

    assert decode_vif(compile_vif(config, vif)).flags == flags


@given(
    st.binary(min_size=6, max_size=6).map(MacAddress),
    st.lists(st.ip_addresses(v=4), max_size=16, unique=True),
    st.lists(st.ip_addresses(v=6), max_size=30, unique=True),
    st.builds(Limits, *[st.integers(0, model.MAX_RATE)] * 4),
)
def test_any_binding_reads_back_as_it_was(
    mac: MacAddress, ipv4: list[object], ipv6: list[object], limits: Limits
) -> None:
    vif = attrs.evolve(
        VIF,
        mac=mac,
        addresses=tuple(ip_interface(f"{address}") for address in (*ipv4, *ipv6)),
        prefixes=(),
        limits=OwnLimits(**attrs.asdict(limits)),
    )

    row = decode_vif(compile_vif(CONFIG, vif))

    assert (row.mac, row.limits) == (mac, limits)
    assert set(row.prefixes) == set(bound_prefixes(LAN, vif))
    own = ip_network((mac.eui64(IPv6Network("fd00:1::/64")), 128))
    assert not ipv6 or own in row.prefixes


@pytest.mark.parametrize(
    ("header", "macro", "value"),
    [
        ("table.h", "DP_VIF_ROW_LEN", VIF_ROW_LEN),
        ("table.h", "DP_MAX_NETWORKS", model.MAX_NETWORKS),
        ("table.h", "DP_MAX_PORTS", model.MAX_PORTS),
        ("table.h", "DP_MAX_IPV4", model.MAX_BOUND[4]),
        ("table.h", "DP_MAX_IPV6", model.MAX_BOUND[6]),
        ("limit.h", "DP_MAX_RATE", model.MAX_RATE),
        ("table.h", "DP_MAX_ETHERTYPES", model.MAX_ETHERTYPES),
    ],
)
def test_sizes_are_those_of_the_datapath(header: str, macro: str, value: int) -> None:
    found = re.search(rf"#define {macro} (\d+)", (CORE / header).read_text())

    assert found is not None
    assert int(found[1]) == value


def test_the_hosts_own_row_is_bound_to_its_addresses_and_its_link_local_one() -> None:
    network = attrs.evolve(LAN, host=True, limits=Limits(10, 20, 30, 40))
    config = Config(networks=(ISLAND, network))

    row = decode_vif(compile_host(config, network, (ip_address("10.0.1.2"),)))

    assert row == VifRow(
        network_id=1,
        mtu=9000,
        flags=8,
        mac=mac_of("lan"),
        limits=Limits(0, 0, 30, 40),
        prefixes=(
            ip_network("10.0.1.2/32"),
            ip_network((mac_of("lan").link_local().packed, 128)),
        ),
    )
