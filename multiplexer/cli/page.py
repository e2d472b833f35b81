"""A page: what there is to say, in lists of facts and tables, and how that is laid out.

Plain columns are for programs that cut them, and for files; the styled ones are for
a terminal of some width.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import attrs
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

NOTHING: Final = "-"


@attrs.frozen
class Column:
    """A column's heading; numbers stand at its right."""

    heading: str
    is_number: bool = False


@attrs.frozen
class Table:
    """Rows of text under *columns*; *empty* is said where there are no rows."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str


@attrs.frozen
class Facts:
    """What is known of one thing: pairs of a name and one or more lines."""

    pairs: tuple[tuple[str, str], ...]


@attrs.frozen
class Lines:
    """Text that is laid out already."""

    text: str


Section = Table | Facts | Lines


@attrs.frozen
class Page:
    """All that there is to say; an empty page says nothing."""

    sections: tuple[Section, ...] = ()


def page_as_text(page: Page) -> str:
    """Return *page* in plain aligned columns."""
    return _join(_plain_section(section) for section in page.sections)


def page_as_terminal_text(page: Page, width: int) -> str:
    """Return *page* for a terminal of *width* columns."""
    return _join(_styled_section(section, width) for section in page.sections)


def _join(sections: Iterable[str]) -> str:
    return "\n".join(sections)


def _plain_section(section: Section) -> str:
    if isinstance(section, Lines):
        return section.text
    if isinstance(section, Facts):
        width = max(len(name) for name, _ in section.pairs)
        return "".join(_plain_fact(name, text, width) for name, text in section.pairs)
    if not section.rows:
        return f"{section.empty}\n"
    lines = [tuple(column.heading for column in section.columns), *section.rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(_plain_line(line, section.columns, widths) for line in lines)


def _plain_fact(name: str, text: str, width: int) -> str:
    first, *more = text.split("\n")
    lead = " " * (width + 2)
    return "".join([f"{name:<{width}}  {first}\n", *(f"{lead}{line}\n" for line in more)])


def _plain_line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    return "  ".join(parts).rstrip() + "\n"


def _styled_section(section: Section, width: int) -> str:
    if isinstance(section, Lines):
        return section.text
    table = RichTable(box=None, pad_edge=False, show_header=isinstance(section, Table))
    if isinstance(section, Facts):
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        rows: Iterable[Sequence[str]] = section.pairs
    elif section.rows:
        for column in section.columns:
            table.add_column(column.heading, justify="right" if column.is_number else "left")
        rows = section.rows
    else:
        return f"{section.empty}\n"
    for row in rows:
        # Text, because a name in brackets is no markup.
        table.add_row(*map(Text, row))
    console = Console(width=width, force_terminal=True, highlight=False)
    with console.capture() as written:
        console.print(table)
    return written.get()
