"""What people read: at a terminal, on a page, and in the README of the repository."""

from pathlib import Path

import attrs
import pytest

import bench
from bench import chart, markdown, names, tables
from bench.report import Row, read_document

HERE = Path(bench.__file__).parent
README = HERE / "README.md"
PAGE = HERE.parent / "README.md"
FIGURES = HERE / "figures" / "latest.json"
LINKS = ("bench/figures/latest.svg", "bench/figures/latest.md")

MACHINE = {"kernel": "6.1.0", "cpus": 2, "model": "Some CPU", "memory_mib": 24105}

PEER = Row("frames_60", "bridge_veth", "Mframe/s", 5, 1.0, 0.9, 1.1, None)
SLOW = attrs.evolve(PEER, system="vde_switch", median=0.95)
OURS = Row("frames_60", "multiplexer_stream", "Mframe/s", 5, 9.0, 8.0, 9.5, 45_000_000)
RTT = Row("rtt_raw", "multiplexer_stream", "us", 5, 10.0, 9.0, 12.0, 30_000)
RTT_P99 = attrs.evolve(RTT, unit=names.MICROSECONDS_P99, median=20.0, max=25.0)
SHARE = Row("fairness", "multiplexer_stream", names.fair_share(1), 5, 0.99, 0.97, 1.0, 1_000)


def test_the_tables_show_each_ratio_and_whether_a_target_is_reached() -> None:
    text = "\n".join(tables.tables([PEER, SLOW, OURS]))

    assert "bridge_veth 9.00, vde_switch 9.47" in text
    (first, second) = (line for line in text.splitlines() if "at least" in line)
    assert first.split()[-2:] == ["9.00", "reached"]
    assert second.split()[-2:] == ["9.47", "MISSED"]


def test_side_by_side_there_is_a_line_for_each_system_and_a_column_for_each_work() -> None:
    assert list(markdown.side_by_side([PEER, SLOW, OURS, RTT, RTT_P99])) == [
        "| system | `frames_60` Mframe/s | `rtt_raw` us |",
        "| --- | --: | --: |",
        "| `bridge_veth` | 1 |  |",
        "| `vde_switch` | 0.95 |  |",
        "| **`multiplexer_stream`** | 9 | 10 |",
    ]


def test_a_run_of_no_such_work_has_no_such_table() -> None:
    assert list(markdown.side_by_side([SHARE])) == []


def test_the_figures_wanted_are_shown_with_what_was_found() -> None:
    lines = list(markdown.wanted([PEER, SLOW, OURS]))

    assert lines[2:] == [
        "| `frames_60` | `multiplexer_stream` | at least 5 x bridge_veth | 9 | reached |",
        "| `frames_60` | `multiplexer_stream` | at least 10 x vde_switch | 9.47 | **missed** |",
    ]


def test_each_number_of_ours_is_shown_with_how_many_frames_were_checked() -> None:
    lines = list(markdown.every_number([PEER, OURS]))

    assert lines[2:] == [
        "| `frames_60` | `bridge_veth` | Mframe/s | 1 | 0.9 | 1.1 | 5 |  |",
        "| `frames_60` | `multiplexer_stream` | Mframe/s | 9 | 8 | 9.5 | 5 | 45,000,000 |",
    ]


def test_the_page_says_which_machine_it_was() -> None:
    text = markdown.section(MACHINE, [PEER, OURS], *LINKS)

    assert "on 2 processors (Some CPU), 24105 MiB, Linux 6.1.0." in text
    assert all(f"({link})" in text for link in LINKS)


def test_a_section_takes_the_place_of_the_last_and_nothing_else_changes() -> None:
    page = f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n"

    once = markdown.put_into(page, "new\n")

    assert once == f"before\n{markdown.BEGIN}\nnew\n{markdown.END}\nafter\n"
    assert markdown.put_into(once, "new\n") == once


@pytest.mark.parametrize(
    "page",
    [
        "",
        markdown.BEGIN,
        markdown.END + markdown.BEGIN,
        2 * (markdown.BEGIN + markdown.END),
    ],
)
def test_a_page_without_one_place_for_it_is_left_alone(page: str) -> None:
    with pytest.raises(markdown.NoPlace, match="once, in this order"):
        markdown.put_into(page, "new\n")


def test_the_readme_shows_what_the_last_whole_run_found() -> None:
    """A table that is edited by hand, or forgotten, is no measurement.

    After a change of what is shown: python -m bench --show bench/figures/latest.json
    """
    section = ""
    if FIGURES.exists():  # else nobody has made a whole run, and there is nothing to show
        text = FIGURES.read_text()
        section = markdown.section(*read_document(text), *LINKS)
        assert FIGURES.with_suffix(".md").read_text() == markdown.whole(*read_document(text))

    page = PAGE.read_text()
    assert markdown.put_into(page, section) == page


def test_a_panel_has_the_best_first_whichever_way_that_is() -> None:
    rows = [PEER, OURS, RTT, attrs.evolve(RTT, system="multiplexer_run", median=9.5)]

    (frames, times) = chart.panels(rows)

    assert (frames.title, frames.unit) == ("frames_60", "Mframe/s, more is better")
    assert [bar.name for bar in frames.bars] == ["multiplexer_stream", "bridge_veth"]
    assert [bar.is_ours for bar in frames.bars] == [True, False]
    assert (times.title, times.unit) == ("rtt_raw", "us, less is better")
    assert [bar.median for bar in times.bars] == [9.5, 10.0]


def test_what_is_a_part_of_something_is_in_a_panel_of_its_own() -> None:
    (panel,) = chart.panels([RTT_P99, SHARE])

    assert panel.title == "shares"
    assert [(bar.name, bar.median) for bar in panel.bars] == [
        ("fairness: of its fair share, 1 flooding", 0.99)
    ]


@pytest.mark.parametrize("name", [*names.WORKS, *names.SYSTEMS])
def test_every_name_is_explained(name: str) -> None:
    assert f"| `{name}` |" in README.read_text()
