"""TCP options beside the kernel's search for them, those with impossible lengths too."""

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

FILTER = b"""<filter name='option'>
  <rule action='drop' direction='in' statematch='false'><tcp option='8'/></rule>
</filter>"""

#: Options as one word, and whether one of kind 8 is found among them.
WORDS = {
    "01010108": True,
    "00080000": True,
    "05020800": True,
    "05010800": True,
    "05000800": True,
    "05030800": False,
    "05ff0800": False,
    "01010105": False,
    "00000000": False,
}


@pytest.mark.parametrize("word", WORDS)
def test_an_option_is_looked_for_as_the_kernel_does(host: Host, word: str) -> None:
    segment = frames.tcp(b"x", options=bytes.fromhex(word))
    packet = frames.ipv4(segment, src="10.0.0.2", dst="10.0.0.1")
    frame = with_checksum(frames.ethernet(packet, src=MACS[1], dst=MACS[0]))
    tree = {"option": parse_untrusted(FILTER)}
    rules = resolve("option", tree, (Parameter("MAC", (MAC,)),))

    with host.bound("option", tree) as bridge:
        dropped = (
            CoreGate(compile_bytes(rules, {})).judge(frame, Direction.IN, NOW_NS).action
            is Action.DROP,
            Evaluator(rules, {}).judge(frame, Direction.IN, NOW_NS).action is Action.DROP,
            not bridge.passes(frame, to_guest=True),
        )

    assert dropped == (WORDS[word],) * 3
