"""The engine with real sockets: what a stream's bytes become at the other ends.

The engine runs in the test's own thread: a byte on a watched socket makes
`Engine.run` return after one round, in which each port had its turn.
"""

import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from attrs import evolve

from multiplexer.datapath.engine import MAX_PORTS, Ended, Engine
from multiplexer.datapath.verdicts import VERDICTS
from tests.datapath.core import network_row, vif_row
from tests.datapath.frames import BROADCAST, ethernet, ipv4, udp
from tests.reference import Network, Vif

A, B, C = 64, 65, 66
OFFLOAD_ALL = 15
STOP = 1
MAX_ROUNDS = 1000


def mac_of(port: int) -> bytes:
    return bytes((0x52, 0x54, 0, 0, 0, port))


def vif_at(port: int) -> Vif:
    return Vif(
        port=port, network=0, mac=mac_of(port), prefixes=(IPv4Network(f"10.0.0.{port}/32"),)
    )


def frame_from(port: int, to: bytes, payload: bytes = b"hello") -> bytes:
    packet = ipv4(udp(payload, sport=1000, dport=2000), src=f"10.0.0.{port}", dst="10.0.0.9")
    return ethernet(packet, src=mac_of(port), dst=to)


def record(frame: bytes, header: bytes = b"") -> bytes:
    return struct.pack(">I", len(header) + len(frame)) + header + frame


def unread(client: socket.socket) -> int:
    """Return what the engine has left in *client*'s socket, in bytes of the kernel's memory."""
    if client.fileno() < 0:
        return 0
    (left,) = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))
    return int(left)


class Bench:
    """An engine with three attached vifs, and the clients' ends of their streams."""

    def __init__(self, vnet: tuple[int, ...] = (), wary: bool = False) -> None:
        self.engine = Engine(wary)
        self.engine.set_network(network_row(Network(id=0)))
        self.clients: dict[int, socket.socket] = {}
        for port in (A, B, C):
            self.engine.set_vif(port, vif_row(vif_at(port), mtu=1500))
            self.attach(port, port in vnet)
        self._stop, watched = socket.socketpair()
        self.engine.watch(watched.fileno(), STOP)
        self._watched = watched

    def attach(self, port: int, vnet: bool = False, generation: int = 1) -> None:
        """Join a new stream to *port*."""
        client, ours = socket.socketpair()
        client.setblocking(False)
        if port in self.clients:
            self.clients[port].close()
        self.engine.attach(
            port, generation, "stream", ours.detach(), OFFLOAD_ALL if vnet else 0, vnet
        )
        self.clients[port] = client

    def turn(self) -> list[Ended]:
        """Move what clients have sent; return the attachments that ended by it."""
        ended = self.round()
        for _ in range(MAX_ROUNDS):  # what an ended attachment has left stays unread
            if not any(map(unread, self.clients.values())):
                break
            ended += self.round()
        return ended

    def round(self) -> list[Ended]:
        """Let each port that is ready have its turn."""
        self.tell()
        return self.round_when_told()

    def tell(self) -> None:
        """Let the engine return from its work."""
        self._stop.send(b"x")

    def round_when_told(self) -> list[Ended]:
        """Let ports have their turns until `tell`."""
        while self.engine.run() != STOP:
            pass
        self._watched.recv(16)
        return list(self.engine.ended())

    def received(self, port: int) -> bytes:
        """Return what a client's socket holds."""
        try:
            return self.clients[port].recv(1 << 20)
        except BlockingIOError:
            return b""

    def drops(self, port: int) -> dict[str, int]:
        """Return the drops of a port that are not zero, by name."""
        counts = self.engine.counters(port).drops
        return {VERDICTS[i]: count for i, count in enumerate(counts) if count}

    def close(self) -> None:
        self.engine.close()
        for sock in (*self.clients.values(), self._stop, self._watched):
            sock.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_an_injected_frame_goes_as_if_the_vif_had_sent_it(bench: Bench) -> None:
    bench.engine.detach(A, 1)
    frame = frame_from(A, mac_of(B))

    bench.engine.inject(A, frame)
    bench.engine.inject(A, frame_from(C, mac_of(B)))

    assert bench.received(B) == record(frame)
    assert bench.engine.counters(A).rx_frames == 2
    assert bench.drops(A) == {"src_mac": 1}


def test_what_is_for_the_wire_reaches_no_other_vif(bench: Bench) -> None:
    """The uplink has no descriptor here, so that it counts what it would have sent."""
    uplink = 1
    bench.engine.add_uplink(uplink)
    bench.engine.set_network(network_row(Network(id=0, uplink=uplink)))
    flood = frame_from(A, b"\xff" * 6)

    bench.engine.inject(A, flood, to_wire=True)
    bench.engine.inject(A, frame_from(C, b"\xff" * 6), to_wire=True)

    assert (bench.received(B), bench.received(C)) == (b"", b"")
    assert bench.drops(uplink) == {"detached": 1}
    assert bench.drops(A) == {"src_mac": 1}
    bench.engine.inject(A, flood)
    assert bench.received(B) == bench.received(C) == record(flood)


