"""The engine and the memory of a client: frames both ways, and whatever else may stand there.

The client's side is the twin in Python, which may write anything anywhere.  Nothing runs
at the same time here; tests/client/test_ring.py and tests/system/test_ring.py see to that.
"""

import errno
import fcntl
import mmap
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network

import pytest
from multiplexer.datapath._dp import lib

from multiplexer.datapath.engine import Ended, Engine
from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.policy.nwfilter.tables import Learns, Table, pack
from pfinet_proto.ring import (
    CONTROL_BYTES,
    LINE_BYTES,
    MIN_BYTES,
    SEGMENTS_BYTES,
    SKIP,
    USUAL_BYTES,
    Consumer,
    Producer,
    Which,
    memory_bytes,
    record_bytes,
)
from pfinet_proto.stream import MAX_FRAME
from tests.datapath.core import network_row, vif_row
from tests.datapath.frames import (
    BROADCAST,
    DESTINATION_OPTIONS,
    Upper,
    dhcp,
    ethernet,
    ipv4,
    ipv6,
    router_advertisement,
    tcp,
    udp,
)
from tests.reference import Network, Vif
from tests.support.waiting import eventually

from .test_engine import OFFLOAD_ALL, STOP, A, B, C, frame_from, mac_of, record

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
VNET = struct.Struct("<BBHHHH")
NEEDS_CSUM, TCPV4 = 1, 1
PLAIN = bytes(VNET.size)

UP_PRODUCER, UP_CONSUMER, DOWN_PRODUCER, DOWN_CONSUMER = (LINE_BYTES * n for n in range(4))


def vif_at(port: int) -> Vif:
    prefixes = (IPv4Network(f"10.0.0.{port}/32"), IPv6Network(f"fd00::{port}/128"))
    return Vif(port=port, network=0, mac=mac_of(port), prefixes=prefixes)


def sealed_memory(size: int, seals: int = SEALS) -> int:
    memory = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    return memory


class Client:
    """A client's ends of its rings, and of the stream for kicks."""

    def __init__(self, ring_bytes: int, *, vnet: bool) -> None:
        self.descriptor = sealed_memory(memory_bytes(ring_bytes))
        self.mapping = mmap.mmap(self.descriptor, memory_bytes(ring_bytes))
        self.memory = memoryview(self.mapping)
        self.up = Producer(self.memory, Which.UP)
        self.down = Consumer(self.memory, Which.DOWN, MAX_FRAME + (VNET.size if vnet else 0))
        self.kicks, self.engines = socket.socketpair()
        self.kicks.setblocking(False)

    def kick(self) -> None:
        """Wake the engine as a client must, which is not always."""
        if self.up.other.waits:
            self.up.other.waits = 0
            self.kicks.send(b"k")

    def send(self, *payloads: bytes) -> int:
        """Write as many of *payloads* as fit, and kick."""
        sent = self.up.put_all(payloads)
        self.kick()
        return sent

    def kicked(self) -> int:
        """Return how often the engine has kicked since the last time; -1 if it has closed."""
        try:
            return len(self.kicks.recv(1000)) or -1
        except BlockingIOError:
            return 0

    def poke(self, at: int, value: int) -> None:
        struct.pack_into("=I", self.memory, at, value & 0xFFFFFFFF)

    def close(self) -> None:
        self.kicks.close()
        self.engines.close()
        os.close(self.descriptor)


