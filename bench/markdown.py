"""The report in Markdown: for `README.md` what one looks for, and a file with every number."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .chart import COMPARED
from .names import OURS, SYSTEMS
from .report import Row
from .targets import TARGETS

#: Between these lines of a page a whole run puts what it found.
BEGIN: Final = "<!-- make bench: begin -->"
END: Final = "<!-- make bench: end -->"


class NoPlace(ValueError):
    """A page has no place for the figures, or more than one."""


def put_into(page: str, section: str) -> str:
    """Return *page* with *section* at the place that is marked.

    Raises:
        NoPlace: if there is not one such place.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise NoPlace(f'wanted "{BEGIN}" and "{END}" once, in this order')
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{section}{END}{rest.partition(END)[2]}"


def section(machine: Mapping[str, Any], rows: Sequence[Row], plot: str, table: str) -> str:
    """Return what a page shows; *plot* and *table* are where it finds the files."""
    return "\n".join(
        [
            described(machine),
            "",
            *side_by_side(rows),
            "",
            f"[Every number, with its range and how many frames were checked]({table}).",
            "",
            *wanted(rows),
            "",
            f"![the same as bars, with the range of the runs]({plot})",
            "",
        ]
    )


def whole(machine: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the file with every number."""
    lines = ["# Figures", "", described(machine), "", *side_by_side(rows), "", *wanted(rows), ""]
    lines += ["## Every number", "", *every_number(rows), ""]
    return "\n".join(lines)


def described(machine: Mapping[str, Any]) -> str:
    return (
        f"Medians of one run of `make bench` on {machine['cpus']} processors"
        f" ({machine['model']}), {machine['memory_mib']} MiB, Linux {machine['kernel']}."
    )


def side_by_side(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of systems by works."""
    medians = {(row.work, row.unit, row.system): row.median for row in rows}
    works = [pair for pair in COMPARED.items() if any((*pair, s) in medians for s in SYSTEMS)]
    if not works:
        return
    yield from _head(["system", *(f"`{work}` {unit}" for work, unit in works)], 1)
    for system in SYSTEMS:
        cells = [medians.get((work, unit, system)) for work, unit in works]
        if any(cell is not None for cell in cells):
            name = f"**`{system}`**" if system in OURS else f"`{system}`"
            yield _line([name, *("" if cell is None else f"{cell:.3g}" for cell in cells)])


def wanted(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of the figures to reach."""
    checks = [(target, target.found(rows)) for target in TARGETS]
    if all(found is None for _, found in checks):
        return
    yield from _head(["work", "system", "wanted", "found", ""], 2)
    for target, found in checks:
        if found is not None:
            verdict = "reached" if target.is_reached(found) else "**missed**"
            cells = [f"`{target.work}`", f"`{target.system}`", target.bound]
            yield _line([*cells, f"{found:.3g}", verdict])


def every_number(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of all rows."""
    yield from _head(
        ["work", "system", "unit", "median", "min", "max", "runs", "frames checked"], 3
    )
    for row in rows:
        numbers = [f"{number:.4g}" for number in (row.median, row.min, row.max)]
        checked = "" if row.validated is None else f"{row.validated:,}"
        names = [f"`{row.work}`", f"`{row.system}`", row.unit]
        yield _line([*names, *numbers, str(row.n), checked])


def _head(titles: Sequence[str], words: int) -> Iterator[str]:
    """Yield the head of a table; all columns after the first *words* are of numbers."""
    yield _line(titles)
    yield _line(["---" if at < words else "--:" for at in range(len(titles))])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
