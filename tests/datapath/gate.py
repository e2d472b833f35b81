"""A gate of the C core under test: a table and frames go in, and its verdicts come out."""

import mmap
from typing import Any, Final

from multiplexer.datapath._dp import ffi, lib

from multiplexer.policy.nwfilter.evaluate import Judgement
from multiplexer.policy.nwfilter.syntax import Action, Direction
from multiplexer.policy.nwfilter.tables import Flow

SEED: Final = 0x5EED

ACTIONS: Final = {
    lib.DP_ACT_ACCEPT: Action.ACCEPT,
    lib.DP_ACT_DROP: Action.DROP,
    lib.DP_ACT_REJECT: Action.REJECT,
}
DIRECTIONS: Final = {Direction.OUT: lib.DP_GATE_OUT, Direction.IN: lib.DP_GATE_IN}


def words(size: int) -> Any:
    """Return *size* bytes of zeroed memory, of which a page that is not used costs nothing."""
    return ffi.from_buffer(mmap.mmap(-1, size), require_writable=True)


def loads(table: bytes) -> bool:
    """Return whether the core takes a table."""
    size = lib.dp_filter_size(table, len(table))
    if not size:
        return False
    return bool(lib.dp_filter_load(words(size), table, len(table)) != ffi.NULL)


class CoreGate:
    """One gate, with connections of its own."""

    def __init__(self, table: bytes) -> None:
        self._flows = words(lib.dp_flows_size())
        self.flows = ffi.cast("struct dp_flows *", self._flows)
        lib.dp_flows_init(self.flows, SEED)
        self.load(table)

    def load(self, table: bytes) -> None:
        """Let other rules judge from here on."""
        size = lib.dp_filter_size(table, len(table))
        assert size
        self._filter = words(size)
        filter_ = lib.dp_filter_load(self._filter, table, len(table))
        assert filter_ != ffi.NULL
        self._gate = words(lib.dp_gate_size())
        self.gate = ffi.cast("struct dp_gate *", self._gate)
        lib.dp_gate_init(self.gate, filter_, self.flows)
        lib.dp_flows_recount(self.flows)

    def judge(self, data: bytes, direction: Direction, now_ns: int) -> Judgement:
        """Judge a frame, and remember its connection if it passes."""
        passage = self.passage(data, direction, now_ns)
        if passage.action == lib.DP_ACT_ACCEPT:
            assert lib.dp_gate_confirm(self.gate, now_ns, passage)
        return read(passage)

    def passage(
        self, data: bytes, direction: Direction, now_ns: int, *, peek: bool = False
    ) -> Any:
        """Judge a frame, and remember nothing."""
        frame = ffi.new("struct dp_frame *")
        held = ffi.new("uint8_t[]", data)
        assert lib.dp_frame_parse(frame, held, len(data)) == 0
        passage = ffi.new("struct dp_passage *")
        ffi.memmove(
            passage, b"\xa5" * ffi.sizeof("struct dp_passage"), ffi.sizeof("struct dp_passage")
        )
        lib.dp_gate_judge(self.gate, frame, DIRECTIONS[direction], now_ns, peek, passage)
        return passage

    def state(self, data: bytes, direction: Direction, now_ns: int) -> tuple[Flow, bool]:
        """Return what a frame is to the connections, changing nothing."""
        passage = self.passage(data, direction, now_ns, peek=True)
        assert passage.tracked
        return Flow(passage.track.state), passage.track.reply


def read(passage: Any) -> Judgement:
    """Return what the core wrote, as the evaluator says it."""
    link, network = (None if origin == lib.DP_NO_RULE else origin for origin in passage.origin)
    return Judgement(ACTIONS[passage.action], link, network)