class Bench:
    """An engine with three vifs: A and B by rings, C by a stream."""

    def __init__(
        self,
        *,
        vnet: tuple[int, ...] = (),
        wary: bool = False,
        ring_bytes: int = MIN_BYTES,
        mtu: int = 1500,
    ) -> None:
        self._wary = wary
        self._mtu = mtu
        self.vnet = vnet
        self._stop, self._watched = socket.socketpair()
        self._engines: list[Engine] = []
        self.clients = {port: Client(ring_bytes, vnet=port in vnet) for port in (A, B)}
        self.start_engine()
        self.stream, ours = socket.socketpair()
        self.stream.setblocking(False)
        offload = OFFLOAD_ALL if C in vnet else 0
        self.engine.attach(C, 1, "stream", ours.detach(), offload, C in vnet)

    def start_engine(self) -> None:
        """Start one; that before it has closed nothing, as if killed."""
        self.engine = Engine(self._wary)
        self._engines.append(self.engine)
        self.engine.set_network(network_row(Network(id=0, mtu=self._mtu)))
        self.engine.watch(self._watched.fileno(), STOP)
        for port in (A, B, C):
            self.engine.set_vif(port, vif_row(vif_at(port), mtu=self._mtu))
        for port in self.clients:
            self.attach(port)

    def attach(self, port: int, generation: int = 1) -> None:
        client = self.clients[port]
        offload = OFFLOAD_ALL if port in self.vnet else 0
        kick = os.dup(client.engines.fileno())
        try:
            self.engine.attach_ring(
                port, generation, kick, client.descriptor, offload, port in self.vnet
            )
        except OSError:
            os.close(kick)
            raise

    def turn(self) -> list[Ended]:
        """Move what is ready."""
        self._stop.send(b"x")
        while self.engine.run() != STOP:
            pass
        self._watched.recv(16)
        return list(self.engine.ended())

    def turns(self) -> list[Ended]:
        """Move all that there is."""
        ended = []
        for _ in range(30):
            ended += self.turn()
        return ended

    def drops(self, port: int) -> dict[str, int]:
        counts = self.engine.counters(port).drops
        return {VERDICTS[i]: count for i, count in enumerate(counts) if count}

    def received(self, port: int) -> list[bytes]:
        return self.clients[port].down.take_all()

    def close(self) -> None:
        for engine in self._engines:
            engine.close()
        for client in self.clients.values():
            client.close()
        for sock in (self.stream, self._stop, self._watched):
            sock.close()


