"""Messages between the daemon's processes: as values, as bytes, over a socket pair."""

import json
import os
import socket
from collections.abc import Iterator

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.daemon import channel, channel_trio
from multiplexer.daemon.channel import SiblingError, SiblingGone
from multiplexer.observe.trace import Receiver, Traced
from pfinet_proto.values import MacAddress

MAC = MacAddress.parse("52:54:00:12:34:56")

KEPT = channel.Kept(
    "0" * 32,
    64,
    3,
    channel.Session("attach", "stream", 7, 1000, 100, 4711, 2**62, bytes(16)),
)

ATTACH = channel.Attach(1, 64, 1, "stream", 0, False, 0, 0)

TO = Receiver(65, up=True)

START = channel.Start(
    '[daemon]\n# "ü"\n',
    "/etc/multiplexer.toml",
    channel.Features(True),
    started_ns=2**62,
    restarts=channel.Restarts(1, 2),
    inherited=3,
    networks=(channel.Numbered("lan", 0), channel.Numbered("lab", 7)),
    nics=(),
)

ONE_OF_EACH: list[channel.Message] = [
    START,
    channel.Trace(19, 64, (b"frame", b"")),
    channel.TraceReply(
        19,
        (
            Traced("pass", "forward", "ipv4", 6, 34, False, "10.0.0.5/32", False, 65, (TO,), 9),
            Traced("runt", "frame", "other", None, None, False, None, False, None, (), 0),
        ),
    ),
    channel.Inherited(KEPT),
    channel.Keep(14, KEPT),
    channel.Keep(15, attrs.evolve(KEPT, session=attrs.evolve(KEPT.session, cookie=None))),
    channel.Forget(16, "0" * 32),
    channel.NewControl(17),
    channel.ReadPorts(18, 64, 1024),
    channel.PortsReply(18, (channel.Port(64, "0" * 32, 3), channel.Port(65, "f" * 32, None))),
    channel.UplinkState("lan", True, True, MAC, 1500),
    channel.UplinkState("lan", False, False, None, None, "is not Ethernet"),
    channel.HostPort("lan", True, True, ("10.0.1.2", "fd00::2"), None),
    channel.ReloadAsked(),
    channel.ReloadPrepared(1, "", (channel.UplinkState("a", True, True, MAC, 1500),), ("wrong",)),
    channel.PrepareReload(1),
    channel.CommitReload(2),
    channel.EndReload(3),
    channel.Done(1),
    channel.Done(2, "no"),
    channel.OpenVifSockets(3, "0" * 32, 1000, ("attach", "stream")),
    channel.CloseVifSockets(4, "f" * 32),
    channel.SetMemberships(5, "lan", (MAC, MAC)),
    channel.ChangeHostRoutes(5, "lan", ("10.0.1.5/32",), ()),
    channel.SetHost(6, 3840, b"\x01", True),
    channel.SetUplink(6, 0, True, False),
    channel.ClearUplink(6, 63),
    channel.SetNetwork(7, bytes(range(40))),
    channel.ClearNetwork(7, 255),
    channel.SetVif(8, 64, "0" * 32, b""),
    channel.ClearVif(9, 64),
    channel.PrepareFilter(7, 64, 0, 3, b"abc"),
    channel.CommitFilters(7),
    channel.AbandonFilters(7),
    channel.Inject(9, 64, (b"\0\xff", b"")),
    channel.Attach(10, 64, 3, "stream", 7, True, 20001, 1 << 24),
    channel.Detach(11, 64, 3),
    channel.ReadCounters(12, 64, 32),
    channel.CountersReply(
        12,
        64,
        ((1, 2, 3, 4, 0), (2**64 - 1, 0, 0, 0, 9)),
        (channel.Conflict(64, MAC, None, 1),),
        (channel.Claimed(64, "fe80::a1b2:c3d4:e5f6:7"),),
    ),
    channel.ReadSightings(12, 64),
    channel.Sighted(),
    channel.SightingsReply(
        12, (channel.Sighting(64, "0" * 32, "lease", "10.0.1.5", "10.0.1.1", 2**32 - 1),)
    ),
    channel.Detached(64, 3, "closed by the client", False),
    channel.Ack(13, None),
    channel.Ready(),
]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_the_examples_are_of_every_type() -> None:
    assert {type(message).__name__ for message in ONE_OF_EACH} == set(channel.MESSAGES)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_a_message_decodes_to_what_was_encoded(message: channel.Message) -> None:
    assert channel.decode(channel.encode(message)) == message


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_a_message_that_is_cut_or_has_a_tail_is_refused(message: channel.Message) -> None:
    data = channel.encode(message)

    for end in range(len(data)):
        with pytest.raises(SiblingError):
            channel.decode(data[:end])
    with pytest.raises(SiblingError):
        channel.decode(data + b"{}")


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_a_missing_and_a_surplus_key_are_refused(message: channel.Message) -> None:
    tree = json.loads(channel.encode(message))

    for key in tree:
        less = {name: value for name, value in tree.items() if name != key}
        with pytest.raises(SiblingError):
            channel.decode(json.dumps(less).encode())
    with pytest.raises(SiblingError, match="more"):
        channel.decode(json.dumps({**tree, "more": 1}).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("request", True),
        ("request", -1),
        ("request", 1.0),
        ("request", "1"),
        ("request", None),
        ("uplink", 5),
        ("uplink", "half a \ud800 pair"),
        ("macs", {}),
        ("macs", ["52:54:00:12:34"]),
        ("macs", [None]),
        ("macs", str(MAC)),
    ],
)
def test_a_value_of_another_type_is_refused_and_named(key: str, value: object) -> None:
    tree = json.loads(channel.encode(channel.SetMemberships(5, "lan", (MAC,))))

    with pytest.raises(SiblingError, match=rf"SetMemberships\.{key}"):
        channel.decode(json.dumps({**tree, key: value}).encode())


