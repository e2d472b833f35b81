"""No client fills the log, and none hides in what another one wrote."""

import io

import attrs

from multiplexer.daemon.audit import Log
from multiplexer.daemon.clientlog import BURST, LINES_PER_S, STRANGERS, WARN_EACH_S, ClientLog
from multiplexer.daemon.peer import Peer

ALICE = Peer(pid=1, uid=20001, gid=20001)
BOB = Peer(pid=2, uid=20002, gid=20002)


@attrs.define
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def make() -> tuple[ClientLog, Clock, io.StringIO]:
    text, clock = io.StringIO(), Clock()
    return ClientLog(Log("control", text, journal=True), clock), clock, text


def test_a_line_says_who_and_what() -> None:
    log, _, text = make()
    log.audit("refused", ALICE, vif="web", why="it is taken")

    assert text.getvalue() == (
        '<5>multiplexerd[control]: audit: refused by="uid 20001 (pid 1)" vif=web'
        ' why="it is taken"\n'
    )


def test_one_uid_fills_its_own_part_and_no_more() -> None:
    log, _, text = make()
    for _ in range(10 * BURST):
        log.audit("refused", ALICE)
    log.audit("refused", BOB)

    lines = text.getvalue().splitlines()
    assert len(lines) == BURST + 1
    assert "uid 20002" in lines[-1]


def test_what_is_missing_is_counted_in_the_next_line() -> None:
    log, clock, text = make()
    for _ in range(BURST + 7):
        log.audit("refused", ALICE)
    clock.now_s += 1 / LINES_PER_S
    log.audit("refused", ALICE)
    clock.now_s += 1 / LINES_PER_S
    log.audit("refused", ALICE)

    last, after = text.getvalue().splitlines()[-2:]
    assert last.endswith("missing=7")
    assert "missing" not in after


def test_the_tracebacks_that_one_uid_causes_are_lines_of_its_own() -> None:
    log, _, text = make()
    for _ in range(10):
        log.error("\n".join(["line"] * 40), ALICE)
    log.error("\n".join(["line"] * 1000), BOB)
    log.audit("refused", ALICE)

    lines = text.getvalue().splitlines()
    assert len(lines) == 2 * 40 + 1000 + 1
    assert lines[-1].endswith("missing=320")


def test_strangers_together_fill_their_part_and_whom_we_know_still_has_lines() -> None:
    """A user has thousands of subordinate uids, each of which looks like another user."""
    log, _, text = make()
    log.is_known = lambda peer: peer == BOB
    for number in range(10 * STRANGERS):
        for _ in range(BURST):
            log.audit("refused", Peer(pid=1, uid=100_000 + number, gid=1))
    log.audit("refused", BOB)

    lines = text.getvalue().splitlines()
    assert len(lines) == STRANGERS * BURST + 1
    assert "uid 20002" in lines[-1]


def test_a_quiet_uid_gathers_no_more_than_a_burst() -> None:
    log, clock, text = make()
    log.audit("refused", ALICE)
    clock.now_s += 1_000_000
    for _ in range(2 * BURST):
        log.audit("refused", ALICE)

    assert len(text.getvalue().splitlines()) == 1 + BURST


def test_what_lasts_is_told_once_a_minute() -> None:
    """A listener without descriptors tries again ten times a second."""
    log, clock, text = make()
    for _ in range(20):
        log.warning("cannot accept a connection: Too many open files")
        clock.now_s += WARN_EACH_S / 10
    log.warning("cannot accept a connection: Cannot allocate memory")

    lines = [line.rpartition(": ")[2] for line in text.getvalue().splitlines()]
    assert lines == ["Too many open files"] * 2 + ["Cannot allocate memory"]
