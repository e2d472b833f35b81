"""From flat rules to the lists that the datapath walks.

Rules of the link layer stand in the list of their direction, or in the chain
of that list which their filter names; chains and the root's own rules are
merged by priority, and of two with the same the chain comes first.  An inout
rule is written as a frame to the guest has it, and stands swapped in the list
of what the guest sends.

Rules of the network layer know no chains.  Where each stands, and what of a
connection it asks, is the table of libvirt's: an accept rule lets what answers
pass as well; drop, reject and return go both ways; a rule with a state goes
only the way that is said, and so do a type of ICMP and a limit of connections.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from .conditions import BRIDGES, Counter, Sets, conditions
from .errors import BindError
from .names import ROOT, chain_kind
from .protocols import ETHERTYPES, PROTOCOLS, Layer
from .resolve import in_judging_order
from .resolved import ResolvedRule
from .syntax import Action, Direction
from .tables import (
    MAX_COUNTS,
    Chain,
    Condition,
    Field,
    Flow,
    Learns,
    Masked,
    Number,
    Row,
    Table,
    TableFull,
    Verb,
    ct_bits,
    pack,
)
from .values import State

_VERBS: Final = MappingProxyType(
    {
        Action.ACCEPT: Verb.ACCEPT,
        Action.DROP: Verb.DROP,
        Action.REJECT: Verb.REJECT,
        Action.RETURN: Verb.RETURN,
        Action.CONTINUE: Verb.CONTINUE,
    }
)

_FLOWS: Final = MappingProxyType(
    {
        State.NEW: Flow.NEW,
        State.ESTABLISHED: Flow.ESTABLISHED,
        State.RELATED: Flow.RELATED,
        State.INVALID: Flow.INVALID,
    }
)

# What an accept rule asks of a connection, in the list that it is written for and the other.
_BEGINS: Final = ct_bits((Flow.NEW, Flow.ESTABLISHED), reply=False)
_BEGINS_EITHER_WAY: Final = ct_bits((Flow.NEW, Flow.ESTABLISHED))
_ANSWERS: Final = ct_bits((Flow.ESTABLISHED,), original=False)


def compile_filter(rules: Iterable[ResolvedRule], sets: Sets) -> Table:
    """Return the lists of *rules*, which are in document order; *sets* are those they may name.

    Raises:
        BindError: if a set is missing, or more rules count connections than can.
    """
    ordered = in_judging_order(rules)
    l2 = [rule for rule in ordered if layer_of(rule) is Layer.L2]
    l3 = [rule for rule in ordered if layer_of(rule) is Layer.L3]
    chains: list[Chain] = []
    l2_out = _link_list(l2, Direction.OUT, sets, chains)
    l2_in = _link_list(l2, Direction.IN, sets, chains)
    ipv4 = [rule for rule in l3 if family_of(rule) == 4]
    ipv6 = [rule for rule in l3 if family_of(rule) == 6]
    counter = Counter(MAX_COUNTS)
    ipv4_out, ipv4_in = _network_lists(ipv4, sets, counter)
    ipv6_out, ipv6_in = _network_lists(ipv6, sets, counter)
    return Table(l2_out, l2_in, ipv4_out, ipv4_in, ipv6_out, ipv6_in, tuple(chains))


def compile_bytes(
    rules: Iterable[ResolvedRule], sets: Sets, learns: Learns = Learns.NOTHING
) -> bytes:
    """Return the table of *rules* as the datapath loads it, which *learns* of its vif.

    Raises:
        BindError: as compile_filter() does, or if it is more than a table holds.
    """
    return packed(attrs.evolve(compile_filter(rules, sets), learns=learns))


def packed(table: Table) -> bytes:
    """Return the bytes of *table*; BindError if it is more than a table holds."""
    try:
        return pack(table)
    except TableFull as error:
        raise BindError(str(error)) from None


def layer_of(rule: ResolvedRule) -> Layer:
    """Return where *rule* stands; an empty body is of the link layer."""
    return Layer.L2 if rule.protocol is None else PROTOCOLS[rule.protocol].layer


def family_of(rule: ResolvedRule) -> int:
    """Return 4 or 6, of a rule of the network layer."""
    assert rule.protocol is not None
    return 6 if PROTOCOLS[rule.protocol].ethertype == ETHERTYPES["ipv6"] else 4


# ---- link layer ----


def _link_list(
    ordered: Sequence[ResolvedRule], direction: Direction, sets: Sets, chains: list[Chain]
) -> tuple[Row, ...]:
    """Return the root's list for *direction*; the chains that it jumps to go to *chains*."""
    mine = [rule for rule in ordered if rule.direction in (direction, Direction.INOUT)]
    entries: list[tuple[int, int, int, Row]] = [
        (rule.priority, 1, place, _link_row(rule, direction, sets))
        for place, rule in enumerate(mine)
        if rule.chain == ROOT
    ]
    for name, rules in _by_chain(mine).items():
        # The last in order says the chain's priority; of two alike the first written leads.
        first = min(rule.position for rule in rules)
        jump = Row(Verb.JUMP, _jump_conditions(name), chain=len(chains))
        chains.append(Chain(name, tuple(_link_row(rule, direction, sets) for rule in rules)))
        entries.append((rules[-1].chain_priority, 0, first, jump))
    return tuple(row for *_, row in sorted(entries, key=lambda entry: entry[:3]))


