"""Filters in the path of frames: the order of judges, what is counted, answers, and changes."""

from collections.abc import Iterator
from typing import Any

import pytest
from multiplexer.datapath._dp import ffi, lib

from multiplexer.policy.nwfilter.syntax import Action, Direction
from multiplexer.policy.nwfilter.tables import (
    Field,
    Flow,
    Number,
    Row,
    Table,
    Verb,
    ct_bits,
    pack,
)
from tests.datapath.frames import BROADCAST, ICMP, ICMPV6, ethernet, ipv4, ipv6, tcp, udp
from tests.datapath.gate import CoreGate
from tests.datapath.test_engine import A, B, Bench, C, frame_from, mac_of, record, vnet_header
from tests.support.gso_frames import ones_sum


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def bind(bench: Bench, port: int, table: Table) -> None:
    bench.engine.prepare_filter(port, pack(table))
    bench.engine.commit_filters()


def send(bench: Bench, port: int, *frames: bytes) -> None:
    bench.clients[port].sendall(b"".join(map(record, frames)))
    bench.turn()


def for_port(number: int) -> Number:
    return Number(Field.DST_PORT, number, number, 0xFFFF)


DROP = (Row(Verb.DROP),)
ANY_CT = Number(Field.CT, ct_bits(Flow), ct_bits(Flow))


def test_a_frame_that_its_senders_filter_drops_goes_nowhere(bench: Bench) -> None:
    bind(bench, A, Table(l2_out=DROP))
    send(bench, A, frame_from(A, mac_of(B)))
    send(bench, C, frame_from(C, mac_of(A)))

    assert bench.drops(A) == {"filter_out": 1}
    assert bench.received(B) == b""
    assert bench.received(A) == record(frame_from(C, mac_of(A)))


def test_ingress_is_asked_before_any_filter(bench: Bench) -> None:
    bind(bench, A, Table(l2_out=DROP))
    send(bench, A, frame_from(C, mac_of(B)))

    assert bench.drops(A) == {"src_mac": 1}


def test_of_a_flood_each_receivers_filter_decides_for_itself(bench: Bench) -> None:
    bind(bench, B, Table(ipv4_in=DROP))
    frame = frame_from(A, BROADCAST)
    send(bench, A, frame)

    assert (bench.received(B), bench.received(C)) == (b"", record(frame))
    assert (bench.drops(A), bench.drops(B)) == ({}, {"filter_in": 1})


def test_all_prepared_filters_take_over_at_once_or_none(bench: Bench) -> None:
    bind(bench, A, Table(l2_out=DROP))
    frame = frame_from(A, mac_of(B))
    bench.engine.prepare_filter(A, b"")
    bench.engine.prepare_filter(B, pack(Table(l2_in=DROP)))
    with pytest.raises(OSError, match="filter of port 66: Invalid argument"):
        bench.engine.prepare_filter(C, pack(Table()) + b"\0")
    send(bench, A, frame)
    bench.engine.abandon_filters()
    bench.engine.commit_filters()
    send(bench, A, frame)
    assert bench.drops(A) == {"filter_out": 2}

    bench.engine.prepare_filter(A, b"")
    bench.engine.prepare_filter(B, pack(Table(l2_in=DROP)))
    bench.engine.commit_filters()
    send(bench, A, frame)

    assert (bench.drops(A), bench.drops(B)) == ({"filter_out": 2}, {"filter_in": 1})


def test_a_filter_is_for_a_vif_that_is_there_and_goes_with_it(bench: Bench) -> None:
    with pytest.raises(OSError, match="filter of port 5: Invalid argument"):
        bench.engine.prepare_filter(5, pack(Table()))
    with pytest.raises(OSError, match="filter of port 4096: Invalid argument"):
        bench.engine.prepare_filter(4096, b"")
    bind(bench, C, Table(l2_in=DROP))
    bench.engine.prepare_filter(C, pack(Table(l2_in=DROP)))
    bench.engine.clear_vif(C)
    bench.engine.commit_filters()

    assert bench.engine._table.ports[C].gate == ffi.NULL
    assert bench.engine._loop.gates[C].flows == ffi.NULL


def test_what_was_kept_of_verdicts_ends_with_the_rules(bench: Bench) -> None:
    frame = frame_from(A, mac_of(B))
    bind(bench, A, Table(l2_out=(Row(Verb.ACCEPT),)))
    send(bench, A, frame, frame)
    bind(bench, A, Table(l2_out=DROP))
    send(bench, A, frame)

    assert bench.received(B) == record(frame) * 2
    assert bench.drops(A) == {"filter_out": 1}


