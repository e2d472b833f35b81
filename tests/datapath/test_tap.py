"""The engine with a real tap: what a kernel's stack sends and is given."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from multiplexer.datapath.engine import Ended
from pfinet_client.tap import open_tap
from pfinet_proto.attach import Offload
from tests.support.netns import NetworkNamespace, run
from tests.support.wire import Listener, send

from .frames import BROADCAST, ethernet, ipv4, tcp
from .test_engine import OFFLOAD_ALL, A, B, Bench, C, frame_from, mac_of, record, vnet_header

TAP = "tap0"
ALL = Offload(OFFLOAD_ALL)

SEGMENT_BYTES = 1000
HEADERS_BYTES = 54
#: TCP of 2500 bytes that B leaves to be cut.
LONG = ethernet(
    ipv4(tcp(bytes(2500)), src=f"10.0.0.{B}", dst=f"10.0.0.{A}"), src=mac_of(B), dst=mac_of(A)
)
LEFT_TO_CUT = vnet_header(flags=1, gso=1, gso_size=SEGMENT_BYTES, start=34, offset=16)


class TapBench(Bench):
    """A bench where A is attached by a tap, whose interface is in a namespace of its own."""

    def __init__(self, namespace: NetworkNamespace, offload: Offload) -> None:
        super().__init__(vnet=(B,))
        self.namespace = namespace
        self.engine.detach(A, 1)
        with namespace.entered():
            tap = open_tap(TAP, offload)
        for line in (
            f"sysctl -qw net.ipv6.conf.{TAP}.disable_ipv6=1",
            f"ip link set {TAP} up",
        ):
            run(namespace.command(line.split()))
        self.kept = os.dup(tap)
        self.engine.attach(A, 2, "tap", tap, int(offload), bool(offload))

    def send(self, *frames: bytes) -> None:
        """Have the stack behind the tap send *frames*."""
        send(self.namespace, TAP, frames)

    def close(self) -> None:
        super().close()
        os.close(self.kept)


@contextmanager
def bench_with(offload: Offload) -> Iterator[TapBench]:
    namespace = NetworkNamespace.create(f"tap{os.getpid()}")
    try:
        bench = TapBench(namespace, offload)
        try:
            yield bench
        finally:
            bench.close()
    finally:
        namespace.delete()


@pytest.fixture(params=[Offload(0), ALL], ids=["plain", "offload"])
def bench(request: pytest.FixtureRequest) -> Iterator[TapBench]:
    with bench_with(request.param) as made:
        yield made


@pytest.fixture
def plain() -> Iterator[TapBench]:
    with bench_with(Offload(0)) as made:
        yield made


@pytest.fixture
def offloading() -> Iterator[TapBench]:
    with bench_with(ALL) as made:
        yield made


def test_what_the_stack_sends_reaches_streams_with_and_without_offload(bench: TapBench) -> None:
    to_b, to_c = frame_from(A, mac_of(B)), frame_from(A, mac_of(C))

    bench.send(to_b, to_c)
    bench.turn()

    assert bench.received(B) == record(to_b, bytes(10))
    assert bench.received(C) == record(to_c)
    assert bench.engine.counters(A).rx_frames == 2


def test_more_frames_than_one_turn_reads_arrive_in_their_order(bench: TapBench) -> None:
    frames = [frame_from(A, mac_of(C), b"%d" % number) for number in range(400)]

    bench.send(*frames)
    bench.turn()
    bench.turn()

    assert bench.received(C) == b"".join(map(record, frames))


def test_what_vifs_send_reaches_the_stack(bench: TapBench) -> None:
    to_a, to_all = frame_from(B, mac_of(A)), frame_from(C, BROADCAST)

    with Listener(bench.namespace, TAP) as stack:
        bench.clients[B].send(record(to_a, bytes(10)))
        bench.clients[C].send(record(to_all))
        bench.turn()

        assert sorted(stack.frames_now()) == sorted([to_a, to_all])
    assert bench.engine.counters(A).tx_frames == 2


def test_a_forged_frame_from_a_tap_is_dropped_by_its_name(bench: TapBench) -> None:
    bench.send(frame_from(B, mac_of(C)))
    bench.turn()

    assert bench.received(C) == b""
    assert bench.drops(A) == {"src_mac": 1}


def test_a_segmentation_frame_is_cut_for_a_tap_without_offload(plain: TapBench) -> None:
    with Listener(plain.namespace, TAP) as stack:
        plain.clients[B].send(record(LONG, LEFT_TO_CUT))
        plain.turn()

        lengths = [len(found) - HEADERS_BYTES for found in stack.frames_now()]
    assert lengths == [SEGMENT_BYTES, SEGMENT_BYTES, 500]


def test_a_segmentation_frame_stays_whole_for_a_tap_with_offload(offloading: TapBench) -> None:
    with Listener(offloading.namespace, TAP) as stack:
        offloading.clients[B].send(record(LONG, LEFT_TO_CUT))
        offloading.turn()

        assert stack.frames_now() == [LONG]


def test_a_tap_that_is_down_takes_nothing_and_works_again_when_it_is_up(bench: TapBench) -> None:
    run(bench.namespace.command(["ip", "link", "set", TAP, "down"]))
    bench.clients[C].send(record(frame_from(C, mac_of(A))))
    bench.turn()
    assert bench.drops(A) == {"detached": 1}

    run(bench.namespace.command(["ip", "link", "set", TAP, "up"]))
    with Listener(bench.namespace, TAP) as stack:
        bench.clients[C].send(record(frame_from(C, mac_of(A))))
        bench.turn()

        assert stack.frames_now() == [frame_from(C, mac_of(A))]


def test_a_deleted_interface_ends_its_attachment_and_no_other(bench: TapBench) -> None:
    run(bench.namespace.command(["ip", "link", "delete", TAP]))

    assert bench.turn() == [Ended(A, 2, errno.EBADFD)]
    bench.clients[C].send(record(frame_from(C, mac_of(B))))
    bench.turn()
    assert bench.received(B) == record(frame_from(C, mac_of(B)), bytes(10))


def test_a_tap_that_its_user_makes_blocking_never_blocks_the_engine(bench: TapBench) -> None:
    """O_NONBLOCK belongs to the open file, which the user shares."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("the engine waits in a system call")

    os.set_blocking(bench.kept, True)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        bench.send(frame_from(A, mac_of(C)))
        bench.turn()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

    assert bench.received(C) == record(frame_from(A, mac_of(C)))


def test_what_a_tap_does_not_take_is_dropped_and_counted(plain: TapBench) -> None:
    """A socket that nobody reads stands for a tap here: a kernel's stack takes all it gets."""
    unread, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plain.engine.detach(A, 2)
    plain.engine.attach(A, 3, "tap", ours.detach(), 0, False)
    burst = record(frame_from(C, mac_of(A), bytes(1400))) * 16

    with unread:
        for _ in range(1000):
            plain.clients[C].send(burst)
            plain.turn()
            if plain.drops(A):
                break

    assert list(plain.drops(A)) == ["queue_full"]
