"""Connections of a vif in the C core: timeouts, what goes when there are too many, re-judging."""

import pytest
from multiplexer.datapath._dp import lib

from multiplexer.policy.nwfilter.syntax import Action, Direction
from multiplexer.policy.nwfilter.tables import (
    Count,
    Field,
    Flow,
    Number,
    Row,
    Table,
    Verb,
    ct_bits,
    pack,
)
from tests.datapath import frames
from tests.datapath.gate import CoreGate

S = 1_000_000_000
NOW = 1000 * S
OUT, IN = Direction.OUT, Direction.IN
HERE, THERE = b"\x52\x54\0\0\0\1", b"\x52\x54\0\0\0\2"
SYN, SYN_ACK, ACK, FIN, RST = 0x02, 0x12, 0x10, 0x11, 0x04

ANY = ct_bits(Flow)
#: All that asks for states at all, and lets everything pass.
OPEN = pack(Table(ipv4_out=(Row(Verb.ACCEPT, (Number(Field.CT, ANY, ANY),)),)))
ALL_DROPPED = pack(
    Table(
        ipv4_out=(Row(Verb.DROP, (Number(Field.CT, ANY, ANY),)),),
        ipv4_in=(Row(Verb.DROP),),
    )
)


def ip(upper: frames.Upper, direction: Direction, far: str = "10.0.0.2") -> bytes:
    """Return a frame between 10.0.0.1, the vif, and somebody far."""
    if direction is OUT:
        return frames.ethernet(frames.ipv4(upper, src="10.0.0.1", dst=far), dst=THERE, src=HERE)
    return frames.ethernet(frames.ipv4(upper, src=far, dst="10.0.0.1"), dst=HERE, src=THERE)


def tcp(flags: int, direction: Direction, port: int = 40000, far: str = "10.0.0.2") -> bytes:
    """Return a segment between that port and port 80 of somebody far."""
    sport, dport = (port, 80) if direction is OUT else (80, port)
    made = frames.tcp(b"", sport=sport, dport=dport)
    return ip(
        frames.Upper(6, made.data[:13] + bytes((flags,)) + made.data[14:], 16), direction, far
    )


def udp(direction: Direction, port: int = 40000) -> bytes:
    sport, dport = (port, 53) if direction is OUT else (53, port)
    return ip(frames.udp(sport=sport, dport=dport), direction)


def open_tcp(gate: CoreGate, now_ns: int, port: int = 40000) -> None:
    """Let a connection be made."""
    for flags, direction in ((SYN, OUT), (SYN_ACK, IN), (ACK, OUT)):
        assert gate.judge(tcp(flags, direction, port), direction, now_ns).action is Action.ACCEPT


@pytest.mark.parametrize(
    ("steps", "probe", "seconds"),
    [
        ([(udp(OUT), OUT)], udp(IN), 30),
        ([(udp(OUT), OUT), (udp(IN), IN)], udp(IN), 120),
        ([(ip(frames.icmp(8), OUT), OUT)], ip(frames.icmp(0), IN), 30),
        ([(ip(frames.raw(47, bytes(8)), OUT), OUT)], ip(frames.raw(47, bytes(8)), IN), 600),
        ([(tcp(SYN, OUT), OUT)], tcp(SYN_ACK, IN), 120),
        ([(tcp(ACK, OUT), OUT)], tcp(ACK, IN), 300),
        ([(tcp(SYN, OUT), OUT), (tcp(SYN_ACK, IN), IN)], tcp(ACK, IN), 60),
        (
            [(tcp(SYN, OUT), OUT), (tcp(SYN_ACK, IN), IN), (tcp(ACK, OUT), OUT)],
            tcp(ACK, IN),
            432000,
        ),
        (
            [(tcp(ACK, OUT), OUT), (tcp(ACK, IN), IN), (tcp(FIN, OUT), OUT)],
            tcp(ACK, IN),
            120,
        ),
        ([(tcp(ACK, OUT), OUT), (tcp(RST, IN), IN)], tcp(ACK, IN), 10),
    ],
    ids=["udp", "udp2", "icmp", "other", "syn", "picked-up", "syn-ack", "open", "fin", "rst"],
)
def test_a_flow_ends_at_its_timeout(
    steps: list[tuple[bytes, Direction]], probe: bytes, seconds: int
) -> None:
    gate = CoreGate(OPEN)
    for frame, direction in steps:
        gate.judge(frame, direction, NOW)

    last = gate.state(probe, IN, NOW + seconds * S - 1)

    assert last == (Flow.ESTABLISHED, True)
    assert gate.state(probe, IN, NOW + seconds * S)[0] in (Flow.NEW, Flow.INVALID)


def test_a_frame_that_is_dropped_opens_no_flow() -> None:
    gate = CoreGate(ALL_DROPPED)

    assert gate.judge(udp(OUT), OUT, NOW).action is Action.DROP
    assert gate.flows.n_flows == 0


