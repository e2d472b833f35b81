"""The suite passes a right switch, and fails each wrong one by the check that is about it."""

from collections.abc import Mapping
from functools import partial

import pytest
import trio
import trio.testing

from pfinet_proto.errors import BadMessage
from tests.conformance import way_in
from tests.conformance.fake_switch import Flaw, fake_switch
from tests.conformance.way_in import (
    MESSAGE_CHECKS,
    STREAM_CHECKS,
    Check,
    check_way_in,
    run_check,
)

SEEN_BY: Mapping[Flaw, Check] = {
    Flaw.REORDERS: way_in.frames_keep_their_order,
    Flaw.LOSES_LONG_FRAMES: way_in.frames_of_every_size_pass_both_ways,
    Flaw.ONE_WAY: way_in.frames_pass_both_ways_at_once,
    Flaw.FORGETS_PIECES: way_in.a_record_may_come_in_many_writes,
    Flaw.READS_ONE_RECORD: way_in.many_records_may_come_in_one_write,
    Flaw.ENDS_ON_A_RUNT: way_in.a_runt_and_a_giant_are_dropped_and_no_more,
    Flaw.PASSES_A_GIANT: way_in.a_runt_and_a_giant_are_dropped_and_no_more,
    Flaw.IGNORES_BAD_LENGTHS: way_in.a_length_of_0_ends_the_connection,
    Flaw.IGNORES_AN_EMPTY_MESSAGE: way_in.an_empty_message_ends_the_connection,
    Flaw.PASSES_HALF_A_RECORD: way_in.half_a_record_before_the_end_detaches_that_client_alone,
    Flaw.ENDS_THE_NEIGHBOUR_TOO: way_in.the_greatest_length_ends_the_connection,
    Flaw.LETS_TWO_IN: way_in.a_second_client_is_refused_until_the_first_has_left,
    Flaw.STAYS_TAKEN: way_in.a_second_client_is_refused_until_the_first_has_left,
    Flaw.WAITS_FOR_THE_READER: way_in.who_does_not_read_costs_the_sender_nothing,
    Flaw.CUTS_WHEN_FULL: way_in.who_does_not_read_costs_the_sender_nothing,
    Flaw.TAKES_DESCRIPTORS: way_in.descriptors_are_not_taken,
}


@pytest.mark.parametrize("messages", [False, True], ids=["stream", "messages"])
async def test_a_right_switch_passes_every_check(messages: bool) -> None:
    await check_way_in(partial(fake_switch, messages=messages))


def test_every_flaw_is_tried() -> None:
    assert set(SEEN_BY) == set(Flaw)


@pytest.mark.parametrize("flaw", Flaw, ids=lambda flaw: flaw.name.lower())
async def test_a_wrong_switch_fails_the_check_about_it(
    flaw: Flaw, autojump_clock: trio.testing.MockClock
) -> None:
    """Nothing is outside this process: when nothing moves any more, time jumps to the guard."""
    if flaw is Flaw.STAYS_TAKEN:
        # Here the check never stops moving, so time must.
        autojump_clock.rate = 100
    with pytest.RaisesGroup(
        pytest.RaisesExc(
            (AssertionError, BadMessage, trio.TooSlowError, trio.BrokenResourceError)
        ),
        allow_unwrapped=True,
        flatten_subgroups=True,
    ):
        check = SEEN_BY[flaw]
        await run_check(check, partial(fake_switch, flaw, check not in STREAM_CHECKS))


def test_no_check_is_forgotten() -> None:
    """Every coroutine of the module whose name is public is a check or runs them."""
    tools = {"both", "exchange", "run_check", "check_way_in"}
    checks = {check.__name__ for check in (*STREAM_CHECKS, *MESSAGE_CHECKS)}
    public = {
        name
        for name, value in vars(way_in).items()
        if getattr(value, "__module__", None) == way_in.__name__
        and hasattr(value, "__code__")
        and value.__code__.co_flags & 0x80
        and not name.startswith("_")
    }

    assert public - tools == checks