def test_bytes_are_hexadecimal() -> None:
    with pytest.raises(SiblingError, match=r"SetNetwork\.row"):
        channel.decode(b'{"type":"SetNetwork","request":1,"row":"0g"}')


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"{}",
        b'{"type":[]}',
        b'{"type":"Nobody"}',
        b"\xff",
        b"[" * 100_000,
        b'{"type":"MESSAGES"}',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(SiblingError):
        channel.decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = channel.decode(data)
    except SiblingError:
        return
    assert channel.decode(channel.encode(message)) == message


def start_with(text: str) -> channel.Start:
    return attrs.evolve(START, config_text=text)


def test_a_message_that_is_too_long_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="Start is"):
        channel.encode(start_with("x" * 204800))


def test_the_longest_message_fits_the_sockets_default_buffer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    frame = len(channel.encode(start_with("")))
    message = start_with("x" * (channel.MAX_MESSAGE_BYTES - frame))

    channel.send(pair[0], message)

    assert channel.receive(pair[1]) == (message, [])


def test_descriptors_arrive_closed_on_exec_and_in_order(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    fds = [*os.pipe()]

    channel.send(pair[0], channel.Done(1), fds)
    message, received = channel.receive(pair[1])

    assert message == channel.Done(1)
    assert [os.fstat(fd).st_ino for fd in received] == [os.fstat(fd).st_ino for fd in fds]
    assert not any(os.get_inheritable(fd) for fd in received)
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in received] == [
        os.readlink(f"/proc/self/fd/{fd}") for fd in fds
    ]
    channel.close_all([*fds, *received])


@pytest.mark.parametrize(
    ("message", "count", "why"),
    [
        (channel.Ready(), 1, "Ready with 1 descriptors, wanted 0"),
        (ATTACH, 0, "Attach with 0 descriptors, wanted 1 or 2"),
        (ATTACH, 3, "Attach with 3 descriptors, wanted 1 or 2"),
        (channel.SetUplink(1, 0, True, True), 2, "SetUplink with 2 descriptors, wanted 0 or 1"),
        (channel.Done(1), channel.MAX_FDS, "Done with 8 descriptors, wanted 0 or 1 or"),
        (channel.Done(1), channel.MAX_FDS + 1, "longer than"),
    ],
)
def test_a_wrong_number_of_descriptors_is_refused_and_none_is_left_open(
    pair: tuple[socket.socket, socket.socket], message: channel.Message, count: int, why: str
) -> None:
    reader, writer = os.pipe()
    channel.send(pair[0], message, [writer] * count)

    with pytest.raises(SiblingError, match=why):
        channel.receive(pair[1])

    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_other_ends_close_is_told_apart_from_a_message(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    channel.send(pair[1], channel.Ready())
    pair[1].close()

    assert channel.receive(pair[0]) == (channel.Ready(), [])
    with pytest.raises(SiblingGone):
        channel.receive(pair[0])
    with pytest.raises(SiblingGone):
        channel.send(pair[0], channel.Ready())


def test_an_end_with_unread_messages_is_gone_too(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    channel.send(pair[0], channel.Ready())
    pair[1].close()

    with pytest.raises(SiblingGone):
        channel.receive(pair[0])


def test_without_waiting_an_empty_and_a_full_channel_say_so(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(BlockingIOError):
        channel.receive(pair[0], socket.MSG_DONTWAIT)

    def fill() -> None:
        while True:
            channel.send(pair[0], channel.Ready(), flags=socket.MSG_DONTWAIT)

    with pytest.raises(BlockingIOError):
        fill()


async def test_trio_waits_for_what_the_blocking_end_sends(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.socket.from_stdlib_socket(pair[0].dup()) as ours:
            received = []

            async def receive_all() -> None:
                try:
                    while True:
                        received.append(await channel_trio.receive(ours))
                except SiblingGone:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(receive_all)
            for message in ONE_OF_EACH:
                if 0 in channel.FD_COUNTS.get(type(message), (0,)):
                    await trio.testing.wait_all_tasks_blocked()
                    channel.send(pair[1], message)
            pair[1].close()
            await trio.sleep_forever()

    assert [message for message, _ in received] == [
        message for message in ONE_OF_EACH if 0 in channel.FD_COUNTS.get(type(message), (0,))
    ]


async def test_trio_hands_descriptors_over(pair: tuple[socket.socket, socket.socket]) -> None:
    reader, writer = os.pipe()
    with trio.socket.from_stdlib_socket(pair[0].dup()) as ours:
        await channel_trio.send(ours, channel.Attach(1, 64, 1, "stream", 0, False, 0, 0), [writer])

    message, fds = channel.receive(pair[1])

    assert isinstance(message, channel.Attach)
    os.write(fds[0], b"x")
    assert os.read(reader, 1) == b"x"
    channel.close_all([reader, writer, *fds])


async def test_trio_says_that_the_other_end_is_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[1].close()

    with trio.socket.from_stdlib_socket(pair[0].dup()) as ours:
        with pytest.raises(SiblingGone):
            await channel_trio.send(ours, channel.Ready())
        with pytest.raises(SiblingGone):
            await channel_trio.receive(ours)
