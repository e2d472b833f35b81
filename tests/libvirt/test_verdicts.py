"""Verdicts on frames beside those of a host that libvirtd has set up by ebtables and iptables.

Of the same filters and the same frames in the same order, what passes there
must pass here, by the datapath's own code and by the evaluator; each filter
begins without connections.  Fragments are left out: the kernel holds them back
until they are a packet.  So is ARP of anything but Ethernet and IPv4, of which
ebtables looks at the half that is usual, and ours at nothing; and IPv6 behind
an authentication header, which for nft's ip6tables is the protocol, and for its
older one is not there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.evaluate import Evaluator
from multiplexer.policy.nwfilter.protocols import PROTOCOLS
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.resolved import ResolvedRule
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
from multiplexer.policy.nwfilter.values import Integer, Number
from multiplexer.stock import stock_filters
from tests.datapath import filters
from tests.datapath.gate import CoreGate
from tests.libvirt.exceptions import as_judged
from tests.libvirt.host import MAC, Host
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
    """Return filters of one rule each, and `top`, which refers to them in order."""
    made: dict[str, Filter] = {}
    for rule in rules:
        if (document := written(rule)) is not None:
            name = f"r{len(made)}"
            made[name] = Filter(name, rule.chain, entries=(document,))
    return {**made, "top": Filter("top", entries=tuple(map(Reference, made)))}


class Comparison:
    """Compares filters, and counts verdicts: passed or not, there and so here."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.verdicts: Counter[bool] = Counter()
        self.bound = 0

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
        core, evaluator = CoreGate(compile_bytes(rules, {})), Evaluator(rules, {})
        with self._host.bound(name, tree, parameters) as bridge:
            self.bound += 1
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


@pytest.mark.parametrize("protocols", [filters.L2, filters.L3], ids=["layer 2", "layer 3"])
def test_random_filters_pass_the_same_frames(host: Host, protocols: Sequence[str | None]) -> None:
    comparison = Comparison(host)

    # Not made smaller when one fails: binding takes its time.
    @settings(
        max_examples=30,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(filters.filters(st.sampled_from(protocols)), STEPS)
    def compare(rules: tuple[ResolvedRule, ...], steps: list[Step]) -> None:
        frames = frames_of(steps, rules[0].protocol)
        tree = tree_of(rules)
        note("".join(map(canonical, tree.values())))
        # What the kernel cannot load, such as `continue` beside some matches, is not compared.
        with suppress(Refused):
            comparison.compare("top", tree, (), frames)

    compare()
    assert comparison.bound >= 20
    assert min(comparison.verdicts[True], comparison.verdicts[False]) >= 20


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