def _by_chain(rules: Iterable[ResolvedRule]) -> dict[str, list[ResolvedRule]]:
    """Return the rules of each chain but the root's."""
    found: dict[str, list[ResolvedRule]] = {}
    for rule in rules:
        if rule.chain != ROOT:
            found.setdefault(rule.chain, []).append(rule)
    return found


def _jump_conditions(chain: str) -> tuple[Condition, ...]:
    kind = chain_kind(chain)
    if kind == "stp":
        return (Masked(Field.ETH_DST, BRIDGES, b"\xff" * 6),)
    if kind == "mac":
        return ()
    return (Number(Field.ETH_TYPE, ETHERTYPES[kind], ETHERTYPES[kind]),)


def _link_row(rule: ResolvedRule, direction: Direction, sets: Sets) -> Row:
    swapped = rule.direction is Direction.INOUT and direction is Direction.OUT
    asked = conditions(rule, sets, swapped=swapped)
    assert asked is not None
    return Row(_VERBS[rule.action], asked, rule.position)


# ---- network layer ----


@attrs.frozen
class Placed:
    """A copy of a rule in the list of a direction.

    *ct* has the bits of the connection states that it asks for, None if it asks
    for none; *counts* is set where it asks how many connections there are.
    """

    direction: Direction
    swapped: bool = False
    ct: int | None = None
    counts: bool = False


def places(rule: ResolvedRule) -> tuple[Placed, ...]:
    """Return the copies of *rule*, one of the network layer."""
    states = _states(rule)
    accepts = rule.action is Action.ACCEPT
    typed = rule.protocol in ("icmp", "icmpv6") and rule.match("type") is not None
    ignores_state = not rule.rule.statematch
    asked = None if states is None or State.NONE in states else _bits(states)
    if rule.match("connlimit-above") is not None:
        if typed and rule.direction is Direction.INOUT:
            return ()
        direction = Direction.OUT if rule.direction is Direction.OUT else Direction.IN
        return (Placed(direction, ct=None if accepts or ignores_state else asked, counts=True),)
    if typed:
        if rule.direction is Direction.INOUT:
            return ()
        if states is None and accepts:
            asked = _BEGINS_EITHER_WAY
        return (Placed(rule.direction, ct=None if ignores_state else asked),)
    if states is not None and not ignores_state:
        if rule.direction is Direction.INOUT:
            return (
                Placed(Direction.OUT, swapped=True, ct=asked),
                Placed(Direction.IN, ct=asked),
            )
        return (Placed(rule.direction, ct=asked),)
    stateful = accepts and not ignores_state and rule.direction is not Direction.INOUT
    begins, answers = (_BEGINS, _ANSWERS) if stateful else (None, None)
    if rule.direction is Direction.OUT:
        return (
            Placed(Direction.OUT, ct=begins),
            Placed(Direction.IN, swapped=True, ct=answers),
        )
    return (
        Placed(Direction.OUT, swapped=True, ct=answers),
        Placed(Direction.IN, ct=begins),
    )


def _states(rule: ResolvedRule) -> frozenset[State] | None:
    match = rule.match("state")
    if match is None:
        return None
    assert isinstance(match.value, frozenset)
    return match.value


def _bits(states: frozenset[State]) -> int:
    return ct_bits(flow for state, flow in _FLOWS.items() if state in states)


def _network_lists(
    ordered: Sequence[ResolvedRule], sets: Sets, counter: Counter
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    lists: dict[Direction, list[Row]] = {Direction.OUT: [], Direction.IN: []}
    for rule in ordered:
        # To go on to the next rule is what happens anyway.
        if rule.action is Action.CONTINUE:
            continue
        for placed in places(rule):
            row = _network_row(rule, placed, sets, counter)
            if row is not None:
                lists[placed.direction].append(row)
    return tuple(lists[Direction.OUT]), tuple(lists[Direction.IN])


def _network_row(rule: ResolvedRule, placed: Placed, sets: Sets, counter: Counter) -> Row | None:
    asked = conditions(rule, sets, swapped=placed.swapped)
    if asked is None:
        return None
    if placed.ct is not None:
        negated = (state := rule.match("state")) is not None and state.negated
        asked += (Number(Field.CT, placed.ct, placed.ct, negated=negated),)
    if placed.counts:
        match = rule.match("connlimit-above")
        assert match is not None
        assert isinstance(match.value, int)
        # The last, so that only those are counted that meet all else.
        asked += (counter.count(rule, match.value, match.negated),)
    return Row(_VERBS[rule.action], asked, rule.position)
