"""What was measured, as values: samples, and the rows made of them.

Pure.  A row says how often a number was measured, and one of ours also how
many frames the daemon's own counters say that it checked in that work: without
that it is not a row.
"""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from .names import OURS, SYSTEMS, WORKS

#: Fewer say nothing about how far a number can be trusted.
MIN_RUNS: Final = 5


class BadRow(ValueError):
    """A row that must not be written; the text says which, and why."""


@attrs.frozen
class Sample:
    """What one run found.  *validated* is None where nothing of ours ran."""

    work: str
    system: str
    unit: str
    value: float
    validated: int | None = None


@attrs.frozen
class Row:
    """All runs of one number: *n* of them; *validated* is their sum."""

    work: str
    system: str
    unit: str
    n: int
    median: float
    min: float
    max: float
    validated: int | None

    def __attrs_post_init__(self) -> None:
        where = f"{self.work}, {self.system}, {self.unit}"
        if self.work not in WORKS:
            raise BadRow(f'{where}: no work is called "{self.work}"')
        if self.system not in SYSTEMS:
            raise BadRow(f'{where}: no system is called "{self.system}"')
        if self.n < MIN_RUNS:
            raise BadRow(f"{where}: {self.n} runs, wanted at least {MIN_RUNS}")
        if not self.min <= self.median <= self.max:
            raise BadRow(f"{where}: {self.median} is not within {self.min} to {self.max}")
        if self.system in OURS and not self.validated:
            raise BadRow(f"{where}: the daemon counted no frame that it checked")
        if self.system not in OURS and self.validated is not None:
            raise BadRow(f"{where}: validated is {self.validated}, and nobody else checks")


Key = tuple[str, str, str]


def rows_of(samples: Iterable[Sample]) -> list[Row]:
    """Return a row for each number, in the order in which they first came.

    Raises:
        BadRow: if one must not be written.
    """
    runs: dict[Key, list[Sample]] = {}
    for sample in samples:
        runs.setdefault((sample.work, sample.system, sample.unit), []).append(sample)
    return [_row_of(*key, found) for key, found in runs.items()]


def _row_of(work: str, system: str, unit: str, found: Sequence[Sample]) -> Row:
    values = [sample.value for sample in found]
    counts = [sample.validated for sample in found]
    if any((count is None) != (counts[0] is None) for count in counts):
        raise BadRow(f"{work}, {system}, {unit}: validated is missing in some runs")
    return Row(
        work,
        system,
        unit,
        len(values),
        round(statistics.median(values), 4),
        round(min(values), 4),
        round(max(values), 4),
        None if None in counts else sum(count for count in counts if count is not None),
    )


def document(machine: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the text of a results file."""
    content = {"machine": machine, "rows": [attrs.asdict(row) for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def read_document(text: str) -> tuple[dict[str, Any], list[Row]]:
    """Return the machine and the rows of a results file.

    Raises:
        BadRow: if one of them is none.
    """
    try:
        content = json.loads(text)
        return content["machine"], [Row(**row) for row in content["rows"]]
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise BadRow(f"not a results file: {error}") from error
