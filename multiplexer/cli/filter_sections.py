"""What is said of filters, and of the sets of addresses that they name."""

from collections.abc import Iterable

from multiplexer.cli.page import Column, Facts, Lines, Section, Table
from multiplexer.cli.phrases import lines
from pfinet_proto import control


def of_filters(result: control.Filters) -> Iterable[Section]:
    """Yield the table of all filters."""
    columns = (
        Column("UUID"),
        Column("FILTER"),
        Column("CHAIN"),
        Column("PRIORITY", is_number=True),
        Column("MADE"),
        Column("VIFS", is_number=True),
    )
    rows = tuple(
        (
            each.uuid,
            each.name,
            each.chain,
            str(each.priority),
            "stock" if each.stock else "own",
            str(each.vifs),
        )
        for each in result.filters
    )
    yield Table(columns, rows, "no filters")


def of_filter(filter_: control.FilterInfo) -> Iterable[Section]:
    """Yield what is known of one filter, without its text."""
    yield Facts(
        (
            ("filter", filter_.name),
            ("uuid", filter_.uuid),
            ("chain", f"{filter_.chain}, priority {filter_.priority}"),
            ("made", "with the installation" if filter_.stock else "by an administrator"),
            ("vifs", str(filter_.vifs)),
        )
    )


def of_filter_text(filter_: control.FilterText) -> Iterable[Section]:
    """Yield the text of one filter."""
    yield Lines(filter_.xml)


def of_sets(result: control.Sets) -> Iterable[Section]:
    """Yield the table of all sets."""
    columns = (Column("SET"), Column("MEMBERS", is_number=True))
    yield Table(columns, tuple((each.name, str(each.members)) for each in result.sets), "no sets")


def of_set(named: control.SetInfo) -> Iterable[Section]:
    """Yield how large one set is."""
    yield Facts((("set", named.name), ("members", str(named.members))))


def of_set_members(named: control.SetMembers) -> Iterable[Section]:
    """Yield what is in one set."""
    yield Facts((("set", named.name), ("members", lines(named.members))))
