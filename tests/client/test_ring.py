"""Rings as a client has them: the pump's C, and frames with trio, against the twin in Python.

The daemon's side here has no fences, so it kicks always, and looks until it finds.
"""

import fcntl
import mmap
import os
import random
import select
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator

import attrs
import pytest
import trio
import trio.testing

from pfinet_client.attachment import Attachment, connect_attach
from pfinet_client.frames import StreamEnded
from pfinet_client.pump_thread import End, Pump
from pfinet_client.ring import RingFrames
from pfinet_client.vif import Vif
from pfinet_proto.attach import NO_OFFLOAD, Hello, Transport, Welcome, encode
from pfinet_proto.attach.machine import AttachMachine, Role
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.ring import (
    CONTROL_BYTES,
    LINE_BYTES,
    MIN_BYTES,
    SKIP,
    Consumer,
    Producer,
    Which,
    memory_bytes,
)
from pfinet_proto.stream import MAX_FRAME
from tests.client.fake_daemon import binding
from tests.client.one_client import Listen, Serve
from tests.client.test_attachment import (
    TIMEOUT_S,
    answering,
    listen,
    no_descriptor_is_left,
)
from tests.client.test_pump import FRAMES, VNET, in_thread, saturate, sends, wait_asleep
from tests.support.waiting import eventually

__all__ = ["listen", "no_descriptor_is_left"]  # pytest looks for fixtures here

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
UP_CONSUMER, DOWN_PRODUCER = LINE_BYTES, 2 * LINE_BYTES


def sealed_memory(size: int = memory_bytes(MIN_BYTES), seals: int = SEALS) -> int:
    memory = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    return memory


class Daemon:
    """The other side of a client's rings."""

    def __init__(self) -> None:
        self.memory = sealed_memory()
        self._view = memoryview(mmap.mmap(self.memory, memory_bytes(MIN_BYTES)))
        self.up = Consumer(self._view, Which.UP, MAX_FRAME + 10)
        self.down = Producer(self._view, Which.DOWN)
        self.kicks, self.clients = socket.socketpair()

    def kick(self) -> None:
        self.kicks.send(b"k")

    def send(self, *frames: bytes) -> int:
        sent = self.down.put_all(frames)
        self.kick()
        return sent

    def receive(self, count: int) -> list[bytes]:
        """Wait for *count* frames."""
        frames: list[bytes] = []

        def has_come() -> bool:
            frames.extend(self.up.take_all())
            self.kick()
            return len(frames) >= count

        eventually(has_come, f"{count} frames have come")
        return frames

    def poke(self, at: int, value: int) -> None:
        struct.pack_into("=I", self._view, at, value & 0xFFFFFFFF)

    def close(self) -> None:
        self.kicks.close()
        self.clients.close()
        os.close(self.memory)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.close()


# The pump


@attrs.frozen
class Bench:
    """A pump between rings and a socket pair, whose far end *tap* is."""

    pump: Pump
    tap: socket.socket
    near_tap: socket.socket
    daemon: Daemon


@pytest.fixture
def make(daemon: Daemon) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def new(vnet: bool = False) -> Bench:
        tap, near_tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near_tap.setblocking(False)
        pump = Pump(near_tap.fileno(), daemon.clients, vnet, daemon.memory)
        made.append(Bench(pump, tap, near_tap, daemon))
        return made[-1]

    yield new
    for bench in made:
        bench.pump.close()
        bench.tap.close()
        bench.near_tap.close()


@pytest.mark.parametrize("vnet", [False, True])
def test_frames_of_every_size_go_both_ways_unchanged(
    make: Callable[..., Bench], vnet: bool
) -> None:
    bench = make(vnet)
    frames = [(VNET if vnet else b"") + frame for frame in FRAMES]

    for frame in frames:
        bench.tap.send(frame)
    assert bench.daemon.send(*frames) == len(frames)

    assert bench.daemon.receive(len(frames)) == frames
    assert [bench.tap.recv(MAX_FRAME + 10) for _ in frames] == frames
    bench.pump.close()
    report = bench.pump.report
    assert (report.out_frames, report.in_frames) == (len(frames), len(frames))
    assert report.out_bytes == report.in_bytes == sum(map(len, FRAMES))
    assert report.longest_bytes == len(FRAMES[-1])


