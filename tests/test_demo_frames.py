"""The demo's frames are what they say they are: scapy builds them back byte for byte."""

import pytest
from scapy.layers.l2 import Ether

from demo.attempts import Parties, Party, attempts, fence, lawful, tagged_from_wire

MARK = b"<demo mark   0>"


def party(number: int) -> Party:
    return Party(
        f"party {number}",
        bytes.fromhex(f"5254000000{number:02x}"),
        bytes([10, 77, 0, number]),
        bytes.fromhex("fd77") + bytes(13) + bytes([number]),
    )


PARTIES = Parties(intruder=party(13), victim=party(11), neighbour=party(12), outside=party(1))
FRAMES = {
    **{
        f"{attempt.name} {number}": frame
        for attempt in attempts()
        for number, frame in enumerate(attempt.build(PARTIES, MARK))
    },
    **{f"lawful {n}": frame for n, frame in enumerate(lawful(PARTIES.intruder, MARK))},
    **{f"from wire {n}": frame for n, frame in enumerate(tagged_from_wire(PARTIES, MARK))},
    "fence": fence(PARTIES.intruder, MARK),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_lengths_and_checksums_are_right(frame: bytes) -> None:
    parsed = Ether(frame)
    for name in ("IP", "IPv6", "UDP", "ICMPv6ND_NA", "ICMPv6ND_RA"):
        for computed in ("chksum", "cksum", "len", "plen"):
            if name in parsed and computed in parsed[name].fields:
                parsed[name].delfieldval(computed)

    assert bytes(parsed) == frame


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_every_frame_carries_the_mark(frame: bytes) -> None:
    assert MARK in frame
