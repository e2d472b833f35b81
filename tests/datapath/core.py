"""The C core under test: the reference's values go in, and its decisions come out."""

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any, Final

from multiplexer.datapath._dp import ffi, lib

from tests.reference import (
    Conflict,
    Decision,
    Frame,
    IPAddress,
    IPNetwork,
    Network,
    Reason,
    Route,
    Vif,
    World,
)

VERDICTS: Final = tuple(
    ffi.string(lib.dp_verdict_name(number)).decode() for number in range(lib.DP_N_VERDICTS)
)

NETWORK_ROW: Final = struct.Struct("<HBBHH32x")
VIF_ROW: Final = struct.Struct("<HHBBBB6s2x4Q80s544s8H")
HAS_UPLINK: Final = 1

SEED: Final = 0x5EED


def network_row(network: Network) -> bytes:
    """Return a network's row; its prefixes stay zero, since nothing is decided by them."""
    uplink = lib.DP_NO_PORT if network.uplink is None else network.uplink
    flags = 0 if network.uplink is None else HAS_UPLINK
    return NETWORK_ROW.pack(network.id, network.hub, flags, uplink, network.mtu)


def vif_row(vif: Vif, mtu: int) -> bytes:
    """Return a vif's row."""
    ipv4 = [prefix for prefix in vif.prefixes if isinstance(prefix, IPv4Network)]
    ipv6 = [prefix for prefix in vif.prefixes if not isinstance(prefix, IPv4Network)]
    ethertypes = sorted(vif.ethertypes)
    flags = (
        lib.DP_VIF_ROUTER * vif.router
        | lib.DP_VIF_DHCP_SERVER * vif.dhcp_server
        | lib.DP_VIF_ANY_ETHERTYPE * vif.any_ethertype
        | lib.DP_VIF_HOST * vif.host
        | lib.DP_VIF_FIRST_COME * vif.first_come
    )
    return VIF_ROW.pack(
        *(vif.network, mtu, flags, len(ipv4), len(ipv6), len(ethertypes), vif.mac),
        vif.limits.frames_per_s,
        vif.limits.bytes_per_s,
        vif.limits.broadcast_per_s,
        vif.limits.copies_per_s,
        b"".join(map(prefix_field, ipv4)),
        b"".join(map(prefix_field, ipv6)),
        *(ethertypes + [0] * (lib.DP_MAX_ETHERTYPES - len(ethertypes))),
    )


def prefix_field(prefix: IPNetwork) -> bytes:
    """Return a prefix as it stands in a row."""
    return prefix.network_address.packed + bytes((prefix.prefixlen,))


