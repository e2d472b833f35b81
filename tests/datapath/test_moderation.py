"""Naps instead of being woken for each frame: when, and that nothing is lost by it."""

import select
import threading
from collections.abc import Iterator

import pytest
from multiplexer.datapath._dp import ffi, lib

from tests.datapath.test_engine import A, B, Bench, frame_from, mac_of, record

SPELL_NS = lib.DP_SPELL_NS
MANY = lib.DP_SPELL_FRAMES


class Moderation:
    """One that has begun with a spell, at 1 s."""

    def __init__(self) -> None:
        self._state = ffi.new("struct dp_moderation *")
        self.now_ns = 10**9
        self.note(0, after_ns=0)

    def note(self, frames: int, after_ns: int) -> bool:
        self.now_ns += after_ns
        return bool(lib.dp_moderation_note(self._state, self.now_ns, frames))


@pytest.fixture
def moderation() -> Moderation:
    return Moderation()


def test_many_frames_in_a_spell_are_read_after_naps(moderation: Moderation) -> None:
    for _ in range(MANY - 1):
        assert not moderation.note(1, SPELL_NS // MANY)
    assert moderation.note(2, SPELL_NS // MANY + MANY)


def test_few_are_not(moderation: Moderation) -> None:
    assert not moderation.note(MANY - 1, SPELL_NS)
    assert not moderation.note(MANY - 1, SPELL_NS)


def test_it_ends_with_the_first_spell_of_few(moderation: Moderation) -> None:
    assert moderation.note(MANY, SPELL_NS)
    assert moderation.note(1, SPELL_NS // 2)
    assert not moderation.note(1, SPELL_NS)


def test_a_burst_after_a_pause_is_no_crowd(moderation: Moderation) -> None:
    assert not moderation.note(1000 * MANY, 2 * SPELL_NS)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def nap(bench: Bench, naps: bool) -> None:
    loop = bench.engine._loop
    lib.dp_loop_nap(loop, loop.ports[A : A + 1], naps)


def test_after_its_nap_a_port_is_served_though_nothing_wakes_us(bench: Bench) -> None:
    frame = frame_from(A, mac_of(B))
    nap(bench, True)
    engine = threading.Thread(target=bench.round_when_told)
    engine.start()
    bench.clients[A].send(record(frame))

    assert select.select([bench.clients[B]], [], [], 20)[0]
    bench.tell()
    engine.join()
    assert bench.received(B) == record(frame)


def test_who_naps_no_more_wakes_us_again(bench: Bench) -> None:
    frame = frame_from(A, mac_of(B))
    nap(bench, True)
    bench.round()
    nap(bench, False)
    bench.clients[A].send(record(frame))

    bench.round()
    assert bench.received(B) == record(frame)


def test_who_ends_while_it_naps_leaves_nothing_behind(bench: Bench) -> None:
    frame = frame_from(A, mac_of(B))
    nap(bench, True)
    bench.engine.detach(A, 1)
    bench.attach(A, generation=2)
    bench.clients[A].send(record(frame))

    bench.turn()
    assert bench.received(B) == record(frame)
