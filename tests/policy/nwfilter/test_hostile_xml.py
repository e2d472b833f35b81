"""Hostile documents: refused, or done, by what they cost and not by a clock."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.elements import MAX_DOCUMENT_LEN
from multiplexer.policy.nwfilter.errors import FilterError
from multiplexer.policy.nwfilter.parse import MAX_ENTRIES, parse_untrusted
from multiplexer.policy.nwfilter.syntax import Filter

LAUGHS = b"""<?xml version="1.0"?>
<!DOCTYPE filter [
 <!ENTITY a "ha">
 <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
 <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
]>
<filter name="&c;"/>
"""

EXTERNAL = b"""<!DOCTYPE filter [<!ENTITY x SYSTEM "file:///etc/passwd">]><filter name="&x;"/>"""


@contextmanager
def memory_at_most(limit: int) -> Iterator[None]:
    """Fail if more than *limit* bytes are in use at once within."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "document",
    [
        LAUGHS,
        EXTERNAL,
        b"<!DOCTYPE filter><filter name='x'/>",
        b"<!DOCTYPE filter SYSTEM 'http://localhost/x.dtd'><filter name='x'/>",
        b"<!DOCTYPE f [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]><filter name='x'/>",
    ],
)
def test_a_document_type_is_refused_whatever_it_says(document: bytes, lenient: bool) -> None:
    with pytest.raises(FilterError, match=r"x:[12]:\d+: a document type or entity is refused"):
        parse_untrusted(document, "x", lenient)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "document",
    [b"<filter name='x'>" + b"<a>" * 1_000_000, b"<a>" * 1_000_000, b"<filter name='x'>" * 10**5],
    ids=["below", "other", "itself"],
)
def test_a_deep_tree_is_refused(document: bytes, lenient: bool) -> None:
    with (
        memory_at_most(32 << 20),
        pytest.raises(FilterError, match=r": more than 256 elements one in another$|root element"),
    ):
        parse_untrusted(document, "x", lenient)


def test_an_element_with_too_much_in_it_is_refused() -> None:
    document = b"<filter name='x'><rule action='drop' direction='in'>" + b"<a/>" * 1_000_000

    with (
        memory_at_most(32 << 20),
        pytest.raises(FilterError, match=r": more than 10000 elements in one child of the root$"),
    ):
        parse_untrusted(document, "x", lenient=True)


def test_a_document_too_long_is_refused_unread() -> None:
    document = b" " * (MAX_DOCUMENT_LEN + 1)

    with memory_at_most(1 << 20), pytest.raises(FilterError, match="wanted at most 4194304"):
        parse_untrusted(document)


RULE = b"<rule action='drop' direction='in'><tcp/></rule>\n"


def test_as_many_rules_as_may_be_are_read() -> None:
    filter_ = parse_untrusted(b"<filter name='x'>" + RULE * MAX_ENTRIES + b"</filter>")

    assert len(filter_.entries) == MAX_ENTRIES


def test_more_rules_are_refused() -> None:
    """Deviation: limits."""
    with pytest.raises(FilterError, match="x:65537:1: more than 65536 rules and references"):
        parse_untrusted(b"<filter name='x'>" + RULE * (MAX_ENTRIES + 5) + b"</filter>", "x")


@pytest.mark.parametrize("lenient", [False, True])
def test_text_beside_elements_costs_nothing(lenient: bool) -> None:
    document = b"<filter name='x'>" + b"blah <!-- --> " * 250_000 + b"</filter>"

    with memory_at_most(32 << 20):
        if lenient:
            assert parse_untrusted(document, "x", lenient) == Filter("x")
        else:
            with pytest.raises(FilterError, match="text 'blah"):
                parse_untrusted(document, "x")


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "document",
    [
        b"<filter name='%b'/>" % (b"a" * 4_000_000),
        b"<filter name='x' chain='%b'/>" % (b"a" * 4_000_000),
        b"<filter name='x'><rule action='%b' direction='in'/></filter>" % (b"a" * 4_000_000),
        b"<filter name='x'><rule action='drop' direction='in'><tcp state='%b'/></rule></filter>"
        % (b"a " * 2_000_000),
        b"<filter name='x'><rule action='drop' direction='in'><tcp dscp='%b'/></rule></filter>"
        % (b"1" * 4_000_000),
        b"<filter name='x'><rule action='drop' direction='in'><tcp flags='%bx/'/></rule></filter>"
        % (b"," * 4_000_000),
    ],
    ids=["name", "chain", "action", "state", "number", "flags"],
)
def test_a_huge_attribute_is_refused_in_few_words(document: bytes, lenient: bool) -> None:
    with pytest.raises(FilterError) as raised:
        parse_untrusted(document, "x", lenient)

    assert len(str(raised.value)) < 1000


def test_a_huge_comment_is_cut() -> None:
    text = (
        b"<filter name='x'><rule action='drop' direction='in'><tcp comment='%b'/></rule></filter>"
    )

    filter_ = parse_untrusted(text % (b"a" * 4_000_000))

    assert filter_ == parse_untrusted(text % (b"a" * 256))


def test_a_hundred_thousand_attributes_are_refused_by_the_first() -> None:
    many = b" ".join(b"a%d='1'" % n for n in range(100_000))

    with pytest.raises(FilterError, match="unknown attribute 'a0' of <filter>"):
        parse_untrusted(b"<filter name='x' " + many + b"/>")


TAGS = ["filter", "rule", "filterref", "parameter", "uuid", "tcp", "arp", "ip", "x:y", "foo"]
ATTRIBUTES = ["name", "chain", "priority", "action", "direction", "match", "filter", "value", "a"]
WORDS = ["x", "", "drop", "in", "arp", "$A", "$A[@1]", "no", "10.0.0.1", "-1", "1f", "&lt;", "é"]

markup = st.one_of(
    st.builds(
        lambda name, given, end: "<{} {}{}>".format(
            name, " ".join(f"{key}='{value}'" for key, value in given.items()), end
        ),
        st.sampled_from(TAGS),
        st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(WORDS), max_size=4),
        st.sampled_from(["", "/"]),
    ),
    st.sampled_from(TAGS).map(lambda name: f"</{name}>"),
    st.sampled_from(
        ["<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "&#0;", "&#65;", "text", "\n"]
    ),
)


@given(
    document=st.binary(max_size=200)
    | st.lists(markup, max_size=12).map(lambda parts: "".join(parts).encode())
    | st.lists(markup, max_size=12).map(
        lambda parts: f"<filter name='x'>{''.join(parts)}</filter>".encode()
    ),
    lenient=st.booleans(),
)
@example(b"\xef\xbb\xbf<filter name='x'/>", False)
@example("<filter name='x'/>".encode("utf-16"), False)
@example(b"<?xml version='1.0' encoding='utf-7'?><filter name='x'/>", False)
@example(b"<?xml version='1.0' encoding='rot13'?><filter name='x'/>", False)
@example(b"<?xml version='1.0' encoding='\xff'?><filter name='x'/>", False)
def test_any_bytes_are_a_filter_or_an_error_with_a_place(document: bytes, lenient: bool) -> None:
    try:
        outcome: Filter | FilterError = parse_untrusted(document, "x", lenient)
    except FilterError as error:
        outcome = error

    assert isinstance(outcome, Filter) or min(attrs.astuple(outcome.position)) >= 1