class Core:
    """One table of the C core, filled with a world."""

    def __init__(self, world: World) -> None:
        self._memory = ffi.new("uint64_t[]", lib.dp_table_size() // 8)
        self.table = ffi.cast("struct dp_table *", self._memory)
        lib.dp_table_init(self.table, SEED)
        bridged = {n.uplink: n.uplink_up for n in world.networks if n.uplink is not None}
        for uplink in (*bridged, *world.idle_uplinks):
            assert lib.dp_table_set_uplink(self.table, uplink) == 0
            lib.dp_table_set_up(self.table, uplink, bridged.get(uplink, True))
        for network in world.networks:
            self._set(lib.dp_table_set_network, network_row(network))
        for vif in world.vifs:
            self._set(lib.dp_table_set_vif, vif_row(vif, world.network(vif.network).mtu), vif.port)
            lib.dp_table_set_up(self.table, vif.port, vif.up)

    def _set(self, setter: Any, row: bytes, *port: int) -> None:
        assert setter(self.table, *port, row, len(row)) == 0

    def from_vif(self, port: int, frame: Frame, now_ns: int) -> Decision:
        """Judge a frame that the vif at *port* sent."""
        view, data, decision = self._given(frame)
        lib.dp_forward_from_vif(self.table, port, view, data, len(frame.data), now_ns, decision)
        return read_decision(decision)

    def set_wire(self, network: Network, up: bool, now_ns: int) -> None:
        """Say whether the wire of *network* is there, as the loop does."""
        if not up:
            lib.dp_claim_wire_lost(self.table, network.id, now_ns)
        lib.dp_table_set_up(self.table, network.uplink, up)

    def traced(self, port: int, frame: Frame, now_ns: int) -> Decision:
        """Judge a frame that the vif at *port* could send."""
        view, data, decision = self._given(frame)
        lib.dp_forward_trace(self.table, port, view, data, len(frame.data), now_ns, decision)
        return read_decision(decision)

    def from_uplink(self, port: int, frame: Frame) -> Decision:
        """Judge a frame that came from the wire."""
        view, data, decision = self._given(frame)
        lib.dp_forward_from_uplink(self.table, port, view, data, len(frame.data), decision)
        return read_decision(decision)

    def receivers(self, port: int, decision: Decision) -> list[int]:
        """Return who is given a frame from *port* of which that becomes."""
        given = ffi.new("struct dp_decision *")
        given.route = [*Route].index(decision.route)
        given.port = lib.DP_NO_PORT if decision.port is None else decision.port
        given.network = lib.DP_NO_PORT if decision.network is None else decision.network
        found = []
        receiver = lib.DP_NO_PORT
        while (
            receiver := lib.dp_forward_next(self.table, given, port, receiver)
        ) != lib.DP_NO_PORT:
            found.append(receiver)
        listed = ffi.new("uint16_t[]", 2)
        assert lib.dp_forward_list(self.table, given, port, listed, 2) == len(found)
        assert list(listed)[: len(found)] == found[:2]
        return sorted(found)

    @staticmethod
    def _given(frame: Frame) -> tuple[Any, Any, Any]:
        """Return memory for a call; where nothing must be read or is left over, it is not zero."""
        view = ffi.new("struct dp_frame *")
        ffi.memmove(view, b"\xa5" * ffi.sizeof("struct dp_frame"), ffi.sizeof("struct dp_frame"))
        meta = frame.meta
        view.meta = {
            "csum": meta.csum,
            "csum_start": meta.csum_start,
            "csum_offset": meta.csum_offset,
            "gso": meta.gso,
            "gso_size": meta.gso_size,
            "vlan": meta.vlan,
            "ecn": False,
        }
        decision = ffi.new("struct dp_decision *")
        ffi.memmove(
            decision, b"\xa5" * ffi.sizeof("struct dp_decision"), ffi.sizeof("struct dp_decision")
        )
        return view, ffi.new("uint8_t[]", frame.data), decision


def read_decision(decision: Any) -> Decision:
    """Return what the core wrote, as the reference says it."""
    route = Route(
        {
            lib.DP_ROUTE_NONE: "none",
            lib.DP_ROUTE_PORT: "port",
            lib.DP_ROUTE_FLOOD: "flood",
            lib.DP_ROUTE_MEMBERS: "members",
        }[decision.route]
    )
    return Decision(
        reason=Reason(VERDICTS[decision.verdict]) if decision.verdict != lib.DP_PASS else None,
        route=route,
        port=decision.port if route is Route.PORT else None,
        network=decision.network if route in (Route.FLOOD, Route.MEMBERS) else None,
        conflict=read_conflict(decision),
    )


def read_conflict(decision: Any) -> Conflict | None:
    """Return the conflict that a decision tells of."""
    if decision.conflict == lib.DP_NO_PORT:
        return None
    packed = bytes(decision.conflict_addr)
    address: IPAddress
    if decision.conflict_family == 4:
        assert packed[4:] == bytes(12)
        address = IPv4Address(packed[:4])
    else:
        assert decision.conflict_family == 6
        address = IPv6Address(packed)
    return Conflict(port=decision.conflict, address=address)
