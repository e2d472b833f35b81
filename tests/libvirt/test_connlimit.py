"""Limits of connections beside those of a host that libvirtd has set up.

A source stays below its limit, and goes on with what it has; then it goes beyond.  What it
sends after that is not compared: the kernel has what it dropped on its list until it
looks for what has gone from there, which it does once in a jiffy at most
(nf_conncount.c), so by the time of day it is counted or not.
"""

import pytest

from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.evaluate import Evaluator
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.syntax import Action, Direction, Parameter
from tests.datapath import frames
from tests.datapath.gate import CoreGate
from tests.libvirt.host import MAC, Host
from tests.libvirt.test_verdicts import NOW_NS, with_checksum
from tests.support.nwvalues import MACS

LIMIT = 3
SYN = 0x02

LIMITED = """<filter name='limited'>
  <rule action='drop' direction='{direction}'>
    <{protocol} connlimit-above='{limit}'/>
  </rule>
</filter>"""


def frame(protocol: str, direction: Direction, source: int, sport: int) -> bytes:
    """Return what begins connection *sport* of a source, or goes on with it."""
    if protocol.startswith("tcp"):
        made = frames.tcp(sport=sport, dport=80)
        upper = frames.Upper(6, made.data[:13] + bytes((SYN,)) + made.data[14:], 16)
    else:
        upper = frames.udp(b"hello", sport=sport, dport=80)
    if protocol.endswith("ipv6"):
        packet = frames.ipv6(upper, src=f"fd00::{source:x}", dst="fd00::99")
    else:
        packet = frames.ipv4(upper, src=f"10.0.0.{source}", dst="10.0.0.99")
    ends = MACS[:2] if direction is Direction.OUT else MACS[1::-1]
    return with_checksum(frames.ethernet(packet, src=ends[0], dst=ends[1]))


def steps(protocol: str) -> list[tuple[bytes, Direction]]:
    """Return what each of some sources sends, both ways, in parts that mix but for the last."""
    made = []
    for direction, first in ((Direction.OUT, 1), (Direction.IN, 5)):
        sources = range(first, first + 3)
        lawful = [(source, sport) for sport in range(1, LIMIT + 1) for source in sources]
        again = [(source, 1) for source in sources]
        beyond = [(source, sport) for source in sources for sport in (LIMIT + 1, LIMIT + 2)]
        made += [
            (frame(protocol, direction, *each), direction) for each in (*lawful, *again, *beyond)
        ]
    return made


@pytest.mark.parametrize("protocol", ["tcp", "udp", "tcp-ipv6", "udp-ipv6"])
@pytest.mark.parametrize("direction", ["in", "out", "inout"])
def test_as_many_connections_are_let_pass(host: Host, direction: str, protocol: str) -> None:
    document = LIMITED.format(direction=direction, protocol=protocol, limit=LIMIT)
    tree = {"limited": parse_untrusted(document.encode())}
    rules = resolve("limited", tree, (Parameter("MAC", (MAC,)),))
    core, evaluator = CoreGate(compile_bytes(rules, {})), Evaluator(rules, {})
    passed = []
    with host.bound("limited", tree) as bridge:
        for sent, way in steps(protocol):
            verdict = core.judge(sent, way, NOW_NS)
            assert verdict == evaluator.judge(sent, way, NOW_NS)
            passes = bridge.passes(sent, to_guest=way is Direction.IN)
            assert (verdict.action is Action.ACCEPT) == passes, (sent.hex(), way)
            passed.append(passes)

    assert passed.count(False) == 6
