"""Attachments by rings: what is made for them, who has it, and what outlives an engine."""

import fcntl
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.broker_client import Inherited
from multiplexer.daemon.fdstore import FdStore, Stored, told_apart
from multiplexer.daemon.legacy import settle
from multiplexer.daemon.restarts import RestartBudget
from multiplexer.daemon.rings import SEALS, Memory, NoRing, RingEnd, made_rings
from pfinet_proto.attach import (
    NO_OFFLOAD,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Transport,
    Update,
    Welcome,
)
from pfinet_proto.control import VifShow
from pfinet_proto.ring import MIN_BYTES, SEGMENTS_BYTES, USUAL_BYTES, memory_bytes
from pfinet_proto.values import VifName
from tests.daemon.siblings import ALICE, STATIC, Attacher, Place, Running, running, siblings

WEB = VifName.parse("web")
A = "a" * 32
EITHER = (Transport.RING, Transport.STREAM)
SESSION = channel.Session("attach", "ring", 1, ALICE, ALICE, os.getpid(), 0, bytes(16))
KEPT = channel.Kept(A, 64, 3, SESSION)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


@attrs.frozen
class Got:
    """What a client was given."""

    welcome: Welcome
    kicks: socket.socket
    memory: int

    def close(self) -> None:
        self.kicks.close()
        os.close(self.memory)


async def attach_by_ring(client: Attacher, offload: Offload = NO_OFFLOAD) -> Got:
    await client.say(Hello(offload=offload, transports=EITHER))
    welcome, fds = await client.hear()
    assert isinstance(welcome, Welcome), welcome
    kicks, memory = fds
    return Got(welcome, socket.socket(fileno=kicks), memory)


def same_file(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)


async def is_attached_by(daemon: Running) -> str | None:
    found = (await daemon.ask(VifShow(WEB))).attached
    return None if found is None else found.transport


# The handshake


@pytest.mark.parametrize(
    ("offload", "ring_bytes"),
    [(NO_OFFLOAD, USUAL_BYTES), (Offload.CSUM | Offload.TSO4, SEGMENTS_BYTES)],
)
async def test_a_client_shares_a_sealed_memory_with_the_engine(
    place: Place, offload: Offload, ring_bytes: int
) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        got = await attach_by_ring(client, offload)
        attached = daemon.engine.all(channel.Attach)[0]
        engines = daemon.engine.memories[attached.port]
        daemon.engine.data[attached.port].send(b"k")
        kicked = got.kicks.recv(10)
        shown = await is_attached_by(daemon)
        kept, descriptors = next(iter(daemon.broker.kept.values()))

        assert got.welcome.transport is Transport.RING
        assert (attached.transport, attached.vnet) == ("ring", bool(offload))
        assert kicked == b"k"
        assert same_file(got.memory, engines)
        assert os.fstat(got.memory).st_size == memory_bytes(ring_bytes)
        assert fcntl.fcntl(got.memory, fcntl.F_GET_SEALS) & SEALS == SEALS
        with pytest.raises(PermissionError):
            os.ftruncate(got.memory, 0)
        assert shown == kept.session.transport == "ring"
        assert len(descriptors) == 1 + channel.RING_FDS
        assert same_file(got.memory, descriptors[2].fileno())
        assert any("transport=ring" in line for line in daemon.log)
        got.close()


async def test_control_keeps_neither_memory_nor_kicks(place: Place) -> None:
    """So that the client sees the end when engine and broker have let go."""
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        got = await attach_by_ring(client)
        port = daemon.engine.all(channel.Attach)[0].port
        daemon.engine.data.pop(port).close()
        daemon.broker.forget(next(iter(daemon.broker.kept)))
        got.kicks.setblocking(False)

        assert got.kicks.recv(10) == b""
        got.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((Transport.STREAM, Transport.RING), Transport.STREAM),
        ((Transport.RING,), Transport.RING),
        ((Transport.TAP, Transport.RING, Transport.STREAM), Transport.RING),
        ((Transport.STREAM,), Transport.STREAM),
    ],
)
async def test_the_client_s_favourite_is_chosen(
    place: Place, offered: tuple[Transport, ...], chosen: Transport
) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        await client.say(Hello(transports=offered))
        welcome, fds = await client.hear()
        channel.close_all(fds)

        assert isinstance(welcome, Welcome)
        assert welcome.transport is chosen
        assert await is_attached_by(daemon) == chosen.name.lower()


