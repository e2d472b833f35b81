"""How much may wait for a peer: reckoned by frames and bytes, and by how fast it takes them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiplexer.datapath._dp import ffi, lib

FRAME = lib.DP_BACKLOG_FRAME
MEMORY = 1 << 20
PART = MEMORY // lib.DP_BACKLOG_MARKS
MS_NS = lib.DP_BACKLOG_LOOK_NS
LIGHT = 4


class Backlog:
    """One that is told of frames, and a peer that takes them in order."""

    def __init__(self, index: int = 0) -> None:
        self._state = ffi.new("struct dp_backlog *")
        lib.dp_backlog_open(self._state, MEMORY, index)
        self.now_ns = 10**9
        self.given = self.taken = index
        self.waiting: list[int] = []

    def give(self, length: int) -> None:
        self.given = (self.given + length) % 2**32
        self.waiting.append(length)
        lib.dp_backlog_give(self._state, self.given, length)

    def take(self, frames: int) -> None:
        for _ in range(frames):
            self.taken = (self.taken + self.waiting.pop(0)) % 2**32

    def look(self, after_ns: int = MS_NS) -> None:
        self.now_ns += after_ns
        lib.dp_backlog_look(self._state, self.now_ns, self.taken)

    def has_room(self, heavy: bool = True) -> bool:
        lib.dp_backlog_see(self._state, self.taken)
        return bool(lib.dp_backlog_has_room(self._state, heavy))

    @property
    def work(self) -> int:
        return sum(length + FRAME for length in self.waiting)

    def fill(self, length: int, heavy: bool = True) -> int:
        """Give frames until there is no room for more, and return how many wait then."""
        while self.has_room(heavy) and len(self.waiting) * length < MEMORY - length:
            self.give(length)
        return len(self.waiting)


@pytest.fixture
def slow() -> Backlog:
    """Of a peer that has long taken 20 short frames in a millisecond."""
    backlog = Backlog()
    for _ in range(12000):
        backlog.give(72)
    for _ in range(400):
        backlog.take(20)
        backlog.look()
    while backlog.waiting:
        backlog.take(20)
        backlog.look()
    return backlog


def test_nothing_is_bounded_before_a_peer_was_seen_to_be_slow() -> None:
    assert Backlog().fill(72) * 72 >= MEMORY - 2 * 72


def test_a_slow_peer_is_given_few_short_frames_by_those_who_send_much(slow: Backlog) -> None:
    most = lib.DP_BACKLOG_MIN // (72 + FRAME)
    coarse = 2 * PART // 72

    heavy = slow.fill(72)
    assert most - coarse <= heavy <= 1.25 * most
    light = slow.fill(72, heavy=False)
    assert LIGHT * most - coarse <= light <= 1.25 * LIGHT * most


def test_as_many_bytes_of_long_frames_are_no_more_work(slow: Backlog) -> None:
    most = lib.DP_BACKLOG_MIN // (60000 + FRAME) + 1
    assert most - 2 <= slow.fill(60000) <= most


def test_a_faster_peer_is_given_what_it_takes_in_a_few_milliseconds() -> None:
    backlog = Backlog()
    for _ in range(14000):
        backlog.give(72)
    for _ in range(120):
        backlog.take(100)
        backlog.look()
    per_ms = 100 * (72 + FRAME)
    backlog.take(len(backlog.waiting))

    assert per_ms * lib.DP_BACKLOG_MS > lib.DP_BACKLOG_MIN
    waiting = backlog.fill(72) * (72 + FRAME)
    assert 0.9 < waiting / (per_ms * lib.DP_BACKLOG_MS) < 1.2


def test_a_peer_that_had_no_processor_for_a_moment_is_not_held_to_be_slow() -> None:
    backlog = Backlog()
    for _ in range(120):
        while len(backlog.waiting) < 10000:
            backlog.give(72)
        backlog.take(5000)
        backlog.look()
    before = backlog.fill(72)
    for _ in range(4):
        backlog.look()

    assert backlog.has_room()
    assert len(backlog.waiting) == before


def test_a_peer_that_had_taken_everything_has_not_taken_less_than_that(slow: Backlog) -> None:
    """Of what it takes next, only the begin of a part of the memory is known."""
    few = slow.fill(72)
    while slow.waiting:
        slow.take(min(20, len(slow.waiting)))
        slow.look()
    for _ in range(3):
        slow.give(72)
        slow.give(72)
        slow.take(1)
        slow.look()
    assert slow.fill(72) < 2 * few


def test_who_takes_everything_is_soon_given_more_again(slow: Backlog) -> None:
    few = slow.fill(72)
    slow.take(len(slow.waiting))
    for _ in range(12):
        slow.give(72)
        slow.take(1)
        slow.look(after_ns=10**9)
    assert slow.fill(72) > 5 * few


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.booleans(), st.integers(24, 65000)), max_size=200),
    st.randoms(use_true_random=False),
)
def test_what_waits_is_known_to_a_part_of_the_memory(
    index: int, steps: list[tuple[bool, int]], chance: random.Random
) -> None:
    """Never less than it is, or the bound would be none."""
    backlog = Backlog(index // 8 * 8)
    for gives, length in steps:
        padded = (length + 7) // 8 * 8
        if gives and sum(backlog.waiting) + padded <= MEMORY - PART:
            backlog.give(padded)
        elif backlog.waiting:
            backlog.take(chance.randint(1, len(backlog.waiting)))
        given = backlog._state.given
        index_taken = backlog.taken
        known = given - (
            given
            if index_taken == backlog.given
            else backlog._state.marks[index_taken // PART % lib.DP_BACKLOG_MARKS]
        )
        longest = max(backlog.waiting, default=0)
        assert backlog.work <= known + longest + FRAME
