"""Fields of a BPDU beside the kernel that libvirtd makes rules for, which has them elsewhere.

It takes the protocol identifier in front of them for one byte, and it has two
(IEEE 802.1D, 9.3.1; ebt_stp.c), so that it looks for every field one byte too early.  While it
does, what asks for fields is left out of the other comparisons.
"""

import pytest

from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.evaluate import Evaluator
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.syntax import Action, Direction, Parameter
from tests.datapath.gate import CoreGate
from tests.libvirt.host import MAC, Host
from tests.libvirt.test_verdicts import NOW_NS

LLC = bytes((0x42, 0x42, 3))
#: A configuration: protocol, version and type are 0, and no two bytes behind them are the same.
BPDU = bytes(4) + bytes(range(0x40, 0x40 + 31))
FRAME = bytes.fromhex("0180c2000000" + MAC.replace(":", "") + "0026") + LLC + BPDU

#: Where each field begins in a BPDU, and behind which byte it ends.
FIELDS = {
    "root-priority": (5, 7),
    "root-cost": (13, 17),
    "sender-priority": (17, 19),
    "port": (25, 27),
    "age": (27, 29),
    "max-age": (29, 31),
    "hello-time": (31, 33),
    "forward-delay": (33, 35),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_where_the_standard_has_it_and_for_the_kernel_one_byte_before(
    host: Host, name: str
) -> None:
    begin, end = FIELDS[name]
    dropped = {}
    for early in (0, 1):
        value = int.from_bytes(BPDU[begin - early : end - early], "big")
        text = (
            "<filter name='asks'><rule action='drop' direction='in'>"
            f"<stp {name}='{value}'/></rule></filter>"
        )
        tree = {"asks": parse_untrusted(text.encode())}
        rules = resolve("asks", tree, (Parameter("MAC", (MAC,)),))
        with host.bound("asks", tree) as bridge:
            verdicts = (
                CoreGate(compile_bytes(rules, {})).judge(FRAME, Direction.IN, NOW_NS),
                Evaluator(rules, {}).judge(FRAME, Direction.IN, NOW_NS),
            )
            ours = [verdict.action is Action.DROP for verdict in verdicts]
            dropped[early] = (*ours, not bridge.passes(FRAME, to_guest=True))

    assert dropped == {0: (True, True, False), 1: (False, False, True)}
