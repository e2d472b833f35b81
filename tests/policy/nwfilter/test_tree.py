"""Which filters a filter reaches, and whether it comes back to itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.errors import FilterLoop, MissingFilters
from multiplexer.policy.nwfilter.syntax import Filter, Reference
from multiplexer.policy.nwfilter.tree import check_all_there, check_no_loop, reachable


def graph(**edges: str) -> dict[str, Filter]:
    """Return filters, each with references to the names in its text."""
    return {
        name: Filter(name, entries=tuple(Reference(to) for to in below.split()))
        for name, below in edges.items()
    }


def test_a_filter_may_be_reached_by_two_ways() -> None:
    diamond = graph(top="left right", left="end", right="end", end="")

    check_no_loop("top", diamond)
    check_all_there("top", diamond)
    assert set(reachable("top", diamond)) == {"top", "left", "right", "end"}


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ({"a": "a"}, ("a", "a")),
        ({"a": "b", "b": "c", "c": "b"}, ("b", "c", "b")),
        ({"a": "x b", "b": "x c", "c": "y a", "x": "gone"}, ("a", "b", "c", "a")),
    ],
)
def test_a_loop_is_refused_and_named(edges: dict[str, str], names: tuple[str, ...]) -> None:
    with pytest.raises(FilterLoop) as raised:
        check_no_loop("a", graph(**edges))

    assert raised.value.names == names
    assert str(raised.value).endswith(" -> ".join(map(repr, names)))


def test_every_missing_filter_is_named() -> None:
    with pytest.raises(MissingFilters, match="filters are missing: 'y', 'x'") as raised:
        check_all_there("a", graph(a="b y", b="x"))

    assert raised.value.names == ("y", "x")


def test_a_message_does_not_name_thousands() -> None:
    with pytest.raises(MissingFilters, match=r"'x0', .* and 4980 more") as raised:
        check_all_there("a", graph(a=" ".join(f"x{n}" for n in range(5000))))

    assert len(str(raised.value)) < 500


def test_a_chain_of_any_length_is_walked() -> None:
    long = graph(**{f"f{n}": f"f{n + 1}" for n in range(20_000)})

    check_no_loop("f0", long)
    assert len(reachable("f0", long)) == 20_001


NAMES = "abcde"


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3), min_size=1
    )
)
def test_a_loop_is_found_just_where_some_filter_reaches_itself(
    edges: dict[str, list[str]],
) -> None:
    filters = graph(**{name: " ".join(below) for name, below in edges.items()})
    looping = {
        name
        for name in filters
        if any(name in reachable(each.filter, filters) for each in filters[name].references)
    }

    for name in NAMES:
        if looping & set(reachable(name, filters)):
            with pytest.raises(FilterLoop):
                check_no_loop(name, filters)
        else:
            check_no_loop(name, filters)
