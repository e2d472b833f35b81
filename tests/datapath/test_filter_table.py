"""Loading of a filter's table: what fits is taken, and every number that does not is refused."""

import struct

import pytest
from multiplexer.datapath._dp import lib

from multiplexer.policy.nwfilter import tables
from multiplexer.policy.nwfilter.tables import (
    Chain,
    Count,
    Field,
    InSet,
    Masked,
    Number,
    Row,
    Table,
    Verb,
    pack,
)
from tests.datapath.gate import loads

JUMP = Row(Verb.JUMP)
TABLE = Table(
    l2_out=(JUMP, Row(Verb.DROP, (Masked(Field.ETH_SRC, b"\x02" * 6, b"\xff" * 6),))),
    ipv4_in=(
        Row(Verb.ACCEPT, (Number(Field.CT, 1, 1), Count(0, 1))),
        Row(Verb.DROP, (InSet(Field.IPV4_SRC, ((b"\1", b"\2"), (b"\3", b"\4"))),)),
    ),
    chains=(Chain("mac", (Row(Verb.RETURN),)),),
)
PACKED = pack(TABLE)
HEAD, LISTS, RULES = 32, 32, 32 + 7 * 8
CONDITIONS = RULES + 5 * 12
RANGES = len(PACKED) - 2 * 32


def changed(at: int, form: str, *values: int) -> bytes:
    """Return the table with some bytes changed."""
    data = bytearray(PACKED)
    struct.pack_into(f"<{form}", data, at, *values)
    return bytes(data)


def test_what_fits_is_taken() -> None:
    assert loads(PACKED)
    assert loads(pack(Table()))


def test_the_numbers_are_those_of_the_core() -> None:
    for field in Field:
        assert getattr(lib, f"DP_FIELD_{field.name}") == field
    assert len(Field) == lib.DP_N_FIELDS
    for verb in Verb:
        assert getattr(lib, f"DP_ACT_{verb.name}") == verb
    for learns in tables.Learns:
        if learns:
            assert getattr(lib, f"DP_LEARNS_{learns.name}") == learns
    for flow in tables.Flow:
        assert getattr(lib, f"DP_FLOW_{flow.name}") == flow
    for name, value in {
        "FILTER_MAGIC": tables.MAGIC,
        "FILTER_MAX_LISTS": tables.MAX_LISTS,
        "FILTER_MAX_RULES": tables.MAX_RULES,
        "FILTER_MAX_CONDS": tables.MAX_CONDITIONS,
        "FILTER_MAX_WIDES": tables.MAX_WIDES,
        "FILTER_MAX_RANGES": tables.MAX_RANGES,
        "FILTER_MAX_LEN": tables.MAX_BYTES,
        "MAX_COUNTS": tables.MAX_COUNTS,
        "N_FIXED_LISTS": len(tables.LIST_NAMES),
    }.items():
        assert getattr(lib, f"DP_{name}") == value, name


@pytest.mark.parametrize("length", range(len(PACKED)))
def test_a_table_that_is_cut_is_refused(length: int) -> None:
    assert not loads(PACKED[:length])


def test_a_table_with_a_tail_is_refused() -> None:
    assert not loads(PACKED + b"\0")
    assert not loads(changed(4, "I", len(PACKED) + 1) + b"\0")


@pytest.mark.parametrize(
    ("what", "bad"),
    [
        ("magic", changed(0, "I", 0x3146574E)),
        ("too few lists", changed(8, "I", 5)),
        ("unknown thing to learn", changed(28, "I", 4)),
        ("list that begins elsewhere", changed(LISTS, "I", 1)),
        ("list beyond the rules", changed(LISTS + 4, "I", 6)),
        ("rules of no list", changed(LISTS + 6 * 8 + 4, "I", 0)),
        ("unknown action", changed(RULES, "B", 6)),
        ("jump to a fixed list", changed(RULES + 2, "H", 0)),
        ("jump beyond the lists", changed(RULES + 2, "H", 7)),
        ("jump from the network layer", changed(RULES + 2 * 12, "BBH", 5, 2, 6)),
        ("jump from a chain", changed(RULES + 4 * 12, "BBH", 5, 0, 6)),
        ("conditions beyond the end", changed(RULES + 12 + 4, "I", 4)),
        ("unknown field", changed(CONDITIONS, "B", lib.DP_N_FIELDS)),
        ("negated twice", changed(CONDITIONS + 1, "B", 2)),
        ("unknown kind", changed(CONDITIONS + 2, "B", 6)),
        ("kind of another field", changed(CONDITIONS + 2, "B", 0)),
        ("byte that is zero", changed(CONDITIONS + 3, "B", 1)),
        ("address beyond the wides", changed(CONDITIONS + 4, "I", 2)),
        ("mask beyond the wides", changed(CONDITIONS + 8, "I", 2)),
        ("connection in the link layer", changed(CONDITIONS, "BBB", Field.CT, 0, 0)),
        ("count beyond the most", changed(CONDITIONS + 2 * 16 + 4, "I", 32)),
        ("set beyond the ranges", changed(CONDITIONS + 3 * 16 + 8, "I", 3)),
        ("set that begins beyond", changed(CONDITIONS + 3 * 16 + 4, "I", 3)),
        ("range that ends before it begins", changed(RANGES, "B", 9)),
        ("set out of order", changed(RANGES + 32, "B", 2)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_table_that_does_not_fit_is_refused(what: str, bad: bytes) -> None:
    assert not loads(bad), what
