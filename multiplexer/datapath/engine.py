"""The C datapath as an object.

An `Engine` owns a loop and its table.  `run` moves frames in C until something
happens that needs thought, and says what; every other method changes one thing
and returns at once.  Nothing here knows of processes, messages or policy.
"""

import errno
import os
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from types import MappingProxyType

import attrs
from multiplexer.datapath._dp import ffi, lib

from multiplexer.datapath.sightings import Sighted, read_sighting
from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.observe.trace import L3, MAX_LISTED, STEPS, Receiver, Traced

MAX_PORTS: int = lib.DP_MAX_PORTS
MAX_FILTER_BYTES: int = lib.DP_FILTER_MAX_LEN

#: How a packet socket's receive ring must have been made.
RING_SLOT_BYTES: int = lib.DP_RING_SLOT_LEN
RING_BLOCK_BYTES: int = lib.DP_RING_BLOCK_LEN
RING_BLOCKS: int = lib.DP_RING_BLOCKS

#: What `Engine.run` returns beside the tag of a watched descriptor.
SIGNAL: int = lib.DP_RUN_SIGNAL
DETACHED: int = lib.DP_RUN_DETACHED
SIGHTED: int = lib.DP_RUN_SIGHTED

#: The transport that has two descriptors.
RING = "ring"

#: Where the source address of a network header stands, and its length.
_SOURCES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "arp": (lib.DP_ETH_LEN + 14, 4),
        "ipv4": (lib.DP_ETH_LEN + 12, 4),
        "ipv6": (lib.DP_ETH_LEN + 8, 16),
    }
)


@attrs.frozen
class Ended:
    """An attachment that ended by itself; *error* is an errno, 0 if the peer closed."""

    port: int
    generation: int
    error: int


@attrs.frozen
class PortCounters:
    """Frames and bytes from a port's stack or wire (rx) and to it (tx), and its drops.

    *drops* has one number per verdict, in the order of `VERDICTS`.
    """

    rx_frames: int
    rx_bytes: int
    tx_frames: int
    tx_bytes: int
    drops: tuple[int, ...]


@attrs.frozen
class PortConflict:
    """A stranger on the wire who claims an address bound to a port.

    *mac* is six bytes, *address* four or sixteen.
    """

    mac: bytes
    address: bytes
    count: int


