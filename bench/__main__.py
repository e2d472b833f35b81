"""python -m bench: the peers and ourselves on the same works, side by side."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.support.seclusion import seclude

from . import machine, report
from .lineup import Lineup, lined_up
from .works import hostile, raw, scale, stacks, survival
from .works.work import Round

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


def side_by_side(lineup: Lineup) -> Mapping[str, Round]:
    """Return the works that every system takes part in, by name."""
    return {
        "frames_60": partial(raw.rate, lineup, "frames_60", 60),
        "frames_1514": partial(raw.rate, lineup, "frames_1514", 1514),
        "tcp_1": partial(stacks.tcp, lineup, "tcp_1", 1),
        "tcp_4": partial(stacks.tcp, lineup, "tcp_4", 4),
        "rtt_kernel": partial(stacks.rtt, lineup, "rtt_kernel"),
        "rtt_raw": partial(raw.rtt, lineup, "rtt_raw"),
    }


#: Works for which ourselves are started in another shape.
ALONE: Final[Mapping[str, Round]] = {
    "scale_1000": partial(scale.scale, "scale_1000"),
    "idle_1000": partial(scale.idle, "idle_1000"),
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


def names(text: str) -> list[str]:
    """Read the works to do."""
    if text == "all":
        return list(report.WORKS)
    found = text.split(",")
    if unknown := [name for name in found if name not in report.WORKS]:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no work, wanted some of {', '.join(report.WORKS)}"
        )
    return [work for work in report.WORKS if work in found]


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
    arguments = parser.parse_args()
    if (status := seclude()) is not None:
        return status
    samples = []
    for sample in measure(arguments.work, arguments.runs):
        print(f"{sample.work:18}{sample.system:24}{sample.value:12.4f} {sample.unit}", flush=True)
        samples.append(sample)
    rows = report.rows_of(samples)
    print("\n".join(report.tables(rows)))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(report.document(machine.this_machine(), rows))
    print(f"\nwritten to {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
