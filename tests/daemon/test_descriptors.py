"""Descriptors in the queues of control's own sockets: seen, not taken, and not discarded by us."""

import os
import socket
from collections.abc import Iterator

import pytest
import trio

from multiplexer.daemon import descriptors
from multiplexer.daemon.disposal import Disposal
from multiplexer.daemon.doorman import Doorman, SentDescriptors
from multiplexer.daemon.lending import descriptors_let_in
from tests.support.tracer import Tracer
from tests.support.waiting import eventually

KINDS = [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]
USER_UID = 1000


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    made = Tracer()
    yield made
    made.close()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return our end and the client's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param)
    ours.setblocking(False)
    descriptors.prepare(ours)
    with ours, theirs:
        yield ours, theirs


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_what_has_no_descriptor_is_received_as_ever(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    doorman = Doorman(wary=True)
    theirs.send(b"hello")

    assert await doorman.receive(ours, 100) == b"hello"
    theirs.close()
    assert await doorman.receive(ours, 100) == b""


async def test_a_descriptor_is_seen_and_not_taken(
    pair: tuple[socket.socket, socket.socket], tracer: Tracer
) -> None:
    ours, theirs = pair
    tracer.send(theirs, b"hello")
    before = open_fds()

    with pytest.raises(SentDescriptors):
        await Doorman(wary=True).receive(ours, 100)

    assert open_fds() == before
    assert not tracer.is_discarded


@pytest.mark.parametrize("waiting", [(), (b"hello",), (b"hello", b"x" * 5000)])
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_socket_without_descriptors_may_be_closed(
    pair: tuple[socket.socket, socket.socket], waiting: tuple[bytes, ...], is_gone: bool
) -> None:
    ours, theirs = pair
    ours.send(b"never read")
    for data in waiting:
        theirs.send(data)
    if is_gone:
        theirs.close()

    assert descriptors.is_safe_to_close(ours)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_socket_with_a_descriptor_behind_other_bytes_may_not(
    pair: tuple[socket.socket, socket.socket], tracer: Tracer, is_gone: bool
) -> None:
    ours, theirs = pair
    ours.send(b"never read")
    theirs.send(b"x" * 5000)
    tracer.send(theirs, b"y")
    if is_gone:
        theirs.close()

    assert not descriptors.is_safe_to_close(ours)
    assert not tracer.is_discarded


def test_an_empty_message_hides_no_descriptor(tracer: Tracer) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        descriptors.prepare(ours)
        theirs.send(b"")
        tracer.send(theirs, b"")

        assert not descriptors.is_safe_to_close(ours)


def test_an_urgent_byte_hides_no_descriptor(tracer: Tracer) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ours.setblocking(False)
        descriptors.prepare(ours)
        tracer.send(theirs, b"x", socket.MSG_OOB)

        assert not descriptors.is_safe_to_close(ours)
        assert not tracer.is_discarded


def test_a_process_disposes_of_what_we_may_not_close(tracer: Tracer) -> None:
    ours, theirs = socket.socketpair()
    disposal = Disposal()
    with theirs:
        tracer.send(theirs, b"x")
        disposal.take(ours)
        assert (len(disposal), ours.fileno() >= 0) == (1, True)

        disposal.tend()

        assert (len(disposal), ours.fileno()) == (0, -1)
        eventually(lambda: tracer.is_discarded, "the process has ended")

    def is_idle() -> bool:
        disposal.tend()
        return disposal.is_idle

    eventually(is_idle, "it is reaped")


def test_a_process_holds_nothing_else(tracer: Tracer) -> None:
    """A pipe of ours ends when we close it, whoever is being held up."""
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()
    with theirs:
        disposal = Disposal()
        disposal.take(ours)
        disposal.tend()
        os.close(writer)
        os.set_blocking(reader, True)

        assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.fixture
def lender(tracer: Tracer) -> Iterator[socket.socket]:
    """Return a connection that let in a descriptor once, which still waits there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        descriptors.refuse_fds(ours)
        with descriptors_let_in(ours):
            tracer.send(theirs, b"x")
        yield ours


async def test_what_was_let_in_is_not_taken_later_where_the_kernel_refuses_all_others(
    lender: socket.socket, tracer: Tracer
) -> None:
    with pytest.raises(SentDescriptors):
        await Doorman(wary=False).receive(lender, 100)

    assert not tracer.is_discarded


def test_what_was_let_in_is_not_discarded_by_us_nor_by_our_successor(
    lender: socket.socket, tracer: Tracer
) -> None:
    inherited = lender.dup()
    lender.close()
    Doorman(wary=False).let_go(inherited)

    assert not tracer.is_discarded
    assert inherited.fileno() >= 0
    inherited.close()


async def test_who_sent_a_descriptor_is_let_in_no_more_and_root_is() -> None:
    doorman = Doorman(wary=True)
    doorman.shut_out(USER_UID)
    doorman.shut_out(0)

    assert doorman.is_shut_out(USER_UID)
    assert not doorman.is_shut_out(0)
    assert doorman.n_shut_out == 1
    with trio.move_on_after(0.01) as waiting:
        await doorman.wait_open(USER_UID)
    assert waiting.cancelled_caught
    await doorman.wait_open(0)
    await doorman.wait_open()
