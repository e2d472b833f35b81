"""Resets in every state of a connection (RFC 9293, section 3.3.2), on both kinds of stack.

The other end is Linux, which resets what is closed with SO_LINGER of no time.
States in which a peer seldom is long are held by a wire that loses what would
end them.
"""

from collections.abc import Iterator
from itertools import count

import attrs
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from pfinet_proto.attach import Offload
from pfinet_proto.stream import encode_frames
from tests.client.client_user import ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.puppet import Puppet, puppet
from tests.support.waiting import eventually

FIN, SYN, RST, ACK = 1, 2, 4, 16
OUR_MAC, THEIR_MAC = binding(1).mac.packed, binding(2).mac.packed
OURS, THEIRS = "10.9.0.1", "10.9.0.2"


@attrs.frozen
class Segment:
    """What a frame says of TCP."""

    source_mac: bytes
    flags: int
    sequence: int
    acknowledged: int


def segment_of(frame: bytes) -> Segment | None:
    """Return what is in a frame of TCP over IPv4 without options."""
    if frame[12:15] != b"\x08\x00\x45" or frame[23] != 6:
        return None
    numbers = (int.from_bytes(frame[at : at + 4], "big") for at in (38, 42))
    return Segment(frame[6:12], frame[47], *numbers)


class LosingWire:
    """Loses segments from one MAC address whose *mask*ed flags are *flags*, once told so."""

    def __init__(self) -> None:
        self.lost = 0
        self.last_of_ours: Segment | None = None
        self._losing: tuple[bytes, int, int] | None = None

    def lose(self, source_mac: bytes, mask: int, flags: int) -> None:
        self.lost = 0
        self._losing = source_mac, mask, flags

    def heal(self) -> None:
        self._losing = None

    def wait_lost(self) -> None:
        eventually(lambda: self.lost > 0, "the wire has lost something")

    def __call__(self, records: list[bytes]) -> list[bytes]:
        return [record for record in records if self._passes(record)]

    def _passes(self, frame: bytes) -> bool:
        segment = segment_of(frame)
        if segment is None:
            return True
        if self._losing is not None:
            source_mac, mask, flags = self._losing
            if segment.source_mac == source_mac and segment.flags & mask == flags:
                self.lost += 1
                return False
        if segment.source_mac == OUR_MAC:
            self.last_of_ours = segment
        return True


@attrs.frozen
class Pair:
    """A stack of ours, Linux's at the other end, and the wire between them.

    Linux listens on *port*; no other test uses that, or *own_port*.
    """

    ours: Puppet
    theirs: Puppet
    wire: LosingWire
    daemon: FakeDaemon
    firsts: Iterator[int]
    port: int = 0
    own_port: int = 0

    def connect(self) -> None:
        """Connect from our own port to Linux's."""
        assert self.ours.do(f"connect({THEIRS!r}, {self.port}, {self.own_port})") == repr(OURS)
        assert self.theirs.do(f"accept({self.port})") == repr(OURS)

    def inject_reset(self, source_port: int, port: int, sequence: int) -> None:
        """Send us a reset, as anybody on the network could."""
        frame = reset(source_port, port, sequence)
        self.daemon.inject("v1", encode_frames([frame], vnet=False))

    def check_sane(self) -> None:
        """Have both ends connect to each other, and talk."""
        self.wire.heal()
        for one, other, host in (
            (self.ours, self.theirs, THEIRS),
            (self.theirs, self.ours, OURS),
        ):
            port = self.own_port + 1
            assert other.do(f"listen({port})") == "None"
            assert one.do(f"connect({host!r}, {port})") != repr(host)
            assert other.do(f"accept({port})") != repr(host)
            assert other.do("send(b'hello')") == "5"
            assert one.do("recv()") == "b'hello'"


def reset(source_port: int, port: int, sequence: int) -> bytes:
    """Return a frame from the other end to us, with a reset."""
    tcp = TCP(sport=source_port, dport=port, flags="R", seq=sequence % (1 << 32))
    return bytes(Ether(src=THEIR_MAC, dst=OUR_MAC) / IP(src=THEIRS, dst=OURS) / tcp)


@pytest.fixture(scope="module")
def stacks(each_kind: str) -> Iterator[Pair]:
    users = (binding(1), 20001), (binding(2), 20002)
    with fake_daemon(*users, offload=Offload(0)) as daemon:
        daemon.wire = wire = LosingWire()
        with (
            puppet(ClientUser(20002, daemon), "v2", "kernel") as theirs,
            puppet(ClientUser(20001, daemon), "v1", each_kind) as ours,
        ):
            yield Pair(ours, theirs, wire, daemon, count(5000, 10))


@pytest.fixture
def pair(stacks: Pair) -> Pair:
    """Both stacks, and ports that no other test uses."""
    first = next(stacks.firsts)
    assert stacks.theirs.do(f"listen({first})") == "None"
    return attrs.evolve(stacks, port=first, own_port=first + 1)


def test_in_listen_it_is_no_matter(pair: Pair) -> None:
    assert pair.ours.do(f"listen({pair.port})") == "None"
    pair.inject_reset(1234, pair.port, 0)

    assert pair.theirs.do(f"connect({OURS!r}, {pair.port})") == repr(THEIRS)
    assert pair.ours.do(f"accept({pair.port})") == repr(THEIRS)
    pair.check_sane()