def many_frames() -> list[bytes]:
    """More than every buffer on the way holds."""
    lengths = random.Random(1)
    return [struct.pack("!I", n) + bytes(lengths.randrange(10, 60000)) for n in range(200)]


def test_while_the_ring_is_full_the_tap_is_not_read_and_nothing_is_lost(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    frames = many_frames()
    rest = list(frames)

    def send_one() -> bool:
        if not sends(bench.tap, rest[0]):
            return False
        del rest[0]
        return True

    saturate(send_one, bench.pump)
    assert rest
    sender = in_thread(lambda: [bench.tap.send(frame) for frame in rest])

    assert bench.daemon.receive(len(frames)) == frames
    sender.join()


def test_while_the_tap_is_full_the_ring_is_not_read_and_nothing_is_lost(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    frames = many_frames()
    rest = list(frames)
    got: list[bytes] = []

    def send_one() -> bool:
        if not bench.daemon.send(rest[0]):
            return False
        del rest[0]
        return True

    saturate(send_one, bench.pump)
    assert rest
    bench.tap.setblocking(False)

    def has_come() -> bool:
        try:
            got.append(bench.tap.recv(MAX_FRAME))
        except BlockingIOError:
            del rest[: bench.daemon.send(*rest)]
        return len(got) == len(frames)

    eventually(has_come, "all frames have come")
    assert got == frames


def test_it_sleeps_while_both_sides_are_full(make: Callable[..., Bench]) -> None:
    bench = make()
    frame = bytes(60000)

    saturate(lambda: sends(bench.tap, frame), bench.pump)
    saturate(lambda: bool(bench.daemon.send(frame)), bench.pump)
    wait_asleep(bench.pump)


def test_a_pump_that_sleeps_has_asked_to_be_kicked(make: Callable[..., Bench]) -> None:
    bench = make()
    wait_asleep(bench.pump)
    assert bench.daemon.down.other.waits == 1
    assert bench.daemon.up.other.waits == 0

    saturate(lambda: sends(bench.tap, bytes(60000)), bench.pump)
    assert bench.daemon.up.other.waits == 1


def test_a_daemon_that_sleeps_is_kicked_and_one_that_does_not_is_left_alone(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    bench.daemon.kicks.setblocking(False)
    bench.tap.send(b"a" * 60)
    assert bench.daemon.receive(1) == [b"a" * 60]
    wait_asleep(bench.pump)
    with pytest.raises(BlockingIOError):
        bench.daemon.kicks.recv(10)

    bench.daemon.up.own.waits = 1
    bench.tap.send(b"b" * 60)
    eventually(lambda: bench.daemon.up.own.waits == 0, "the flag is cleared")
    wait_asleep(bench.pump)

    assert len(bench.daemon.kicks.recv(10)) == 1
    assert bench.daemon.receive(1) == [b"b" * 60]


@pytest.mark.parametrize(
    ("vnet", "length", "end"),
    [
        (False, 0, End.BAD_RING),
        (False, 13, End.BAD_LENGTH),
        (False, MAX_FRAME + 1, End.BAD_RING),
        (True, 23, End.BAD_LENGTH),
        (True, SKIP, End.BAD_RING),
    ],
)
def test_a_length_without_meaning_ends_it(
    make: Callable[..., Bench], vnet: bool, length: int, end: End
) -> None:
    bench = make(vnet)
    bench.daemon.down.put(bytes(64))
    bench.daemon.poke(CONTROL_BYTES + MIN_BYTES, length)
    bench.daemon.send()

    assert bench.pump.wait_end() is end
    assert bench.pump.report.bad_length == (length if end is End.BAD_LENGTH else 0)


@pytest.mark.parametrize("value", [4, MIN_BYTES + 8, 2**31, -8])
def test_an_index_of_the_producer_without_meaning_ends_it(
    make: Callable[..., Bench], value: int
) -> None:
    bench = make()
    bench.daemon.poke(DOWN_PRODUCER, value)
    bench.daemon.kick()

    assert bench.pump.wait_end() is End.BAD_RING


def test_an_index_of_the_consumer_without_meaning_ends_it_when_room_is_needed(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    bench.daemon.poke(UP_CONSUMER, -8)

    def has_ended() -> bool:
        # Not with all at once: after its end, nobody empties the tap.
        sends(bench.tap, bytes(60000))
        return bool(select.select([bench.pump.done], [], [], 0)[0])

    eventually(has_ended, "it has ended")
    assert bench.pump.wait_end() is End.BAD_RING


def test_what_came_before_the_daemon_closed_still_arrives(make: Callable[..., Bench]) -> None:
    bench = make()

    bench.daemon.send(*[b"g" * 20] * 300)
    bench.daemon.kicks.close()

    assert [bench.tap.recv(MAX_FRAME) for _ in range(300)] == [b"g" * 20] * 300
    assert bench.pump.wait_end() is End.STREAM_CLOSED


def test_frames_that_are_in_the_tap_when_it_is_stopped_are_still_sent(
    make: Callable[..., Bench],
) -> None:
    bench = make()

    bench.tap.send(b"h" * 60)
    bench.pump.close()

    assert bench.pump.wait_end() is End.STOPPED
    assert bench.daemon.receive(1) == [b"h" * 60]


def test_a_frame_that_the_tap_refuses_is_counted_and_the_next_ones_go_on(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    bench.near_tap.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    bench.daemon.send(bytes(60000), b"i" * 60)

    assert bench.tap.recv(MAX_FRAME) == b"i" * 60
    assert bench.pump.report.in_refused == 1


@pytest.mark.parametrize(
    ("size", "seals"),
    [
        (memory_bytes(MIN_BYTES), SEALS & ~fcntl.F_SEAL_SHRINK),
        (memory_bytes(MIN_BYTES) + 8, SEALS),
        (0, SEALS),
    ],
)
def test_a_memory_that_is_none_ends_it(daemon: Daemon, size: int, seals: int) -> None:
    memory = sealed_memory(size, seals)
    pump = Pump(daemon.kicks.fileno(), daemon.clients, False, memory)

    assert pump.wait_end() is End.BAD_RING
    pump.close()
    os.close(memory)


# Frames with trio


def attachment_of(daemon: Daemon) -> tuple[Attachment, socket.socket]:
    """Return an attachment by the daemon's rings, and its end of the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    machine = AttachMachine(Role.CLIENT)
    machine.send(Hello(transports=(Transport.RING,)))
    welcome = Welcome(1, Transport.RING, NO_OFFLOAD, bytes(16), binding(1))
    machine.receive_untrusted(encode(welcome))
    kicks = socket.socket(fileno=os.dup(daemon.clients.fileno()))
    return Attachment(ours, welcome, kicks, machine, os.dup(daemon.memory)), theirs


@pytest.fixture
async def vif(daemon: Daemon) -> AsyncIterator[Vif]:
    attachment, theirs = attachment_of(daemon)
    daemon.clients.close()
    made = Vif(attachment)
    yield made
    await made.aclose()
    theirs.close()


async def test_frames_arrive_whole_and_in_order(vif: Vif, daemon: Daemon) -> None:
    await vif.send_frames(FRAMES)

    assert daemon.up.take_all() == FRAMES
    assert vif.transport is Transport.RING


async def test_frames_are_received_as_they_come(vif: Vif, daemon: Daemon) -> None:
    daemon.send(*FRAMES)
    assert await vif.receive_frames() == FRAMES

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_when_waited_for, daemon)
        assert await vif.receive_frames() == [b"late" * 5]


async def _send_when_waited_for(daemon: Daemon) -> None:
    await trio.testing.wait_all_tasks_blocked()
    assert daemon.down.other.waits == 1
    daemon.send(b"late" * 5)


async def test_who_sends_more_than_fits_waits_for_room(vif: Vif, daemon: Daemon) -> None:
    frames = [struct.pack("!I", number) + bytes(9000) for number in range(200)]
    got: list[bytes] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(vif.send_frames, frames)
        await trio.testing.wait_all_tasks_blocked()
        assert daemon.up.other.waits == 1
        while len(got) < len(frames):
            await trio.lowlevel.checkpoint()
            got += daemon.up.take_all()
            daemon.kick()

    assert got == frames


async def test_both_may_be_waited_for_at_once(vif: Vif, daemon: Daemon) -> None:
    frames = [bytes(9000)] * 60

    async with trio.open_nursery() as nursery:
        nursery.start_soon(vif.send_frames, frames)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_receive_one, vif)
        await trio.testing.wait_all_tasks_blocked()
        daemon.send(b"x" * 20)
        await trio.testing.wait_all_tasks_blocked()
        got = daemon.up.take_all()
        daemon.kick()
        await trio.testing.wait_all_tasks_blocked()
        got += daemon.up.take_all()
        daemon.kick()

    assert got + daemon.up.take_all() == frames


async def _receive_one(vif: Vif) -> None:
    assert await vif.receive_frames() == [b"x" * 20]


async def test_one_that_is_cancelled_leaves_the_waiting_to_the_other(
    vif: Vif, daemon: Daemon
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as receiving:
            nursery.start_soon(vif.send_frames, [bytes(9000)] * 40)
            await trio.testing.wait_all_tasks_blocked()
            receiving.cancel()
            with trio.move_on_after(0):
                await vif.receive_frames()
        await trio.testing.wait_all_tasks_blocked()
        daemon.up.take_all()
        daemon.kick()

    assert daemon.up.take_all()


async def test_a_cancelled_send_has_sent_the_first_few_whole(vif: Vif, daemon: Daemon) -> None:
    frames = [struct.pack("!I", number) + bytes(9000) for number in range(60)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vif.send_frames, frames)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    got = daemon.up.take_all()
    assert 0 < len(got) < 60
    assert got == frames[: len(got)]


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1])
async def test_what_is_no_frame_is_not_sent(vif: Vif, daemon: Daemon, length: int) -> None:
    with pytest.raises(ValueError, match=f"frame of {length} bytes"):
        await vif.send_frames([b"a" * 60, bytes(length)])
    assert daemon.up.take_all() == []


async def test_a_daemon_that_closes_breaks_it(vif: Vif, daemon: Daemon) -> None:
    daemon.send(b"last" * 5)
    daemon.kicks.close()

    assert await vif.receive_frames() == [b"last" * 5]
    with pytest.raises(trio.BrokenResourceError):
        await vif.receive_frames()


async def test_a_ring_without_meaning_breaks_it(vif: Vif, daemon: Daemon) -> None:
    daemon.poke(DOWN_PRODUCER, 4)
    daemon.kick()

    with pytest.raises(trio.BrokenResourceError, match="has no meaning"):
        await vif.receive_frames()


async def test_nothing_is_kicked_by_the_number_of_a_socket_that_was_closed(
    daemon: Daemon,
) -> None:
    kicks = socket.socket(fileno=os.dup(daemon.clients.fileno()))
    frames = RingFrames(kicks, daemon.memory, vnet=False)
    kicks.close()

    with pytest.raises(StreamEnded):
        await frames.send([b"a" * 60])
    with pytest.raises(StreamEnded):
        await frames.receive()
    assert frames.drain_nowait() == []


async def test_a_memory_that_is_none_is_no_attachment(daemon: Daemon) -> None:
    attachment, theirs = attachment_of(daemon)
    assert attachment.memory is not None
    os.close(attachment.memory)
    attachment.memory = sealed_memory(seals=0)
    with theirs, pytest.raises(BadMessage):
        Vif(attachment)
    attachment.close()


# The handshake


def welcoming(*kinds: str) -> Serve:
    """Answers by ring with descriptors of those kinds."""

    def serve(client: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        memory = sealed_memory()
        welcome = Welcome(1, Transport.RING, NO_OFFLOAD, bytes(16), binding(1))
        fds = [{"stream": theirs.fileno(), "memory": memory}[kind] for kind in kinds]
        with ours, theirs:
            answering(encode(welcome), fds)(client)
        os.close(memory)

    return serve


HELLO = Hello(transports=(Transport.RING, Transport.STREAM))


def test_attaching_by_ring_gives_a_stream_and_a_memory(listen: Listen) -> None:
    attachment = connect_attach(listen(welcoming("stream", "memory")), HELLO, TIMEOUT_S)

    assert attachment.memory is not None
    assert os.fstat(attachment.memory).st_size == memory_bytes(MIN_BYTES)
    assert not os.get_inheritable(attachment.memory)
    attachment.close()
    attachment.close()


@pytest.mark.parametrize(
    "kinds", [(), ("stream",), ("stream", "memory", "memory"), ("memory", "stream")]
)
def test_a_welcome_by_ring_comes_with_exactly_these(
    listen: Listen, kinds: tuple[str, ...]
) -> None:
    """All that came are closed: `no_descriptor_is_left` sees it."""
    with pytest.raises(RemoteProtocolError, match=r"descriptors? beside Welcome"):
        connect_attach(listen(welcoming(*kinds)), HELLO, TIMEOUT_S)
