"""An engine whose kernel does not refuse what clients send: descriptors never become its own."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from multiplexer.datapath.engine import Ended
from tests.support.tracer import Tracer

from .test_engine import A, B, Bench, frame_from, mac_of, record

FRAME = frame_from(A, mac_of(B))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(wary=True)
    yield made
    made.close()


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    made = Tracer()
    yield made
    made.close()


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def attach_bess(bench: Bench) -> socket.socket:
    """Join a packet socket to A, prepared as control does."""
    client, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    bench.engine.detach(A, 1)
    bench.engine.attach(A, 2, "bess", ours.detach(), 0, False)
    bench.clients[A].close()
    bench.clients[A] = client
    return client


def test_what_has_no_descriptor_flows_as_ever(bench: Bench) -> None:
    for byte in record(FRAME):
        bench.clients[A].send(bytes((byte,)))
        bench.turn()
    bench.clients[A].send(record(FRAME) * 100)
    bench.turn()

    assert bench.received(B) == record(FRAME) * 101


def test_a_stream_with_a_descriptor_ends_and_the_descriptor_is_nobodys(
    bench: Bench, tracer: Tracer
) -> None:
    before = open_fds()

    tracer.send(bench.clients[A], record(FRAME))

    assert open_fds() == before - 1
    assert bench.turn() == [Ended(A, 1, errno.EBADMSG)]
    assert open_fds() == before - 1, "nothing was received, and the socket stays"
    assert not tracer.is_discarded
    assert bench.received(B) == b""


def test_a_descriptor_is_seen_behind_frames_that_have_none(bench: Bench, tracer: Tracer) -> None:
    bench.clients[A].send(record(FRAME))
    bench.clients[A].send(record(FRAME)[:10])
    tracer.send(bench.clients[A], record(FRAME)[10:])

    assert bench.turn() == [Ended(A, 1, errno.EBADMSG)]
    assert not tracer.is_discarded


def test_a_descriptor_of_an_urgent_byte_is_seen(bench: Bench, tracer: Tracer) -> None:
    """A byte that is not read inline is skipped, and what came with it discarded."""
    client, ours = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    bench.engine.detach(A, 1)
    bench.engine.attach(A, 2, "stream", ours.detach(), 0, False)
    with client:
        tracer.send(client, b"x", socket.MSG_OOB)

        assert bench.turn() == [Ended(A, 2, errno.EBADMSG)]
        assert not tracer.is_discarded


@pytest.mark.parametrize("first", [b"", record(FRAME) * 50, b"\0\0\0\0"])
def test_a_descriptor_that_waits_when_an_attachment_ends_is_not_discarded(
    bench: Bench, tracer: Tracer, first: bytes
) -> None:
    if first:
        bench.clients[A].send(first)
    tracer.send(bench.clients[A], b"x")

    assert not bench.engine.detach(A, 1), "the client is to blame"

    assert not tracer.is_discarded
    with pytest.raises(BrokenPipeError):
        bench.clients[A].send(b"x")


def test_a_wrong_length_before_a_descriptor_hides_it_from_nobody(
    bench: Bench, tracer: Tracer
) -> None:
    bench.clients[A].send(bytes(4))
    tracer.send(bench.clients[A], b"x")

    assert bench.turn() == [Ended(A, 1, errno.EBADMSG)]
    assert not tracer.is_discarded


def test_an_attachment_without_descriptors_is_closed_whatever_waits_in_it(bench: Bench) -> None:
    before = open_fds()
    bench.clients[A].send(record(FRAME) * 50)

    assert bench.engine.detach(A, 1)

    assert open_fds() == before - 1


def test_a_client_that_leaves_frames_unread_is_not_blamed(bench: Bench) -> None:
    """Its end says ECONNRESET, which is not what a descriptor looks like."""
    bench.clients[A].send(record(FRAME))
    bench.turn()
    before = open_fds()

    bench.clients[B].close()

    assert bench.turn() == [Ended(B, 1, 0)]
    assert open_fds() == before - 2


def test_messages_without_descriptors_flow_as_ever(bench: Bench) -> None:
    client = attach_bess(bench)
    for _ in range(50):
        client.send(FRAME)
    client.send(bytes(2000))
    bench.turn()

    assert bench.received(B) == record(FRAME) * 50
    assert bench.drops(A) == {"oversize": 1}


@pytest.mark.parametrize("first", [(), (FRAME,) * 40], ids=["alone", "behind others"])
def test_a_message_with_a_descriptor_ends_the_attachment(
    bench: Bench, tracer: Tracer, first: tuple[bytes, ...]
) -> None:
    client = attach_bess(bench)
    for frame in first:
        client.send(frame)
    tracer.send(client, FRAME)

    assert bench.turn() == [Ended(A, 2, errno.EBADMSG)]
    assert not tracer.is_discarded


def test_an_empty_message_does_not_hide_a_descriptor(bench: Bench, tracer: Tracer) -> None:
    """It looks like the end of the connection, and the connection is closed for it."""
    client = attach_bess(bench)
    client.send(b"")
    client.send(b"")
    tracer.send(client, b"")

    assert bench.turn() == [Ended(A, 2, errno.EBADMSG)]
    assert not tracer.is_discarded


def test_empty_messages_are_no_crime(bench: Bench) -> None:
    client = attach_bess(bench)
    before = open_fds()
    client.send(b"")
    client.send(b"")

    assert bench.turn() == [Ended(A, 2, 0)]
    assert open_fds() == before - 1