def test_rules_that_change_judge_a_flow_anew_and_keep_it() -> None:
    gate = CoreGate(OPEN)
    open_tcp(gate, NOW)
    gate.load(ALL_DROPPED)

    assert gate.judge(tcp(ACK, OUT), OUT, NOW).action is Action.DROP
    assert gate.state(tcp(ACK, OUT), OUT, NOW) == (Flow.ESTABLISHED, False)


def test_a_syn_begins_anew_where_a_connection_has_just_ended() -> None:
    gate = CoreGate(OPEN)
    open_tcp(gate, NOW)
    gate.judge(tcp(FIN, OUT), OUT, NOW)

    assert gate.state(tcp(ACK, IN), IN, NOW) == (Flow.ESTABLISHED, True)
    assert gate.state(tcp(SYN, IN), IN, NOW) == (Flow.NEW, False)
    gate.judge(tcp(SYN, IN), IN, NOW)
    assert gate.state(tcp(SYN_ACK, OUT), OUT, NOW) == (Flow.ESTABLISHED, True)
    assert gate.flows.n_flows == 1


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x03, 0x06, 0x12, 0x11, 0x04, 0x29, 0x3F])
def test_what_no_connection_begins_with_is_invalid(flags: int) -> None:
    assert CoreGate(OPEN).state(tcp(flags, OUT), OUT, NOW) == (Flow.INVALID, False)


def test_where_all_is_taken_the_oldest_without_an_answer_goes_and_no_established_one() -> None:
    gate = CoreGate(OPEN)
    open_tcp(gate, NOW, port=1)
    for number in range(1, lib.DP_MAX_FLOWS):
        gate.judge(tcp(SYN, OUT, port=number + 1), OUT, NOW + number)
    assert gate.flows.n_flows == lib.DP_MAX_FLOWS

    gate.judge(tcp(SYN, OUT, port=30000), OUT, NOW + S)

    assert gate.flows.n_flows == lib.DP_MAX_FLOWS
    assert gate.state(tcp(SYN_ACK, IN, port=2), IN, NOW + S)[0] is Flow.INVALID
    for port, flags in ((1, ACK), (3, SYN_ACK), (30000, SYN_ACK)):
        assert gate.state(tcp(flags, IN, port=port), IN, NOW + S)[0] is Flow.ESTABLISHED


def test_where_all_are_established_a_new_one_is_refused_until_one_closes() -> None:
    gate = CoreGate(OPEN)
    for number in range(lib.DP_MAX_FLOWS):
        gate.judge(tcp(ACK, OUT, port=number), OUT, NOW)
        gate.judge(tcp(ACK, IN, port=number), IN, NOW)

    refused = gate.passage(tcp(SYN, OUT, port=30000), OUT, NOW + S)

    assert refused.action == lib.DP_ACT_ACCEPT
    assert not lib.dp_gate_confirm(gate.gate, NOW + S, refused)
    assert gate.state(tcp(ACK, IN, port=0), IN, NOW + S) == (Flow.ESTABLISHED, True)

    gate.judge(tcp(FIN, OUT, port=7), OUT, NOW + S)
    gate.judge(tcp(SYN, OUT, port=30000), OUT, NOW + S)
    assert gate.state(tcp(SYN_ACK, IN, port=30000), IN, NOW + S)[0] is Flow.ESTABLISHED


def test_a_segment_is_of_its_connection_whatever_its_numbers() -> None:
    """Deviation: tcp-windows."""
    gate = CoreGate(OPEN)
    open_tcp(gate, NOW)
    segment = bytearray(tcp(ACK, IN))
    segment[38:46] = b"\xff\xee\xdd\xcc\x11\x22\x33\x44"

    assert gate.state(bytes(segment), IN, NOW) == (Flow.ESTABLISHED, True)


@pytest.mark.parametrize(
    "upper",
    [
        frames.Upper(frames.UDP, frames.udp(b"hello", sport=40000, dport=53).data),
        frames.sctp(bytes(4), sport=40000, dport=53),
    ],
    ids=["without its checksum", "without a chunk"],
)
def test_a_packet_begins_a_connection_whatever_its_checksum_and_chunks(
    upper: frames.Upper,
) -> None:
    """Deviation: checksums."""
    gate = CoreGate(OPEN)

    assert gate.state(ip(upper, OUT), OUT, NOW) == (Flow.NEW, False)


def test_what_a_protocol_opens_beside_a_connection_is_new() -> None:
    """Deviation: related."""
    gate = CoreGate(OPEN)
    ftp = frames.tcp(b"PORT 10,0,0,1,156,64\r\n", sport=40001, dport=21)
    gate.judge(ip(ftp, OUT), OUT, NOW)
    data = frames.tcp(sport=20, dport=40000)
    begins = frames.Upper(6, data.data[:13] + bytes((SYN,)) + data.data[14:], 16)

    assert gate.state(ip(begins, IN), IN, NOW) == (Flow.NEW, False)


