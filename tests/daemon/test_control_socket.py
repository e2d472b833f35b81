"""The control socket: who is let in, whose turn it is, and what abuse of it costs."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_interface

import pytest
import trio

from multiplexer.config import parse_config
from multiplexer.daemon.control_socket import CONTROL_LIMITS, REQUEST_TIMEOUT_S, ControlService
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.host import Client, Host
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.peer import Peer
from multiplexer.model import Config
from pfinet_proto.control import (
    ControlError,
    Deleted,
    ErrorCode,
    Reload,
    Status,
    VifCreate,
    encode_request,
)
from pfinet_proto.framing import encode_record
from pfinet_proto.values import VifName
from tests.daemon.siblings import ALICE, BOB, CAROL, NAMES, Asker, Place, running, siblings, system

ONE = VifCreate(VifName.parse("one"), "alice", (ip_interface("10.77.0.11/24"),))
OVERFLOW_UID = 65534


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def test_requests_in_one_piece_are_answered_in_order(place: Place) -> None:
    async with running(place) as daemon, daemon.asker() as asker:
        await asker.stream.send_all(b"".join(encode_request(Status(), n) for n in range(1, 6)))

        assert [json.loads(await asker.next_reply())["id"] for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_a_request_that_comes_byte_by_byte_is_answered(place: Place) -> None:
    async with running(place) as daemon, daemon.asker() as asker:
        for byte in encode_request(Status(), 3):
            await asker.stream.send_all(bytes([byte]))
        assert json.loads(await asker.next_reply())["ok"]


async def test_an_error_of_one_request_leaves_the_connection(place: Place) -> None:
    async with running(place) as daemon, daemon.asker() as asker:
        for body in (
            {"v": 1, "id": 1, "op": "vif.shave", "args": {}},
            {"v": 1, "id": 2, "op": "vif.show", "args": {"name": "../etc"}},
            {"v": 1, "id": 3, "op": "status"},
        ):
            await asker.stream.send_all(encode_record(json.dumps(body).encode()))
        replies = [json.loads(await asker.next_reply()) for _ in range(3)]

        assert [reply["id"] for reply in replies] == [1, 2, 3]
        assert replies[0]["error"]["code"] == "unknown_op"
        assert replies[1]["error"]["code"] == "bad_request"
        assert replies[2]["ok"]


@pytest.mark.parametrize(
    "data",
    [
        encode_record(b"not json"),
        encode_record(b"[" * 60000),
        encode_record(b'{"v":2,"id":1,"op":"status","args":{}}'),
        (70000).to_bytes(4, "big"),
        bytes(4),
    ],
    ids=["junk", "deep", "version", "too long", "empty"],
)
async def test_junk_costs_the_connection_and_no_more(place: Place, data: bytes) -> None:
    async with running(place) as daemon, daemon.asker() as other:
        async with daemon.asker(ALICE) as asker:
            await asker.stream.send_all(data)
            assert await asker.stream.receive_some(100) == b""

        assert any(line.startswith("audit: dropped by=") for line in daemon.log)
        assert (await other.ask(Status())).vifs == 0


async def test_a_uid_that_stands_for_anybody_is_not_heard(place: Place) -> None:
    async with running(place) as daemon:
        async with daemon.asker(OVERFLOW_UID) as asker:
            assert await asker.stream.receive_some(100) == b""

        assert any("audit: refused" in line and "65534" in line for line in daemon.log)


async def test_the_members_of_an_admin_group_administer(place: Place) -> None:
    """Whoever connects here has its uid as its gid, too, and each user a group of its name."""
    config = place.config().replace('admins = ["carol"]', 'admins = ["@bob"]')
    async with siblings(place) as made:
        await made.broker.start(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.control.run)
            await made.wait_serving()
            await made.ask(ONE, BOB)
            with pytest.raises(ControlError) as caught:
                await made.ask(ONE, NAMES["carol"])
            made.control.stop()

    assert caught.value.code is ErrorCode.FORBIDDEN


async def test_one_uid_has_so_many_connections_and_no_more(place: Place) -> None:
    per_uid, _ = CONTROL_LIMITS
    async with running(place) as daemon:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(per_uid):
                    await nursery.start(sit_connected, daemon, ALICE)
                async with daemon.asker(ALICE) as one_too_many:
                    with pytest.raises(ControlError, match="too many connections"):
                        await one_too_many.ask(Status())
                await daemon.ask(Status(), BOB)
                await daemon.ask(Status())
                scope.cancel()

        assert any("too many connections" in line for line in daemon.log)
        await daemon.ask(Status(), ALICE)


async def test_whom_the_file_names_is_known_by_uid_and_by_group(place: Place) -> None:
    """Subordinate uids, here 100000, have the groups of their user, and are still strangers."""
    grant = """
    [grant.some]
    to = ["@alice", "20009"]
    network = "lan"
    addresses = ["10.77.0.32/28"]
    """
    config = parse_config(place.config(grant), "m.toml")
    host = Host(InForce(config), system())
    await host.recall_named()

    assert host.is_named(Peer(1, CAROL, CAROL))
    assert host.is_named(Peer(1, 20009, 20009))
    assert host.is_named(Peer(1, BOB, BOB, frozenset({BOB, ALICE})))
    assert not host.is_named(Peer(1, BOB, BOB, frozenset({BOB})))
    assert not host.is_named(Peer(1, 100_000, BOB, frozenset({BOB, ALICE})))


async def test_a_reload_makes_known_whom_the_new_file_names(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiplexer.daemon.control.CONTROL_LIMITS", (64, 0))
    async with running(place) as daemon:
        with pytest.raises(ControlError, match="too many connections"):
            await daemon.ask(Status(), BOB)
        await daemon.ask(Status(), CAROL)

        daemon.broker.file = place.config().replace('"carol"', '"bob"')
        await daemon.ask(Reload())
        await daemon.ask(Status(), BOB)
        with pytest.raises(ControlError, match="too many connections"):
            await daemon.ask(Status(), CAROL)


async def sit_connected(daemon: "object", uid: int, *, task_status: trio.TaskStatus[None]) -> None:
    async with daemon.asker(uid) as asker:  # type: ignore[attr-defined]
        await asker.ask(Status())
        task_status.started()
        await trio.sleep_forever()


async def test_a_client_that_sends_half_a_request_is_left(
    place: Place, autojump_clock: trio.testing.MockClock
) -> None:
    """However often it sends a byte: the time is for the whole request."""
    async with running(place) as daemon, daemon.asker(ALICE) as asker:
        await asker.ask(Status())
        before_s = trio.current_time()

        async def dribble() -> None:
            await asker.stream.send_all((1000).to_bytes(4, "big"))
            while True:
                await asker.stream.send_all(b" ")
                await trio.sleep(7)

        with pytest.raises(trio.BrokenResourceError):
            await dribble()

        assert trio.current_time() - before_s == pytest.approx(REQUEST_TIMEOUT_S, abs=7.1)


async def test_a_client_that_reads_no_reply_is_left(
    place: Place, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(place) as daemon, daemon.asker(ALICE) as asker:

        async def ask_and_not_read() -> None:
            while True:
                await asker.stream.send_all(encode_request(Status(), 1))

        with pytest.raises(trio.BrokenResourceError):
            await ask_and_not_read()

        await daemon.ask(Status(), BOB)


async def test_the_requests_of_one_uid_take_turns_and_do_not_delay_others() -> None:
    """Whatever the number of its connections, a uid has one request served at a time."""
    waiting: Counter[int] = Counter()
    go_on = trio.Event()

    async def answer(_: object, client: Client) -> Deleted:
        waiting[client.peer.uid] += 1
        await go_on.wait()
        return Deleted()

    in_force = InForce(Config())
    service = ControlService(answer, in_force, Host(in_force, system()), Doorman(wary=False))
    async with trio.open_nursery() as nursery:
        askers = []
        for uid in (ALICE, ALICE, ALICE, BOB):
            ours, theirs = socket.socketpair()
            askers.append(Asker(trio.SocketStream(trio.socket.from_stdlib_socket(theirs))))
            nursery.start_soon(serve_and_close, service, ours, Peer(1, uid, uid))
            await askers[-1].stream.send_all(encode_request(Status(), uid))
        while waiting.total() < 2:
            await trio.testing.wait_all_tasks_blocked(0.01)
        at_once = dict(waiting)
        go_on.set()
        for asker in askers:
            await asker.next_reply()
            await asker.stream.aclose()

    assert at_once == {ALICE: 1, BOB: 1}
    assert waiting == {ALICE: 3, BOB: 1}


async def serve_and_close(service: ControlService, sock: socket.socket, peer: Peer) -> None:
    with sock:
        await service.serve(sock, peer)
