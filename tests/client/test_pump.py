"""The C pump, with a SEQPACKET socket as the tap: one frame per call, and it can be full."""

import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define

from pfinet_client.pump_thread import End, Pump
from pfinet_proto.stream import MAX_FRAME, StreamDecoder, encode_frame, encode_frames

VNET = bytes(range(10))
SHORT = bytes(14)
FRAMES = [SHORT, b"x" * 60, b"y" * 1514, b"z" * 65226]


@define
class Bench:
    """A pump between two socket pairs; we hold the far ends."""

    pump: Pump
    tap: socket.socket
    stream: socket.socket
    near_tap: socket.socket


class _Benches:
    def __init__(self) -> None:
        self._near: list[socket.socket] = []
        self._made: list[Bench] = []

    def make(self, vnet: bool = False) -> Bench:
        tap, near_tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stream, near_stream = socket.socketpair()
        near_tap.setblocking(False)
        bench = Bench(Pump(near_tap.fileno(), near_stream, vnet), tap, stream, near_tap)
        self._near += [near_tap, near_stream]
        self._made.append(bench)
        return bench

    def close(self) -> None:
        for bench in self._made:
            bench.pump.close()
            bench.tap.close()
            bench.stream.close()
        for sock in self._near:
            sock.close()


@pytest.fixture
def benches() -> Iterator[_Benches]:
    made = _Benches()
    yield made
    made.close()


def receive_records(stream: socket.socket, count: int, vnet: bool = False) -> list[bytes]:
    decoder = StreamDecoder(vnet=vnet)
    records: list[bytes] = []
    while len(records) < count:
        records += decoder.feed(stream.recv(65536))
    return records


@pytest.mark.parametrize("vnet", [False, True])
def test_frames_of_every_size_go_both_ways_unchanged(benches: _Benches, vnet: bool) -> None:
    bench = benches.make(vnet)
    frames = [(VNET if vnet else b"") + frame for frame in FRAMES]

    for frame in frames:
        bench.tap.send(frame)
    bench.stream.sendall(encode_frames(frames, vnet=vnet))

    assert receive_records(bench.stream, len(frames), vnet) == frames
    assert [bench.tap.recv(MAX_FRAME + 10) for _ in frames] == frames
    bench.pump.close()
    report = bench.pump.report
    assert (report.out_frames, report.in_frames) == (len(frames), len(frames))
    assert report.out_bytes == report.in_bytes == sum(map(len, FRAMES))
    assert report.longest_bytes == len(FRAMES[-1])


def test_a_record_that_comes_byte_by_byte_is_one_frame(benches: _Benches) -> None:
    bench = benches.make()

    for byte in encode_frame(b"a" * 60):
        bench.stream.send(bytes([byte]))
    bench.stream.send(encode_frame(b"b" * 70)[:33])

    assert bench.tap.recv(MAX_FRAME) == b"a" * 60
    with pytest.raises(BlockingIOError):
        bench.tap.recv(MAX_FRAME, socket.MSG_DONTWAIT)


def many_frames() -> list[bytes]:
    """More than every buffer on the way holds."""
    lengths = random.Random(1)
    return [struct.pack("!I", n) + bytes(lengths.randrange(10, 60000)) for n in range(400)]