class Engine:
    """One C loop with its table.

    A *wary* one takes no descriptor that a client sends: for kernels that do not
    refuse them.  Methods raise OSError with the errno that the C core returned.
    """

    def __init__(self, wary: bool = False) -> None:
        self._loop = lib.dp_loop_new(int.from_bytes(os.urandom(8), "little"))
        if self._loop == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._loop.wary = wary
        self._table = lib.dp_loop_table(self._loop)

    def close(self) -> None:
        """End every attachment and free all memory."""
        lib.dp_loop_free(self._loop)
        self._loop = self._table = ffi.NULL

    def enter_sandbox(self) -> None:
        """Give up, for good, every system call that the loop does not need."""
        _check(lib.dp_sandbox_enter(), "sandbox")

    def watch(self, fd: int, tag: int) -> None:
        """Let `run` return *tag*, above 0, when *fd* can be read."""
        _check(lib.dp_loop_watch(self._loop, fd, tag), f"watch {fd}")

    def unwatch(self, fd: int) -> None:
        """Forget a watched descriptor, before it is closed."""
        _check(lib.dp_loop_unwatch(self._loop, fd), f"unwatch {fd}")

    def run(self) -> int:
        """Move frames until there is something to do; return what: a tag, or one of the others."""
        reason: int = lib.dp_loop_run(self._loop)
        if reason == lib.DP_RUN_FAILED:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        return reason

    def ended(self) -> Iterator[Ended]:
        """Take the attachments that ended by themselves."""
        ended = ffi.new("struct dp_ended *")
        while lib.dp_loop_next_ended(self._loop, ended):
            yield Ended(ended.port, ended.generation, ended.error)

    def sighted(self, most: int) -> Iterator[Sighted]:
        """Take up to *most* sightings; `run` tells again if there are others."""
        sighted = ffi.new("struct dp_sighted *")
        while most and lib.dp_loop_next_sighting(self._loop, sighted):
            most -= 1
            yield read_sighting(sighted.port, sighted.what)

    def tell_sightings(self) -> None:
        """Let `run` tell again of sightings that wait, if any do."""
        lib.dp_loop_tell_sightings(self._loop)

    def set_network(self, row: bytes) -> None:
        """Write one row of `multiplexer.policy.forwarding`."""
        _check(lib.dp_table_set_network(self._table, row, len(row)), "network row")

    def clear_network(self, network: int) -> None:
        """Forget a network that no vif is in."""
        _check(lib.dp_table_clear_network(self._table, network), f"network {network}")

    def set_vif(self, port: int, row: bytes) -> None:
        """Write one row of `multiplexer.policy.ingress`."""
        _check(lib.dp_table_set_vif(self._table, port, row, len(row)), f"vif row of port {port}")

    def clear_vif(self, port: int) -> None:
        """Forget a vif, its attachment and its counters."""
        self._end_attachment(port)
        lib.dp_gates_drop(self._loop, port)
        _check(lib.dp_table_clear(self._table, port), f"port {port}")

    def prepare_filter(self, port: int, table: bytes) -> None:
        """Get the next filter of the vif at *port* ready, none if *table* is empty.

        *table* is as `multiplexer.policy.nwfilter.compile` makes it.  The filter
        that there is stays in force until `commit_filters`.
        """
        _check(lib.dp_gates_prepare(self._loop, port, table, len(table)), f"filter of port {port}")

    def commit_filters(self) -> None:
        """Let all filters that were prepared take over, at once."""
        lib.dp_gates_commit(self._loop)

    def abandon_filters(self) -> None:
        """Forget all filters that were prepared."""
        lib.dp_gates_abandon(self._loop)

    def _end_attachment(self, port: int) -> None:
        generation = self.attached(port) if port < MAX_PORTS else None
        if generation is not None:
            self.detach(port, generation)

    def attach(
        self, port: int, generation: int, transport: str, fd: int, offload: int, vnet: bool
    ) -> None:
        """Let frames flow between *port* and *fd*, which the loop then owns."""
        _check(
            lib.dp_loop_attach(
                self._loop, port, generation, transport.encode(), fd, offload, vnet
            ),
            f"attach to port {port}",
        )

    def attach_ring(
        self, port: int, generation: int, kick: int, memory: int, offload: int, vnet: bool
    ) -> None:
        """Let frames flow between *port* and *memory*, which stays the caller's.

        The loop owns *kick*, a stream, afterwards.
        """
        _check(
            lib.dp_loop_attach_ring(self._loop, port, generation, kick, memory, offload, vnet),
            f"attach to port {port}",
        )

    def inject(self, port: int, frame: bytes, *, to_wire: bool = False) -> None:
        """Deliver *frame* as if the stack of the vif at *port*, attached or not, had sent it.

        With *to_wire*, what would go to all goes to the uplink alone.
        """
        _check(
            lib.dp_loop_inject(self._loop, port, frame, len(frame), to_wire),
            f"inject at port {port}",
        )

    def charge(self, port: int, account: int, most_bytes: int) -> None:
        """Let the memory of what is attached to *port* count to *account*, with *most_bytes*."""
        _check(lib.dp_loop_charge(self._loop, port, account, most_bytes), f"account of {port}")

    def attached(self, port: int) -> int | None:
        """Return the generation of what is attached to *port*, None if nothing is."""
        found = self._loop.ports[port]
        return None if found.transport == ffi.NULL else int(found.generation)

    def detach(self, port: int, generation: int) -> bool:
        """End an attachment; one that is not there any more is no error.

        Returns whether the client is innocent: it has sent no descriptor, or was not there.
        """
        result = lib.dp_loop_detach(self._loop, port, generation)
        if result not in (-errno.ENOENT, -errno.EBADMSG):
            _check(result, f"detach from port {port}")
        return bool(result != -errno.EBADMSG)

    def held_bytes(self, port: int) -> int:
        """Return what *port* holds of memory that it does not need at rest."""
        held: int = self._loop.ports[port].held
        return held

    def reserved_bytes(self, port: int) -> int:
        """Return what *port* is charged beside that, for as long as it is attached."""
        reserved: int = self._loop.ports[port].reserved
        return reserved

    def add_uplink(self, port: int) -> None:
        """Make *port* an uplink, with nothing attached yet."""
        _check(lib.dp_table_set_uplink(self._table, port), f"uplink at port {port}")

    def clear_uplink(self, port: int) -> None:
        """Forget an uplink, its packet socket and its counters; its network goes on without."""
        self._end_attachment(port)
        _check(lib.dp_table_clear_uplink(self._table, port), f"uplink at port {port}")

    def attach_uplink(self, port: int, generation: int, fd: int, offload: int) -> None:
        """Let frames flow between an uplink and a packet socket, which the loop then owns."""
        self.attach(port, generation, "packet", fd, offload, True)

    def attach_tap(self, port: int, generation: int, fd: int, offload: int) -> None:
        """Let frames flow between a vif and a tap of ours, which the loop then owns."""
        self.attach(port, generation, "tap", fd, offload, True)

    def set_up(self, port: int, up: bool) -> None:
        """Say whether frames may go to *port*: the state of an uplink's link."""
        lib.dp_loop_set_up(self._loop, port, up)

    def counters(self, port: int) -> PortCounters:
        """Return the counters of *port*; ValueError if there is no such port."""
        count = self._row(port).count
        return PortCounters(
            count.rx_frames, count.rx_bytes, count.tx_frames, count.tx_bytes, tuple(count.drops)
        )

    def conflict(self, port: int) -> PortConflict | None:
        """Return the last address conflict of *port*, if there ever was one."""
        conflict = self._row(port).conflict
        if not conflict.family:
            return None
        length = 4 if conflict.family == 4 else 16
        return PortConflict(bytes(conflict.mac), bytes(conflict.addr[0:length]), conflict.count)

    def claimed(self, port: int) -> tuple[bytes, ...]:
        """Return the addresses, 16 bytes each, that *port* has claimed by first come."""
        bind = self._row(port).bind
        return tuple(bytes(claim.prefix.addr) for claim in bind.claims[0 : bind.n_claims])

    def trace(self, port: int, frame: bytes) -> Traced:
        """Return what would become of *frame* if the vif of *port* sent it now.

        Nothing is sent, counted or charged.

        Raises:
            ValueError: if there is no such port.
        """
        row = self._row(port)
        view, decision = ffi.new("struct dp_frame *"), ffi.new("struct dp_decision *")
        data = ffi.from_buffer(frame)
        now_ns = time.monotonic_ns()
        lib.dp_forward_trace(self._table, port, view, data, len(frame), now_ns, decision)
        holder = ffi.new("uint16_t *", lib.DP_NO_PORT)
        asks = False
        if decision.step != lib.DP_STEP_FRAME and frame[0] & 1:
            asks = lib.dp_forward_asks_for(self._table, row.network, view, holder)
        elif decision.step != lib.DP_STEP_FRAME:
            holder[0] = lib.dp_table_find_mac(self._table, row.network, data)
        ports = ffi.new("uint16_t[]", MAX_LISTED)
        n_receivers = lib.dp_forward_list(self._table, decision, port, ports, MAX_LISTED)
        return Traced(
            verdict=VERDICTS[decision.verdict],
            step=STEPS[decision.step],
            l3=L3[view.l3],
            l4_proto=view.l4_proto if view.has_l4 else None,
            l4_offset=view.l4_off if view.has_l4 else None,
            fragment=view.fragment,
            bound=self._bound(row.bind, view),
            asks=asks,
            holder=holder[0] if holder[0] != lib.DP_NO_PORT else None,
            receivers=tuple(
                Receiver(receiver, self._is_up(receiver), self._lets_in(receiver, view, now_ns))
                for receiver in ports[0 : min(n_receivers, MAX_LISTED)]
            ),
            n_receivers=n_receivers,
            rules=self._rules(decision.passage) if decision.filtered else None,
        )

    def _lets_in(self, port: int, view: "ffi.CData", now_ns: int) -> bool:
        gate = self._row(port).gate
        if gate == ffi.NULL:
            return True
        passage = ffi.new("struct dp_passage *")
        found = lib.dp_gate_judge(gate, view, lib.DP_GATE_IN, now_ns, True, passage)
        return bool(found == lib.DP_ACT_ACCEPT)

    @staticmethod
    def _rules(passage: "ffi.CData") -> tuple[int | None, int | None]:
        link, network = (
            None if origin == lib.DP_NO_RULE else int(origin) for origin in passage.origin
        )
        return link, network

    def _is_up(self, port: int) -> bool:
        return bool(self._row(port).up) and self._loop.ports[port].transport != ffi.NULL

    @staticmethod
    def _bound(bind: "ffi.CData", view: "ffi.CData") -> str | None:
        """Return the bound prefix that the source of the network header lies in."""
        offset, length = _SOURCES.get(L3[view.l3], (0, 0))
        if not length or view.len < offset + length:
            return None
        source = view.data + offset
        find = lib.dp_binding_find_ipv4 if length == 4 else lib.dp_binding_find_ipv6
        prefix = find(ffi.addressof(bind), source)
        if prefix == ffi.NULL:
            return None
        return str(ip_network((bytes(prefix.addr[0:length]), prefix.len)))

    def _row(self, port: int) -> "ffi.CData":
        if not 0 <= port < MAX_PORTS:
            raise ValueError(f"port is {port}, wanted 0 to {MAX_PORTS - 1}")
        return self._table.ports[port]


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
