"""What may be written as a result, and what is read from it."""

import json
from typing import Any

import attrs
import pytest

from bench import report
from bench.report import BadRow, Row, Sample

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


def test_nor_can_the_machine_itself() -> None:
    with pytest.raises(BadRow, match="nobody else checks"):
        Row("wakeup_us", "machine", "us, one core", 5, 2.0, 1.9, 2.1, 5)


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
    assert report.read_document(text) == ({"cpus": 2}, [PEER, OURS])


@pytest.mark.parametrize("text", ["", "{}", '{"machine": {}, "rows": [{"work": "tcp_1"}]}'])
def test_what_is_no_results_file_is_refused(text: str) -> None:
    with pytest.raises(BadRow, match="not a results file"):
        report.read_document(text)


def test_a_row_of_ours_that_lost_its_validated_in_the_file_is_refused() -> None:
    content = json.loads(report.document({}, [OURS]))
    content["rows"][0]["validated"] = None

    with pytest.raises(BadRow):
        report.read_document(json.dumps(content))
