"""One filter at work without an engine, by the very code that judges frames in one."""

import os
from collections.abc import Mapping
from types import MappingProxyType

import attrs
from multiplexer.datapath._dp import ffi, lib

from multiplexer.datapath.sightings import Sighted, read_sighting
from multiplexer.datapath.verdicts import VERDICTS


@attrs.frozen
class Judged:
    """What a filter does with a frame: accept, drop or reject.

    *why* is the reason for a drop that no rule decided.  Of each layer there is the
    list that decided, by its number in the table, None where none was asked, and
    the origin of the rule, None where no rule decided.  *sighted* is what the filter
    wanted to know of its vif's address, if the frame passed and said some of it.
    """

    verdict: str
    why: str | None
    link_list: int | None
    link: int | None
    network_list: int | None
    network: int | None
    l4_proto: int | None
    l4_offset: int | None
    sighted: Sighted | None = None


_ACTIONS: Mapping[int, str] = MappingProxyType(
    {lib.DP_ACT_ACCEPT: "accept", lib.DP_ACT_DROP: "drop", lib.DP_ACT_REJECT: "reject"}
)


class Gate:
    """The filter of a vif with that *mac*, with connections of its own; no engine is there.

    Raises:
        ValueError: if *table* does not fit together.
    """

    def __init__(self, table: bytes, mac: bytes) -> None:
        self._mac = mac
        self._flows = ffi.new("struct dp_flows *")
        lib.dp_flows_init(self._flows, int.from_bytes(os.urandom(8), "little"))
        self.load(table)

    def load(self, table: bytes) -> None:
        """Judge by another *table* from here on; connections stay.

        Raises:
            ValueError: if it does not fit together; then nothing has changed.
        """
        size = lib.dp_filter_size(table, len(table))
        memory = ffi.new("uint64_t[]", size // 8 + 1)
        filter_ = lib.dp_filter_load(memory, table, len(table)) if size else ffi.NULL
        if filter_ == ffi.NULL:
            raise ValueError("table does not fit together")
        self._filter = memory
        self._gate = ffi.new("struct dp_gate *")
        lib.dp_gate_init(self._gate, filter_, self._flows)
        lib.dp_flows_recount(self._flows)

    def judge(self, frame: bytes, out: bool, now_ns: int) -> Judged:
        """Return what becomes of a frame from the vif (*out*) or to it, and remember its flow."""
        view, passage = ffi.new("struct dp_frame *"), ffi.new("struct dp_passage *")
        data = ffi.from_buffer(frame)
        if lib.dp_frame_parse(view, data, len(frame)) < 0:
            reason = lib.DP_DROP_RUNT if len(frame) < lib.DP_ETH_LEN else lib.DP_DROP_OVERSIZE
            return Judged("drop", VERDICTS[reason], None, None, None, None, None, None)
        direction = lib.DP_GATE_OUT if out else lib.DP_GATE_IN
        action = lib.dp_gate_judge(self._gate, view, direction, now_ns, False, passage)
        verdict, why = _ACTIONS[action], None
        if view.malformed != lib.DP_PASS and view.l3 in (lib.DP_L3_IPV4, lib.DP_L3_IPV6):
            why = VERDICTS[view.malformed]
        elif verdict == "accept" and not lib.dp_gate_confirm(self._gate, now_ns, passage):
            verdict, why = "drop", VERDICTS[lib.DP_DROP_FLOW_LIMIT]
        link_list, network_list = (None if i == lib.DP_NO_LIST else int(i) for i in passage.list)
        link, network = (None if i == lib.DP_NO_RULE else int(i) for i in passage.origin)
        return Judged(
            verdict,
            why,
            link_list,
            link,
            network_list,
            network,
            view.l4_proto if view.has_l4 else None,
            view.l4_off if view.has_l4 else None,
            self._sighted(view, out) if verdict == "accept" else None,
        )

    def _sighted(self, view: "ffi.CData", out: bool) -> Sighted | None:
        learns, what = self._gate.learns, ffi.new("struct dp_sighting *")
        if out:
            seen = lib.dp_learn_from_vif(learns, view, what)
        else:
            seen = lib.dp_learn_to_vif(learns, self._mac, view, what)
        return read_sighting(0, what) if seen else None
