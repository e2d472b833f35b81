"""A control that follows one that was killed: what it goes on with, and what it clears away."""

import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_interface

import attrs
import pytest
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.broker_client import Inherited
from multiplexer.daemon.legacy import Settlement, settle
from multiplexer.daemon.rings import Memory
from pfinet_proto.attach import Goodbye, GoodbyeCode, Hello, Update, Welcome, decode_untrusted
from pfinet_proto.control import Status, VifCreate, VifDelete, VifShow
from pfinet_proto.values import VifName
from tests.daemon.siblings import ALICE, STATIC, Place, Running, running, siblings

WEB = VifName.parse("web")
ONE = VifCreate(VifName.parse("one"), "alice", (ip_interface("10.77.0.11/24"),))

A, B = "a" * 32, "b" * 32
COOKIE = bytes(range(16))
SESSION = channel.Session("attach", "stream", 1, ALICE, ALICE, os.getpid(), 0, COOKIE)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


# What is compared


def kept(vif_id: str, port: int, generation: int) -> Inherited:
    return Inherited(channel.Kept(vif_id, port, generation, SESSION), ())


def test_with_nothing_before_there_is_nothing_to_settle() -> None:
    assert settle({A, B}, [], []) == Settlement({}, {}, [], [], [], [])


def test_what_engine_and_broker_agree_on_goes_on() -> None:
    ports = [channel.Port(64, A, 3), channel.Port(70, B, None)]

    settled = settle({A, B}, ports, [kept(A, 64, 3)])

    assert settled == Settlement({A: 64, B: 70}, {A: kept(A, 64, 3)}, [], [], [], [])


def test_an_attachment_that_only_the_engine_has_is_undone() -> None:
    settled = settle({A}, [channel.Port(64, A, 3)], [])

    assert settled == Settlement({A: 64}, {}, [], [(64, 3)], [], [])


@pytest.mark.parametrize(
    "ports",
    [[], [channel.Port(64, A, None)], [channel.Port(65, A, None)]],
    ids=["port", "attachment", "place"],
)
def test_an_attachment_that_only_the_broker_has_is_lost(ports: list[channel.Port]) -> None:
    settled = settle({A}, ports, [kept(A, 64, 3)])

    assert (settled.lost, settled.resumed, settled.undone) == ([kept(A, 64, 3)], {}, [])


def test_two_that_differ_are_not_the_same_attachment() -> None:
    settled = settle({A}, [channel.Port(64, A, 4)], [kept(A, 64, 3)])

    assert settled == Settlement({A: 64}, {}, [], [(64, 4)], [kept(A, 64, 3)], [])


def test_of_a_vif_that_is_no_more_port_and_attachment_are_cleared() -> None:
    settled = settle({A}, [channel.Port(64, B, 3)], [kept(B, 64, 3)])

    assert settled == Settlement({}, {}, [64], [], [], [kept(B, 64, 3)])


def test_a_vif_has_one_port() -> None:
    settled = settle({A}, [channel.Port(64, A, None), channel.Port(65, A, 3)], [])

    assert settled == Settlement({A: 64}, {}, [65], [], [], [])


# What is done


@attrs.define
class Client:
    """A client that was attached before, and its connection."""

    sock: trio.socket.SocketType
    vif_id: str

    async def hear(self) -> object:
        """Return what the daemon says; None if it has closed."""
        data = await self.sock.recv(65536)
        return decode_untrusted(data) if data else None

    async def hear_binding(self) -> Update:
        """Return what the daemon says first to whom it does not know how much it was told."""
        update = await self.hear()
        assert isinstance(update, Update)
        return update


@asynccontextmanager
async def taken_over(
    place: Place,
    *,
    engine: int | None = 9,
    broker: int | None = 9,
    gone: bool = False,
    session: channel.Session = SESSION,
) -> AsyncIterator[tuple[Running, Client]]:
    """Run a control that finds an attachment of vif `web` at port 70.

    *engine* and *broker* are the generation that each has, *gone* if there is
    no such vif any more.
    """
    async with running(place, STATIC) as daemon:
        vif_id = B if gone else (await daemon.ask(VifShow(WEB))).id
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        client = Client(trio.socket.from_stdlib_socket(ours), vif_id)
        async with siblings(place) as made:
            made.engine.ports[70] = channel.Port(70, vif_id, engine)
            if engine is not None:
                data, other = socket.socketpair()
                other.close()
                made.engine.data[70] = data
            if broker is not None:
                kept = [Memory(os.dup(theirs.fileno()))] if session.way == "attach" else []
                made.broker.kept[vif_id] = (channel.Kept(vif_id, 70, broker, session), kept)
            theirs.close()
            await made.broker.start(place.config(STATIC))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.control.run)
                await made.wait_serving()
                yield made, client
                made.control.stop()
    ours.close()