def stateful() -> Table:
    """Return rules by which only answers come in."""
    begins = ct_bits((Flow.NEW, Flow.ESTABLISHED), reply=False)
    answers = ct_bits((Flow.ESTABLISHED,), original=False)
    return Table(
        ipv4_out=(Row(Verb.ACCEPT, (Number(Field.CT, begins, begins),)),),
        ipv4_in=(Row(Verb.ACCEPT, (Number(Field.CT, answers, answers),)), Row(Verb.DROP)),
    )


def between(source: int, target: int) -> bytes:
    sport, dport = (1000, 2000) if source < target else (2000, 1000)
    packet = ipv4(
        udp(b"hello", sport=sport, dport=dport), src=f"10.0.0.{source}", dst=f"10.0.0.{target}"
    )
    return ethernet(packet, src=mac_of(source), dst=mac_of(target))


def test_answers_come_in_once_a_frame_has_gone_out(bench: Bench) -> None:
    bind(bench, A, stateful())
    send(bench, B, between(B, A))
    send(bench, A, between(A, B))
    send(bench, B, between(B, A))

    assert bench.drops(A) == {"filter_in": 1}
    assert bench.received(A) == record(between(B, A))


def test_a_frame_that_its_receiver_does_not_take_opens_no_flow_of_its_sender(bench: Bench) -> None:
    bind(bench, A, stateful())
    bind(bench, B, Table(l2_in=DROP))
    send(bench, A, between(A, B))
    send(bench, B, between(B, A))

    assert (bench.drops(A), bench.drops(B)) == ({"filter_in": 1}, {"filter_in": 1})
    assert bench.engine._loop.gates[A].flows.n_flows == 0


def test_where_a_filter_follows_too_many_connections_a_new_one_is_dropped(bench: Bench) -> None:
    bind(bench, A, stateful())
    bind(bench, C, stateful())
    for port in (A, C):
        flows = bench.engine._loop.gates[port].flows
        flows.n_used = lib.DP_MAX_FLOWS
    send(bench, A, between(A, B))
    bind(bench, B, Table(ipv4_in=(Row(Verb.ACCEPT, (ANY_CT,)),)))
    bench.engine._loop.gates[B].flows.n_used = lib.DP_MAX_FLOWS
    bench.engine.prepare_filter(A, b"")
    bench.engine.commit_filters()
    send(bench, A, between(A, B))

    assert (bench.drops(A), bench.drops(B)) == ({"flow_limit": 1}, {"flow_limit": 1})


def test_connections_of_one_vif_take_no_room_from_another(bench: Bench) -> None:
    """Deviation: own-connections."""
    bind(bench, A, stateful())
    bind(bench, C, stateful())
    bench.engine._loop.gates[A].flows.n_used = lib.DP_MAX_FLOWS
    send(bench, A, between(A, B))
    send(bench, C, between(C, B))
    send(bench, B, between(B, C))

    assert (bench.drops(A), bench.drops(C)) == ({"flow_limit": 1}, {})
    assert bench.received(C) == record(between(B, C))


def test_a_field_of_a_configuration_is_no_other_bpdus() -> None:
    """Deviation: stp-fields."""
    rows = (Row(Verb.DROP, (Number(Field.STP_ROOT_COST, 0, 9, negated=True),)),)
    gate = CoreGate(pack(Table(l2_in=rows)))
    bridges = bytes.fromhex("0180c2000000")

    def judged(kind: int) -> Action:
        body = bytes.fromhex("424203000000") + bytes((kind,)) + b"\xff" * 31
        frame = ethernet(body, src=mac_of(A), dst=bridges, ethertype=len(body))
        return gate.judge(frame, Direction.IN, 1).action

    assert (judged(0), judged(0x80)) == (Action.DROP, Action.ACCEPT)


def test_a_frame_that_is_still_to_be_segmented_is_judged_by_its_headers() -> None:
    bench = Bench(vnet=(A, B))
    bind(bench, B, Table(ipv4_in=(Row(Verb.DROP, (for_port(22),)),)))
    header = vnet_header(flags=1, gso=1, gso_size=1000, start=34, offset=16)

    def segments(port: int) -> bytes:
        upper = tcp(bytes(3000), sport=40000, dport=port)
        packet = ipv4(upper, src=f"10.0.0.{A}", dst=f"10.0.0.{B}")
        return ethernet(packet, src=mac_of(A), dst=mac_of(B))

    for port in (22, 23):
        bench.clients[A].sendall(record(segments(port), header))
    bench.turn()
    received = bench.received(B)
    drops = bench.drops(A), bench.drops(B)
    bench.close()

    assert drops == ({}, {"filter_in": 1})
    assert received[4 + len(header) :] == segments(23)


