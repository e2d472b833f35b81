"""The engine's commands, and what becomes of it when control goes away.

The engine runs in a thread of the test, which is its broker and its control.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network

import pytest

from multiplexer.daemon import channel
from multiplexer.daemon.engine import FROM_BROKER, EngineProcess
from multiplexer.datapath.engine import Engine
from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.policy.nwfilter.tables import Learns, Row, Table, Verb, pack
from pfinet_proto.attach import Offload
from tests.datapath.core import network_row, vif_row
from tests.datapath.frames import ethernet, ipv4, udp
from tests.reference import Network, Vif

A, B = 64, 65
IDS = {A: "a" * 32, B: "b" * 32}
TIMEOUT_S = 20


def mac_of(port: int) -> bytes:
    return bytes((0x52, 0x54, 0, 0, 0, port))


def row_of(port: int) -> bytes:
    prefixes = (IPv4Network(f"10.0.0.{port}/32"),)
    return vif_row(Vif(port=port, network=0, mac=mac_of(port), prefixes=prefixes), mtu=1500)


def record_from(port: int, to: int) -> bytes:
    packet = ipv4(udp(b"hello", sport=1, dport=2), src=f"10.0.0.{port}", dst=f"10.0.0.{to}")
    frame = ethernet(packet, src=mac_of(port), dst=mac_of(to))
    return struct.pack(">I", len(frame)) + frame


class Bench:
    """An engine process with a broker and, after `new_control`, a control."""

    def __init__(self) -> None:
        self.broker, theirs = pair()
        engine = Engine()
        engine.watch(theirs.fileno(), FROM_BROKER)
        self.controls: list[socket.socket] = []
        self.clients: dict[int, socket.socket] = {}
        self._requests = 0
        #: By what a sibling broke the protocol.
        self.breach: str | None = None
        self._thread = threading.Thread(target=self._run, args=(engine, theirs))
        self._thread.start()

    def _run(self, engine: Engine, sock: socket.socket) -> None:
        try:
            with sock, suppress(channel.SiblingGone):
                EngineProcess(engine, sock, Offload.CSUM).serve()
        except channel.SiblingError as error:
            self.breach = str(error)
        engine.close()

    def new_control(self) -> None:
        """Give it another control, whose end is `control` from now on."""
        ours, theirs = pair()
        channel.bound_sending(theirs)
        self.controls.append(ours)
        with theirs:
            assert self.ask(self.broker, channel.NewControl(1), [theirs.fileno()]) is None

    @property
    def control(self) -> socket.socket:
        return self.controls[-1]

    def ask(
        self, sock: socket.socket, message: channel.Message, fds: list[int] | None = None
    ) -> str | None:
        channel.send(sock, message, fds or [])
        answer, _ = channel.receive(sock)
        assert isinstance(answer, channel.Ack)
        return answer.error

    def set_up(self) -> None:
        """Have control define and attach both vifs."""
        assert self.ask(self.control, channel.SetNetwork(1, network_row(Network(id=0)))) is None
        for port, vif_id in IDS.items():
            assert self.ask(self.control, channel.SetVif(1, port, vif_id, row_of(port))) is None
            self.attach(port, generation=port)

    def attach(self, port: int, generation: int) -> None:
        client, data = socket.socketpair()
        client.settimeout(TIMEOUT_S)
        with data:
            order = channel.Attach(1, port, generation, "stream", 0, False, 1000, 1 << 24)
            assert self.ask(self.control, order, [data.fileno()]) is None
        self.clients[port] = client

    def ports(self) -> dict[int, tuple[str, int | None]]:
        channel.send(self.control, channel.ReadPorts(1, A, 100))
        reply, _ = channel.receive(self.control)
        assert isinstance(reply, channel.PortsReply)
        return {port.number: (port.vif_id, port.generation) for port in reply.ports}

    def count(self, port: int) -> int:
        return self.row(port)[0]

    def row(self, port: int) -> tuple[int, ...]:
        channel.send(self.control, channel.ReadCounters(1, port, 1))
        reply, _ = channel.receive(self.control)
        assert isinstance(reply, channel.CountersReply)
        return reply.rows[0]

    def passes(self) -> bool:
        """Whether a frame of A reaches B."""
        sent = record_from(A, B)
        self.clients[A].send(sent)
        return self.clients[B].recv(len(sent), socket.MSG_WAITALL) == sent

    def close(self) -> None:
        self.broker.close()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        for sock in (*self.controls, *self.clients.values()):
            sock.close()


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT_S)
    return ours, theirs


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.new_control()
    bench.set_up()
    yield bench
    bench.close()


def test_frames_flow_while_there_is_no_control(bench: Bench) -> None:
    bench.control.close()

    assert bench.passes()


def test_a_control_that_does_not_read_is_as_good_as_gone(bench: Bench) -> None:
    def ask_and_never_listen() -> None:
        for number in range(10_000):
            channel.send(bench.control, channel.ReadCounters(number, A, 128))

    with pytest.raises(channel.SiblingGone):
        ask_and_never_listen()
    assert bench.passes()
    bench.new_control()
    assert bench.ports()[A] == (IDS[A], A)


def test_the_next_control_finds_ports_attachments_and_counters(bench: Bench) -> None:
    bench.passes()
    bench.control.close()
    bench.new_control()

    assert bench.ports() == {A: (IDS[A], A), B: (IDS[B], B)}
    assert bench.count(A) == 1
    assert bench.passes()


def test_rows_that_are_written_again_keep_attachment_and_counters(bench: Bench) -> None:
    bench.passes()
    bench.control.close()
    bench.new_control()
    bench.ask(bench.control, channel.SetNetwork(1, network_row(Network(id=0))))
    bench.ask(bench.control, channel.SetVif(1, A, IDS[A], row_of(A)))

    assert bench.count(A) == 1
    assert bench.passes()


def test_an_end_that_no_control_heard_of_is_seen_by_the_next(bench: Bench) -> None:
    bench.control.close()
    bench.clients[A].close()
    # The engine serves all that is ready before it obeys, and tells of ends before the next.
    bench.ask(bench.broker, channel.SetUplink(1, 0, present=False, up=False))
    bench.new_control()

    assert bench.ports() == {A: (IDS[A], None), B: (IDS[B], B)}


def test_a_second_control_replaces_one_that_lives(bench: Bench) -> None:
    first = bench.control
    bench.new_control()

    assert first.recv(1) == b""
    assert bench.ports()[A] == (IDS[A], A)


@pytest.mark.parametrize(
    "message",
    [
        channel.SetUplink(1, 0, present=False, up=False),
        channel.ClearUplink(1, 0),
        channel.SetHost(1, A, row_of(A), present=False),
    ],
)
def test_control_cannot_speak_for_the_broker(bench: Bench, message: channel.Message) -> None:
    """It talks to clients; the wire and the host's ports are none of its business."""
    channel.send(bench.control, message)

    assert bench.control.recv(1) == b""
    bench.close()
    assert bench.breach == f"{type(message).__name__} is not control's to say"