async def test_an_attachment_goes_on_as_if_nothing_had_been(place: Place) -> None:
    async with taken_over(place) as (daemon, client):
        before_s = time.monotonic()
        vif = await daemon.ask(VifShow(WEB))
        after_s = time.monotonic()
        rows = daemon.engine.all(channel.SetVif)
        asked = {type(message) for message in daemon.engine.heard}

        update = await client.hear_binding()
        daemon.control.stop()
        farewell = await client.hear()
        end = await client.hear()
        await daemon.broker.wait_heard(channel.Forget)

    assert [(row.port, row.vif_id) for row in rows] == [(70, client.vif_id)]
    assert asked == {
        channel.SetNetwork,
        channel.ReadPorts,
        channel.SetVif,
        channel.PrepareFilter,
        channel.CommitFilters,
        channel.ReadCounters,
    }
    assert update.binding.vif == WEB
    assert vif.attached is not None
    assert (vif.attached.uid, vif.attached.offload) == (ALICE, 1)
    assert int(before_s) <= vif.attached.since_s <= after_s  # it began at 0
    assert isinstance(farewell, Goodbye)
    assert farewell.code is GoodbyeCode.SHUTTING_DOWN
    assert end is None
    assert daemon.broker.kept == {}
    assert "took over 1 attachments, 0 have ended" in daemon.log


async def test_a_stream_of_the_stream_socket_goes_on(place: Place) -> None:
    plain = attrs.evolve(SESSION, way="stream", offload=0, cookie=None)
    async with taken_over(place, session=plain) as (daemon, _):
        assert (await daemon.ask(Status())).attached == 1

        await daemon.engine.end_attachment(attached(9), "closed by the client")
        await daemon.broker.wait_heard(channel.Forget)
        while (await daemon.ask(Status())).attached:
            pass

    assert any('vif=web why="closed by the client"' in line for line in daemon.log)


def attached(generation: int) -> channel.Attach:
    return channel.Attach(0, 70, generation, "stream", 1, True, ALICE, 0)


async def test_its_end_is_told_as_that_of_any_other(place: Place) -> None:
    async with taken_over(place) as (daemon, client):
        await client.hear_binding()
        await daemon.engine.end_attachment(attached(9), "record length out of range")

        assert await client.hear() == Goodbye(GoodbyeCode.BAD_STREAM, "record length out of range")
        assert await client.hear() is None
        detach = await daemon.engine.wait_heard(channel.Detach)

    assert (detach.port, detach.generation) == (70, 9)


async def test_the_next_attachment_has_a_generation_of_its_own(place: Place) -> None:
    async with taken_over(place) as (daemon, client):
        client.sock.close()
        await daemon.broker.wait_heard(channel.Forget)
        while (await daemon.ask(VifShow(WEB))).attached is not None:
            pass
        async with daemon.attacher("web", ALICE) as attacher:
            _, data = await attacher.attach()
            data.close()

    assert [message.generation for message in daemon.engine.all(channel.Attach)] == [10]


async def test_its_client_takes_over_from_itself_by_its_cookie(place: Place) -> None:
    async with taken_over(place) as (daemon, client), daemon.attacher("web", ALICE) as attacher:
        await client.hear_binding()
        await attacher.say(Hello(cookie=COOKIE))
        farewell = await client.hear()
        welcome, fds = await attacher.hear()
        channel.close_all(fds)

    assert isinstance(farewell, Goodbye)
    assert farewell.code is GoodbyeCode.TAKEN_OVER
    assert isinstance(welcome, Welcome)
    assert welcome.cookie != COOKIE


async def test_one_that_was_never_complete_is_detached_and_the_vif_is_free(place: Place) -> None:
    async with taken_over(place, broker=None) as (daemon, _):
        vif = await daemon.ask(VifShow(WEB))

    detached = [(m.port, m.generation) for m in daemon.engine.all(channel.Detach)]
    assert detached == [(70, 9)]
    assert vif.attached is None