def test_in_syn_sent_it_is_a_refusal(pair: Pair) -> None:
    assert pair.ours.do(f"connect({THEIRS!r}, 81)") == "ECONNREFUSED"
    pair.check_sane()


def test_in_syn_received_it_makes_room_for_the_next(pair: Pair) -> None:
    """More of them than the backlog has room for."""
    assert pair.ours.do(f"listen({pair.port}, backlog=2)") == "None"
    for _ in range(6):
        pair.wire.lose(THEIR_MAC, FIN | SYN | RST | ACK, ACK)
        assert pair.theirs.do(f"connect({OURS!r}, {pair.port})") == repr(THEIRS)
        pair.wire.wait_lost()
        assert pair.theirs.do("abort()") == "None"
    pair.wire.heal()

    assert pair.theirs.do(f"connect({OURS!r}, {pair.port}, {pair.own_port})") == repr(THEIRS)
    assert pair.ours.do(f"accept({pair.port})") == repr(THEIRS)
    assert pair.theirs.do("send(b'there')") == "5"
    assert pair.ours.do("recv()") == "b'there'"
    pair.check_sane()


def test_in_established_it_is_an_error_once(pair: Pair) -> None:
    pair.connect()
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do("recv()") == "ECONNRESET"
    assert pair.ours.do("recv()") == "b''"
    assert pair.ours.do("send(b'x')") == "EPIPE"
    pair.check_sane()


def test_what_came_before_it_can_still_be_read(pair: Pair) -> None:
    pair.connect()
    assert pair.theirs.do("send(b'last words')") == "10"
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do("send_until_it_fails()") in ("ECONNRESET", "EPIPE")
    assert pair.ours.do("recv()") == "b'last words'"
    pair.check_sane()


def test_in_fin_wait_1_it_is_an_error(pair: Pair) -> None:
    pair.connect()
    pair.wire.lose(OUR_MAC, FIN, FIN)
    assert pair.ours.do("shut()") == "None"
    pair.wire.wait_lost()
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do("recv()") == "ECONNRESET"
    pair.check_sane()


def test_in_fin_wait_2_it_is_an_error(pair: Pair) -> None:
    pair.connect()
    assert pair.ours.do("shut()") == "None"
    assert pair.theirs.do("recv()") == "b''"
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do("recv()") == "ECONNRESET"
    pair.check_sane()


def test_in_close_wait_who_sends_is_told(pair: Pair) -> None:
    """And who has read the end reads it again."""
    pair.connect()
    assert pair.theirs.do("shut()") == "None"
    assert pair.ours.do("recv()") == "b''"
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do("send_until_it_fails()") == "EPIPE"
    assert pair.ours.do("recv()") == "b''"
    pair.check_sane()


def test_in_closing_it_frees_the_port(pair: Pair) -> None:
    pair.connect()
    pair.wire.lose(OUR_MAC, FIN, FIN)
    assert pair.ours.do("shut()") == "None"
    pair.wire.wait_lost()
    assert pair.theirs.do("shut()") == "None"
    assert pair.ours.do("recv()") == "b''"
    assert pair.ours.do("close()") == "None"
    assert pair.ours.do(f"bind({pair.own_port})") == "EADDRINUSE"
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do(f"bind_once_it_is_free({pair.own_port})") == "None"
    pair.check_sane()


def test_in_last_ack_it_frees_the_port(pair: Pair) -> None:
    pair.connect()
    assert pair.theirs.do("shut()") == "None"
    assert pair.ours.do("recv()") == "b''"
    pair.wire.lose(OUR_MAC, FIN, FIN)
    assert pair.ours.do("close()") == "None"
    pair.wire.wait_lost()
    assert pair.ours.do(f"bind({pair.own_port})") == "EADDRINUSE"
    assert pair.theirs.do("abort()") == "None"

    assert pair.ours.do(f"bind_once_it_is_free({pair.own_port})") == "None"
    pair.check_sane()


def test_in_time_wait_it_does_no_harm(pair: Pair) -> None:
    """Whether it ends that state early is each stack's choice (RFC 1337)."""
    pair.connect()
    assert pair.ours.do("shut()") == "None"
    assert pair.theirs.do("recv()") == "b''"
    assert pair.theirs.do("shut()") == "None"
    assert pair.ours.do("recv()") == "b''"
    assert pair.ours.do("close()") == "None"
    assert pair.ours.do(f"bind({pair.own_port})") == "EADDRINUSE"
    last = pair.wire.last_of_ours
    assert last is not None
    pair.inject_reset(pair.port, pair.own_port, last.acknowledged)

    pair.check_sane()


@pytest.mark.parametrize("beyond", [1, 1000, 1 << 30, -1])
def test_a_guess_at_it_resets_nothing(pair: Pair, beyond: int) -> None:
    """Only the very next sequence number does (RFC 5961, section 3.2)."""
    pair.connect()
    assert pair.theirs.do("send(b'one')") == "3"
    assert pair.ours.do("recv()") == "b'one'"
    # Which acknowledges that.
    assert pair.ours.do("send(b'two')") == "3"
    assert pair.theirs.do("recv()") == "b'two'"
    last = pair.wire.last_of_ours
    assert last is not None
    pair.inject_reset(pair.port, pair.own_port, last.acknowledged + beyond)
    assert pair.theirs.do("send(b'three')") == "5"

    assert pair.ours.do("recv()") == "b'three'"
    pair.check_sane()
