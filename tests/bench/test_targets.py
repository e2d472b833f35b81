"""A figure to reach is found in the rows of one run, or is not."""

import attrs
import pytest

from bench.names import OURS, PEERS, WORKS
from bench.report import Row
from bench.targets import TARGETS, Target

PEER = Row("frames_60", "bridge_veth", "Mframe/s", 5, 1.0, 0.9, 1.1, None)
OURS_60 = Row("frames_60", "multiplexer_stream", "Mframe/s", 5, 9.0, 8.0, 9.5, 45_000_000)


def test_a_target_beside_a_peer_is_the_ratio_of_medians_of_the_same_work() -> None:
    target = Target("frames_60", "multiplexer_stream", "Mframe/s", 5, "bridge_veth")
    other_work = attrs.evolve(PEER, work="frames_1514", median=0.95)

    found = target.found([other_work, PEER, OURS_60])

    assert found == 9.0
    assert target.is_reached(found)
    assert not target.is_reached(4.9)


def test_a_target_of_its_own_is_the_median() -> None:
    row = Row("scale_1000", "multiplexer_stream", "s", 5, 11.0, 9.0, 12.0, 1000)
    target = Target("scale_1000", "multiplexer_stream", "s", 10, at_most=True)

    found = target.found([row])

    assert found == 11.0
    assert not target.is_reached(found)
    assert target.is_reached(9.9)


@pytest.mark.parametrize(
    "rows", [[], [OURS_60], [PEER], [OURS_60, attrs.evolve(PEER, median=0, min=0)]]
)
def test_a_target_whose_rows_are_missing_is_not_found(rows: list[Row]) -> None:
    target = Target("frames_60", "multiplexer_stream", "Mframe/s", 5, "bridge_veth")

    assert target.found(rows) is None


def test_a_target_says_what_is_wanted() -> None:
    beside = Target("rtt_kernel", "multiplexer_run", "us", 0.5, "vde_switch", at_most=True)
    alone = Target("scale_1000", "multiplexer_stream", "s", 10, at_most=True)

    assert str(beside) == "rtt_kernel multiplexer_run: at most 0.5 x vde_switch"
    assert str(alone) == "scale_1000 multiplexer_stream: at most 10 s"


def test_each_target_is_of_something_that_is_measured() -> None:
    for target in TARGETS:
        assert target.work in WORKS
        assert target.system in OURS
        assert target.peer is None or target.peer in PEERS + OURS
