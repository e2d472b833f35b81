"""The table while it changes: what goes leaves nothing, and what stays is as it was."""

import errno
from ipaddress import IPv4Network
from typing import Any

import attrs
from multiplexer.datapath._dp import ffi, lib

from tests.datapath.core import Core, network_row, vif_row
from tests.reference import Network, Vif, World

UPLINK = 0
A, B = 64, 65
LAN, LAB = Network(id=0, uplink=UPLINK), Network(id=1)


def vif(port: int, network: int = 0, address: str | None = None) -> Vif:
    return Vif(
        port=port,
        network=network,
        mac=bytes((0x52, 0x54, 0, 0, 0, port)),
        prefixes=(IPv4Network(address or f"10.0.0.{port}"),),
        up=True,
    )


def table(*vifs: Vif) -> Any:
    core = Core(World(networks=(LAN, LAB), vifs=vifs))
    KEPT.append(core)
    return core.table


#: The memory of tables is that of their cores.
KEPT: list[Core] = []


def set_network(table: Any, network: Network) -> int:
    row = network_row(network)
    return int(lib.dp_table_set_network(table, row, len(row)))


def set_vif(table: Any, vif: Vif, mtu: int = 1500) -> int:
    row = vif_row(vif, mtu)
    return int(lib.dp_table_set_vif(table, vif.port, row, len(row)))


def holder(table: Any, address: str, network: int = 0) -> int:
    return int(lib.dp_table_find_ipv4(table, network, IPv4Network(address).network_address.packed))


def test_a_network_is_cleared_when_its_last_vif_has_gone() -> None:
    full = table(vif(A))

    assert lib.dp_table_clear_network(full, LAN.id) == -errno.EBUSY
    assert lib.dp_table_clear(full, A) == 0
    assert lib.dp_table_clear_network(full, LAN.id) == 0
    assert set_vif(full, vif(A)) == -errno.EINVAL
    assert full.ports[UPLINK].network == lib.DP_NO_PORT


def test_the_uplink_of_a_cleared_network_is_free_for_another() -> None:
    empty = table()
    other = attrs.evolve(LAB, uplink=UPLINK)

    assert set_network(empty, other) == -errno.EEXIST
    assert lib.dp_table_clear_network(empty, LAN.id) == 0
    assert set_network(empty, other) == 0


def test_a_network_that_there_is_not_cannot_be_cleared() -> None:
    empty = table()

    for id_ in (2, lib.DP_MAX_NETWORKS, 0xFFFF):
        assert lib.dp_table_clear_network(empty, id_) == -errno.EINVAL


def test_a_cleared_uplink_leaves_its_network_isolated() -> None:
    full = table(vif(A))
    full.ports[UPLINK].count.rx_frames = 7

    assert lib.dp_table_clear_uplink(full, UPLINK) == 0
    assert full.networks[LAN.id].uplink == lib.DP_NO_PORT
    assert full.ports[UPLINK].count.rx_frames == 0
    assert set_network(full, LAN) == -errno.EINVAL
    assert lib.dp_table_set_uplink(full, UPLINK) == 0
    assert set_network(full, LAN) == 0


def test_only_an_uplink_is_cleared_as_one() -> None:
    full = table(vif(A))

    for port in (A, B, lib.DP_MAX_PORTS, 0xFFFF):
        assert lib.dp_table_clear_uplink(full, port) == -errno.EINVAL
    assert lib.dp_table_clear(full, UPLINK) == -errno.EINVAL


def test_a_vif_that_changes_keeps_counters_and_state_and_its_neighbours_all() -> None:
    full = table(vif(A), vif(B))
    full.ports[A].count.rx_frames = 7

    assert set_vif(full, vif(A, address="10.0.0.99")) == 0
    assert (full.ports[A].count.rx_frames, full.ports[A].up) == (7, True)
    assert full.networks[LAN.id].n_up == 2
    assert [holder(full, address) for address in ("10.0.0.64", "10.0.0.99", "10.0.0.65")] == [
        lib.DP_NO_PORT,
        A,
        B,
    ]


def test_a_vif_moves_to_another_network_with_all_that_it_has() -> None:
    full = table(vif(A), vif(B))

    assert set_vif(full, vif(A, network=LAB.id)) == 0
    assert [full.networks[network.id].n_up for network in (LAN, LAB)] == [1, 1]
    assert holder(full, "10.0.0.64", LAN.id) == lib.DP_NO_PORT
    assert holder(full, "10.0.0.64", LAB.id) == A
    assert lib.dp_table_clear(full, B) == 0
    assert lib.dp_table_clear_network(full, LAN.id) == 0


def test_a_networks_mtu_changes_under_its_vifs() -> None:
    full = table(vif(A))

    assert set_network(full, attrs.evolve(LAN, mtu=9000)) == 0
    assert set_vif(full, vif(A)) == -errno.EINVAL
    assert set_vif(full, vif(A), mtu=9000) == 0


def test_a_conflict_is_forgotten_with_the_address_that_it_was_about() -> None:
    full = table(vif(A))
    port = full.ports[A]
    port.conflict.family, port.conflict.count = 4, 3
    ffi.memmove(port.conflict.addr, bytes((10, 0, 0, A)), 4)

    assert set_vif(full, vif(A)) == 0
    assert port.conflict.count == 3
    assert set_vif(full, vif(A, address="10.0.0.99")) == 0
    assert (port.conflict.count, port.conflict.family) == (0, 0)
