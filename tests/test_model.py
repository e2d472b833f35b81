"""Values of the model: what they refuse of themselves, and the numbers they stand for."""

from ipaddress import ip_address, ip_network

import pytest

from multiplexer.model import (
    MAX_RATE,
    AddressRange,
    Config,
    Limits,
    Mode,
    Network,
    Origin,
    Uplink,
    UplinkKind,
    Vif,
    has_uplink_port,
    id_of_network,
    port_of_uplink,
    stable_mac,
)
from pfinet_proto.values import MacAddress, VifName

V4 = ip_network("10.0.1.0/24")
V6 = ip_network("fd00:1::/64")
WIRE = Uplink("wire", UplinkKind.NIC, "eth0", (ip_network("10.0.0.0/16"), V6))
NIC_MAC = MacAddress.parse("02:00:00:00:00:01")


def test_a_network_is_bridged_only_if_all_its_prefixes_are_on_the_wire() -> None:
    inside = Network("a", Mode.SWITCH, "wire", (V4, V6))
    half = Network("b", Mode.SWITCH, "wire", (V4, ip_network("fd00:2::/64")))
    nowhere = Uplink("nowhere", UplinkKind.NONE)

    assert has_uplink_port(inside, WIRE)
    assert not has_uplink_port(half, WIRE)
    assert not has_uplink_port(inside, nowhere)


def test_only_uplinks_of_kind_nic_have_ports() -> None:
    """Ports are dense from 0, so an uplink without a NIC must not take one."""
    second = Uplink("second", UplinkKind.NIC, "eth1")
    config = Config(uplinks=(Uplink("none", UplinkKind.NONE), WIRE, second))

    assert [port_of_uplink(config, name) for name in ("wire", "second")] == [0, 1]
    with pytest.raises(KeyError):
        port_of_uplink(config, "none")


def test_an_isolated_network_has_no_uplink_port_though_it_names_an_uplink() -> None:
    bridged = Network("a", Mode.SWITCH, "wire", (V4,))
    isolated = Network("b", Mode.SWITCH, "wire", (ip_network("192.168.0.0/24"),))
    alone = Network("c", Mode.SWITCH, None, (ip_network("192.168.1.0/24"),))
    config = Config(uplinks=(WIRE,), networks=(bridged, isolated, alone))

    assert [config.uplink_port_of(network) for network in config.networks] == [0, None, None]
    assert [id_of_network(config, name) for name in "abc"] == [0, 1, 2]


def test_a_network_has_at_most_one_prefix_and_one_gateway_of_a_family() -> None:
    with pytest.raises(ValueError, match="more than one prefix"):
        Network("a", Mode.SWITCH, None, (V4, ip_network("10.0.2.0/24")))
    with pytest.raises(ValueError, match="more than one gateway"):
        Network("a", Mode.SWITCH, None, (V4,), (ip_address("10.0.1.1"), ip_address("10.0.1.2")))


@pytest.mark.parametrize(
    ("prefixes", "mtu"), [((V4,), 575), ((V4,), 9001), ((V6,), 1279), ((V4, V6), 9001)]
)
def test_an_mtu_out_of_range_makes_no_network(prefixes: tuple[object, ...], mtu: int) -> None:
    with pytest.raises(ValueError, match=f"mtu is {mtu}"):
        Network("a", Mode.SWITCH, None, prefixes, mtu=mtu)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [-1, MAX_RATE + 1])
def test_a_rate_that_the_datapath_cannot_count_makes_no_limits(rate: int) -> None:
    with pytest.raises(ValueError, match="bytes_per_s"):
        Limits(bytes_per_s=rate)


@pytest.mark.parametrize("vif_id", ["", "A" * 32, "0" * 31, "0" * 33, "../" + "0" * 29])
def test_what_is_no_id_makes_no_vif(vif_id: str) -> None:
    """The id becomes the name of a directory."""
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        Vif(vif_id, VifName("a"), 1000, None, "net", NIC_MAC)


def test_an_uplink_has_an_interface_if_and_only_if_it_is_a_nic() -> None:
    with pytest.raises(ValueError, match="interface None"):
        Uplink("wire", UplinkKind.NIC)
    with pytest.raises(ValueError, match="interface 'eth0'"):
        Uplink("wire", UplinkKind.NONE, "eth0")


def test_a_stable_mac_is_local_unicast_and_depends_on_nic_and_name_alone() -> None:
    mac = stable_mac(NIC_MAC, VifName("alice"))

    assert mac == stable_mac(NIC_MAC, VifName("alice"))
    assert str(mac) == "52:54:18:39:16:b7"
    others = {
        stable_mac(NIC_MAC, VifName("bob")),
        stable_mac(MacAddress.parse("02:00:00:00:00:02"), VifName("alice")),
        stable_mac(None, VifName("alice")),
    }
    assert len(others | {mac}) == 4
    assert not mac.is_group
    assert mac.packed[0] & 0x02


def test_a_stable_mac_without_a_nic_is_as_with_a_nic_of_zeros() -> None:
    assert stable_mac(None, VifName("a")) == stable_mac(MacAddress(bytes(6)), VifName("a"))


@pytest.mark.parametrize(
    ("prefix", "overlaps"),
    [
        ("10.0.1.0/28", True),
        ("10.0.1.20/32", True),
        ("10.0.1.21/32", False),
        ("10.0.1.4/32", False),
        ("10.0.0.0/8", True),
        ("::/0", False),
    ],
)
def test_a_range_overlaps_prefixes_of_its_family_that_share_an_address(
    prefix: str, overlaps: bool
) -> None:
    range_ = AddressRange(ip_address("10.0.1.5"), ip_address("10.0.1.20"))

    assert range_.overlaps(ip_network(prefix)) is overlaps


def test_a_range_has_two_ends_of_one_family_in_order() -> None:
    with pytest.raises(ValueError, match="is no range"):
        AddressRange(ip_address("10.0.1.5"), ip_address("10.0.1.4"))
    with pytest.raises(ValueError, match="is no range"):
        AddressRange(ip_address("10.0.1.5"), ip_address("::5"))


def test_an_origin_locates_a_key_or_what_is_nearest_above_it() -> None:
    origin = Origin("m.toml", {("vif",): 3, ("vif", "a"): 3, ("vif", "a", "mac"): 5})

    assert origin.locate(("vif", "a", "mac")) == "m.toml:5: vif.a.mac"
    assert origin.locate(("vif", "a", "addresses", 1)) == "m.toml:3: vif.a.addresses"
    assert origin.locate(("network", "b")) == "m.toml:1: network.b"


def test_an_origin_keeps_a_strange_key_on_one_line() -> None:
    assert Origin("m.toml").locate(("vif", "a\nb")) == 'm.toml:1: vif."a\\nb"'
