"""The engine with packet sockets: a message is a frame, whatever is at the other end."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from attrs import evolve

from multiplexer.datapath.engine import Ended
from tests.datapath.core import vif_row
from tests.datapath.frames import BROADCAST
from tests.datapath.test_engine import (
    A,
    B,
    Bench,
    C,
    frame_from,
    mac_of,
    record,
    vif_at,
    vnet_header,
)
from tests.support.gso_frames import Frame
from tests.support.linux import fail_to_send

LONGEST = 1514


class MessageBench(Bench):
    """A bench where A and B speak bess, and C a stream with offload."""

    def __init__(self) -> None:
        super().__init__(vnet=(C,))
        #: The engine's ends of the clients' sockets.
        self.engine_fds: dict[int, int] = {}
        of_c = evolve(vif_at(C), prefixes=(IPv4Network("10.0.0.66"), IPv4Network("10.0.1.1")))
        self.engine.set_vif(C, vif_row(of_c, mtu=1500))
        for port in (A, B):
            self.engine.detach(port, 1)
            self.attach_bess(port)

    def attach_bess(self, port: int) -> None:
        client, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.setblocking(False)
        fd = ours.detach()
        self.engine.attach(port, 2, "bess", fd, 0, False)
        self.clients[port].close()
        self.clients[port] = client
        self.engine_fds[port] = fd

    def messages(self, port: int) -> list[bytes]:
        """Return the messages that wait for a client: in its socket, and then in the engine."""
        found: list[bytes] = []
        before = -1
        while before < len(found):
            before = len(found)
            while message := self.received(port):
                found.append(message)
            self.turn()
        return found


@pytest.fixture
def bench() -> Iterator[MessageBench]:
    bench = MessageBench()
    yield bench
    bench.close()


def test_each_message_is_one_frame(bench: MessageBench) -> None:
    frames = [frame_from(A, mac_of(B), b"x" * size) for size in (0, 1, 100, LONGEST - 42)]

    for frame in frames:
        bench.clients[A].send(frame)
    bench.turn()

    assert bench.messages(B) == frames
    assert bench.messages(A) == []
    assert bench.engine.counters(A).rx_frames == bench.engine.counters(B).tx_frames == 4


def test_a_message_too_long_for_the_network_is_dropped_whole_with_its_true_length(
    bench: MessageBench,
) -> None:
    good = frame_from(A, mac_of(B))

    bench.clients[A].send(frame_from(A, mac_of(B), b"x" * (LONGEST - 42 + 1)))
    bench.clients[A].send(frame_from(A, mac_of(B), b"x" * 60_000))
    bench.clients[A].send(good)
    bench.turn()

    assert bench.messages(B) == [good]
    assert bench.drops(A) == {"oversize": 2}
    assert bench.engine.counters(A).rx_bytes == LONGEST + 1 + 60_042 + len(good)


def test_one_turn_reads_a_bounded_number_and_the_next_the_rest(bench: MessageBench) -> None:
    """200 messages are more than a turn takes, and nothing says again that they are there."""
    frames = [frame_from(A, mac_of(B), b"%d" % number) for number in range(200)]

    for frame in frames:
        bench.clients[A].send(frame)
    bench.round()
    first = bench.engine.counters(A).rx_frames
    while bench.engine.counters(A).rx_frames < len(frames):
        bench.round()

    assert 0 < first < len(frames)
    assert bench.messages(B) == frames


def test_an_empty_message_ends_only_that_attachment(bench: MessageBench) -> None:
    before = frame_from(A, mac_of(B))

    bench.clients[A].send(before)
    bench.clients[A].send(b"")

    assert bench.turn() == [Ended(A, 2, 0)]
    assert bench.messages(B) == [before]
    bench.clients[B].send(frame_from(B, mac_of(A)))
    bench.turn()
    assert bench.drops(A) == {"detached": 1}


def test_what_was_sent_before_the_end_is_still_delivered(bench: MessageBench) -> None:
    sent = frame_from(A, mac_of(B))
    bench.clients[A].send(sent)
    bench.clients[A].close()

    assert bench.turn() == [Ended(A, 2, 0)]
    assert bench.messages(B) == [sent]


def test_a_broadcast_goes_to_messages_and_records_alike(bench: MessageBench) -> None:
    sent = frame_from(A, BROADCAST)

    bench.clients[A].send(sent)
    bench.turn()

    assert bench.messages(B) == [sent]
    assert bench.received(C) == record(sent, bytes(10))


def test_a_segmentation_frame_arrives_as_complete_segments(bench: MessageBench) -> None:
    """There is no header in a bare frame that could leave work to the receiver."""
    gso_size = 1000
    frame = Frame(payload=os.urandom(4500), macs=mac_of(B) + mac_of(C))
    header = vnet_header(flags=1, gso=1, gso_size=gso_size, start=frame.l4_off, offset=16)

    bench.clients[C].send(record(frame.unfinished(), header))
    bench.turn()

    assert bench.messages(B) == list(frame.segments(gso_size))


def test_what_a_socket_has_no_room_for_waits_and_keeps_its_order(bench: MessageBench) -> None:
    frames = [frame_from(C, mac_of(B), b"%04d" % number + bytes(1400)) for number in range(600)]

    for at in range(0, len(frames), 100):
        bench.clients[C].send(b"".join(record(f, bytes(10)) for f in frames[at : at + 100]))
        bench.turn()

    assert bench.messages(B) == frames
    assert bench.drops(B) == {}


def test_a_receiver_that_never_reads_loses_whole_frames_and_costs_nobody(
    bench: MessageBench,
) -> None:
    frame = frame_from(A, mac_of(B), bytes(1400))
    sent = 0

    while "queue_full" not in bench.drops(B):
        for _ in range(64):
            bench.clients[A].send(frame)
        bench.turn()
        sent += 64
        assert sent < 100_000

    bench.clients[A].send(frame_from(A, mac_of(C)))
    bench.turn()
    assert bench.received(C) == record(frame_from(A, mac_of(C)), bytes(10))
    got = bench.messages(B)
    assert got == [frame] * (sent - bench.drops(B)["queue_full"])


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.ENOMEM])
def test_a_kernel_without_memory_costs_a_client_the_frame_alone(
    bench: MessageBench, error: int
) -> None:
    ended = []

    def turn() -> None:
        fail_to_send(bench.engine_fds[B], error)
        ended.extend(bench.turn())

    bench.clients[A].send(frame_from(A, mac_of(B)))
    thread = threading.Thread(target=turn)
    thread.start()
    thread.join()
    assert bench.drops(B) == {"queue_full": 1}

    again = frame_from(A, mac_of(B), b"again")
    bench.clients[A].send(again)
    assert ended + bench.turn() == []
    assert bench.messages(B) == [again]


def test_a_client_that_left_is_told_once(bench: MessageBench) -> None:
    bench.clients[B].close()
    bench.clients[A].send(frame_from(A, mac_of(B)))

    assert bench.turn() == [Ended(B, 2, 0)]
    assert bench.turn() == []


def test_a_virtio_net_hdr_cannot_be_agreed(bench: MessageBench) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bench.engine.detach(A, 2)
    with one, other, pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        bench.engine.attach(A, 3, "bess", one.fileno(), 15, True)


def test_an_uplink_cannot_speak_it(bench: MessageBench) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bench.engine.add_uplink(0)
    with one, other, pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        bench.engine.attach(0, 1, "bess", one.fileno(), 0, False)
