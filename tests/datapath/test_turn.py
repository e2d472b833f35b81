"""Deficit round robin: what ports pay, and that none takes another's part of the engine."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiplexer.datapath._dp import ffi, lib

from tests.datapath.frames import BROADCAST
from tests.datapath.test_engine import A, B, Bench, C, frame_from, mac_of, record

SO_SNDBUFFORCE = 32

#: What a frame to one receiver costs beside its bytes: it is read once and written once.
PER_FRAME = 2 * lib.DP_COST_FRAME


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def fill(client: socket.socket, sent: bytes) -> None:
    """Write *sent* over and over, until the socket holds 8 MiB or takes no more."""
    client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20)
    for _ in range((8 << 20) // len(sent)):
        try:
            client.send(sent)
        except BlockingIOError:
            return


def flood(bench: Bench, port: int, to: bytes, length: int) -> int:
    """Fill *port*'s socket with frames; return what one of them costs with one receiver."""
    frame = frame_from(port, to, bytes(length))
    fill(bench.clients[port], record(frame) * 100)
    return int(PER_FRAME + 2 * len(frame))


def judged(bench: Bench, port: int) -> int:
    return bench.engine.counters(port).rx_frames


def test_ports_that_are_always_ready_get_equal_parts_of_the_work(bench: Bench) -> None:
    """Short frames and long ones: what is equal is neither their number nor their bytes."""
    cost = {A: flood(bench, A, mac_of(B), 18), C: flood(bench, C, mac_of(B), 1400)}

    for _ in range(8):
        bench.round()

    work = {port: judged(bench, port) * cost[port] for port in cost}
    assert 0.8 < work[A] / work[C] < 1.25


def test_a_round_is_short_where_many_are_ready(bench: Bench) -> None:
    """Nobody waits for longer than it takes to do a round's worth of work."""
    cost = flood(bench, A, mac_of(B), 18)
    bench.round()
    alone = judged(bench, A)
    bench.round()
    alone = judged(bench, A) - alone
    flood(bench, C, mac_of(B), 18)
    before = judged(bench, A), judged(bench, C)
    bench.round()
    beside = judged(bench, A) - before[0]

    assert 0.7 < alone * cost / lib.DP_ROUND_COST < 1.1
    assert beside * cost < 0.6 * lib.DP_ROUND_COST


def test_who_forges_pays_for_more_than_the_checking(bench: Bench) -> None:
    forged = frame_from(B, mac_of(C), bytes(18))
    fill(bench.clients[A], record(forged) * 100)
    lawful = flood(bench, C, mac_of(B), 18)

    for _ in range(8):
        bench.round()

    assert bench.drops(A) == {"src_mac": judged(bench, A)}
    refused = lib.DP_COST_FRAME + len(forged) + lib.DP_COST_REFUSED
    assert 0.7 < judged(bench, A) * refused / (judged(bench, C) * lawful) < 1.4


def naps(bench: Bench, port: int) -> bool:
    return bool(bench.engine._loop.ports[port].naps)


@pytest.mark.parametrize("forged", [lib.DP_MANY_REFUSED - 1, lib.DP_MANY_REFUSED])
def test_who_forges_many_in_a_turn_is_left_alone_for_a_while(bench: Bench, forged: int) -> None:
    """What it may send comes late by that, and nothing is lost."""
    lawful = frame_from(A, mac_of(B))
    bench.clients[A].send(record(frame_from(B, mac_of(C))) * forged + record(lawful))
    bench.round()
    assert naps(bench, A) == (forged == lib.DP_MANY_REFUSED)

    bench.clients[A].send(record(lawful))
    for _ in range(2):
        bench.round()
    assert not naps(bench, A)
    assert bench.received(B) == record(lawful) * 2


def test_who_forges_still_gets_what_others_sent(bench: Bench) -> None:
    """Its socket was full, and it reads while it is left alone."""
    forged = record(frame_from(B, mac_of(C))) * lib.DP_MANY_REFUSED
    flood(bench, C, mac_of(A), 1400)
    for _ in range(4):
        bench.round()
    got = len(bench.received(A))

    for _ in range(64):
        bench.clients[A].send(forged)
        bench.round()
        got += len(bench.received(A))
    assert naps(bench, A)
    sent = bench.engine.counters(A)
    assert got == sent.tx_bytes + 4 * sent.tx_frames


def test_who_has_others_copied_pays_for_each_copy(bench: Bench) -> None:
    """What goes to two is written twice."""
    fill(bench.clients[A], record(frame_from(A, BROADCAST, bytes(1400))) * 100)
    unicast = flood(bench, C, mac_of(B), 1400)

    for _ in range(4):
        bench.round()

    broadcast = bench.engine.counters(A)
    delivered = broadcast.rx_frames - sum(bench.drops(A).values())
    work = broadcast.rx_frames * unicast / 2 + delivered * unicast
    assert 0.75 < work / (judged(bench, C) * unicast) < 1.3


def test_a_flood_leaves_the_last_quarter_of_a_queue_to_others(bench: Bench) -> None:
    """B reads nothing: a flood fills its queue, and what another sends still finds room."""
    for _ in range(3):
        flood(bench, A, mac_of(B), 1400)
        bench.turn()
    assert bench.drops(A) == {}
    assert bench.drops(B)["queue_full"] > 0
    lost = bench.drops(B)["queue_full"]

    bench.clients[C].send(record(frame_from(C, mac_of(B))))
    bench.turn()

    assert bench.drops(B)["queue_full"] == lost
    got = b""
    while part := bench.received(B):
        got += part
        bench.turn()
    assert got.endswith(record(frame_from(C, mac_of(B))))


def test_what_others_sent_reaches_who_is_in_debt(bench: Bench) -> None:
    """Its debt keeps it from sending, not from what waits for it."""
    for _ in range(3):
        flood(bench, A, mac_of(B), 1400)
        bench.turn()
    flood(bench, B, mac_of(A), 18)
    before = len(bench.received(B))
    for _ in range(64):
        bench.round()
        before += len(bench.received(B))

    assert before >= lib.DP_READ_LEN


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 24), st.integers(1, 1 << 40), st.integers(1, 4096)),
        max_size=20,
    )
)
def test_credit_is_never_more_than_a_quantum_nor_is_a_debt_forgiven(
    turns: list[tuple[int, int, int]],
) -> None:
    """Whatever a port does, and whenever: over n rounds it is served n quanta, and one turn."""
    turn = ffi.new("struct dp_turn *")
    now = earned = paid = dearest = 0
    for cost, rounds, ready in turns:
        quantum = lib.dp_turn_quantum(ready)
        now += rounds
        earned += min(rounds, 1 << 20) * quantum
        back = lib.dp_turn_credit(turn, now, quantum)
        assert turn.credit <= quantum
        assert (back == 0) == (turn.credit > 0)
        if back:
            now += back
            earned += back * quantum
            assert lib.dp_turn_credit(turn, now, quantum) == 0
            assert 0 < turn.credit <= quantum
        lib.dp_turn_pay(turn, cost, now)
        paid += cost
        dearest = max(dearest, cost)
        assert paid <= earned + dearest


def test_the_quantum_shrinks_with_the_crowd_to_what_a_turn_is_worth() -> None:
    assert lib.dp_turn_quantum(0) == lib.dp_turn_quantum(1) == lib.DP_ROUND_COST
    assert lib.dp_turn_quantum(2) == lib.DP_ROUND_COST // 2
    assert lib.dp_turn_quantum(4096) == lib.DP_MIN_QUANTUM
