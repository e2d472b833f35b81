"""Packets in pieces beside those of a host that libvirtd has set up.

The first piece comes first, so what the kernel holds back until the packet is whole
and what is judged here piece by piece must come to the same: as many bytes arrive.  What
differs on purpose, a later piece that comes before its first, is FRAGMENTS in
multiplexer-filter(5).  Rules are of the network layer alone: of a packet that was put
together ebtables sees the whole on its way to the guest, and here a piece is a frame.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.evaluate import Evaluator
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.resolved import ResolvedRule
from multiplexer.policy.nwfilter.syntax import Action, Direction, Filter, Parameter
from tests.datapath import filters, frames
from tests.datapath.gate import CoreGate
from tests.libvirt.host import MAC, Host
from tests.libvirt.test_verdicts import NOW_NS, tree_of, with_checksum
from tests.support import nwvalues
from tests.support.libvirtd import Refused

#: Bytes of the first piece.
CUT = 64
LENGTH = 100

IPV4_ID_AT, IPV6_ID_AT = 18, 58
IPV4_HEAD, IPV6_HEAD = 34, 62


@attrs.frozen
class Packet:
    """The frames of one packet's pieces, and where it goes."""

    pieces: tuple[bytes, bytes]
    direction: Direction


@attrs.define
class Writer:
    """Writes packets; no two have the same identification, by which pieces are put together."""

    ids: Iterator[int] = attrs.Factory(lambda: itertools.count(1))

    def packet(self, number: int, direction: Direction) -> Packet:
        rng = Random(number)
        version = rng.choice([4, 4, 6])
        upper = self._upper(rng, version)
        mine, theirs = nwvalues.IPV4S if version == 4 else nwvalues.IPV6S
        src, dst = (mine, theirs) if direction is Direction.OUT else (theirs, mine)
        ids = next(self.ids).to_bytes(4, "big")
        made = []
        for part, offset in ((slice(0, CUT), 0), (slice(CUT, None), CUT)):
            if version == 4:
                cut = frames.ipv4(
                    upper, src=src, dst=dst, more=not offset, offset=offset, part=part
                )
            else:
                head = frames.fragment_header(more=not offset, offset=offset)
                cut = frames.ipv6(upper, src=src, dst=dst, extensions=(head,), part=part)
            ends = nwvalues.MACS[:2] if direction is Direction.OUT else nwvalues.MACS[1::-1]
            frame = frames.ethernet(cut, src=ends[0], dst=ends[1])
            at, id_ = (IPV4_ID_AT, ids[2:]) if version == 4 else (IPV6_ID_AT, ids)
            made.append(with_checksum(frame[:at] + id_ + frame[at + len(id_) :]))
        return Packet((made[0], made[1]), direction)

    @staticmethod
    def _upper(rng: Random, version: int) -> frames.Upper:
        sport, dport = rng.choice(filters.PORT_PAIRS)
        match rng.choice(["udp", "udp", "tcp", "icmp"]):
            case "udp":
                return frames.udp(bytes(LENGTH), sport=sport, dport=dport)
            case "tcp":
                return frames.tcp(bytes(LENGTH), sport=sport, dport=dport)
        body = b"\0\1\0\0" + bytes(LENGTH)
        return frames.icmp(8, 0, body) if version == 4 else frames.icmpv6(128, 0, body)


def length(frame: bytes) -> int:
    """Return the bytes that *frame* has of its packet, whole or a piece."""
    if frame[12:14] == b"\x08\x00":
        return int.from_bytes(frame[16:18], "big") - 20
    whole = int.from_bytes(frame[18:20], "big")
    return whole - 8 * (frame[20] == frames.FRAGMENT)


class Comparison:
    """Compares filters, and counts how much of packets arrived, there and so here."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._writer = Writer()
        self.lengths: Counter[int] = Counter()

    def compare(
        self, name: str, tree: Mapping[str, Filter], steps: Sequence[tuple[int, Direction]]
    ) -> None:
        """Send packets by filter *name*; Refused if it cannot be bound there."""
        rules = resolve(name, tree, (Parameter("MAC", (MAC,)),))
        core, evaluator = CoreGate(compile_bytes(rules, {})), Evaluator(rules, {})
        with self._host.bound(name, tree) as bridge:
            for number, direction in steps:
                packet = self._writer.packet(number, direction)
                here = 0
                for piece in packet.pieces:
                    verdict = core.judge(piece, direction, NOW_NS)
                    assert verdict == evaluator.judge(piece, direction, NOW_NS)
                    here += length(piece) if verdict.action is Action.ACCEPT else 0
                came = bridge.arrived(packet.pieces, to_guest=direction is Direction.IN)
                assert here == sum(map(length, came)), (packet, came)
                self.lengths[here] += 1


RULES = {
    "by ports, without connections": (
        "<rule action='drop' direction='inout'><udp dstportstart='53'/></rule>"
        "<rule action='drop' direction='inout'><tcp-ipv6 dstportstart='80'/></rule>"
    ),
    "by ports and connections": (
        "<rule action='accept' direction='out'><udp dstportstart='53'/></rule>"
        "<rule action='accept' direction='out'><tcp/></rule>"
        "<rule action='accept' direction='in'><icmp/></rule>"
        "<rule action='drop' direction='inout' priority='900'><all/></rule>"
        "<rule action='accept' direction='out'><udp-ipv6 dstportstart='53'/></rule>"
        "<rule action='drop' direction='inout' priority='900'><all-ipv6/></rule>"
    ),
}
STEPS = [(number, way) for number in range(60) for way in (Direction.OUT, Direction.IN)]


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_as_much_of_packets_arrives(host: Host, rules: str) -> None:
    document = f"<filter name='pieces'>{rules}</filter>"
    comparison = Comparison(host)
    comparison.compare("pieces", {"pieces": parse_untrusted(document.encode())}, STEPS)

    assert len(comparison.lengths) > 1, "some are dropped, and some are not"


def test_as_much_of_packets_arrives_by_random_filters(host: Host) -> None:
    comparison = Comparison(host)
    steps = st.lists(
        st.tuples(st.integers(0, 2**32), st.sampled_from([Direction.IN, Direction.OUT])),
        min_size=10,
        max_size=20,
    )

    # Not made smaller when one fails: binding takes its time.
    @settings(
        max_examples=25,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(filters.filters(st.sampled_from(filters.L3)), steps)
    def compare(rules: tuple[ResolvedRule, ...], steps: list[tuple[int, Direction]]) -> None:
        tree = tree_of([each for each in rules if each.match("ipset") is None])
        note("".join(map(canonical, tree.values())))
        with suppress(Refused):
            comparison.compare("top", tree, steps)

    compare()
    assert sum(comparison.lengths.values()) > 100
    assert comparison.lengths[0] > 10
