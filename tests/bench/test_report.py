"""What may be written as a result, and what is read from it."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from bench import report
from bench.report import BadRow, Row, Sample, Target

README = Path(report.__file__).parent / "README.md"

PEER = Row("frames_60", "bridge_veth", "Mframe/s", 5, 1.0, 0.9, 1.1, None)
OURS = Row("frames_60", "multiplexer_stream", "Mframe/s", 5, 9.0, 8.0, 9.5, 45_000_000)


def samples(system: str, values: list[float], validated: int | None = None) -> list[Sample]:
    return [Sample("frames_60", system, "Mframe/s", value, validated) for value in values]


@pytest.mark.parametrize("validated", [None, 0])
def test_a_row_of_ours_without_validated_frames_is_refused(validated: int | None) -> None:
    with pytest.raises(BadRow, match="the daemon counted no frame that it checked"):
        attrs.evolve(OURS, validated=validated)


def test_a_peer_cannot_claim_that_it_checked() -> None:
    with pytest.raises(BadRow, match="nobody else checks"):
        attrs.evolve(PEER, validated=5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"work": "frames_61"}, 'no work is called "frames_61"'),
        ({"system": "hub"}, 'no system is called "hub"'),
        ({"n": 4}, "4 runs, wanted at least 5"),
        ({"median": 2.0}, "2.0 is not within 0.9 to 1.1"),
    ],
)
def test_a_row_that_makes_no_sense_says_what_is_wrong(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRow, match=says):
        attrs.evolve(PEER, **change)


def test_a_row_has_the_median_and_range_of_all_runs_and_the_sum_of_what_was_checked() -> None:
    (row,) = report.rows_of(samples("multiplexer_stream", [5, 1, 4, 2, 3], validated=7))

    assert row == Row("frames_60", "multiplexer_stream", "Mframe/s", 5, 3, 1, 5, 35)


def test_runs_of_different_systems_and_units_are_different_rows() -> None:
    values: list[float] = [1, 2, 3, 4, 5]
    found = [*samples("macvlan", values), *samples("bridge_tap", values)]
    found += [attrs.evolve(sample, unit="us") for sample in found]

    assert [(row.system, row.unit) for row in report.rows_of(found)] == [
        ("macvlan", "Mframe/s"),
        ("bridge_tap", "Mframe/s"),
        ("macvlan", "us"),
        ("bridge_tap", "us"),
    ]


def test_one_run_that_was_not_counted_spoils_the_row() -> None:
    found = samples("multiplexer_stream", [1, 2, 3, 4], validated=7)
    found += samples("multiplexer_stream", [5])

    with pytest.raises(BadRow, match="validated is missing in some runs"):
        report.rows_of(found)


def test_the_results_file_has_the_fields_that_are_promised_and_is_read_again() -> None:
    text = report.document({"cpus": 2}, [PEER, OURS])

    content = json.loads(text)
    assert list(content) == ["machine", "rows"]
    fields = ["work", "system", "unit", "n", "median", "min", "max", "validated"]
    assert [list(row) for row in content["rows"]] == [fields, fields]
    assert report.read_rows(text) == [PEER, OURS]


@pytest.mark.parametrize("text", ["", "{}", '{"rows": [{"work": "tcp_1"}]}'])
def test_what_is_no_results_file_is_refused(text: str) -> None:
    with pytest.raises(BadRow, match="not a results file"):
        report.read_rows(text)


def test_a_row_of_ours_that_lost_its_validated_in_the_file_is_refused() -> None:
    content = json.loads(report.document({}, [OURS]))
    content["rows"][0]["validated"] = None

    with pytest.raises(BadRow):
        report.read_rows(json.dumps(content))


def test_a_target_beside_a_peer_is_the_ratio_of_medians_of_the_same_work() -> None:
    target = Target("frames_60", "multiplexer_stream", "Mframe/s", 5, "bridge_veth")
    other_work = attrs.evolve(PEER, work="frames_1514", median=0.95)

    found = target.found([other_work, PEER, OURS])

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


@pytest.mark.parametrize("rows", [[], [OURS], [PEER], [OURS, attrs.evolve(PEER, median=0, min=0)]])
def test_a_target_whose_rows_are_missing_is_not_found(rows: list[Row]) -> None:
    target = Target("frames_60", "multiplexer_stream", "Mframe/s", 5, "bridge_veth")

    assert target.found(rows) is None


def test_the_tables_show_each_ratio_and_whether_a_target_is_reached() -> None:
    slow = attrs.evolve(PEER, system="vde_switch", median=0.95)

    text = "\n".join(report.tables([PEER, slow, OURS]))

    assert "bridge_veth 9.00, vde_switch 9.47" in text
    (first, second) = (line for line in text.splitlines() if "at least" in line)
    assert first.split()[-2:] == ["9.00", "reached"]
    assert second.split()[-2:] == ["9.47", "MISSED"]


@pytest.mark.parametrize("name", [*report.WORKS, *report.SYSTEMS])
def test_every_name_is_explained(name: str) -> None:
    assert f"| `{name}` |" in README.read_text()


def test_each_target_is_of_something_that_is_measured() -> None:
    for target in report.TARGETS:
        assert target.work in report.WORKS
        assert target.system in report.OURS
        assert target.peer is None or target.peer in report.PEERS
