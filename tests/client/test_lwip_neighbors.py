"""lwIP's few places for neighbours, and who forges the sources of what it sends."""

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from pfinet_proto.stream import encode_frames
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon
from tests.client.test_lwip_router import ALICE, daemon
from tests.client.test_stack import program

__all__ = ["daemon"]

pytestmark = pytest.mark.usefixtures("lwip_build")

BOB, CAROL = "fd09::2", "fd09::3"
MAC = {BOB: "02:00:00:00:00:02", CAROL: "02:00:00:00:00:03"}

SERVE = """
async with trio.open_nursery() as nursery:
    await nursery.start(partial(trio.serve_tcp, trio.aclose_forcefully, 80, host="::"))
    say("up")
"""


def flood(begin: int, n: int) -> list[Ether]:
    """Return *n* segments that begin connections, from neighbours that there are not."""
    sources = (str(IPv6Address("fd09::1:0") + begin + each) for each in range(n))
    return [
        Ether(src=MAC[BOB], dst=ALICE)
        / IPv6(src=source, dst="fd09::1")
        / TCP(sport=1000, dport=80, flags="S", seq=1)
        for source in sources
    ]


def ping(source: str) -> Ether:
    return (
        Ether(src=MAC[source], dst=ALICE) / IPv6(src=source, dst="fd09::1") / ICMPv6EchoRequest()
    )


def is_there(neighbor: str) -> Ether:
    """Return what *neighbor* answers whoever asks for it."""
    return (
        Ether(src=MAC[neighbor], dst=ALICE)
        / IPv6(src=neighbor, dst="fd09::1", hlim=255)
        / ICMPv6ND_NA(tgt=neighbor, R=0, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC[neighbor])
    )


class Talk:
    """What alice sends, in its order."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon
        self._seen: list[Ether] = []
        daemon.wire = self

    def __call__(self, records: list[bytes]) -> list[bytes]:
        self._seen += map(Ether, records)
        return records

    def inject(self, *packets: Ether) -> None:
        frames = [bytes(packet) for packet in packets]
        self._daemon.inject("v1", encode_frames(frames, vnet=False))

    def asked_for(self, neighbor: str) -> int:
        """Return how often everybody was asked for *neighbor*."""
        asked = [each for each in self._seen if each.dst.startswith("33:33:ff")]
        return sum(ICMPv6ND_NS in each and each.tgt == neighbor for each in asked)

    def answered(self, neighbor: str) -> int:
        """Return how many pings of *neighbor* were answered."""
        answers = [each for each in self._seen if ICMPv6EchoReply in each]
        return sum(each[IPv6].dst == neighbor for each in answers)

    def wait_asked_for(self, neighbor: str) -> None:
        with self._daemon.changed:
            assert self._daemon.changed.wait_for(lambda: self.asked_for(neighbor), TIMEOUT_S)

    def wait_answered(self, neighbor: str, times: int = 1) -> None:
        with self._daemon.changed:
            assert self._daemon.changed.wait_for(
                lambda: self.answered(neighbor) == times, TIMEOUT_S
            )


def test_a_neighbor_that_was_found_is_not_given_up_for_any_that_never_answer(
    daemon: FakeDaemon,
) -> None:
    talk = Talk(daemon)
    with ClientUser(20001, daemon).program(program("v1", SERVE, "lwip")):
        talk.inject(ping(BOB))
        talk.wait_asked_for(BOB)
        talk.inject(is_there(BOB))
        talk.wait_answered(BOB)
        before = talk.asked_for(BOB)
        talk.inject(*flood(0, 300))
        talk.inject(ping(BOB))
        talk.wait_answered(BOB, 2)

    assert talk.asked_for(BOB) == before


def test_a_neighbor_that_comes_amid_them_is_found(daemon: FakeDaemon) -> None:
    """lwIP gives up the one that it has asked for least long."""
    talk = Talk(daemon)
    with ClientUser(20001, daemon).program(program("v1", SERVE, "lwip")):
        talk.inject(*flood(0, 300))
        talk.inject(ping(CAROL))
        talk.inject(*flood(300, 3))
        talk.wait_asked_for(CAROL)
        talk.inject(is_there(CAROL))

        talk.wait_answered(CAROL)
