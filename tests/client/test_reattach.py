"""Which ends are final, and how long a client waits before each try."""

import pytest

from pfinet_client.reattach import LONGEST_PAUSE_S, Code, Pauses, farewell, is_final
from pfinet_proto.attach import Goodbye, GoodbyeCode, RefusedCode
from pfinet_proto.control import ErrorCode


@pytest.mark.parametrize("kind", [GoodbyeCode, RefusedCode, ErrorCode])
def test_what_is_final_is_what_no_later_try_can_change(kind: type[Code]) -> None:
    final = {
        GoodbyeCode: {"DELETED", "OWNER_CHANGED", "TAKEN_OVER"},
        RefusedCode: {"VERSION", "NOT_OWNER", "NO_TRANSPORT", "GONE"},
        ErrorCode: {"NOT_FOUND", "FORBIDDEN"},
    }

    assert {code.name for code in kind if is_final(code)} == final[kind]


def test_the_first_try_is_at_once_and_later_ones_ever_less_often() -> None:
    pauses = Pauses()

    waited = [pauses.next_s() for _ in range(60)]

    assert waited[:2] == [0.0, 0.005]
    assert waited == sorted(waited)
    assert waited[-1] == LONGEST_PAUSE_S


def test_no_pause_is_long_beside_what_was_waited_before_it() -> None:
    """So that a daemon which was away for long costs little more than that."""
    pauses, waited_s = Pauses(), 0.0
    for _ in range(60):
        pause_s = pauses.next_s()
        assert pause_s <= max(0.005, waited_s / 4)
        waited_s += pause_s


def test_an_attachment_that_lasted_begins_the_pauses_anew() -> None:
    pauses = Pauses()
    for _ in range(5):
        pauses.next_s()

    pauses.note_attached_for(LONGEST_PAUSE_S)

    assert pauses.next_s() == 0.0


def test_an_attachment_that_ended_at_once_counts_as_a_failed_try() -> None:
    pauses = Pauses()
    for _ in range(20):
        before = pauses.next_s()

    pauses.note_attached_for(0.01)

    assert pauses.next_s() > before


def test_a_farewell_is_the_daemon_s_text_or_else_its_code() -> None:
    assert farewell(Goodbye(GoodbyeCode.DELETED, "v1 was deleted")) == "v1 was deleted"
    assert farewell(Goodbye(GoodbyeCode.SHUTTING_DOWN)) == "shutting down"