def test_where_there_is_no_wire_nobody_gets_what_is_for_it(bench: Bench) -> None:
    bench.engine.inject(A, frame_from(A, b"\xff" * 6), to_wire=True)

    assert (bench.received(B), bench.received(C)) == (b"", b"")


@pytest.mark.parametrize(
    ("port", "frame"), [(0, b"x"), (C + 1, b"x"), (4096, b"x"), (A, bytes(65590))]
)
def test_what_no_vif_could_send_is_not_injected(bench: Bench, port: int, frame: bytes) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        bench.engine.inject(port, frame)


def test_a_unicast_frame_reaches_its_receiver_alone(bench: Bench) -> None:
    sent = record(frame_from(A, mac_of(B)))

    bench.clients[A].send(sent)
    bench.turn()

    assert bench.received(B) == sent
    assert bench.received(C) == b""
    assert bench.engine.counters(A).rx_frames == 1
    assert bench.engine.counters(B).tx_frames == 1


def test_a_broadcast_reaches_all_but_its_sender(bench: Bench) -> None:
    sent = record(frame_from(A, BROADCAST))

    bench.clients[A].send(sent)
    bench.turn()

    assert bench.received(B) == bench.received(C) == sent
    assert bench.received(A) == b""


def test_frames_to_alternating_receivers_keep_their_order(bench: Bench) -> None:
    """A run that another receiver interrupts is copied, never reordered or lost."""
    to_b = [record(frame_from(A, mac_of(B), b"b%d" % i)) for i in range(20)]
    to_c = [record(frame_from(A, mac_of(C), b"c%d" % i)) for i in range(20)]
    mixed = b"".join(b + c for b, c in zip(to_b, to_c, strict=True))

    bench.clients[A].send(mixed)
    bench.turn()

    assert bench.received(B) == b"".join(to_b)
    assert bench.received(C) == b"".join(to_c)


def test_a_dropped_frame_in_the_middle_takes_no_other_with_it(bench: Bench) -> None:
    good = [record(frame_from(A, mac_of(B), b"%d" % i)) for i in range(4)]
    forged = record(frame_from(C, mac_of(B)))

    bench.clients[A].send(good[0] + good[1] + forged + good[2] + forged + good[3])
    bench.turn()

    assert bench.received(B) == b"".join(good)
    assert bench.drops(A) == {"src_mac": 2}


def test_records_that_arrive_byte_by_byte_are_put_together(bench: Bench) -> None:
    sent = record(frame_from(A, mac_of(B))) + record(frame_from(A, mac_of(B), b"again"))

    got = b""
    for byte in sent:
        bench.clients[A].send(bytes((byte,)))
        bench.turn()
        got += bench.received(B)

    assert got == sent


@pytest.mark.parametrize("length", [0, 14 + 40 + 65535 + 1, 2**32 - 1])
def test_a_length_out_of_range_ends_only_that_attachment(bench: Bench, length: int) -> None:
    bench.clients[A].send(struct.pack(">I", length) + b"x" * 64)

    assert bench.turn() == [Ended(A, 1, errno.EPROTO)]
    bench.clients[C].send(record(frame_from(C, mac_of(B))))
    bench.turn()
    assert bench.received(B) == record(frame_from(C, mac_of(B)))


def test_a_client_that_leaves_in_the_middle_of_a_record_is_detached(bench: Bench) -> None:
    bench.clients[A].send(record(frame_from(A, mac_of(B)))[:9])
    bench.clients[A].close()
    bench.turn()

    assert bench.turn() == [Ended(A, 1, 0)]


def test_what_was_sent_before_the_end_is_still_delivered(bench: Bench) -> None:
    sent = record(frame_from(A, mac_of(B)))
    bench.clients[A].send(sent)
    bench.clients[A].close()

    bench.turn()

    assert bench.turn() == [Ended(A, 1, 0)]
    assert bench.received(B) == sent


def test_a_frame_to_a_vif_that_is_not_attached_is_counted_at_that_vif(bench: Bench) -> None:
    bench.engine.detach(B, 1)

    bench.clients[A].send(record(frame_from(A, mac_of(B))))
    bench.turn()

    assert bench.drops(B) == {"detached": 1}


