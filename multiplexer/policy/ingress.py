"""What a vif may claim and send, as a row of the datapath's vif table.

A row is 688 bytes, little-endian, without padding but the two bytes shown;
`dp_table_set_vif()` in datapath/core/table.c reads it:

    u16 network id, u16 mtu, u8 flags, u8 n_ipv4, u8 n_ipv6, u8 n_ethertypes,
    mac[6], 2 zero bytes, u64 frames_per_s, bytes_per_s, broadcast_per_s, copies_per_s,
    16 of (ipv4[4], u8 length), 32 of (ipv6[16], u8 length), 8 of u16 ethertype

What is not used is zero.  Flags are the roles of a vif: 1 router, 2 DHCP server;
8 is the host's own port, and 16 where it may claim link-local addresses by first come.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Final

import attrs

from pfinet_proto.values import IPAddress, IPNetwork, MacAddress

from ..binding import bound_prefixes
from ..host_port import claims_of_host, limits_of, mac_of
from ..model import (
    MAX_BOUND,
    MAX_ETHERTYPES,
    Config,
    Limits,
    LinkLocal,
    Network,
    Role,
    Trust,
    Vif,
    id_of_network,
)

VIF_ROW_LEN: Final = 688

_HEAD: Final = struct.Struct("<HHBBBB6s2x4Q")
_IPV4: Final = struct.Struct("<4sB")
_IPV6: Final = struct.Struct("<16sB")
_ETHERTYPES: Final = struct.Struct(f"<{MAX_ETHERTYPES}H")
_IPV4_LEN: Final = _IPV4.size * MAX_BOUND[4]
_IPV6_LEN: Final = _IPV6.size * MAX_BOUND[6]

_FLAG_OF: Final[Mapping[Role, int]] = MappingProxyType({Role.ROUTER: 1, Role.DHCP_SERVER: 2})
_HOST: Final = 8
_FIRST_COME: Final = 16

assert _HEAD.size + _IPV4_LEN + _IPV6_LEN + _ETHERTYPES.size == VIF_ROW_LEN


@attrs.frozen
class VifRow:
    """A row read back: what the datapath makes of it."""

    network_id: int
    mtu: int
    flags: int
    mac: MacAddress
    limits: Limits
    prefixes: tuple[IPNetwork, ...]
    ethertypes: tuple[int, ...] = ()


def compile_vif(config: Config, vif: Vif) -> bytes:
    """Return the row of *vif*.

    Raises:
        KeyError: if its network is not in *config*.
        ValueError: if it is bound to more than a row holds.
    """
    network = config.network(vif.network)
    return _compile(
        config,
        network,
        f"vif {vif.name}",
        vif.mac,
        _flags(network, vif.trust),
        vif.limits.over(network.limits),
        bound_prefixes(network, vif),
        vif.trust.ethertypes,
    )


def compile_host(config: Config, network: Network, addresses: Iterable[IPAddress]) -> bytes:
    """Return the row of the host's own port in *network*, where it has *addresses*.

    Raises:
        ValueError: if they are more than a row holds.
    """
    return _compile(
        config,
        network,
        f"the host in {network.name}",
        mac_of(network.name),
        _HOST,
        limits_of(network),
        claims_of_host(network, addresses),
    )


def _compile(
    config: Config,
    network: Network,
    who: str,
    mac: MacAddress,
    flags: int,
    limits: Limits,
    prefixes: Sequence[IPNetwork],
    ethertypes: Sequence[int] = (),
) -> bytes:
    ipv4 = [
        _IPV4.pack(prefix.network_address.packed, prefix.prefixlen)
        for prefix in prefixes
        if prefix.version == 4
    ]
    ipv6 = [
        _IPV6.pack(prefix.network_address.packed, prefix.prefixlen)
        for prefix in prefixes
        if prefix.version == 6
    ]
    if len(ipv4) > MAX_BOUND[4] or len(ipv6) > MAX_BOUND[6]:
        raise ValueError(
            f"{who} is bound to {len(ipv4)} IPv4 and {len(ipv6)} IPv6 prefixes,"
            f" wanted at most {MAX_BOUND[4]} and {MAX_BOUND[6]}"
        )
    head = _HEAD.pack(
        id_of_network(config, network.name),
        network.mtu,
        flags,
        len(ipv4),
        len(ipv6),
        len(ethertypes),
        mac.packed,
        limits.frames_per_s,
        limits.bytes_per_s,
        limits.broadcast_per_s,
        limits.copies_per_s,
    )
    return b"".join(
        [
            head,
            b"".join(ipv4).ljust(_IPV4_LEN, b"\0"),
            b"".join(ipv6).ljust(_IPV6_LEN, b"\0"),
            _ETHERTYPES.pack(*ethertypes, *[0] * (MAX_ETHERTYPES - len(ethertypes))),
        ]
    )


def _flags(network: Network, trust: Trust) -> int:
    link_local = trust.link_local or network.link_local
    flags = sum(_FLAG_OF[role] for role in trust.roles)
    return flags | (_FIRST_COME if link_local is LinkLocal.FIRST_COME else 0)


def decode_vif(row: bytes) -> VifRow:
    """Return what *row*, made by compile_vif(), says.

    Raises:
        ValueError: if it is no such row.
    """
    if len(row) != VIF_ROW_LEN:
        raise ValueError(f"vif row is {len(row)} bytes, not {VIF_ROW_LEN}")
    network_id, mtu, flags, n_ipv4, n_ipv6, n_ethertypes, mac, *rates = _HEAD.unpack_from(row)
    if n_ipv4 > MAX_BOUND[4] or n_ipv6 > MAX_BOUND[6] or n_ethertypes > MAX_ETHERTYPES:
        raise ValueError(f"vif row counts {n_ipv4}, {n_ipv6} and {n_ethertypes} entries")
    ipv4 = row[_HEAD.size :][:_IPV4_LEN]
    ipv6 = row[_HEAD.size + _IPV4_LEN :][:_IPV6_LEN]
    return VifRow(
        network_id=network_id,
        mtu=mtu,
        flags=flags,
        mac=MacAddress(mac),
        limits=Limits(*rates),
        prefixes=(
            *map(IPv4Network, list(_IPV4.iter_unpack(ipv4))[:n_ipv4]),
            *map(IPv6Network, list(_IPV6.iter_unpack(ipv6))[:n_ipv6]),
        ),
        ethertypes=_ETHERTYPES.unpack_from(row, VIF_ROW_LEN - _ETHERTYPES.size)[:n_ethertypes],
    )
