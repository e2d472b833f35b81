"""Which addresses lwIP has, as they come and go, and from which it sends."""

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

import attrs
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import Ether

from pfinet_proto.attach import Offload, Update, encode
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_lwip_router import ALICE, OLD, Wire, asks_everybody, is_there
from tests.client.test_stack import program, server

pytestmark = pytest.mark.usefixtures("lwip_build")

#: What the link-local address of alice makes of the prefix of the network.
AUTOMATIC = "fd09::5054:ff:fe00:1"

#: Connects to bob from the address SOURCE, once it is there; says a line on that later.
HOLD = """
say("up")
while True:
    sock = trio.socket.socket(socket.AF_INET6)
    try:
        await sock.bind((SOURCE, 0))
        break
    except OSError:
        sock.close()
        await trio.sleep(0.05)
await sock.connect(("fd09::2", 80))
say("connected")
await wait_line()
while [str(each) for each in stack.binding.addresses] != ADDRESSES:
    await trio.sleep(0.01)
await sock.send(b"hello")
say((await sock.recv(100)).decode())
for each in ADDRESSES:
    with trio.socket.socket(socket.AF_INET6) as other:
        await other.bind((each.partition("/")[0], 0))
say("bound")
"""


def hold(source: str, addresses: list[str]) -> str:
    """Return what holds a connection from *source* until the binding has *addresses*."""
    text = HOLD.replace("SOURCE", repr(source)).replace("ADDRESSES", repr(addresses))
    return program("v1", text, "lwip")


def advertisement() -> Ether:
    """Return how a router says which prefix addresses may be made of."""
    return (
        Ether(src=OLD, dst="33:33:00:00:00:01")
        / IPv6(src="fe80::9", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=0)
        / ICMPv6NDOptPrefixInfo(prefix="fd09::", prefixlen=64, L=1, A=1)
    )


def with_addresses(daemon: FakeDaemon, *addresses: str) -> None:
    """Change the addresses of alice's vif."""
    port = daemon.ports["v1"]
    changed = attrs.evolve(port.binding, addresses=tuple(map(ip_interface, addresses)))
    assert port.attach is not None
    port.attach.send(encode(Update(changed)))


def test_one_that_comes_leaves_an_automatic_one_its_place() -> None:
    """And with it the connections from there."""
    changes = {"addresses": (), "prefixes": (ip_network("fd09::/64"),)}
    addresses = [f"fd09::{n}/64" for n in (1, 11, 12)]
    with fake_daemon(
        (binding(1, **changes), 20001), (binding(2), 20002), offload=Offload(0)
    ) as daemon:
        alice, bob = ClientUser(20001, daemon), ClientUser(20002, daemon)
        with (
            server(bob, "v2"),
            alice.program(hold(AUTOMATIC, addresses)) as running,
        ):
            Wire(daemon).inject(advertisement())
            assert running.read_line() == "connected"
            with_addresses(daemon, *addresses)
            running.say("")

            assert running.read_line() == f"{AUTOMATIC} HELLO"
            assert running.read_line() == "bound"


def test_one_that_goes_leaves_the_others_their_places() -> None:
    """The first one was the first one's, and connections from the second are not its."""
    addresses = tuple(ip_interface(f"fd09::{n}/64") for n in (1, 11))
    with fake_daemon(
        (binding(1, addresses=addresses), 20001), (binding(2), 20002), offload=Offload(0)
    ) as daemon:
        alice, bob = ClientUser(20001, daemon), ClientUser(20002, daemon)
        kept = ["fd09::11/64"]
        with (
            server(bob, "v2"),
            alice.program(hold("fd09::11", kept)) as running,
        ):
            assert running.read_line() == "connected"
            with_addresses(daemon, *kept)
            running.say("")

            assert running.read_line() == "fd09::11 HELLO"
            assert running.read_line() == "bound"


def test_an_automatic_one_goes_with_its_prefix() -> None:
    changes = {"addresses": (), "prefixes": (ip_network("fd09::/64"),)}
    leave = f"""
say("up")
async def is_own(address):
    with trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            await sock.bind((address, 0))
        except OSError as error:
            return False
        return True

while not await is_own({AUTOMATIC!r}):
    await trio.sleep(0.05)
say("there")
while await is_own({AUTOMATIC!r}):
    await trio.sleep(0.05)
say("gone", bool(stack.binding.prefixes))
"""
    with (
        fake_daemon((binding(1, **changes), 20001), offload=Offload(0)) as daemon,
        ClientUser(20001, daemon).program(program("v1", leave, "lwip")) as running,
    ):
        Wire(daemon).inject(advertisement())
        assert running.read_line() == "there"
        port = daemon.ports["v1"]
        assert port.attach is not None
        port.attach.send(encode(Update(attrs.evolve(port.binding, prefixes=()))))

        assert running.read_line() == "gone False"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 20001), (binding(2), 20002), offload=Offload(0)) as running:
        yield running


FAR = "2001:db8::1"

STAY = """
say("up")
await wait_line()
"""


def test_a_far_one_is_answered_from_an_address_of_the_vif(daemon: FakeDaemon) -> None:
    """lwIP would take ::1, whose scope it takes for the widest."""
    asked = (
        Ether(src=OLD, dst=ALICE) / IPv6(src=FAR, dst="fd09::1") / UDP(sport=1, dport=9) / b"hello"
    )

    sources: list[str] = []

    def look(records: list[bytes]) -> list[bytes]:
        frames = map(Ether, records)
        sources.extend(each[IPv6].src for each in frames if ICMPv6DestUnreach in each)
        return records

    with ClientUser(20001, daemon).program(program("v1", STAY, "lwip")):
        wire = Wire(daemon)
        wire.wait_for(asks_everybody)
        daemon.wire = look
        wire.inject(is_there(OLD))
        wire.inject(asked)
        with daemon.changed:
            assert daemon.changed.wait_for(lambda: sources, TIMEOUT_S)

    assert set(sources) == {"fd09::1"}


SEND = """
async def send(family, source, to):
    with trio.socket.socket(family, socket.SOCK_DGRAM) as sock:
        if source:
            await sock.bind((source, 0))
        try:
            await sock.sendto(b"hello", (to, 9))
        except OSError:
            pass

say("up")
while True:
    await send(socket.AF_INET, "127.0.0.1", "10.9.0.2")
    await send(socket.AF_INET6, "::1", "fd09::2")
    await send(socket.AF_INET6, None, "ff0e::9")
    await send(socket.AF_INET6, None, "fd09::2")
    await send(socket.AF_INET, None, "10.9.0.2")
    await trio.sleep(0.05)
"""


def test_nothing_is_sent_from_a_loopback_address(daemon: FakeDaemon) -> None:
    sources: dict[str, set[str]] = {}
    frames = [0]

    def look(records: list[bytes]) -> list[bytes]:
        for record in records:
            frame = Ether(record)
            if UDP in frame and frame[UDP].dport == 9:
                packet = frame[IPv6] if IPv6 in frame else frame[IP]
                sources.setdefault(packet.dst, set()).add(packet.src)
                frames[0] += 1
        return records

    daemon.wire = look
    with (
        ClientUser(20002, daemon).program(program("v2", STAY)),
        ClientUser(20001, daemon).program(program("v1", SEND, "lwip")),
        daemon.changed,
    ):
        assert daemon.changed.wait_for(lambda: frames[0] > 20 and len(sources) == 3, TIMEOUT_S)

    assert sources == {"10.9.0.2": {"10.9.0.1"}, "fd09::2": {"fd09::1"}, "ff0e::9": {"fd09::1"}}
