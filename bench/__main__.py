"""python -m bench: the peers and ourselves on the same works, side by side."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support.seclusion import seclude

from . import chart, markdown, report, tables
from .lineup import Lineup, lined_up
from .machine import this_machine
from .names import WORKS
from .works import fairness, filtered, floor, hostile, raw, scale, stacks, streams, survival
from .works.one_core import on_one_core
from .works.work import Round

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results" / "latest.json"
#: What a whole run found, kept with the source, and the page that shows it.
FIGURES: Final = HERE / "figures" / "latest.json"
PAGE: Final = HERE.parent / "README.md"


def side_by_side(lineup: Lineup) -> Mapping[str, Round]:
    """Return the works that every system takes part in, by name."""
    return {
        "frames_60": partial(raw.rate, lineup, "frames_60", 60),
        "frames_1514": partial(raw.rate, lineup, "frames_1514", 1514),
        "tcp_1": partial(stacks.tcp, lineup, "tcp_1", 1),
        "tcp_4": partial(stacks.tcp, lineup, "tcp_4", 4),
        "cpu_per_gbit": partial(stacks.cpu_per_gbit, lineup, "cpu_per_gbit"),
        "rtt_kernel": partial(stacks.rtt, lineup, "rtt_kernel"),
        "rtt_kernel_one_core": partial(on_one_core, stacks.rtt, lineup, "rtt_kernel_one_core"),
        "rtt_raw": partial(raw.rtt, lineup, "rtt_raw"),
        "rtt_raw_one_core": partial(on_one_core, raw.rtt, lineup, "rtt_raw_one_core"),
        "uplink_out": partial(raw.uplink_out, lineup, "uplink_out", 1514),
        "uplink_in": partial(raw.uplink_in, lineup, "uplink_in", 1514),
    }


#: Works for which ourselves are started in another shape, or not at all.
ALONE: Final[Mapping[str, Round]] = {
    "memcpy_1514": partial(floor.memcpy, "memcpy_1514"),
    "wakeup_us": partial(floor.wakeup, "wakeup_us"),
    "scale_100": partial(scale.scale, "scale_100", 100),
    "scale_1000": partial(scale.scale, "scale_1000", 1000),
    "idle_1000": partial(scale.idle, "idle_1000", 1000),
    "fairness": partial(fairness.fairness, "fairness"),
    "filtered_60": partial(filtered.filtered, "filtered_60"),
    "trio_tcp": partial(streams.tcp, "trio_tcp"),
    "trio_rtt": partial(streams.rtt, "trio_rtt"),
    "hostile_neighbour": partial(hostile.hostile, "hostile_neighbour"),
    "survival": partial(survival.survival, "survival"),
}


def measure(works: Sequence[str], runs: int) -> Iterator[report.Sample]:
    """Yield the samples of *runs* rounds of each of *works*."""
    beside = [work for work in works if work not in ALONE]
    if beside:
        with lined_up() as lineup:
            rounds = side_by_side(lineup)
            for work in beside:
                for _ in range(runs):
                    yield from rounds[work]()
    for work in works:
        for _ in range(runs if work in ALONE else 0):
            yield from ALONE[work]()


def write(results: Path, machine: Mapping[str, Any], rows: Sequence[report.Row]) -> None:
    """Write *results*, and beside it the same as a table and, if it can be one, as a plot."""
    # Only here, since only `make bench` installs what draws.
    from .plot import svg

    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(report.document(machine, rows))
    results.with_suffix(".md").write_text(markdown.whole(machine, rows))
    plot = results.with_suffix(".svg")
    plot.unlink(missing_ok=True)
    if panels := chart.panels(rows):
        plot.write_text(svg(panels, markdown.described(machine)))
    print(f"\nwritten to {results.with_suffix('')}.*")


def publish(machine: Mapping[str, Any], rows: Sequence[report.Row]) -> None:
    """Keep what a whole run found, and show it."""
    write(FIGURES, machine, rows)
    plot, table = (
        str(FIGURES.with_suffix(suffix).relative_to(PAGE.parent)) for suffix in (".svg", ".md")
    )
    section = markdown.section(machine, rows, plot, table)
    PAGE.write_text(markdown.put_into(PAGE.read_text(), section))
    print(f"shown in {PAGE}")


def names(text: str) -> list[str]:
    """Read the works to do."""
    if text == "all":
        return list(WORKS)
    found = text.split(",")
    if unknown := [name for name in found if name not in WORKS]:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no work, wanted some of {', '.join(WORKS)}"
        )
    return [work for work in WORKS if work in found]


def at_least_five(text: str) -> int:
    runs = int(text)
    if runs < report.MIN_RUNS:
        raise argparse.ArgumentTypeError(f"{runs} runs, wanted at least {report.MIN_RUNS}")
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--work", type=names, default="all", help="default: %(default)s")
    parser.add_argument("--runs", type=at_least_five, default=report.MIN_RUNS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--show", type=Path, metavar="RESULTS", help="measure nothing: show that run in README.md"
    )
    arguments = parser.parse_args()
    if arguments.show is not None:
        publish(*report.read_document(arguments.show.read_text()))
        return 0
    if (status := seclude()) is not None:
        return status
    samples = []
    for sample in measure(arguments.work, arguments.runs):
        print(f"{sample.work:18}{sample.system:24}{sample.value:12.4f} {sample.unit}", flush=True)
        samples.append(sample)
    rows = report.rows_of(samples)
    print("\n".join(tables.tables(rows)))
    machine = this_machine()
    write(arguments.output, machine, rows)
    if arguments.work == list(WORKS):
        publish(machine, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