@pytest.fixture(params=[False, True], ids=["plain", "wary"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(wary=request.param)
    made.turn()
    yield made
    made.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def new(**how: object) -> Bench:
        made.append(Bench(**how))  # type: ignore[arg-type]
        made[-1].turn()
        return made[-1]

    yield new
    for each in made:
        each.close()


def long_tcp(payload: int, *, source: int = A, port: int = B) -> bytes:
    packet = ipv4(
        tcp(bytes(range(256)) * (payload // 256)), src=f"10.0.0.{source}", dst="10.0.0.9"
    )
    return ethernet(packet, src=mac_of(source), dst=mac_of(port))


def test_a_unicast_frame_reaches_its_receiver_alone(bench: Bench) -> None:
    frame = frame_from(A, mac_of(B))

    bench.clients[A].send(frame)
    bench.turns()

    assert bench.received(B) == [frame]
    assert bench.engine.counters(A).rx_frames == 1
    assert bench.engine.counters(A).rx_bytes == len(frame)
    assert bench.engine.counters(B).tx_frames == 1


def test_a_forged_frame_is_dropped_and_counted(bench: Bench) -> None:
    bench.clients[A].send(frame_from(C, mac_of(B)))
    bench.turns()

    assert bench.received(B) == []
    assert bench.drops(A) == {"src_mac": 1}


@pytest.mark.parametrize("size", [60, 255, 256, 257, 511, 600, 1514])
def test_a_frame_of_any_length_arrives_as_it_was_sent_by_ring_and_by_stream(
    bench: Bench, size: int
) -> None:
    for to in (mac_of(B), mac_of(C), BROADCAST):
        frame = frame_from(A, to, bytes(number % 251 for number in range(size - 42)))
        bench.clients[A].send(frame)
        bench.turns()
        if to != mac_of(C):
            assert bench.received(B) == [frame]
        if to != mac_of(B):
            assert bench.stream.recv(1 << 16) == record(frame)


def test_what_comes_by_a_stream_arrives_by_a_ring(bench: Bench) -> None:
    frames = [frame_from(C, mac_of(B), bytes(n)) for n in (0, 100, 300, 1400)]
    bench.stream.send(b"".join(map(record, frames)))
    bench.turns()

    assert bench.received(B) == frames


def test_many_laps_keep_every_frame_in_its_order(bench: Bench) -> None:
    """Frames of all lengths, so that the end of the data is met in every way."""
    numbers = random.Random(4)
    for _ in range(400):
        frames = [
            frame_from(A, mac_of(B), numbers.randbytes(numbers.randrange(1440)))
            for _ in range(numbers.randrange(1, 40))
        ]
        assert bench.clients[A].send(*frames) == len(frames)
        bench.turns()
        assert bench.received(B) == frames
    assert bench.clients[A].up.index > 4 * MIN_BYTES
    assert bench.drops(B) == {}


def test_an_index_passes_2_to_the_32(make: Callable[..., Bench]) -> None:
    bench = make()
    for client in bench.clients.values():
        for at in (UP_PRODUCER, UP_CONSUMER, DOWN_PRODUCER, DOWN_CONSUMER):
            client.poke(at, -MIN_BYTES // 2)
        client.up.index = client.down.index = 2**32 - MIN_BYTES // 2
    bench.start_engine()
    frame = frame_from(A, mac_of(B), bytes(1000))
    for _ in range(4):
        assert bench.clients[A].send(*[frame] * 60) == 60
        bench.turns()
        assert bench.received(B) == [frame] * 60

    assert bench.clients[A].up.index < MIN_BYTES


def test_who_does_not_read_gets_whole_frames_up_to_its_ring_and_costs_nobody(
    bench: Bench,
) -> None:
    frames = [frame_from(A, mac_of(B), number.to_bytes(2, "big") * 700) for number in range(400)]
    for at in range(0, 400, 100):
        assert bench.clients[A].send(*frames[at : at + 100]) == 100
        bench.turns()
    bench.clients[A].send(frame_from(A, mac_of(C)))
    bench.turns()

    got = bench.received(B)
    assert 100 < len(got) < 400
    assert got == frames[: len(got)]
    assert bench.drops(B) == {"queue_full": 400 - len(got)}
    assert bench.stream.recv(1 << 16) == record(frame_from(A, mac_of(C)))
    bench.clients[A].send(frames[0])
    bench.turns()
    assert bench.received(B) == [frames[0]]


# Kicks


def test_a_sleeping_client_is_kicked_once_and_one_that_is_awake_never(bench: Bench) -> None:
    frame = frame_from(A, mac_of(B))
    bench.clients[B].kicked()
    bench.clients[A].send(frame)
    bench.turns()
    assert bench.clients[B].kicked() == 0

    bench.clients[B].down.own.waits = 1
    for _ in range(3):
        bench.clients[A].send(frame)
        bench.turns()

    assert bench.clients[B].kicked() == 1
    assert bench.clients[B].down.own.waits == 0
    assert bench.received(B) == [frame] * 4


def test_the_engine_asks_for_a_kick_only_when_a_ring_is_empty(bench: Bench) -> None:
    client = bench.clients[A]
    assert client.up.other.waits == 1

    client.send(*[frame_from(A, mac_of(C))] * 4500)
    bench.turn()
    assert client.up.other.index < client.up.index
    assert client.up.other.waits == 0
    # Nobody kicks now, and still all comes.
    client.up.put_all([frame_from(A, mac_of(B))])
    bench.turns()

    assert client.up.other.waits == 1
    assert bench.received(B) == [frame_from(A, mac_of(B))]


def test_a_client_that_waits_for_room_is_kicked_when_there_is_much(bench: Bench) -> None:
    client = bench.clients[A]
    frame = frame_from(A, mac_of(C), bytes(1400))
    count = client.up.put_all([frame] * 1000)
    assert count < 1000
    client.up.own.waits = 1
    client.kicked()
    client.kick()
    bench.turns()

    assert client.kicked() == 1
    assert client.up.own.waits == 0
    assert client.up.other.index == client.up.index
    assert bench.engine.counters(A).rx_frames == count


def test_a_kick_without_a_frame_is_no_harm(bench: Bench) -> None:
    bench.clients[A].kicks.send(b"?" * 1000)

    assert bench.turns() == []


def test_a_kick_that_comes_while_a_port_is_in_debt_is_not_forgotten(
    make: Callable[..., Bench],
) -> None:
    """epoll tells of it once, and in that round others go first."""
    bench = make(vnet=(A, B), ring_bytes=SEGMENTS_BYTES)
    crowd = {}
    for port in range(C + 1, C + 13):
        bench.engine.set_vif(port, vif_row(vif_at(port), mtu=1500))
        crowd[port], ours = socket.socketpair()
        bench.engine.attach(port, 1, "stream", ours.detach(), 0, False)
    long = VNET.pack(NEEDS_CSUM, TCPV4, 0, 1400, 34, 16) + long_tcp(60160)
    got = []
    for _ in range(20):
        for port, client in crowd.items():
            client.send(record(frame_from(port, mac_of(C))))
        bench.clients[A].send(long)
        bench.turn()
        got += bench.received(B)
    for _ in range(3):
        bench.turn()
        got += bench.received(B)

    assert len(got) == bench.engine.counters(A).rx_frames == 20
    for client in crowd.values():
        client.close()


# Offloads


def test_the_kicks_of_who_is_left_alone_are_taken(bench: Bench) -> None:
    """Nobody tells of them meanwhile, and in a stream that is full the next one would be lost."""
    client = bench.clients[A]
    forged = frame_from(B, mac_of(C))
    for _ in range(5000):
        client.send(*[forged] * lib.DP_MANY_REFUSED)
        client.kick()
        bench.turn()
    for _ in range(2):
        bench.turn()
    lawful = frame_from(A, mac_of(B))
    client.send(lawful)
    client.kick()
    bench.turn()

    assert bench.received(B) == [lawful]
    assert bench.drops(A) == {"src_mac": 5000 * lib.DP_MANY_REFUSED}


def test_a_segmentation_frame_goes_through_whole_where_both_take_it(
    make: Callable[..., Bench],
) -> None:
    bench = make(vnet=(A, B), ring_bytes=SEGMENTS_BYTES)
    frame = long_tcp(60000)
    header = VNET.pack(NEEDS_CSUM, TCPV4, 0, 1400, 34, 16)

    for _ in range(200):
        assert bench.clients[A].send(header + frame) == 1
        bench.turns()
        (got,) = bench.received(B)
        assert got[VNET.size :] == frame
        assert VNET.unpack_from(got) == (NEEDS_CSUM, TCPV4, 54, 1400, 34, 16)


def test_a_segmentation_frame_is_cut_for_a_ring_without(make: Callable[..., Bench]) -> None:
    bench = make(vnet=(A, C))
    frame = long_tcp(60160)
    header = VNET.pack(NEEDS_CSUM, TCPV4, 0, 1400, 34, 16)
    bench.clients[A].send(header + frame)
    bench.turns()

    got = bench.received(B)

    assert len(got) == 43
    assert b"".join(segment[54:] for segment in got) == frame[54:]
    bench.stream.send(record(long_tcp(60160, source=C), header))
    bench.turns()
    assert len(bench.received(B)) == 43


def test_all_segments_of_a_frame_or_none(make: Callable[..., Bench]) -> None:
    bench = make(vnet=(A,))
    frame = long_tcp(60160)
    header = VNET.pack(NEEDS_CSUM, TCPV4, 0, 1400, 34, 16)
    for _ in range(10):
        bench.clients[A].send(header + frame)
        bench.turns()

    got = bench.received(B)

    assert len(got) in (43 * 3, 43 * 4)
    assert bench.drops(B) == {"queue_full": 10 - len(got) // 43}


def test_what_was_not_agreed_is_dropped(make: Callable[..., Bench]) -> None:
    bench = make(vnet=(A,))
    frame = frame_from(A, mac_of(B))
    bench.clients[A].send(VNET.pack(0x80, 0, 0, 0, 0, 0) + frame, bytes(4), PLAIN, PLAIN + frame)
    bench.turns()

    assert bench.drops(A) == {"offload_header": 1, "runt": 2}
    assert bench.received(B) == [frame]


# What decides is private


def test_what_lies_behind_the_head_of_a_frame_decides_nothing_but_where_it_must(
    bench: Bench,
) -> None:
    """Options of DHCP, and what stands behind extension headers, are read from a copy."""
    foreign = dhcp(mac_of(A)) + bytes(300)
    own = foreign[:240] + bytes((61, 7, 1)) + mac_of(A) + b"\xff" + bytes(50)
    other = foreign[:240] + bytes(40) + bytes((61, 7, 1)) + mac_of(C) + b"\xff" + bytes(10)
    for options in (own, other):
        packet = ipv4(udp(options, sport=68, dport=67), src=f"10.0.0.{A}", dst="10.0.0.9")
        bench.clients[A].send(ethernet(packet, src=mac_of(A), dst=mac_of(B)))
    bench.turns()

    assert len(bench.received(B)) == 1
    assert bench.drops(A) == {"dhcp_client": 1}


def test_what_dhcp_assigns_is_read_whole(bench: Bench) -> None:
    """Its options stand behind the head, which is all that is copied of what a server sends."""
    server = Vif(port=A, network=0, mac=mac_of(A), prefixes=vif_at(A).prefixes, dhcp_server=True)
    bench.engine.set_vif(A, vif_row(server, mtu=1500))
    bench.engine.prepare_filter(B, pack(Table(learns=Learns.LEASES)))
    bench.engine.commit_filters()
    options = bytes((53, 1, 5, 51, 4, 0, 0, 2, 88, 255))
    message = dhcp(mac_of(B), op=2, yours="10.0.0.7", options=options)
    packet = ipv4(udp(message, sport=67, dport=68), src=f"10.0.0.{A}", dst="10.0.0.7")
    frame = ethernet(packet, src=mac_of(A), dst=mac_of(B))
    bench.clients[A].send(frame)
    bench.turns()

    assert bench.received(B) == [frame]
    (seen,) = bench.engine.sighted(9)
    assert (seen.address, seen.lease_s) == (bytes((10, 0, 0, 7)), 600)


def test_extension_headers_longer_than_the_head_are_followed(bench: Bench) -> None:
    """A router advertisement behind 408 bytes of destination options."""
    options = bytes((0, 50)) + 3 * (b"\1\x84" + bytes(0x84)) + bytes((1, 2, 0, 0))
    for extensions in ((Upper(DESTINATION_OPTIONS, options),), ()):
        packet = ipv6(
            router_advertisement(),
            src=f"fd00::{A}",
            dst="ff02::1",
            hop_limit=255,
            extensions=extensions,
        )
        bench.clients[A].send(ethernet(packet, src=mac_of(A), dst=BROADCAST))
    bench.turns()

    assert bench.received(B) == []
    assert bench.drops(A) == {"ra_guard": 2}


# A client that breaks the rules


def ends_alone(bench: Bench, error: int) -> None:
    """A's attachment ends by that error; the others go on."""
    assert bench.turns() == [Ended(A, 1, error)]
    assert bench.clients[A].kicked() in (-1, 0, 1)
    assert bench.clients[A].kicked() == -1
    frame = frame_from(C, mac_of(B))
    bench.stream.send(record(frame))
    bench.turns()
    assert bench.received(B) == [frame]


@pytest.mark.parametrize(
    "step",
    [MIN_BYTES + 8, -8, 4, 1, 2**31, MIN_BYTES + 2**31, -MIN_BYTES, -1],
)
def test_an_index_that_leaps_ends_the_attachment(bench: Bench, step: int) -> None:
    client = bench.clients[A]
    client.send(frame_from(A, mac_of(C)))
    bench.turns()

    client.poke(UP_PRODUCER, client.up.index + step)
    client.kicks.send(b"k")

    ends_alone(bench, errno.EOVERFLOW)


def test_an_index_that_takes_back_what_was_seen_ends_the_attachment(bench: Bench) -> None:
    client = bench.clients[A]
    client.send(*[frame_from(A, mac_of(C))] * 4500)
    bench.turn()
    assert client.up.other.index < client.up.index

    client.poke(UP_PRODUCER, client.up.index - 8)

    assert bench.turns() == [Ended(A, 1, errno.EOVERFLOW)]


@pytest.mark.parametrize("step", [2 * MIN_BYTES, 1, 4, 2**31, -1])
def test_taking_what_was_never_written_ends_the_attachment(bench: Bench, step: int) -> None:
    client = bench.clients[A]
    frame = frame_from(C, mac_of(A), bytes(1400))
    bench.stream.send(record(frame))
    bench.turns()
    bench.received(A)
    client.poke(DOWN_CONSUMER, client.down.index + step)
    ended = []
    for _ in range(400):
        bench.stream.send(record(frame))
        ended += bench.turn()

    assert ended == [Ended(A, 1, errno.EOVERFLOW)]
    assert set(bench.drops(A)) == {"queue_full", "detached"}


def test_what_was_taken_cannot_be_given_back(bench: Bench) -> None:
    client = bench.clients[A]
    flood = record(frame_from(C, mac_of(A), bytes(1400))) * 50

    def fill() -> None:
        for _ in range(5):
            bench.stream.send(flood)
            bench.turns()

    fill()
    assert bench.received(A)
    fill()
    client.poke(DOWN_CONSUMER, client.down.index - 8)
    bench.stream.send(flood)

    assert bench.turns() == [Ended(A, 1, errno.EOVERFLOW)]


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 2**31, SKIP - 1, 2**32 - 16, MIN_BYTES, 200])
def test_a_length_without_meaning_ends_the_attachment(bench: Bench, length: int) -> None:
    """200 passes what was published."""
    client = bench.clients[A]
    assert client.up.put(bytes(60))
    client.poke(CONTROL_BYTES, length)
    client.up.publish()
    client.kick()

    ends_alone(bench, errno.EPROTO)


def test_a_skip_at_the_beginning_ends_the_attachment(bench: Bench) -> None:
    client = bench.clients[A]
    client.poke(CONTROL_BYTES, SKIP)
    client.poke(UP_PRODUCER, MIN_BYTES)
    client.kicks.send(b"k")

    ends_alone(bench, errno.EPROTO)


def test_a_skip_beyond_what_was_published_ends_the_attachment(bench: Bench) -> None:
    client = bench.clients[A]
    client.send(frame_from(A, mac_of(C)))
    bench.turns()
    client.poke(CONTROL_BYTES + client.up.index, SKIP)
    client.poke(UP_PRODUCER, client.up.index + 64)
    client.kick()

    ends_alone(bench, errno.EPROTO)


def test_a_record_over_the_end_of_the_data_ends_the_attachment(bench: Bench) -> None:
    client = bench.clients[A]
    filler = frame_from(A, mac_of(C), bytes(1400))
    while MIN_BYTES - client.up.index > 3000:
        client.send(filler)
        bench.turns()
    left = MIN_BYTES - client.up.index
    client.poke(CONTROL_BYTES + client.up.index, left)
    client.poke(UP_PRODUCER, client.up.index + record_bytes(left))
    client.kick()

    ends_alone(bench, errno.EPROTO)


def test_an_index_of_ours_that_the_client_changes_is_not_believed(bench: Bench) -> None:
    """Not while the engine lives: it has its own."""
    frames = [frame_from(A, mac_of(B), number.to_bytes(2, "big")) for number in range(20)]
    for number, frame in enumerate(frames):
        for client in bench.clients.values():
            client.poke(UP_CONSUMER, 8 * number + 4)
            client.poke(DOWN_PRODUCER, 2**31 + number)
        bench.clients[A].poke(UP_CONSUMER, bench.clients[A].up.index)
        assert bench.clients[A].send(frame) == 1
        bench.clients[A].kicks.send(b"k")
        bench.turns()

        assert bench.received(B) == [frame]


def test_random_bytes_anywhere_at_any_time_harm_only_their_writer(
    make: Callable[..., Bench],
) -> None:
    numbers = random.Random(5)
    bench = make(vnet=(A,))
    generation = 1
    ends = set()
    for number in range(1500):
        client = bench.clients[A]
        client.send(PLAIN + frame_from(A, mac_of(B), numbers.randbytes(numbers.randrange(1400))))
        for _ in range(numbers.randrange(4)):
            size = numbers.choice((4, 8, 100, 4096))
            at = numbers.choice(
                (
                    numbers.randrange(4) * LINE_BYTES,
                    numbers.randrange(len(client.memory) - size),
                    CONTROL_BYTES + (client.up.index % MIN_BYTES) // 8 * 8,
                )
            )
            at = min(at, len(client.memory) - size)
            client.memory[at : at + size] = numbers.randbytes(size)
        client.kicks.send(b"k")
        witness = frame_from(C, mac_of(B), number.to_bytes(4, "big"))
        bench.stream.send(record(witness))
        for ended in bench.turns():
            assert ended.port == A
            ends.add(ended.error)
        assert witness in bench.received(B)
        with suppress(BlockingIOError):
            bench.stream.recv(1 << 20)
        if bench.engine.attached(A) is None:
            client.close()
            generation += 1
            bench.clients[A] = Client(MIN_BYTES, vnet=True)
            bench.attach(A, generation)

    assert ends == {errno.EPROTO, errno.EOVERFLOW}


# Attaching, and the end


@pytest.mark.parametrize(
    ("size", "seals"),
    [
        (memory_bytes(MIN_BYTES), SEALS & ~fcntl.F_SEAL_SHRINK),
        (memory_bytes(MIN_BYTES), SEALS & ~fcntl.F_SEAL_SEAL),
        (memory_bytes(MIN_BYTES) - 1, SEALS),
        (memory_bytes(MIN_BYTES) + 1, SEALS),
        (memory_bytes(MIN_BYTES // 2), SEALS),
        (memory_bytes(SEGMENTS_BYTES * 2), SEALS),
        (memory_bytes(MIN_BYTES * 3), SEALS),
        (0, SEALS),
        (CONTROL_BYTES, SEALS),
    ],
)
def test_no_other_memory_is_taken(make: Callable[..., Bench], size: int, seals: int) -> None:
    bench = make()
    bench.engine.detach(A, 1)
    memory = sealed_memory(size, seals)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="Invalid argument"):
        bench.engine.attach_ring(A, 2, ours.fileno(), memory, 0, False)
    os.close(memory)


def test_what_is_no_memory_is_not_taken(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.engine.detach(A, 1)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="Invalid argument"):
        bench.engine.attach_ring(A, 2, ours.fileno(), theirs.fileno(), 0, False)


def test_a_client_that_closes_is_detached_after_its_last_frames(bench: Bench) -> None:
    frames = [frame_from(A, mac_of(C), number.to_bytes(2, "big") * 50) for number in range(1500)]
    client = bench.clients[A]
    client.up.put_all(frames)
    client.kicks.close()
    client.engines.close()

    assert bench.turns() == [Ended(A, 1, 0)]
    assert bench.engine.counters(A).rx_frames == 1500
    assert bench.engine.counters(C).tx_frames == 1500


def test_who_has_closed_cannot_go_on_by_the_memory(bench: Bench) -> None:
    client = bench.clients[A]
    client.up.put_all([frame_from(A, mac_of(C))] * 4000)
    client.kicks.close()
    client.engines.close()
    ended = bench.turn()
    while not ended:
        client.up.put_all([frame_from(A, mac_of(C))] * 4000)
        ended = bench.turn()

    assert ended == [Ended(A, 1, 0)]
    assert bench.engine.counters(A).rx_frames == 4000


def test_a_detached_client_sees_the_end_although_others_have_its_stream(bench: Bench) -> None:
    """The broker has a duplicate, as here `engines`."""
    bench.engine.detach(A, 1)

    assert bench.clients[A].kicked() in (-1, 0, 1)
    assert bench.clients[A].kicked() == -1
    bench.clients[A].up.put_all([frame_from(A, mac_of(B))])
    assert bench.turns() == []
    assert bench.received(B) == []


def test_a_descriptor_among_the_kicks_ends_the_attachment(make: Callable[..., Bench]) -> None:
    bench = make(wary=True)
    socket.send_fds(bench.clients[A].kicks, [b"k"], [0])

    assert bench.turns() == [Ended(A, 1, errno.EBADMSG)]


# Another engine


def test_another_engine_goes_on_with_the_rings(bench: Bench) -> None:
    """Whatever the flags say: nobody kicks it, and it kicks everybody."""
    first, second = (frame_from(A, mac_of(B), word) for word in (b"first", b"second"))
    bench.clients[A].send(first)
    bench.turns()
    bench.clients[A].up.own.waits = bench.clients[A].up.other.waits = 0
    bench.clients[A].up.put_all([second])
    for client in bench.clients.values():
        client.kicked()

    bench.start_engine()
    bench.turns()

    assert bench.received(B) == [first, second]
    assert all(client.kicked() == 1 for client in bench.clients.values())
    bench.clients[B].send(frame_from(B, mac_of(A)))
    bench.turns()
    assert bench.received(A) == [frame_from(B, mac_of(A))]


@pytest.mark.parametrize("at", [UP_PRODUCER, UP_CONSUMER, DOWN_PRODUCER, DOWN_CONSUMER])
@pytest.mark.parametrize("value", [4, MIN_BYTES + 8, 2**31])
def test_another_engine_takes_no_ring_that_is_out_of_order(
    bench: Bench, at: int, value: int
) -> None:
    bench.engine.detach(A, 1)
    bench.clients[A].poke(at, value)
    with pytest.raises(OSError, match="too large"):
        bench.attach(A, 2)


def test_an_index_that_another_engine_believes_costs_only_who_has_changed_it(
    bench: Bench,
) -> None:
    """It reads again what stands there: frames of the client's, or nothing that is one."""
    client = bench.clients[A]
    frame = frame_from(A, mac_of(C))
    client.send(*[frame] * 10)
    bench.turns()
    bench.engine.detach(A, 1)
    client.poke(UP_CONSUMER, client.up.index - 8 * record_bytes(len(frame)) + 8)
    client.engines.close()
    client.kicks.close()
    client.kicks, client.engines = socket.socketpair()
    bench.attach(A, 2)

    (ended,) = bench.turns()
    assert (ended.port, ended.generation) == (A, 2)
    assert ended.error in (errno.EPROTO, errno.EOVERFLOW)


# Memory


def test_a_ring_is_charged_whole_and_for_as_long_as_it_is_there(
    make: Callable[..., Bench],
) -> None:
    bench = make(ring_bytes=USUAL_BYTES)
    whole = memory_bytes(USUAL_BYTES)
    most = 2 * whole + 100
    for port in (A, B):
        bench.engine.charge(port, 20001, most)
        assert bench.engine.reserved_bytes(port) == whole
    bench.engine.detach(A, 1)
    bench.clients[A].close()
    bench.clients[A] = Client(USUAL_BYTES, vnet=False)
    bench.attach(A, 2)
    with pytest.raises(OSError, match="No buffer space"):
        bench.engine.charge(A, 20001, most - 101)
    bench.engine.charge(A, 20002, whole)


def resident_kib(memory: int) -> int:
    return os.fstat(memory).st_blocks // 2


@pytest.mark.parametrize("reads", [True, False])
def test_pages_that_only_the_engine_writes_are_given_back_when_they_are_idle(
    make: Callable[..., Bench], reads: bool
) -> None:
    bench = make(ring_bytes=USUAL_BYTES)
    frame = frame_from(A, mac_of(B), bytes(1400))
    got = []
    for _ in range(5):
        assert bench.clients[A].send(*[frame] * 100) == 100
        bench.turns()
        if reads:
            got += bench.received(B)
    assert resident_kib(bench.clients[B].descriptor) > 600
    assert bench.engine.held_bytes(B) == USUAL_BYTES

    if reads:

        def is_given_back() -> bool:
            bench.turn()
            return bench.engine.held_bytes(B) == 0

        eventually(is_given_back, "the engine has given back the ring")
        assert resident_kib(bench.clients[B].descriptor) < 100
        assert bench.engine.reserved_bytes(B) == memory_bytes(USUAL_BYTES)
    else:
        bench.turns()
        got += bench.received(B)
    assert got == [frame] * 500
    bench.clients[A].send(frame)
    bench.turns()
    assert bench.received(B) == [frame]


def test_rings_that_nobody_uses_take_a_page(make: Callable[..., Bench]) -> None:
    bench = make(ring_bytes=SEGMENTS_BYTES)
    for client in bench.clients.values():
        assert resident_kib(client.descriptor) == 4