def test_a_cleared_port_is_nobodys(bench: Bench) -> None:
    assert bench.ask(bench.control, channel.ClearVif(1, A)) is None

    assert bench.ports() == {B: (IDS[B], B)}
    assert bench.clients[A].recv(1) == b""


def prepare(bench: Bench, port: int, table: bytes, part: int = 1 << 16) -> str | None:
    """Say what the next filter of *port* is, in parts."""
    answer = None
    for offset in range(0, max(len(table), 1), part):
        data = table[offset : offset + part]
        message = channel.PrepareFilter(1, port, offset, len(table), data)
        answer = bench.ask(bench.control, message)
    return answer


def is_dropped(bench: Bench) -> bool:
    """Whether a frame that A sends to B is dropped, by A's filter."""
    before = bench.row(A)
    bench.clients[A].send(record_from(A, B))
    # The engine serves us and A in turns.
    while (after := bench.row(A))[0] == before[0]:
        pass
    number = 4 + VERDICTS.index("filter_out")
    return after[number] == before[number] + 1


DROP_ALL = pack(Table(l2_out=(Row(Verb.DROP),)))


def test_a_filter_is_in_force_once_it_is_whole_and_committed(bench: Bench) -> None:
    assert prepare(bench, A, DROP_ALL, part=7) is None
    assert bench.passes()
    assert bench.ask(bench.control, channel.CommitFilters(1)) is None
    assert is_dropped(bench)
    assert prepare(bench, A, b"") is None
    assert bench.ask(bench.control, channel.CommitFilters(1)) is None
    assert bench.passes()


