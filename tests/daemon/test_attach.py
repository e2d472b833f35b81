"""Clients on a vif's sockets: who gets in, what is held for them, how it ends."""

import os
import socket
import tempfile
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.rundir import KINDS
from pfinet_proto.attach import (
    VERSION,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Transport,
    Welcome,
    encode,
)
from pfinet_proto.control import VifCreate, VifDelete, VifShow
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.values import VifName
from tests.daemon.siblings import (
    ALICE,
    BOB,
    NAMES,
    STATIC,
    Attacher,
    Place,
    Running,
    running,
    system,
)

WEB = VifName.parse("web")
ONE = VifCreate(VifName.parse("one"), "alice", (ip_interface("10.77.0.11/24"),))


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def refused(client: Attacher) -> Refused:
    message, fds = await client.hear()
    assert isinstance(message, Refused)
    assert fds == []
    with pytest.raises(EOFError):
        await client.hear()
    return message


async def is_free(daemon: Running, vif: str = "web") -> bool:
    return (await daemon.ask(VifShow(VifName.parse(vif)))).attached is None


async def test_a_client_gets_its_binding_and_a_stream_to_the_engine(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        welcome, data = await client.attach()
        vif = await daemon.ask(VifShow(WEB))
        attached = daemon.engine.all(channel.Attach)[0]
        with data:
            daemon.engine.data[attached.port].send(b"a frame")
            received = data.recv(100)

        assert (welcome.version, welcome.transport) == (VERSION, Transport.STREAM)
        assert welcome.offload == Offload.CSUM
        assert (attached.transport, attached.offload, attached.vnet) == ("stream", 1, True)
        assert attached.port == daemon.engine.all(channel.SetVif)[0].port
        binding = welcome.binding
        assert (binding.vif, binding.network, binding.mac) == (WEB, "lan", vif.mac)
        assert (binding.addresses, binding.mtu) == (vif.addresses, 1500)
        assert list(map(str, binding.gateways)) == ["10.77.0.1", "fd77::1"]
        assert received == b"a frame"
        assert vif.attached is not None
        assert vif.attached.pid == os.getpid()
        assert any(" vif=web kind=attach offload=1 client=" in line for line in daemon.log)


async def test_without_offload_there_is_no_header_on_frames(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        await client.say(Hello())
        _, fds = await client.hear()
        channel.close_all(fds)

        attached = daemon.engine.all(channel.Attach)[0]
        assert (attached.offload, attached.vnet) == (0, False)


async def test_who_comes_right_behind_a_client_that_leaves_gets_in(place: Place) -> None:
    """The one that comes may be heard before the one that leaves."""
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as second:
        async with daemon.attacher("web", ALICE) as first:
            _, data = await first.attach()
            data.close()
            await second.say(Hello())
        welcome, fds = await second.hear()
        channel.close_all(fds)

    assert isinstance(welcome, Welcome)


async def test_each_session_has_a_cookie_of_its_own(place: Place) -> None:
    cookies = set()
    async with running(place, STATIC) as daemon:
        for number in range(1, 4):
            async with daemon.attacher("web", ALICE) as client:
                welcome, data = await client.attach()
                data.close()
            cookies.add(welcome.cookie)
            await daemon.engine.wait_heard(channel.Detach, number)
            while not await is_free(daemon):
                pass

    assert len(cookies) == 3


async def test_a_second_client_is_told_who_holds_the_vif(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as first:
        _, data = await first.attach()
        async with daemon.attacher("web", ALICE) as second:
            await second.say(Hello())
            message = await refused(second)

        assert message.code is RefusedCode.TAKEN
        assert message.text == f"vif web is taken by uid {ALICE}, pid {os.getpid()}"
        assert any("vif=web kind=attach why=" in line for line in daemon.log)
        assert len(daemon.engine.all(channel.Attach)) == 1
        data.close()


async def test_the_cookie_of_the_holder_takes_the_vif_over(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as first:
        welcome, data = await first.attach()
        with data:
            async with daemon.attacher("web", ALICE) as second:
                await second.say(Hello(cookie=welcome.cookie))
                farewell, _ = await first.hear()
                again, fds = await second.hear()
                assert data.recv(1) == b""
                channel.close_all(fds)
                assert not await is_free(daemon)

    assert farewell == Goodbye(
        GoodbyeCode.TAKEN_OVER, f"vif web is taken over by pid {os.getpid()}"
    )
    assert isinstance(again, Welcome)
    assert again.cookie != welcome.cookie
    kinds = [type(message) for message in daemon.engine.heard]
    assert kinds.index(channel.Detach) > kinds.index(channel.Attach)
    assert kinds.count(channel.Attach) == 2
    assert any('why="vif web is taken over by pid' in line for line in daemon.log)


async def test_an_unknown_cookie_is_an_ordinary_hello(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        await client.say(Hello(cookie=bytes(16)))
        welcome, fds = await client.hear()
        channel.close_all(fds)
        async with daemon.attacher("web", ALICE) as second:
            await second.say(Hello(cookie=bytes(16)))
            message = await refused(second)

    assert isinstance(welcome, Welcome)
    assert message.code is RefusedCode.TAKEN


async def test_a_client_of_the_stream_socket_cannot_be_taken_over(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        path = await daemon.vif_directory("web") / "stream"
        async with daemon.connected(path, ALICE), daemon.attacher("web", ALICE) as second:
            await daemon.broker.wait_heard(channel.Keep)
            await second.say(Hello(cookie=bytes(16)))
            message = await refused(second)

    assert message.code is RefusedCode.TAKEN


@pytest.mark.parametrize("uid", [0, BOB])
async def test_nobody_but_the_owner_gets_in_root_included(place: Place, uid: int) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", uid) as client:
        message = await refused(client)

        assert message.code is RefusedCode.NOT_OWNER
        assert message.text.startswith(f"vif web is for uid {ALICE} alone")
        assert daemon.engine.all(channel.Attach) == []


async def test_a_uid_that_was_given_to_somebody_else_does_not_get_in(place: Place) -> None:
    """The vif is for alice; after a restart her uid is dave's."""
    later = {**{name: uid for name, uid in NAMES.items() if name != "alice"}, "dave": ALICE}
    async with running(place) as daemon:
        await daemon.ask(ONE)

    async with (
        running(place, users=system(later)) as daemon,
        daemon.attacher("one", ALICE) as client,
    ):
        message = await refused(client)

    assert message.code is RefusedCode.NOT_OWNER
    assert message.text == (
        f"vif one is for user alice (uid {ALICE}) alone, not for user dave (uid {ALICE})"
    )


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello(version_min=2, version_max=9), RefusedCode.VERSION),
        (Hello(transports=(Transport.TAP,)), RefusedCode.NO_TRANSPORT),
        (Hello(transports=()), RefusedCode.NO_TRANSPORT),
    ],
    ids=["version", "tap", "no transport"],
)
async def test_what_is_not_spoken_here_is_refused(
    place: Place, hello: Hello, code: RefusedCode
) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        await client.say(hello)
        message = await refused(client)

        assert message.code is code
        assert daemon.engine.all(channel.Attach) == []


@pytest.mark.parametrize(
    "data",
    [b"x", b"PFIN\x00\x01\x00\x00", encode(Goodbye(GoodbyeCode.OTHER)), b"P" * 20000],
    ids=["junk", "no fields", "a message of the daemon's", "too long"],
)
async def test_junk_is_refused_and_ends_the_connection(place: Place, data: bytes) -> None:
    async with running(place, STATIC) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            await client.sock.send(data)
            message = await refused(client)
        assert message.code is RefusedCode.MALFORMED
        assert any(line.startswith("audit: dropped by=") for line in daemon.log)

        async with daemon.attacher("web", ALICE) as client:
            _, stream = await client.attach()
            stream.close()


async def test_a_client_that_says_nothing_is_left(
    place: Place, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        await client.wait_closed()

    assert trio.current_time() >= 10
    assert daemon.engine.all(channel.Attach) == []


async def test_a_vif_is_free_only_when_the_engine_says_so(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        daemon.engine.withheld.add(channel.Detach)
        async with daemon.attacher("web", ALICE) as client:
            _, data = await client.attach()
            data.close()
        detach = await daemon.engine.wait_heard(channel.Detach)
        async with daemon.attacher("web", ALICE) as client:
            await client.say(Hello())
            message = await refused(client)
        await daemon.engine.release()
        while not await is_free(daemon):
            pass

        attached = daemon.engine.all(channel.Attach)[0]
        assert message.code is RefusedCode.TAKEN
        assert (detach.port, detach.generation) == (attached.port, attached.generation)
        async with daemon.attacher("web", ALICE) as client:
            _, data = await client.attach()
            data.close()
        assert daemon.engine.all(channel.Attach)[1].generation > attached.generation


async def test_an_attachment_that_the_engine_ends_says_goodbye(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        _, data = await client.attach()
        with data:
            await daemon.engine.end_attachment(
                daemon.engine.all(channel.Attach)[0], "record length out of range"
            )
            message, _ = await client.hear()

            assert message == Goodbye(GoodbyeCode.BAD_STREAM, "record length out of range")
            with pytest.raises(EOFError):
                await client.hear()
            assert data.recv(100) == b""
        assert any('why="record length out of range"' in line for line in daemon.log)


async def test_an_end_that_was_crossed_by_ours_is_no_error(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        daemon.engine.withheld.add(channel.Detach)
        async with daemon.attacher("web", ALICE) as client:
            _, data = await client.attach()
            data.close()
        await daemon.engine.wait_heard(channel.Detach)
        await daemon.engine.end_attachment(daemon.engine.all(channel.Attach)[0], "gone")
        await daemon.engine.release()

        while not await is_free(daemon):
            pass


async def test_an_attachment_that_the_engine_refuses_leaves_the_vif_free(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        daemon.engine.refusals[channel.Attach] = "no memory"
        await client.say(Hello())
        message = await refused(client)

        assert message.code is RefusedCode.NOT_READY
        assert message.text == "engine: no memory"
        assert await is_free(daemon)


async def test_deleting_a_vif_says_goodbye_and_detaches_first(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            daemon.engine.heard.clear()
            await daemon.ask(VifDelete(ONE.name))
            message, _ = await client.hear()
            data.close()

        assert message == Goodbye(GoodbyeCode.DELETED, "vif one was deleted")
        kinds = [type(message) for message in daemon.engine.heard]
        assert kinds.index(channel.Detach) < kinds.index(channel.ClearVif)


async def test_a_stop_says_goodbye_and_detaches(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        _, data = await client.attach()
        daemon.control.stop()
        message, _ = await client.hear()
        await daemon.engine.wait_heard(channel.Detach)
        data.close()

        assert isinstance(message, Goodbye)
        assert message.code is GoodbyeCode.SHUTTING_DOWN


async def test_messages_of_later_releases_are_skipped_and_read_slowly(
    place: Place, autojump_clock: trio.testing.MockClock
) -> None:
    """A client that talks without end fills its own queue, and costs no more."""
    unknown = b"PFIN\x00\x63\x00\x00"
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        _, data = await client.attach()
        before = trio.current_time()
        for _ in range(1000):
            await client.sock.send(unknown)

        assert trio.current_time() - before > 10
        assert not await is_free(daemon)
        data.close()


async def test_a_known_message_out_of_turn_ends_the_attachment(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            _, data = await client.attach()
            await client.sock.send(encode(Hello()))
            await client.wait_closed()
            data.close()

        assert any("Hello from the client while attached" in line for line in daemon.log)
        assert await is_free(daemon)


async def test_clients_cannot_send_descriptors(place: Place) -> None:
    """Closing a hostile descriptor can block for as long as its maker likes."""
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as client:
        _, data = await client.attach()
        with data, tempfile.TemporaryFile() as hostile:
            rights = channel.rights([hostile.fileno()])
            with pytest.raises(PermissionError):
                data.sendmsg([b"x"], rights)
            with pytest.raises(PermissionError):
                await client.sock.sendmsg([b"x"], rights)


@pytest.mark.parametrize("kind", ["stream", "bess"])
async def test_a_socket_without_a_handshake_is_the_engines(place: Place, kind: str) -> None:
    async with running(place, STATIC) as daemon:
        path = await daemon.vif_directory("web") / kind
        async with daemon.connected(path, ALICE, KINDS[kind]) as client:
            attached = await daemon.engine.wait_heard(channel.Attach)
            daemon.engine.data[attached.port].send(b"a frame")

            assert await client.recv(100) == b"a frame"
            assert (attached.transport, attached.offload, attached.vnet) == (kind, 0, False)
            await daemon.engine.end_attachment(attached, "closed by the client")
            assert await client.recv(100) == b""
        await daemon.engine.wait_heard(channel.Detach)
        assert any(f" vif=web kind={kind}" in line for line in daemon.log)


@pytest.mark.parametrize("kind", ["stream", "bess"])
@pytest.mark.parametrize("uid", [0, BOB])
async def test_a_stranger_on_a_socket_without_a_handshake_is_cut_off_and_noted(
    place: Place, kind: str, uid: int
) -> None:
    async with running(place, STATIC) as daemon:
        path = await daemon.vif_directory("web") / kind
        async with daemon.connected(path, uid, KINDS[kind]) as client:
            assert await client.recv(100) == b""

        said = [line for line in daemon.log if line.startswith("audit: refused")]
        assert len(said) == 1
        assert said[0].startswith(f'audit: refused by="uid {uid} ')
        assert f"vif=web kind={kind} why=" in said[0]


async def test_a_stream_on_a_taken_vif_is_cut_off(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as holder:
        _, data = await holder.attach()
        path = await daemon.vif_directory("web") / "stream"
        async with daemon.connected(path, ALICE) as client:
            assert await client.recv(100) == b""
        data.close()


async def test_deleting_a_vif_ends_its_stream(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        path = await daemon.vif_directory("one") / "stream"
        async with daemon.connected(path, ALICE) as client:
            await daemon.engine.wait_heard(channel.Attach)
            await daemon.ask(VifDelete(ONE.name))

            assert await client.recv(100) == b""


async def test_connections_to_one_vif_are_bounded(
    place: Place, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(place, STATIC) as daemon:
        path: Path = await daemon.vif_directory("web") / "attach"
        async with trio.open_nursery() as nursery:

            async def sit() -> None:
                async with daemon.connected(path, ALICE, socket.SOCK_SEQPACKET) as sock:
                    with pytest.raises((EOFError, BadMessage, RemoteProtocolError)):
                        await Attacher(sock).hear()

            for _ in range(9):
                nursery.start_soon(sit)

        assert sum("too many connections" in line for line in daemon.log) == 1
