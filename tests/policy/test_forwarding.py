"""Rows of the network table: byte by byte, and back again; what a NIC must receive."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from pathlib import Path

import attrs
import pytest

from multiplexer.model import Config, Mode, Network, Uplink, UplinkKind, Vif
from multiplexer.policy.forwarding import (
    NETWORK_ROW_LEN,
    NetworkRow,
    compile_network,
    decode_network,
    memberships,
)
from pfinet_proto.values import MacAddress, VifName

TABLE_H = Path(__file__).parents[2] / "multiplexer" / "datapath" / "core" / "table.h"

V4 = IPv4Network("10.0.1.0/24")
V6 = IPv6Network("fd00:1::/64")
CONFIG = Config(
    uplinks=(
        Uplink("nowhere", UplinkKind.NONE),
        Uplink("idle", UplinkKind.NIC, "eth0"),
        Uplink("wire", UplinkKind.NIC, "eth1", (ip_network("10.0.0.0/16"), V6)),
    ),
    networks=(
        Network("island", Mode.SWITCH, "nowhere", (ip_network("192.168.0.0/25"),)),
        Network("lan", Mode.HUB, "wire", (V4, V6), mtu=9000),
        Network("far", Mode.SWITCH, "wire", (ip_network("fd00:7::/48"),)),
    ),
)

GOLDEN = {
    "island": "0000 00 02 ffff dc05 c0a80000 19 00000000000000000000000000000000 00",
    "lan": "0100 01 07 0100 2823 0a000100 18 fd000001000000000000000000000000 40",
    "far": "0200 00 04 ffff dc05 00000000 00 fd000007000000000000000000000000 30",
}

ROWS = {
    "island": NetworkRow(0, Mode.SWITCH, None, 1500, IPv4Network("192.168.0.0/25"), None),
    "lan": NetworkRow(1, Mode.HUB, 1, 9000, V4, V6),
    "far": NetworkRow(2, Mode.SWITCH, None, 1500, None, IPv6Network("fd00:7::/48")),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_row_is_the_golden_one_byte_by_byte(name: str) -> None:
    row = compile_network(CONFIG, CONFIG.network(name))

    assert row.hex() == GOLDEN[name].replace(" ", "") + "00" * 10


@pytest.mark.parametrize("name", ROWS)
def test_a_row_reads_back_as_what_was_compiled(name: str) -> None:
    assert decode_network(compile_network(CONFIG, CONFIG.network(name))) == ROWS[name]


@pytest.mark.parametrize("row", [b"", bytes(39), bytes(41)])
def test_a_row_of_another_length_is_not_read(row: bytes) -> None:
    with pytest.raises(ValueError, match=f"{len(row)} bytes, not 40"):
        decode_network(row)


def test_a_row_of_an_unknown_mode_is_not_read() -> None:
    with pytest.raises(ValueError, match="mode 2"):
        decode_network(b"\0\0\2".ljust(NETWORK_ROW_LEN, b"\0"))


def test_the_size_of_a_row_is_that_of_the_datapath() -> None:
    found = re.search(r"#define DP_NETWORK_ROW_LEN (\d+)", TABLE_H.read_text())

    assert found is not None
    assert int(found[1]) == NETWORK_ROW_LEN


def vif(name: str, number: int, network: str, address: str) -> Vif:
    return Vif(
        id=f"{number:032x}",
        name=VifName(name),
        owner_uid=1000,
        owner_name=None,
        network=network,
        mac=MacAddress(bytes([2, 0, 0, 0, 0, number])),
        addresses=(ip_interface(address),),
    )


def test_a_nic_receives_for_the_vifs_that_are_bridged_to_it_and_for_no_other() -> None:
    """A NIC with nothing behind it is named too, so that the last vif's MAC can go."""
    vifs = (
        vif("b", 2, "lan", "10.0.1.2/24"),
        vif("a", 1, "lan", "10.0.1.1/24"),
        vif("c", 3, "far", "fd00:7::3/48"),
        vif("d", 4, "island", "192.168.0.4/25"),
    )

    assert memberships(CONFIG, vifs) == {"idle": (), "wire": (vifs[1].mac, vifs[0].mac)}


def test_networks_keep_their_numbers_when_their_rows_change() -> None:
    changed = attrs.evolve(CONFIG.network("lan"), mtu=1500)
    config = attrs.evolve(CONFIG, networks=(CONFIG.networks[0], changed, CONFIG.networks[2]))

    assert compile_network(config, changed)[:2] == compile_network(CONFIG, CONFIG.networks[1])[:2]