def test_a_filter_that_does_not_fit_is_refused_and_none_takes_over(bench: Bench) -> None:
    assert prepare(bench, B, DROP_ALL) is None
    assert prepare(bench, A, DROP_ALL + b"\0") == "filter of port 64: Invalid argument"
    assert bench.ask(bench.control, channel.AbandonFilters(1)) is None
    assert bench.ask(bench.control, channel.CommitFilters(1)) is None
    assert bench.passes()


def test_what_one_control_prepared_another_does_not_commit(bench: Bench) -> None:
    assert prepare(bench, A, DROP_ALL) is None
    bench.new_control()
    assert bench.ask(bench.control, channel.CommitFilters(1)) is None
    assert bench.passes()


@pytest.mark.parametrize(
    "part",
    [
        channel.PrepareFilter(1, A, 4, 8, b"1234"),
        channel.PrepareFilter(1, A, 0, 3, b"1234"),
        channel.PrepareFilter(1, A, 0, 1 << 30, b"1234"),
        channel.PrepareFilter(1, A, 0, 8, b""),
    ],
    ids=["begins late", "ends late", "too long", "empty"],
)
def test_a_part_that_does_not_follow_breaks_the_protocol(
    bench: Bench, part: channel.PrepareFilter
) -> None:
    channel.send(bench.control, part)

    assert bench.control.recv(1) == b""
    bench.close()
    assert bench.breach is not None
    assert "of a filter" in bench.breach


def test_a_row_that_does_not_fit_leaves_the_port_as_it_was(bench: Bench) -> None:
    assert bench.ask(bench.control, channel.SetVif(1, A, "c" * 32, b"")) is not None

    assert bench.ports()[A] == (IDS[A], A)


def source_at(port: int) -> channel.Sighting:
    return channel.Sighting(port, IDS[port], "source", f"10.0.0.{port}")


def read_sightings(sock: socket.socket) -> tuple[channel.Sighting, ...]:
    channel.send(sock, channel.ReadSightings(5, 64))
    reply, _ = channel.receive(sock)
    assert isinstance(reply, channel.SightingsReply)
    assert reply.request == 5
    return reply.sightings


def learn(bench: Bench, port: int) -> None:
    table = pack(Table(learns=Learns.SOURCES))
    prepare = channel.PrepareFilter(1, port, 0, len(table), table)
    assert bench.ask(bench.control, prepare) is None
    assert bench.ask(bench.control, channel.CommitFilters(2)) is None


def test_control_is_told_that_an_address_was_seen_and_asks_which(bench: Bench) -> None:
    learn(bench, A)
    assert bench.passes()

    assert channel.receive(bench.control)[0] == channel.Sighted()
    assert read_sightings(bench.control) == (source_at(A),)
    assert read_sightings(bench.control) == ()


def test_the_next_control_is_told_of_what_nobody_has_asked_for(bench: Bench) -> None:
    learn(bench, A)
    assert bench.passes()
    assert channel.receive(bench.control)[0] == channel.Sighted()
    bench.control.close()
    bench.new_control()

    assert channel.receive(bench.control)[0] == channel.Sighted()
    assert read_sightings(bench.control) == (source_at(A),)
