"""Rows of numbers become counters with names."""

import pytest

from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.observe.counters import read_row
from pfinet_proto.control import Counters

NAMES = ("pass", "runt", "src_mac")


def test_a_row_is_traffic_both_ways_and_the_drops_that_occurred() -> None:
    counters = read_row((1, 2, 3, 4, 1000, 0, 7), NAMES)

    assert counters == Counters(1, 2, 3, 4, {"src_mac": 7})


def test_what_passed_is_no_drop() -> None:
    assert read_row((0, 0, 0, 0, 5, 0, 0), NAMES).drops == {}


@pytest.mark.parametrize("row", [(1, 2, 3, 4), (1, 2, 3, 4, 0, 0), (1, 2, 3, 4, 0, 0, 0, 0)])
def test_a_row_of_another_length_is_not_guessed_at(row: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="verdicts, wanted 3"):
        read_row(row, NAMES)


def test_the_engine_has_a_name_for_each_verdict_and_pass_comes_first() -> None:
    assert VERDICTS[0] == "pass"
    assert len(set(VERDICTS)) == len(VERDICTS)

    assert set(read_row((0,) * 4 + (1,) * len(VERDICTS), VERDICTS).drops) == set(VERDICTS[1:])
