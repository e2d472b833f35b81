"""Verdicts on frames beside those of a host that libvirtd has set up by ebtables and iptables.

Of the same filters and the same frames in the same order, what passes there
must pass here, by the datapath's own code and by the evaluator; each filter
begins without connections.  Fragments are left out, since the kernel holds them back
until they are a packet: test_fragments.py has them.  So is ARP of anything but Ethernet
and IPv4, of which ebtables looks at the half that is usual, and ours at nothing; and
IPv6 behind an authentication header, which for nft's ip6tables is the protocol, and for
its older one is not there.
"""

import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from pyroute2 import IPSet

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.evaluate import Evaluator
from multiplexer.policy.nwfilter.names import CHAIN_PRIORITIES, default_chain_priority
from multiplexer.policy.nwfilter.protocols import PROTOCOLS
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.resolved import Match, ResolvedRule
from multiplexer.policy.nwfilter.syntax import (
    Action,
    Condition,
    Direction,
    Filter,
    Parameter,
    Reference,
    Rule,
    arranged,
)
from multiplexer.policy.nwfilter.tree import reachable
from multiplexer.policy.nwfilter.values import Integer, Number, Side
from multiplexer.stock import stock_filters
from tests.datapath import filters
from tests.datapath.gate import CoreGate
from tests.libvirt.exceptions import as_judged, name_of_set
from tests.libvirt.host import MAC, Host
from tests.support import nwvalues
from tests.support.libvirtd import Refused
from tests.test_filter_page import example

NOW_NS = 1_000_000_000

Step = tuple[int, Direction]

STEPS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from([Direction.IN, Direction.OUT])),
    min_size=20,
    max_size=40,
)


def with_checksum(frame: bytes) -> bytes:
    """Return *frame* with the header checksum that its IPv4 header needs (RFC 791, 3.1)."""
    if frame[12:14] != b"\x08\x00":
        return frame
    end = 14 + 4 * (frame[14] & 15)
    header = frame[14:24] + b"\0\0" + frame[26:end]
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return frame[:24] + (total ^ 0xFFFF).to_bytes(2, "big") + frame[26:]


def is_left_out(frame: bytes) -> bool:
    """Return whether *frame* is a fragment, has an authentication header, or is odd ARP."""
    if frame[12:14] == b"\x08\x00":
        return bool(int.from_bytes(frame[20:22], "big") & 0x3FFF)
    if frame[12:14] in (b"\x08\x06", b"\x80\x35"):
        return frame[14:20] != b"\0\1\x08\0\6\4"
    if frame[12:14] != b"\x86\xdd":
        return False
    following, at = frame[20], 54
    while following in (0, 43, 60):
        following, at = frame[at], at + (frame[at + 1] + 1) * 8
    return following in (44, 51)


def written(rule: ResolvedRule) -> Rule | None:
    """Return the rule of a document that resolves to *rule*, as far as it is judged alike."""
    if rule.protocol is None:
        return rule.rule
    table = PROTOCOLS[rule.protocol].table
    conditions = []
    for match in rule.matches:
        is_number = isinstance(table[match.attribute].type, Integer)
        value = Number(match.value) if is_number else match.value  # type: ignore[arg-type]
        conditions.append(Condition(match.attribute, value, match.negated))
    return as_judged(attrs.evolve(rule.rule, conditions=arranged(rule.protocol, conditions)))


def tree_of(rules: Sequence[ResolvedRule]) -> dict[str, Filter]:
    """Return filters of one rule each, and `top`, which refers to them in order.

    No two chains have one priority: of such libvirt takes any first, by the order of its
    hash table, which is another in each process.
    """
    made: dict[str, Filter] = {}
    for rule in rules:
        if (document := written(rule)) is not None:
            name = f"r{len(made)}"
            priority = default_chain_priority(rule.chain)
            priority += rule.chain not in ("root", *CHAIN_PRIORITIES)
            made[name] = Filter(name, rule.chain, priority, entries=(document,))
    return {**made, "top": Filter("top", entries=tuple(map(Reference, made)))}


#: What is in the kernel by ipset(8)'s own way as well, each of one family.
SETS = {
    name_of_set(name, version): [each for each in members if each.version == version]
    for name, members in nwvalues.SETS.items()
    for version in (4, 6)
}


