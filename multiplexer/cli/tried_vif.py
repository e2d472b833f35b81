"""The vif that `filter test` tries a filter on: bound as the daemon binds one.

Where the filter asks for the address of the vif, and that is bound to a prefix, it is
learned from the frames, as by the daemon: the datapath says what it has seen in those
that passed, and `policy.nwfilter.learning` what follows.  Only that the filter follows
at once, however often that is; and nobody ever goes away.
"""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import Final

import attrs

from multiplexer.datapath.gate import Gate, Judged
from multiplexer.datapath.sightings import Sighted
from multiplexer.model import FilterBinding, Mode, Network, Vif
from multiplexer.policy.nwfilter.binding import Bound, compile_table, given, resolve_bound
from multiplexer.policy.nwfilter.compile import packed
from multiplexer.policy.nwfilter.errors import BindError
from multiplexer.policy.nwfilter.learning import Kind, Learned, Search, Sighting, unexpired
from multiplexer.policy.nwfilter.resolved import ResolvedRule
from multiplexer.policy.nwfilter.sets import NamedSet
from multiplexer.policy.nwfilter.syntax import Direction, Filter
from multiplexer.policy.nwfilter.tables import Learns, Table
from pfinet_proto.trace import Captured
from pfinet_proto.values import MacAddress, VifName

_NS: Final = 1_000_000_000


@attrs.frozen
class Verdict:
    """What became of a frame, by *rules*, which *table* was made of.

    *known* are the addresses that were known of the vif, None where none is asked for.
    """

    judged: Judged
    rules: tuple[ResolvedRule, ...]
    table: Table
    known: tuple[IPv4Address, ...] | None


class TriedVif:
    """A vif with *mac* and perhaps a *prefix*, bound to one of *filters*.

    Raises:
        BindError: if it cannot be, or FilterLoop.
    """

    def __init__(
        self,
        mac: MacAddress,
        prefix: IPv4Network | None,
        binding: FilterBinding,
        filters: Mapping[str, Filter],
        sets: Mapping[str, NamedSet],
    ) -> None:
        prefixes = () if prefix is None else (prefix,)
        self._network = Network("tried", Mode.SWITCH, None, prefixes)
        self._vif = Vif(
            "0" * 32,
            VifName("tried"),
            0,
            None,
            self._network.name,
            mac,
            prefixes=prefixes,
            filter=binding,
        )
        self._search = Search.of(self._vif, given(binding))
        self._filters, self._sets = filters, sets
        self._learned: tuple[Learned, ...] = ()
        self._bound, self._table = self._compiled(())
        self._asks = self._bound.learns is not Learns.NOTHING
        self._gate = Gate(packed(self._table), mac.packed)

    def judge(self, captured: Captured, direction: Direction) -> Verdict:
        """Return what becomes of a frame, and learn from it."""
        now_s = captured.time_ns / _NS
        self._know(unexpired(self._learned, now_s))
        judged = self._gate.judge(captured.frame, direction is Direction.OUT, captured.time_ns)
        known = tuple(each.address for each in self._learned) if self._asks else None
        verdict = Verdict(judged, self._bound.rules, self._table, known)
        if judged.sighted is not None:
            self._know(self._search.after(self._learned, _read(judged.sighted), now_s))
        return verdict

    def _know(self, learned: tuple[Learned, ...]) -> None:
        """Judge by what is *learned* from here on, unless the filter cannot be bound so."""
        if learned == self._learned:
            return
        with suppress(BindError):
            self._bound, self._table = self._compiled(learned)
            self._gate.load(packed(self._table))
            self._learned = learned

    def _compiled(self, learned: tuple[Learned, ...]) -> tuple[Bound, Table]:
        bound = resolve_bound(self._network, self._vif, self._filters, learned)
        return bound, compile_table(bound, self._sets)


def _read(sighted: Sighted) -> Sighting:
    kind = Kind(sighted.kind)
    server = IPv4Address(sighted.server) if kind is Kind.LEASE else None
    return Sighting(kind, IPv4Address(sighted.address), server, sighted.lease_s)
