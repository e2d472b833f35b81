"""Where frames of a network may go, as a row of the datapath's network table.

A row is 40 bytes, little-endian; `dp_table_set_network()` in
datapath/core/table.c reads it:

    u16 id, u8 mode (0 switch, 1 hub), u8 flags, u16 uplink port, u16 mtu,
    ipv4[4], u8 length, ipv6[16], u8 length, 10 zero bytes

Flags say which of the fields behind them mean something: 1 the uplink port
(else 0xffff), 2 the IPv4 prefix, 4 the IPv6 prefix.
"""

import struct
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Final

import attrs

from pfinet_proto.values import MacAddress

from ..model import Config, Mode, Network, UplinkKind, Vif, id_of_network

NETWORK_ROW_LEN: Final = 40
NO_PORT: Final = 0xFFFF

_ROW: Final = struct.Struct("<HBBHH4sB16sB10x")
_MODES: Final = MappingProxyType({Mode.SWITCH: 0, Mode.HUB: 1})
_HAS_UPLINK: Final = 1
_HAS_IPV4: Final = 2
_HAS_IPV6: Final = 4

assert _ROW.size == NETWORK_ROW_LEN


@attrs.frozen
class NetworkRow:
    """A row read back: what the datapath makes of it."""

    id: int
    mode: Mode
    uplink_port: int | None
    mtu: int
    ipv4: IPv4Network | None
    ipv6: IPv6Network | None


def compile_network(config: Config, network: Network) -> bytes:
    """Return the row of *network*, which is one of *config*."""
    port = config.uplink_port_of(network)
    ipv4, ipv6 = network.prefix(4), network.prefix(6)
    flags = (
        (_HAS_UPLINK if port is not None else 0)
        | (_HAS_IPV4 if ipv4 is not None else 0)
        | (_HAS_IPV6 if ipv6 is not None else 0)
    )
    return _ROW.pack(
        id_of_network(config, network.name),
        _MODES[network.mode],
        flags,
        NO_PORT if port is None else port,
        network.mtu,
        ipv4.network_address.packed if ipv4 is not None else b"",
        ipv4.prefixlen if ipv4 is not None else 0,
        ipv6.network_address.packed if ipv6 is not None else b"",
        ipv6.prefixlen if ipv6 is not None else 0,
    )


def decode_network(row: bytes) -> NetworkRow:
    """Return what *row*, made by compile_network(), says.

    Raises:
        ValueError: if it is no such row.
    """
    if len(row) != NETWORK_ROW_LEN:
        raise ValueError(f"network row is {len(row)} bytes, not {NETWORK_ROW_LEN}")
    id_, mode_number, flags, port, mtu, ipv4, length4, ipv6, length6 = _ROW.unpack(row)
    modes = [mode for mode, number in _MODES.items() if number == mode_number]
    if not modes:
        raise ValueError(f"network row has mode {mode_number}")
    return NetworkRow(
        id=id_,
        mode=modes[0],
        uplink_port=port if flags & _HAS_UPLINK else None,
        mtu=mtu,
        ipv4=IPv4Network((ipv4, length4)) if flags & _HAS_IPV4 else None,
        ipv6=IPv6Network((ipv6, length6)) if flags & _HAS_IPV6 else None,
    )


def memberships(config: Config, vifs: Iterable[Vif]) -> Mapping[str, tuple[MacAddress, ...]]:
    """Return, for each nic uplink, the MACs that it must receive: those of the vifs behind it."""
    macs: dict[str, list[MacAddress]] = {
        uplink.name: [] for uplink in config.uplinks if uplink.kind is UplinkKind.NIC
    }
    for vif in vifs:
        network = config.network(vif.network)
        if network.uplink is not None and config.uplink_port_of(network) is not None:
            macs[network.uplink].append(vif.mac)
    return {uplink: tuple(sorted(of_uplink)) for uplink, of_uplink in macs.items()}