class Comparison:
    """Compares filters, and counts verdicts: passed or not, there and so here."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.verdicts: Counter[bool] = Counter()
        self.bound = 0
        #: Rules that ask for a set.
        self.of_sets = 0

    def is_enough(self, least_of_sets: int) -> bool:
        """Return whether many filters were bound, and both verdicts came often."""
        least = min(self.verdicts[True], self.verdicts[False])
        return self.bound >= 20 and least >= 20 and self.of_sets >= least_of_sets

    def compare(
        self,
        name: str,
        tree: Mapping[str, Filter],
        parameters: Sequence[Parameter],
        frames: Sequence[tuple[bytes, Direction]],
    ) -> None:
        """Judge *frames* by filter *name*.

        Raises:
            Refused: if it cannot be bound there.
        """
        own = (Parameter("MAC", (MAC,)), *parameters)
        rules = resolve(name, tree, own)
        core, evaluator = CoreGate(compile_bytes(rules, SETS)), Evaluator(rules, SETS)
        with self._host.bound(name, tree, parameters) as bridge:
            self.bound += 1
            self.of_sets += sum(rule.match("ipset") is not None for rule in rules)
            for frame, direction in frames:
                verdict = core.judge(frame, direction, NOW_NS)
                passes = bridge.passes(frame, to_guest=direction is Direction.IN)
                assert verdict == evaluator.judge(frame, direction, NOW_NS)
                assert (verdict.action is Action.ACCEPT) == passes, (frame.hex(), direction)
                self.verdicts[passes] += 1


def frames_of(steps: Sequence[Step], about: str | None) -> list[tuple[bytes, Direction]]:
    made = [
        (with_checksum(filters.make_frame(number, about)), direction)
        for number, direction in steps
    ]
    return [each for each in made if not is_left_out(each[0])]


@st.composite
def of_sets(draw: st.DrawFn) -> tuple[ResolvedRule, ...]:
    """Return rules each of which asks for a set, as libvirt does: for `all`, and not negated."""
    rules = draw(filters.filters(st.sampled_from(["all", "all-ipv6"])))
    made = []
    for rule in rules:
        kept = [each for each in rule.matches if not each.attribute.startswith("ipset")]
        kept.append(Match("ipset", draw(st.sampled_from(sorted(nwvalues.SETS)))))
        kept.append(Match("ipsetflags", (draw(st.sampled_from(Side)),)))
        made.append(attrs.evolve(rule, matches=tuple(kept)))
    return tuple(made)


@pytest.fixture(scope="module", autouse=True)
def sets() -> Iterator[None]:
    """Let the kernel have SETS for a while."""
    with IPSet() as ipset:
        for name, members in SETS.items():
            family = socket.AF_INET6 if name.endswith("6") else socket.AF_INET
            ipset.create(name, stype="hash:net", family=family)
            # It has no prefix of no bits.
            parts = (half for each in members for half in each.subnets(not each.prefixlen))
            for part in set(parts):
                ipset.add(name, str(part), etype="net", family=family)
        yield
        for name in SETS:
            ipset.destroy(name)


@pytest.mark.parametrize(
    ("some", "least_of_sets"),
    [
        (filters.filters(st.sampled_from(filters.L2)), 0),
        (filters.filters(st.sampled_from(filters.L3)), 0),
        (of_sets(), 20),
    ],
    ids=["layer 2", "layer 3", "sets"],
)
def test_random_filters_pass_the_same_frames(
    host: Host, some: st.SearchStrategy[tuple[ResolvedRule, ...]], least_of_sets: int
) -> None:
    comparison = Comparison(host)

    # Not made smaller when one fails: binding takes its time.
    @settings(
        # Until there are enough: which are drawn depends on whatever modules there are.
        max_examples=200,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(some, STEPS)
    def compare(rules: tuple[ResolvedRule, ...], steps: list[Step]) -> None:
        if comparison.is_enough(least_of_sets):
            return
        frames = frames_of(steps, rules[0].protocol)
        tree = tree_of(rules)
        note("".join(map(canonical, tree.values())))
        # What the kernel cannot load, such as `continue` beside some matches, is not compared.
        with suppress(Refused):
            comparison.compare("top", tree, (), frames)

    compare()
    assert comparison.is_enough(least_of_sets), vars(comparison)


STOCK_PARAMETERS = {
    "DHCPSERVER": "10.0.0.2",
    "GATEWAY_MAC": "52:54:00:00:00:02",
    "IPV6": "fd00::1",
    "IP": "10.0.0.1",
}


def numbers(count: int) -> list[Step]:
    """Return steps both ways, the same each time."""
    return [(number, way) for number in range(count) for way in (Direction.OUT, Direction.IN)]


@pytest.mark.parametrize("name", [*stock_filters(), "test-eth0"])
def test_filters_that_people_use_pass_the_same_frames(host: Host, name: str) -> None:
    everything = {**stock_filters(), "test-eth0": example()}
    tree = {each: everything[each] for each in reachable(name, everything)}
    given = dict(STOCK_PARAMETERS)
    if name == "allow-dhcpv6-server":
        given["DHCPSERVER"] = "fd00::2"
    parameters = tuple(Parameter(each, (value,)) for each, value in given.items())

    kinds = (None, "arp", "rarp", "ip", "ipv6", "tcp")
    frames = [each for about in kinds for each in frames_of(numbers(40), about)]
    comparison = Comparison(host)
    comparison.compare(name, tree, parameters, frames)

    assert sum(comparison.verdicts.values()) > 300
