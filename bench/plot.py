"""The chart drawn, as SVG: the same rows give the same bytes."""

from collections.abc import Sequence
from io import StringIO
from math import ceil
from typing import Final

import matplotlib
from matplotlib.figure import Figure

from .chart import Panel

COLUMNS: Final = 3
INCHES_PER_BAR: Final = 0.22
INCHES_AROUND: Final = 0.9
COLOURS: Final = {True: "#c2410c", False: "#64748b"}


def svg(panels: Sequence[Panel], machine: str) -> str:
    """Return the picture of *panels*, with a line about the machine."""
    rows = [panels[first : first + COLUMNS] for first in range(0, len(panels), COLUMNS)]
    heights = [INCHES_AROUND + INCHES_PER_BAR * max(len(p.bars) for p in row) for row in rows]
    # Text stays text, and nothing in the file depends on when it was written.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 8.0}
    ):
        figure = Figure(figsize=(4.6 * COLUMNS, sum(heights) + 0.4), layout="constrained")
        figure.suptitle(machine)
        grid = figure.add_gridspec(ceil(len(panels) / COLUMNS), COLUMNS, height_ratios=heights)
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(grid[divmod(number, COLUMNS)])
            medians = [bar.median for bar in panel.bars]
            axes.barh(
                range(len(panel.bars)),
                medians,
                color=[COLOURS[bar.is_ours] for bar in panel.bars],
                xerr=(
                    [bar.median - bar.min for bar in panel.bars],
                    [bar.max - bar.median for bar in panel.bars],
                ),
                ecolor="#1e293b",
            )
            for at, bar in enumerate(panel.bars):
                axes.annotate(
                    f"{bar.median:.3g}",
                    (bar.max, at),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                )
            axes.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
            axes.invert_yaxis()
            axes.margins(x=0.15)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.unit)
            axes.spines[["top", "right"]].set_visible(False)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
