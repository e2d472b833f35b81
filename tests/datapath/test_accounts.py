"""Memory that clients who do not read make the engine keep: bounded for each owner, given back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually

from .test_engine import A, B, Bench, C, frame_from, mac_of, record

ACCOUNT = 20001
MOST_BYTES = 512 * 1024
RECORD = record(frame_from(A, mac_of(B), b"x" * 1400))
#: More than every queue and socket buffer together.
FLOOD = 6000


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def flood(bench: Bench, to: int) -> None:
    """Send more than *to* takes, and let the engine drop the rest."""
    burst = record(frame_from(A, mac_of(to), b"x" * 1400)) * 60
    for _ in range(FLOOD // 60):
        bench.clients[A].send(burst)
        bench.turn()


def drain(bench: Bench, port: int) -> bytes:
    got = b""
    while part := bench.received(port):
        got += part
        bench.turn()
    return got


def wait_relaxed(bench: Bench, port: int) -> None:
    def is_relaxed() -> bool:
        bench.turn()
        return bench.engine.held_bytes(port) == 0

    eventually(is_relaxed, f"port {port} has given back its memory")


def resident_kib() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.findall(r"^Rss: +(\d+) kB", text, re.MULTILINE)[0])


def test_the_queues_of_one_owner_share_a_bound(bench: Bench) -> None:
    bench.engine.charge(B, ACCOUNT, MOST_BYTES)
    bench.engine.charge(C, ACCOUNT, MOST_BYTES)

    flood(bench, B)
    flood(bench, C)

    held = [bench.engine.held_bytes(port) for port in (B, C)]
    assert held[0] > 0
    assert MOST_BYTES // 2 < sum(held) <= MOST_BYTES
    assert bench.drops(B)["queue_full"] > 0
    assert bench.drops(C)["queue_full"] > 0


def test_an_account_that_is_full_takes_nothing_from_another(bench: Bench) -> None:
    bench.engine.charge(B, ACCOUNT, MOST_BYTES)
    bench.engine.charge(C, ACCOUNT + 1, MOST_BYTES)

    flood(bench, B)
    bench.clients[A].send(record(frame_from(A, mac_of(C))))
    bench.turn()

    assert bench.received(C) == record(frame_from(A, mac_of(C)))
    flood(bench, C)
    assert bench.engine.held_bytes(C) > MOST_BYTES // 2


@pytest.mark.parametrize("most_bytes", [0, 16 * 1024, 300_000])
@pytest.mark.parametrize("mixed", [False, True], ids=["run", "converted"])
def test_a_full_account_drops_whole_frames_and_counts_each(most_bytes: int, mixed: bool) -> None:
    """The socket takes a run in part, so a record is cut: its rest must still follow."""
    bench = Bench(vnet=(B,) if mixed else ())
    bench.engine.charge(B, ACCOUNT, most_bytes)
    try:
        flood(bench, B)
        got = drain(bench, B)

        count = bench.engine.counters(B)
        frame = record(frame_from(A, mac_of(B), b"x" * 1400), bytes(10) if mixed else b"")
        assert got == frame * (FLOOD - bench.drops(B)["queue_full"])
        assert count.tx_frames == len(got) // len(frame)
        assert count.tx_bytes == count.tx_frames * (len(RECORD) - 4)
    finally:
        bench.close()


def test_memory_is_given_back_when_a_queue_has_been_empty_for_a_while(bench: Bench) -> None:
    flood(bench, B)
    held = bench.engine.held_bytes(B)
    drain(bench, B)
    full_kib = resident_kib()
    assert bench.engine.held_bytes(B) == held, "not at once, since it may soon be needed again"

    wait_relaxed(bench, B)

    assert full_kib - resident_kib() > held // 1024 * 3 // 4


def test_memory_is_kept_while_frames_wait_in_it(bench: Bench) -> None:
    flood(bench, B)
    flood(bench, C)
    drain(bench, C)

    wait_relaxed(bench, C)

    assert bench.engine.held_bytes(B) > 0
    assert drain(bench, B) == RECORD * (FLOOD - bench.drops(B)["queue_full"])


def test_a_detached_port_leaves_its_account(bench: Bench) -> None:
    bench.engine.charge(B, ACCOUNT, MOST_BYTES)
    flood(bench, B)

    bench.engine.detach(B, 1)
    bench.attach(B, generation=2)
    bench.engine.charge(B, ACCOUNT, MOST_BYTES)
    bench.engine.charge(C, ACCOUNT, MOST_BYTES)

    assert bench.engine.held_bytes(B) == 0
    flood(bench, C)
    assert bench.engine.held_bytes(C) > MOST_BYTES // 2