def test_while_the_stream_is_full_the_tap_is_not_read_and_nothing_is_lost(
    benches: _Benches,
) -> None:
    bench = benches.make()
    frames = many_frames()
    rest = list(frames)

    def send_one() -> bool:
        try:
            bench.tap.send(rest[0], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        del rest[0]
        return True

    saturate(send_one, bench.pump)
    assert rest
    sender = in_thread(lambda: [bench.tap.send(frame) for frame in rest])

    assert receive_records(bench.stream, len(frames)) == frames
    sender.join()


def test_while_the_tap_is_full_the_stream_is_not_read_and_nothing_is_lost(
    benches: _Benches,
) -> None:
    bench = benches.make()
    frames = many_frames()
    records = Piecemeal(bench.stream, encode_frames(frames))

    saturate(records.send_some, bench.pump)
    assert records.rest
    sender = in_thread(lambda: bench.stream.sendall(records.rest))

    assert [bench.tap.recv(MAX_FRAME) for _ in frames] == frames
    sender.join()


def test_it_sleeps_while_both_sides_are_full_and_a_closed_stream_waits_behind(
    benches: _Benches,
) -> None:
    """POLLHUP would be reported for ever, to a pump that cannot read on."""
    bench = benches.make()
    frame = bytes(60000)
    records = Piecemeal(bench.stream, encode_frames([frame] * 100))

    saturate(lambda: sends(bench.tap, frame), bench.pump)
    saturate(records.send_some, bench.pump)
    bench.stream.shutdown(socket.SHUT_WR)
    wait_asleep(bench.pump)


@pytest.mark.parametrize(
    ("vnet", "length"),
    [(False, 0), (False, 13), (False, MAX_FRAME + 1), (True, 23), (True, MAX_FRAME + 11)],
)
def test_a_malformed_length_ends_it_and_is_told(
    benches: _Benches, vnet: bool, length: int
) -> None:
    bench = benches.make(vnet)

    bench.stream.sendall(struct.pack("!I", length) + bytes(64))

    assert bench.pump.wait_end() is End.BAD_LENGTH
    assert bench.pump.report.bad_length == length


def test_what_came_before_a_malformed_length_still_arrives(benches: _Benches) -> None:
    bench = benches.make()

    bench.stream.sendall(encode_frame(b"g" * 20) + b"\xff\xff\xff\xff")

    assert bench.pump.wait_end() is End.BAD_LENGTH
    assert bench.tap.recv(MAX_FRAME) == b"g" * 20


def test_a_stream_that_the_daemon_closes_ends_it(benches: _Benches) -> None:
    bench = benches.make()

    bench.stream.close()

    assert bench.pump.wait_end() is End.STREAM_CLOSED
    assert select_readable(bench.pump.done)


def test_frames_that_are_in_the_tap_when_it_is_stopped_are_still_sent(
    benches: _Benches,
) -> None:
    """The FINs of a command that just ended are."""
    bench = benches.make()

    bench.tap.send(b"h" * 60)
    bench.pump.close()

    assert bench.pump.wait_end() is End.STOPPED
    assert receive_records(bench.stream, 1) == [b"h" * 60]


def test_a_frame_that_the_tap_refuses_is_counted_and_the_next_ones_go_on(
    benches: _Benches,
) -> None:
    """A socket of 4 KiB refuses longer messages, as a tap that is down refuses every frame."""
    bench = benches.make()
    bench.near_tap.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    bench.stream.sendall(encode_frames([bytes(60000), b"i" * 60]))

    assert bench.tap.recv(MAX_FRAME) == b"i" * 60
    assert bench.pump.report.in_refused == 1


class Piecemeal:
    """Sends data as far as the socket takes it at once."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self._sock = sock
        self.rest = memoryview(data)

    def send_some(self) -> bool:
        try:
            self.rest = self.rest[self._sock.send(self.rest, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return False
        return True


def sends(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def saturate(send: Callable[[], bool], pump: Pump) -> None:
    """Send until nothing more is taken, by a pump that is asleep."""
    while send():
        pass
    while True:
        wait_asleep(pump)
        if not send():
            return
        while send():
            pass


_LOOKS = 300


def wait_asleep(pump: Pump) -> None:
    """Wait until the pump's thread is asleep at each of many looks, without waking in between.

    Raises:
        AssertionError: if it never is, so that it must be spinning.
    """
    status = Path(f"/proc/self/task/{pump.thread_id}/status")
    same, before = 0, ""
    for _ in range(1000 * _LOOKS):
        text = status.read_text()
        now = text[text.index("State:") :].split("\n")[0] + text[text.index("voluntary_ctxt") :]
        same = same + 1 if now == before and "sleeping" in now else 0
        if same == _LOOKS:
            return
        before = now
    raise AssertionError("the pump does not sleep")


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def select_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [])[0])