def test_an_error_is_related_to_the_flow_whose_packet_it_quotes_and_to_no_other() -> None:
    gate = CoreGate(OPEN)
    gate.judge(udp(OUT), OUT, NOW)

    def error(port: int) -> bytes:
        quoted = frames.ipv4(frames.udp(sport=port, dport=53), src="10.0.0.1", dst="10.0.0.2")
        return ip(frames.icmp(3, 3, bytes(4) + quoted), IN, far="10.0.0.9")

    assert gate.state(error(40000), IN, NOW) == (Flow.RELATED, True)
    assert gate.state(error(40001), IN, NOW) == (Flow.INVALID, False)
    assert gate.judge(error(40000), IN, NOW).action is Action.ACCEPT
    assert gate.flows.n_flows == 1


def test_later_pieces_of_a_packet_do_as_its_first_did_and_are_dropped_before_it() -> None:
    """Deviation: fragments."""
    rows = (
        Row(Verb.DROP, (Number(Field.DST_PORT, 53, 53, 0xFFFF),), 0),
        Row(Verb.ACCEPT, (Number(Field.CT, ANY, ANY),), 1),
    )
    gate = CoreGate(pack(Table(ipv4_out=rows)))

    def pieces(port: int) -> tuple[bytes, bytes]:
        upper = frames.udp(bytes(100), sport=40000, dport=port)
        src, dst = "10.0.0.1", f"10.0.1.{port}"
        first = frames.ipv4(upper, more=True, part=slice(0, 64), src=src, dst=dst)
        later = frames.ipv4(upper, offset=64, part=slice(64, None), src=src, dst=dst)
        return (
            frames.ethernet(first, dst=THERE, src=HERE),
            frames.ethernet(later, dst=THERE, src=HERE),
        )

    for port, action in ((80, Action.ACCEPT), (53, Action.DROP)):
        first, later = pieces(port)
        assert gate.judge(later, OUT, NOW).action is Action.DROP
        assert gate.judge(first, OUT, NOW).action is action
        assert gate.judge(later, OUT, NOW).action is action
        assert gate.judge(later, OUT, NOW + 30 * S).action is Action.DROP


def test_a_limit_counts_the_connections_of_a_source_that_are_there() -> None:
    limit = (Row(Verb.DROP, (Number(Field.DST_PORT, 80, 80, 0xFFFF), Count(0, 2)), 0),)
    gate = CoreGate(pack(Table(ipv4_in=limit)))

    def begin(port: int, far: str = "10.0.0.2", at: int = 80) -> Action:
        made = frames.tcp(sport=port, dport=at)
        upper = frames.Upper(6, made.data[:13] + bytes((SYN,)) + made.data[14:], 16)
        return gate.judge(ip(upper, IN, far), IN, NOW).action

    assert [begin(port) for port in (1, 2, 3)] == [Action.ACCEPT, Action.ACCEPT, Action.DROP]
    assert begin(1) is Action.ACCEPT
    assert begin(3, far="10.0.0.3") is Action.ACCEPT
    assert begin(4, at=22) is Action.ACCEPT


def test_a_limit_counts_no_more_what_has_ended() -> None:
    gate = CoreGate(pack(Table(ipv4_out=(Row(Verb.DROP, (Count(0, 1),), 0),))))
    gate.judge(udp(OUT, port=1), OUT, NOW)

    assert gate.judge(udp(OUT, port=2), OUT, NOW).action is Action.DROP
    assert gate.judge(udp(OUT, port=2), OUT, NOW + 30 * S).action is Action.ACCEPT
    assert gate.flows.n_flows == gate.flows.n_counts == 1


def test_who_asks_itself_is_answered() -> None:
    """Both ends have one address, and question and answer one number."""
    followed = (Row(Verb.ACCEPT, (Number(Field.CT, ANY, ANY),)),)
    for version, (question, answer) in ((4, (8, 0)), (6, (128, 129))):
        gate = CoreGate(pack(Table(ipv4_out=followed, ipv6_out=followed)))

        def echo(kind: int, version: int = version) -> bytes:
            if version == 4:
                packet = frames.ipv4(frames.icmp(kind), src="10.0.0.1", dst="10.0.0.1")
            else:
                packet = frames.ipv6(frames.icmpv6(kind), src="fd00::1", dst="fd00::1")
            return frames.ethernet(packet, dst=THERE, src=HERE)

        assert gate.state(echo(question), OUT, NOW) == (Flow.NEW, False)
        gate.judge(echo(question), OUT, NOW)
        assert gate.state(echo(question), OUT, NOW) == (Flow.NEW, False)
        assert gate.state(echo(answer), OUT, NOW) == (Flow.ESTABLISHED, True)