def test_a_receiver_that_never_reads_loses_whole_frames_and_costs_nobody(bench: Bench) -> None:
    frame = record(frame_from(A, mac_of(B), b"x" * 1400))
    sent = 0

    while "queue_full" not in bench.drops(B):
        bench.clients[A].send(frame * 64)
        bench.turn()
        sent += 64
        assert sent < 100_000

    bench.clients[A].send(record(frame_from(A, mac_of(C))))
    bench.turn()
    assert bench.received(C) == record(frame_from(A, mac_of(C)))
    got = b""
    while part := bench.received(B):
        got += part
        bench.turn()
    dropped = bench.drops(B)["queue_full"]
    assert got == frame * (sent - dropped)


def test_a_stale_detach_does_not_end_a_newer_attachment(bench: Bench) -> None:
    bench.engine.detach(B, 1)
    bench.attach(B, generation=2)

    bench.engine.detach(B, 1)

    bench.clients[A].send(record(frame_from(A, mac_of(B))))
    bench.turn()
    assert bench.received(B) == record(frame_from(A, mac_of(B)))


def test_a_second_attachment_to_a_port_is_refused(bench: Bench) -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        bench.engine.attach(A, 2, "stream", one.fileno(), 0, False)


def test_a_cleared_vif_is_gone_with_its_attachment_and_its_counters(bench: Bench) -> None:
    bench.engine.clear_vif(B)

    assert bench.received(B) == b""
    bench.clients[A].send(record(frame_from(A, mac_of(B))))
    bench.turn()
    assert bench.drops(A) == {"no_receiver": 1}


def test_where_the_last_frame_went_is_forgotten_when_a_mac_moves(bench: Bench) -> None:
    sent = record(frame_from(A, mac_of(B)))
    bench.clients[A].send(sent)
    bench.turn()
    bench.engine.clear_vif(B)
    bench.clients[A].send(sent)
    bench.turn()
    bench.engine.set_vif(C, vif_row(evolve(vif_at(C), mac=mac_of(B)), mtu=1500))
    bench.clients[A].send(sent)
    bench.turn()

    assert bench.drops(A) == {"no_receiver": 1}
    assert bench.received(C) == sent


@pytest.fixture
def mixed() -> Iterator[Bench]:
    """A bench where A and B negotiated offloads and C did not."""
    bench = Bench(vnet=(A, B))
    yield bench
    bench.close()


def vnet_header(
    flags: int = 0, gso: int = 0, gso_size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    return struct.pack("<BBHHHH", flags, gso, 0xFFFF if flags else 0, gso_size, start, offset)


def test_the_daemon_writes_a_fresh_offload_header(mixed: Bench) -> None:
    """hdr_len was the client's word, 0xffff; without segmentation the kernel leaves it 0."""
    frame = frame_from(A, mac_of(B))
    partial = vnet_header(flags=1, start=34, offset=6)

    mixed.clients[A].send(record(frame, partial))
    mixed.turn()

    got = mixed.received(B)
    assert got[4:6] == bytes((1, 0))
    assert struct.unpack("<HHHH", got[6:14]) == (0, 0, 34, 6)
    assert got[14:] == frame


def test_a_receiver_without_offload_gets_a_completed_checksum(mixed: Bench) -> None:
    """The sender leaves the pseudo-header's sum in the field; C gets what A would have written."""
    complete = frame_from(A, mac_of(C))
    ip = complete[14:34]
    length = len(complete) - 34
    total = sum(struct.unpack(">4H", ip[12:20])) + 17 + length
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    partial = complete[:40] + struct.pack(">H", total) + complete[42:]

    mixed.clients[A].send(record(partial, vnet_header(flags=1, start=34, offset=6)))
    mixed.turn()

    assert mixed.received(C) == record(complete)


def test_an_unknown_offload_flag_is_dropped_by_name(mixed: Bench) -> None:
    mixed.clients[A].send(record(frame_from(A, mac_of(B)), vnet_header(flags=0x80)))
    mixed.turn()

    assert mixed.received(B) == b""
    assert mixed.drops(A) == {"offload_header": 1}


def test_a_sender_without_offload_reaches_a_receiver_with_it(mixed: Bench) -> None:
    frame = frame_from(C, mac_of(B))

    mixed.clients[C].send(record(frame))
    mixed.turn()

    assert mixed.received(B) == record(frame, bytes(10))


def test_a_record_too_short_for_its_offload_header_ends_the_attachment(mixed: Bench) -> None:
    mixed.clients[A].send(struct.pack(">I", 9) + bytes(9))

    assert mixed.turn() == [Ended(A, 1, errno.EPROTO)]


@pytest.mark.parametrize("port", [-1, MAX_PORTS])
def test_a_port_that_there_is_none_of_is_told_with_those_that_there_are(port: int) -> None:
    engine = Engine()

    with pytest.raises(ValueError, match=f"port is {port}, wanted 0 to {MAX_PORTS - 1}"):
        engine.counters(port)

    engine.close()