def unwrap(bench: Bench, port: int) -> bytes:
    data = bench.received(port)
    assert len(data) >= 4
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    return data[4:]


def test_who_sends_what_is_rejected_is_told_as_by_whom_it_was_for(bench: Bench) -> None:
    """Deviation: reject-source."""
    bind(bench, B, Table(ipv4_in=(Row(Verb.REJECT),)))
    frame = between(A, B)
    send(bench, A, frame)

    answer = unwrap(bench, A)

    assert answer[:14] == mac_of(A) + mac_of(B) + b"\x08\0"
    assert answer[14:16] + answer[22:24] == bytes((0x45, 0, 64, ICMP))
    assert answer[26:34] == bytes((10, 0, 0, B, 10, 0, 0, A))
    assert answer[34:36] == bytes((3, 3))
    assert answer[42:] == frame[14:]
    assert ones_sum(answer[14:34]) == ones_sum(answer[34:]) == 0xFFFF
    assert int.from_bytes(answer[16:18], "big") == len(answer) - 14
    assert bench.drops(B) == {"filter_in": 1}


def test_a_rejected_packet_of_ipv6_is_answered_by_icmpv6() -> None:
    packet = ipv6(udp(b"x" * 500, sport=1, dport=2), src="fd00::1", dst="fd00::2")
    frame = ethernet(packet, src=mac_of(A), dst=mac_of(B))
    view, out = lib_frame(frame)
    length = lib.dp_reject_build(out, view, view.len)
    answer = bytes(out[0:length])

    assert length == lib.DP_REJECT_LEN
    assert answer[20:22] == bytes((ICMPV6, 64))
    assert answer[22:54] == frame[38:54] + frame[22:38]
    assert answer[54:56] == bytes((1, 4))
    pseudo = answer[22:54] + (length - 54).to_bytes(4, "big") + bytes((0, 0, 0, ICMPV6))
    assert ones_sum(pseudo + answer[54:]) == 0xFFFF


def lib_frame(data: bytes) -> tuple[Any, Any]:
    """Return a frame, parsed, and room for an answer; *data* must outlive them."""
    view = ffi.new("struct dp_frame *")
    held = ffi.from_buffer(data)
    assert lib.dp_frame_parse(view, held, len(data)) == 0
    return view, ffi.new("uint8_t[]", lib.DP_REJECT_LEN)


def unanswered(src: str, dst: str, to: bytes) -> bytes:
    packet = ipv4(udp(sport=1, dport=2), src=src, dst=dst)
    return ethernet(packet, src=mac_of(A), dst=to)


@pytest.mark.parametrize(
    "frame",
    [
        unanswered("10.0.0.64", "224.0.0.1", mac_of(B)),
        unanswered("0.0.0.0", "10.0.0.65", mac_of(B)),
        unanswered("10.0.0.64", "10.0.0.65", BROADCAST),
        ethernet(b"what", src=mac_of(A), dst=mac_of(B), ethertype=0x88B5),
    ],
    ids=["group", "nobody", "broadcast", "other"],
)
def test_some_packets_are_not_answered(frame: bytes) -> None:
    view, out = lib_frame(frame)

    assert lib.dp_reject_build(out, view, view.len) == 0


def test_answers_to_what_is_rejected_are_few(bench: Bench) -> None:
    bind(bench, A, Table(ipv4_out=(Row(Verb.REJECT, (for_port(2000),)),)))
    frame = between(A, B)
    send(bench, A, *[frame] * 150)

    answers = bench.received(A)
    length = 4 + int.from_bytes(answers[:4], "big")

    # A second's worth is there at once; how many come beside depends on the machine.
    assert 100 <= len(answers) // length < 150
    assert bench.drops(A) == {"filter_out": 150}


def test_a_trace_tells_of_filters_and_changes_nothing(bench: Bench) -> None:
    bind(bench, A, Table(l2_out=(Row(Verb.ACCEPT, (), 7),), ipv4_out=stateful().ipv4_out))
    bind(bench, B, Table(ipv4_in=DROP))
    frame = between(A, B)

    traced = bench.engine.trace(A, frame)
    bench.engine.prepare_filter(A, pack(Table(ipv4_out=(Row(Verb.DROP, (), 3),))))
    bench.engine.commit_filters()
    dropped = bench.engine.trace(A, frame)

    assert (traced.verdict, traced.step, traced.rules) == ("pass", "limit", (7, None))
    assert [receiver.passes for receiver in traced.receivers] == [False]
    assert (dropped.verdict, dropped.step, dropped.rules) == ("filter_out", "filter", (None, 3))
    assert bench.engine._loop.gates[A].flows.n_flows == 0
    assert bench.drops(A) == bench.drops(B) == {}
