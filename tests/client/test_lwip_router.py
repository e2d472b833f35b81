"""lwIP and the router that the binding names, which need not advertise itself."""

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

from pfinet_proto.attach import Offload
from pfinet_proto.stream import encode_frames
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_stack import program

ROUTER = "fd09::254"
ALICE = str(binding(1).mac)
#: Where the router was, and where it is.
OLD, NEW = "02:00:00:00:00:01", "02:00:00:00:00:02"

TALK = """
sock = trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
say("up")
while True:
    await sock.sendto(b"hello", ("2001:db8::1", 9))
    await trio.sleep(0.1)
"""


class Wire:
    """Looks at each frame of alice's once."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon
        self._seen: list[bytes] = []
        daemon.wire = self

    def __call__(self, records: list[bytes]) -> list[bytes]:
        self._seen += records
        return records

    def wait_for(self, wanted: Callable[[Ether], bool]) -> None:
        """Wait for a frame that comes from now on."""
        with self._daemon.changed:
            self._seen.clear()
            assert self._daemon.changed.wait_for(
                lambda: any(wanted(Ether(frame)) for frame in self._seen), TIMEOUT_S
            )

    def inject(self, packet: Ether) -> None:
        self._daemon.inject("v1", encode_frames([bytes(packet)], vnet=False))


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 20001), offload=Offload(0)) as running:
        yield running


def is_there(mac: str) -> Ether:
    """Return the answer that the router is at *mac*."""
    return (
        Ether(src=mac, dst=ALICE)
        / IPv6(src=ROUTER, dst="fd09::1", hlim=255)
        / ICMPv6ND_NA(tgt=ROUTER, R=1, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


def advertised(source: str, lifetime_s: int) -> Ether:
    """Return an advertisement after which neighbours are believed for a second."""
    return (
        Ether(src=OLD, dst="33:33:00:00:00:01")
        / IPv6(src=source, dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=lifetime_s, reachabletime=1000)
    )


def asks_everybody(frame: Ether) -> bool:
    return frame.dst.startswith("33:33:ff") and ICMPv6ND_NS in frame and frame.tgt == ROUTER


def talks_to(mac: str) -> Callable[[Ether], bool]:
    return lambda frame: frame.dst == mac and IPv6 in frame and frame[IPv6].dst == "2001:db8::1"


@pytest.mark.usefixtures("lwip_build")
def test_a_router_that_came_back_elsewhere_is_found(daemon: FakeDaemon) -> None:
    wire = Wire(daemon)
    with ClientUser(20001, daemon).program(program("v1", TALK, "lwip")):
        wire.inject(advertised("fe80::9", 0))
        wire.wait_for(asks_everybody)
        wire.inject(is_there(OLD))
        wire.wait_for(talks_to(OLD))
        # It is asked where it was, without an answer.
        wire.wait_for(lambda frame: frame.dst == OLD and ICMPv6ND_NS in frame)
        wire.wait_for(asks_everybody)
        wire.inject(is_there(NEW))

        wire.wait_for(talks_to(NEW))


@pytest.mark.usefixtures("lwip_build")
def test_what_it_says_of_itself_does_not_end_it(daemon: FakeDaemon) -> None:
    """A lifetime of 0 says that it is nobody's router; the binding says that it is ours."""
    wire = Wire(daemon)
    with ClientUser(20001, daemon).program(program("v1", TALK, "lwip")):
        wire.wait_for(asks_everybody)
        wire.inject(is_there(OLD))
        wire.wait_for(talks_to(OLD))
        for _ in range(3):
            wire.inject(advertised(ROUTER, 0))
            wire.wait_for(talks_to(OLD))
