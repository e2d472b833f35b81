"""No number of ours without checks: a run is counted by the daemon or is none."""

from argparse import ArgumentTypeError
from collections.abc import Iterator

import pytest

from bench.__main__ import at_least_five, names
from bench.names import WORKS
from bench.systems.system import System
from bench.works.work import Found, Unchecked, sample


def counting(*readings: int) -> System:
    """Return a system whose counter says each of *readings* in turn."""
    left: Iterator[int] = iter(readings)
    return System("multiplexer_stream", checked=lambda: next(left))


def test_a_sample_has_what_was_checked_while_it_was_measured() -> None:
    (found,) = sample("frames_60", "Mframe/s", counting(100, 1100), lambda: Found(2.5, 1000))

    assert (found.system, found.value, found.validated) == ("multiplexer_stream", 2.5, 1000)


def test_frames_that_arrive_and_were_not_checked_are_no_sample() -> None:
    with pytest.raises(Unchecked, match="1000 arrived, 999 were checked"):
        list(sample("frames_60", "Mframe/s", counting(0, 999), lambda: Found(2.5, 1000)))


def test_a_measurement_in_which_nothing_was_checked_is_no_sample() -> None:
    """Also where the measurement does not count frames, as iperf3 does not."""
    with pytest.raises(Unchecked):
        list(sample("tcp_1", "Gbit/s", counting(7, 7), lambda: Found(9.9)))


def test_what_one_measurement_found_beside_is_a_sample_of_its_own() -> None:
    found = sample("rtt_raw", "us", counting(0, 6000), lambda: Found(9.0, others={"p99": 20.0}))

    assert [(each.unit, each.value, each.validated) for each in found] == [
        ("us", 9.0, 6000),
        ("p99", 20.0, 6000),
    ]


def test_a_peer_is_not_asked_what_it_checked() -> None:
    (found,) = sample("tcp_1", "Gbit/s", System("macvlan"), lambda: Found(9.9))

    assert found.validated is None


def test_works_are_done_in_one_order_whatever_is_asked_for() -> None:
    assert names("tcp_1,frames_60") == ["frames_60", "tcp_1"]
    assert names("all") == list(WORKS)


@pytest.mark.parametrize("text", ["frames_61", "", "frames_60,,tcp_1"])
def test_an_unknown_work_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no work, wanted some of frames_60"):
        names(text)


def test_less_than_five_runs_are_refused() -> None:
    assert at_least_five("5") == 5
    with pytest.raises(ArgumentTypeError, match="4 runs, wanted at least 5"):
        at_least_five("4")
