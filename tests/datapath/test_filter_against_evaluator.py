"""The compiled filter in C against the slow evaluator: random rules, frames and sequences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.compile import compile_bytes, compile_filter
from multiplexer.policy.nwfilter.evaluate import Evaluator, Judgement
from multiplexer.policy.nwfilter.protocols import PROTOCOLS, Attribute
from multiplexer.policy.nwfilter.resolved import Match, ResolvedRule
from multiplexer.policy.nwfilter.syntax import Action, Direction, Rule
from multiplexer.policy.nwfilter.tables import Flow
from tests.datapath import filters
from tests.datapath.gate import CoreGate
from tests.support import nwvalues

WAYS = (Direction.IN, Direction.OUT)
#: Nothing, what ends the shortest timeouts, and what ends all but TCP's.
WAITS_NS = (0, 0, 0, 0, 1_000_000, 31_000_000_000, 700_000_000_000)
Step = tuple[int, Direction, int]
STEPS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from(WAYS), st.sampled_from(WAITS_NS)),
    min_size=12,
    max_size=40,
)


class Comparison:
    """One filter in both, and what they said of all frames so far."""

    def __init__(self, rules: Sequence[ResolvedRule], seen: Counter[object]) -> None:
        self._core = CoreGate(compile_bytes(rules, nwvalues.SETS))
        self._evaluator = Evaluator(rules, nwvalues.SETS)
        self._seen = seen

    def judge(self, frame: bytes, direction: Direction, now_ns: int) -> Judgement:
        """Let both judge, and see that they agree."""
        # What would be said changes nothing.
        passage = self._core.passage(frame, direction, now_ns, peek=True)
        expected = self._evaluator.judge(frame, direction, now_ns)
        assert self._core.judge(frame, direction, now_ns) == expected, (frame.hex(), direction)
        layer = "link" if expected.link is not None else ""
        layer += "network" if expected.network is not None else ""
        self._seen[expected.action, layer] += 1
        if passage.tracked:
            self._seen[Flow(passage.track.state), bool(passage.track.reply)] += 1
        return expected


def compare_many(
    protocols: st.SearchStrategy[str | None],
    about: Sequence[str | None],
    examples: int,
    rules: tuple[int, int] = (1, 6),
) -> Counter[object]:
    """Compare random filters, with frames about one of some protocols; count what came out."""
    seen: Counter[object] = Counter()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(filters.filters(protocols, rules[1], rules[0]), STEPS, st.sampled_from(about))
    def compare(rules: tuple[ResolvedRule, ...], steps: list[Step], about: str | None) -> None:
        note(str(compile_filter(rules, nwvalues.SETS)))
        comparison, now_ns = Comparison(rules, seen), 1_000_000_000
        for number, direction, wait_ns in steps:
            now_ns += wait_ns
            comparison.judge(filters.make_frame(number, about), direction, now_ns)

    compare()
    return seen


def test_any_filter_says_the_same_of_any_frames() -> None:
    seen = compare_many(filters.ANY, [None], 300)

    assert {(Action.DROP, "link"), (Action.ACCEPT, "link"), (Action.ACCEPT, "")} <= seen.keys()


def test_filters_of_ipv4_follow_connections_alike() -> None:
    """The run must also have seen every state in each direction that it has."""
    names = ["tcp", "udp", "icmp", "all"]
    seen = compare_many(st.sampled_from(names), names, 400)

    assert {
        *product((Flow.NEW, Flow.INVALID), (False,)),
        *product((Flow.ESTABLISHED, Flow.RELATED), (False, True)),
        *product((Action.ACCEPT, Action.DROP, Action.REJECT), ("network",)),
    } <= seen.keys()


def test_filters_of_ipv6_follow_connections_alike() -> None:
    names = ["tcp-ipv6", "udp-ipv6", "icmpv6", "all-ipv6"]
    seen = compare_many(st.sampled_from(names), names, 600)

    assert {
        *product((Flow.NEW, Flow.INVALID, Flow.UNTRACKED), (False,)),
        *product((Flow.ESTABLISHED, Flow.RELATED), (False, True)),
        *product((Action.ACCEPT, Action.DROP, Action.REJECT), ("network",)),
    } <= seen.keys()


def test_filters_that_are_long_enough_for_an_index_say_the_same() -> None:
    names = ["tcp", "udp"]
    seen = compare_many(st.sampled_from(names), names, 60, (20, 40))

    assert {(action, "network") for action in (Action.ACCEPT, Action.DROP)} <= seen.keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_filters_of_each_protocol_say_the_same(protocol: str) -> None:
    seen = compare_many(st.just(protocol), [protocol], 40)

    layer = "link" if protocol in filters.L2 else "network"
    assert {(Action.ACCEPT, layer), (Action.DROP, layer)} <= seen.keys()


# ---- each attribute ----


def values_of(attribute: Attribute, protocol: str) -> Sequence[Any]:
    """Return each value that attributes like this take here."""
    found: dict[Any, None] = {}

    @settings(max_examples=40, derandomize=True, database=None, deadline=None)
    @given(nwvalues.likely_value(attribute, protocol))
    def collect(value: Any) -> None:
        found[value] = None

    collect()
    return list(found)


def asked(protocol: str) -> Iterator[tuple[Match, ...]]:
    """Yield matches of one attribute, with each value, and with each that completes it."""
    table = PROTOCOLS[protocol].table
    for name, attribute in table.items():
        if attribute.follows is not None or name == "comment":
            continue
        for value, negated in product(values_of(attribute, protocol), (False, True)):
            first = Match(name, value, negated)
            if name != "ipset":
                yield (first,)
            for other, completing in table.items():
                if completing.follows != name:
                    continue
                for last in values_of(completing, protocol):
                    if not completing.ends_range or last >= value:
                        yield first, Match(other, last, negated)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_attribute_alone_matches_the_same_frames(protocol: str) -> None:
    """And each both matches some frame and does not match another, in each direction."""
    frames = [filters.make_frame(number, protocol) for number in range(60)]
    outcomes: dict[tuple[str, bool, Direction], set[Action]] = {}
    for matches, direction in product(asked(protocol), Direction):
        names = {match.attribute for match in matches}
        if protocol == "stp" and direction is Direction.INOUT and "srcmacaddr" in names:
            continue
        rule = ResolvedRule("f", "root", 0, Rule(Action.DROP, direction, protocol), matches, 0)
        comparison, now_ns = Comparison([rule], Counter()), 1_000_000_000
        found = outcomes.setdefault((matches[0].attribute, matches[0].negated, direction), set())
        for number, frame in enumerate(frames):
            now_ns += 1000
            found.add(comparison.judge(frame, WAYS[number % 2], now_ns).action)

    one_sided = {each for each, found in outcomes.items() if len(found) < 2}
    if protocol in ("icmp", "icmpv6"):
        # A type goes one way, so inout has no rule.
        one_sided = {
            each for each in one_sided if each[0] != "type" or each[2] is not Direction.INOUT
        }
    assert one_sided == set()