async def test_one_that_ended_meanwhile_is_closed_without_a_word(place: Place) -> None:
    """Its client may not have been welcomed yet, so no word would be in turn."""
    async with taken_over(place, engine=None) as (daemon, client):
        assert await client.hear() is None
        assert (await daemon.ask(VifShow(WEB))).attached is None

    assert [message.vif_id for message in daemon.broker.all(channel.Forget)] == [client.vif_id]
    assert daemon.engine.all(channel.Detach) == []
    assert "took over 0 attachments, 1 have ended" in daemon.log


async def test_one_whose_vif_was_just_given_to_somebody_else_is_told_so(place: Place) -> None:
    others = attrs.evolve(SESSION, uid=ALICE + 1)
    async with taken_over(place, session=others) as (daemon, client):
        farewell = await client.hear()
        end = await client.hear()
        await daemon.broker.wait_heard(channel.Forget)

    assert isinstance(farewell, Goodbye)
    assert farewell.code is GoodbyeCode.OWNER_CHANGED
    assert end is None
    assert [message.generation for message in daemon.engine.all(channel.Detach)] == [9]


async def test_one_whose_tap_was_just_trusted_no_more_is_told_so(place: Place) -> None:
    lent = attrs.evolve(SESSION, transport="tap")
    async with taken_over(place, session=lent) as (daemon, client):
        farewell = await client.hear()
        end = await client.hear()
        await daemon.broker.wait_heard(channel.Forget)

    assert isinstance(farewell, Goodbye)
    assert "not trusted any more" in farewell.text
    assert end is None
    assert [message.generation for message in daemon.engine.all(channel.Detach)] == [9]


async def test_one_whose_vif_was_just_deleted_is_told_so(place: Place) -> None:
    async with taken_over(place, gone=True) as (daemon, client):
        farewell = await client.hear()
        end = await client.hear()

    assert farewell == Goodbye(GoodbyeCode.DELETED, "the vif is no more")
    assert end is None
    assert [message.port for message in daemon.engine.all(channel.ClearVif)] == [70]
    assert daemon.broker.kept == {}


async def test_a_new_vif_does_not_get_the_port_of_one_that_was_there(place: Place) -> None:
    """Vifs that keep their ports come first; the others get what is left."""
    async with running(place) as daemon:
        await daemon.ask(ONE)
        one = (await daemon.ask(VifShow(ONE.name))).id
    async with siblings(place) as made:
        made.engine.ports[64] = channel.Port(64, one, None)
        await made.broker.start(place.config(STATIC))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.control.run)
            await made.wait_serving()
            made.control.stop()

    rows = [(row.port, row.vif_id == one) for row in made.engine.all(channel.SetVif)]
    assert rows == [(64, True), (65, False)]


# What makes it possible


async def test_the_broker_has_it_before_the_client_and_forgets_it_after_the_engine(
    place: Place,
) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        daemon.broker.withheld.add(channel.Keep)
        await client.say(Hello())
        keep = await daemon.broker.wait_heard(channel.Keep)
        with trio.move_on_after(0) as told:
            await client.hear()
        attach = daemon.engine.all(channel.Attach)[0]
        await daemon.broker.release()
        welcome, fds = await client.hear()
        channel.close_all(fds)
        daemon.engine.withheld.add(channel.Detach)
        client.sock.close()
        await daemon.engine.wait_heard(channel.Detach)
        forgotten_early = daemon.broker.all(channel.Forget)
        await daemon.engine.release()
        await daemon.broker.wait_heard(channel.Forget)

    assert told.cancelled_caught
    assert (keep.kept.port, keep.kept.generation) == (attach.port, attach.generation)
    assert isinstance(welcome, Welcome)
    assert keep.kept.session.cookie == welcome.cookie
    assert keep.kept.session.uid == ALICE
    assert forgotten_early == []


async def test_an_attachment_that_cannot_be_kept_is_refused(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        daemon.broker.refusals[channel.Keep] = "no"
        await client.say(Hello())
        message, _ = await client.hear()
        detached = await daemon.engine.wait_heard(channel.Detach)

    assert "broker: no" in str(message)
    assert detached.generation == daemon.engine.all(channel.Attach)[0].generation


async def test_deleting_a_vif_has_its_attachment_forgotten(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            data.close()
            await daemon.ask(VifDelete(ONE.name))

        assert daemon.broker.kept == {}
