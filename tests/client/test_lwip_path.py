"""lwIP and the MTU of its paths, about which anybody may lie."""

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether

from tests.client.client_user import ClientUser
from tests.client.fake_daemon import FakeDaemon
from tests.client.test_lwip_router import (
    ALICE,
    OLD,
    TALK,
    Wire,
    asks_everybody,
    daemon,
    is_there,
    talks_to,
)
from tests.client.test_stack import program

__all__ = ["daemon"]

FAR = "2001:db8::1"
LENGTH = 1000
TALK_LONG = TALK.replace('b"hello"', f"bytes({LENGTH})")


def too_big(mtu: int) -> Ether:
    """Return what a router says of a datagram of alice's that it could not forward."""
    return (
        Ether(src=OLD, dst=ALICE)
        / IPv6(src="2001:db8::254", dst="fd09::1")
        / ICMPv6PacketTooBig(mtu=mtu)
        / IPv6(src="fd09::1", dst=FAR)
        / UDP(sport=1, dport=9)
    )


@pytest.mark.usefixtures("lwip_build")
@pytest.mark.parametrize("mtu", [0, 1, 47, 48, 49, 56, 100, 1279, 0xFFFF, 0xFFFFFFFF])
def test_a_path_has_what_every_link_carries(daemon: FakeDaemon, mtu: int) -> None:
    """With less than 56 it would be cut to pieces of nothing, for ever."""

    def talks_in_one_piece(frame: Ether) -> bool:
        return talks_to(OLD)(frame) and UDP in frame and len(frame) > LENGTH

    wire = Wire(daemon)
    with ClientUser(20001, daemon).program(program("v1", TALK_LONG, "lwip")):
        wire.wait_for(asks_everybody)
        wire.inject(is_there(OLD))
        wire.wait_for(talks_in_one_piece)
        wire.inject(too_big(mtu))
        for _ in range(3):
            wire.wait_for(talks_in_one_piece)