async def test_where_the_engine_has_no_memory_the_stream_takes_its_place(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        daemon.engine.once[channel.Attach] = "No buffer space available"
        await client.say(Hello(transports=EITHER))
        welcome, fds = await client.hear()
        channel.close_all(fds)

        assert isinstance(welcome, Welcome)
        assert welcome.transport is Transport.STREAM
        assert [message.transport for message in daemon.engine.all(channel.Attach)] == [
            "ring",
            "stream",
        ]
        assert await is_attached_by(daemon) == "stream"


async def test_who_wants_nothing_but_rings_may_come_back(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        daemon.engine.once[channel.Attach] = "No buffer space available"
        await client.say(Hello(transports=(Transport.RING,)))
        answer, _ = await client.hear()

        assert answer == Refused(RefusedCode.NOT_READY, "there is no memory left for rings")
        assert await is_attached_by(daemon) is None


async def test_a_second_client_is_refused(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as first:
        got = await attach_by_ring(first)
        async with daemon.attacher("web", ALICE) as second:
            await second.say(Hello(transports=EITHER))
            answer, _ = await second.hear()

        assert isinstance(answer, Refused)
        assert answer.code is RefusedCode.TAKEN
        got.close()


# Another engine


def adrift_ring() -> tuple[list[Memory], RingEnd]:
    """Return the engine's end as the broker keeps it, and the client's."""
    ours, theirs = socket.socketpair()
    memory = Memory.made(MIN_BYTES)
    kept = [Memory(ours.detach()), memory]
    return kept, RingEnd(theirs, Memory(os.dup(memory.fileno())))


@asynccontextmanager
async def taken_over(
    place: Place, *, refusal: str | None = None, owner: int = ALICE
) -> AsyncIterator[tuple[Running, Attacher, RingEnd]]:
    """Run a control with a new engine; the broker has an attachment of vif `web`."""
    async with running(place, STATIC) as daemon:
        vif_id = (await daemon.ask(VifShow(WEB))).id
    connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rest, client = adrift_ring()
    entry = channel.Kept(vif_id, 70, 9, attrs.evolve(SESSION, uid=owner))
    async with siblings(place) as made:
        made.broker.kept[vif_id] = (entry, [Memory(theirs.detach()), *rest])
        made.broker.adrift.add(vif_id)
        if refusal is not None:
            made.engine.refusals[channel.Attach] = refusal
        await made.broker.start(place.config(STATIC))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.control.run)
            await made.wait_serving()
            attacher = Attacher(trio.socket.from_stdlib_socket(connection))
            attacher.machine = attacher.machine.attached(attacher.machine._role)
            yield made, attacher, client
            made.control.stop()
    connection.close()
    client.close()


async def test_rings_go_on_with_another_engine(place: Place) -> None:
    async with taken_over(place) as (daemon, client, rings):
        update, _ = await client.hear()
        attached = daemon.engine.all(channel.Attach)[0]
        port = daemon.engine.all(channel.SetVif)[0].port
        daemon.engine.data[port].send(b"k")
        kept, descriptors = next(iter(daemon.broker.kept.values()))

        assert isinstance(update, Update)
        assert (attached.port, attached.transport) == (port, "ring")
        assert (attached.offload, attached.vnet) == (1, True)
        assert rings.kicks.recv(10) == b"k"
        assert same_file(daemon.engine.memories[port], rings.memory.fileno())
        assert (kept.port, kept.generation) == (port, attached.generation)
        assert kept.session == SESSION
        assert len(descriptors) == 3
        assert await is_attached_by(daemon) == "ring"
        assert "took over 1 attachments, 0 have ended" in daemon.log
        daemon.control.stop()
        farewell, _ = await client.hear()
        assert isinstance(farewell, Goodbye)
        assert farewell.code is GoodbyeCode.SHUTTING_DOWN
        await daemon.broker.wait_heard(channel.Forget, 2)


async def test_what_another_engine_does_not_take_is_over(place: Place) -> None:
    async with taken_over(place, refusal="Value too large") as (daemon, client, rings):
        with pytest.raises(EOFError):
            await client.hear()
        assert rings.kicks.recv(10) == b""
        assert await is_attached_by(daemon) is None
        assert daemon.broker.kept == {}
        assert any("detached" in line and "Value too large" in line for line in daemon.log)


async def test_who_is_no_owner_any_more_is_told_so(place: Place) -> None:
    async with taken_over(place, owner=ALICE + 1) as (daemon, client, rings):
        farewell, _ = await client.hear()
        await daemon.engine.wait_heard(channel.Detach)

        assert isinstance(farewell, Goodbye)
        assert farewell.code is GoodbyeCode.OWNER_CHANGED
        rings.kicks.setblocking(False)
        with suppress(BlockingIOError):
            assert rings.kicks.recv(10) == b""


def inherited(ring: RingEnd | None) -> Inherited:
    return Inherited(KEPT, (), ring)


def test_a_ring_that_is_adrift_goes_on_whatever_ports_there_are() -> None:
    with made_rings(MIN_BYTES) as (ours, _):
        found = inherited(ours)

        assert settle({A}, [], [found]).resumed == {A: found}
        settled = settle({A}, [channel.Port(64, A, 3)], [found])
        assert settled.resumed == {A: found}
        assert settled.undone == [(64, 3)], "two controls died, and the engine between them"
        assert settle(set(), [], [found]).orphaned == [found]


def test_a_ring_that_an_engine_serves_is_as_any_other() -> None:
    found = inherited(None)

    assert settle({A}, [channel.Port(64, A, 3)], [found]).resumed == {A: found}
    assert settle({A}, [], [found]).lost == [found]


# What the broker keeps


def connection() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    return ours


def test_rings_outlive_an_engine_in_the_store_and_nothing_else_does() -> None:
    store = FdStore()
    with made_rings(MIN_BYTES) as (ours, _), connection() as first, connection() as second:
        store.keep(Stored(KEPT, (first,), ours))
        other = attrs.evolve(KEPT, vif_id="b" * 32)
        store.keep(Stored(other, (second,)))
        assert [stored.bequest for stored in store] == [(first,), (second,)]

        assert store.cast_off() == [second]
        (stored,) = store
        assert stored.adrift
        assert stored.bequest == (first, ours.kicks, ours.memory)

        assert store.take_all() == [first, ours.kicks]
        assert ours.memory.fileno() == -1
        assert len(store) == 0


def test_descriptors_are_told_apart() -> None:
    with made_rings(MIN_BYTES) as (ours, _), connection() as client:
        fds = [os.dup(fd) for fd in (client.fileno(), *ours.fds)]
        sockets, ring = told_apart(fds, has_ring=True)

        assert ring is not None
        assert [sock.fileno() for sock in sockets] == fds[:1]
        assert ring.fds == tuple(fds[1:])
        ring.close()
        sockets[0].close()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("order", [(0, 1), (1, 2, 0), (2, 1), (2,), (0, 0, 2), (3, 1, 2), (1, 3)])
def test_what_is_no_end_of_rings_is_closed(order: tuple[int, ...]) -> None:
    """0 is a packet socket, 1 a stream, 2 a memory, 3 a pipe."""
    reader, writer = os.pipe()
    with made_rings(MIN_BYTES) as (ours, _), connection() as client:
        kinds = (client.fileno(), *ours.fds, reader)
        fds = [os.dup(kinds[which]) for which in order]
        with pytest.raises((NoRing, OSError)):
            told_apart(fds, has_ring=True)

        assert not any(map(is_open, fds))
    os.close(reader)
    os.close(writer)


def test_a_memory_without_its_seals_is_none() -> None:
    unsealed = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(NoRing):
        RingEnd.taken([ours.detach(), unsealed])


def test_a_restart_that_follows_another_soon_is_seen() -> None:
    budget = RestartBudget()

    assert not budget.was_spent_within(5, 100)
    budget.spend(100)
    assert budget.was_spent_within(5, 104.9)
    assert not budget.was_spent_within(5, 105)


async def test_who_has_rings_hears_nothing_of_an_engine_that_died(place: Place) -> None:
    """The broker keeps its connection, and control does not say that the daemon stops."""
    held: list[socket.socket] = []

    async with siblings(place) as made:

        async def attach_and_lose_the_engine() -> None:
            async with made.attacher("web", ALICE) as client:
                held.append(socket.socket(fileno=os.dup(client.sock.fileno())))
                got = await attach_by_ring(client)
                got.close()
                made.engine.sock.shutdown(socket.SHUT_RDWR)

        await made.broker.start(place.config(STATIC))
        with pytest.raises(BaseExceptionGroup) as caught:
            await made.run_until_it_fails(attach_and_lose_the_engine)
        with held[0] as connection, pytest.raises(BlockingIOError):
            connection.recv(100, socket.MSG_DONTWAIT)

        assert caught.group_contains(channel.SiblingGone)
        assert made.broker.kept
