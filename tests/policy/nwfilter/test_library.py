"""Which filters may be defined, changed and undefined."""

from collections.abc import Iterable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.elements import MAX_DOCUMENT_LEN
from multiplexer.policy.nwfilter.errors import FilterLoop
from multiplexer.policy.nwfilter.library import Library, NotInLibrary, Why
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.syntax import Filter, Reference

ONE, TWO, THREE = (f"{number:08x}-0000-4000-8000-000000000000" for number in (1, 2, 3))


def a_filter(name: str, *references: str, uuid: str | None = None) -> Filter:
    return Filter(name, uuid=uuid, entries=tuple(map(Reference, references)))


STOCK = {"stock": a_filter("stock", uuid=THREE)}


def library_of(*filters: Filter) -> Library:
    return Library(STOCK, {each.name: each for each in filters})


def no_uuid() -> str:
    pytest.fail("a uuid is made though there is one")


def test_a_new_filter_gets_a_uuid_and_keeps_one_that_it_has() -> None:
    library = library_of()

    assert library.named(a_filter("web"), lambda: ONE).uuid == ONE
    assert library.named(a_filter("web", uuid=TWO), no_uuid).uuid == TWO


def test_a_filter_defined_again_without_a_uuid_keeps_its_own() -> None:
    """Deviation: kept-uuid.  Users of libvirt have to copy the uuid."""
    library = library_of(a_filter("web", uuid=ONE))

    assert library.named(a_filter("web", "other"), no_uuid) == a_filter("web", "other", uuid=ONE)


@pytest.mark.parametrize(
    ("filter_", "why"),
    [
        (a_filter("web", uuid=TWO), f"'web' already exists with uuid {ONE}, not {TWO}"),
        (a_filter("new", uuid=ONE), f"uuid {ONE} is that of filter 'web', not of 'new'"),
        (a_filter("new", uuid=THREE), f"uuid {THREE} is that of filter 'stock'"),
        (a_filter("stock"), "'stock' is a stock filter, which nobody changes"),
        (a_filter("stock", uuid=THREE), "'stock' is a stock filter, which nobody changes"),
    ],
)
def test_name_and_uuid_are_of_one_filter_that_is_not_stock(filter_: Filter, why: str) -> None:
    library = library_of(a_filter("web", uuid=ONE))

    with pytest.raises(NotInLibrary) as caught:
        library.named(filter_, lambda: TWO)

    assert why in str(caught.value)
    assert caught.value.kind is Why.CONFLICT


def test_what_a_filter_refers_to_may_come_later() -> None:
    library = library_of().with_filter(a_filter("web", "later", uuid=ONE))

    assert library.filters.keys() == {"stock", "web"}


def test_a_loop_is_refused_however_long() -> None:
    library = library_of(a_filter("a", "b", uuid=ONE), a_filter("b", "c", uuid=TWO))

    with pytest.raises(FilterLoop, match="'c' -> 'a' -> 'b' -> 'c'"):
        library.with_filter(a_filter("c", "stock", "a", uuid="c" * 8 + ONE[8:]))
    with pytest.raises(FilterLoop, match="'d' -> 'd'"):
        library.with_filter(a_filter("d", "d", uuid="d" * 8 + ONE[8:]))


def test_what_cannot_be_shown_is_refused() -> None:
    """Clients take replies that are printable, and not longer than they agreed on."""
    hidden = parse_untrusted("<filter name='a\u202eb'/>".encode(), lenient=True)
    long = "x" * 250
    row = f"<rule action='drop' direction='in'><mac comment='{long}'/></rule>"
    many = parse_untrusted(f"<filter name='big'>{row * 13_000}</filter>".encode())

    for filter_, why in ((hidden, "is not printable"), (many, f"at most {MAX_DOCUMENT_LEN}")):
        with pytest.raises(NotInLibrary, match=why) as caught:
            library_of().with_filter(attrs.evolve(filter_, uuid=ONE))
        assert caught.value.kind is Why.INVALID


def test_a_filter_is_found_by_name_and_by_uuid_in_either_case() -> None:
    web = a_filter("web", uuid=ONE.replace("0", "a"))
    library = library_of(web)

    assert library.find("web") is web
    assert library.find(str(web.uuid).upper()) is web
    assert library.find(THREE).name == "stock"
    with pytest.raises(NotInLibrary, match="there is no filter 'nothing'") as caught:
        library.find("nothing")
    assert caught.value.kind is Why.MISSING


def test_a_name_that_looks_like_anothers_uuid_is_a_name() -> None:
    named_so = a_filter(ONE, uuid=TWO)

    assert library_of(a_filter("web", uuid=ONE), named_so).find(ONE) is named_so


def test_a_filter_in_the_tree_of_a_vif_stays() -> None:
    library = library_of(a_filter("top", "below", uuid=ONE), a_filter("below", uuid=TWO))

    for which in ("below", TWO, "top"):
        with pytest.raises(NotInLibrary, match=r"is in use by vif v1 and 1 more") as caught:
            library.without(which, {"v2": "top", "v1": "top", "v3": "stock"})
        assert caught.value.kind is Why.CONFLICT


def test_a_filter_that_only_others_refer_to_may_go() -> None:
    library = library_of(a_filter("top", "below", uuid=ONE), a_filter("below", uuid=TWO))

    less, gone = library.without("below", {"v": "stock"})

    assert gone.name == "below"
    assert less.filters.keys() == {"stock", "top"}


def test_a_stock_filter_stays_though_nobody_uses_it() -> None:
    """Deviation: stock."""
    with pytest.raises(NotInLibrary, match="nobody removes"):
        library_of().without("stock", {})


def test_an_own_filter_older_than_a_stock_one_of_its_name_is_what_vifs_meant() -> None:
    own = a_filter("stock", "other", uuid=ONE)
    library = library_of(own)

    assert not library.is_stock("stock")
    assert library.filters["stock"] is own
    assert library.named(a_filter("stock"), no_uuid).uuid == ONE
    less, _ = library.without("stock", {})
    assert less.is_stock("stock")


names = st.sampled_from("abcde")


@given(
    st.dictionaries(names, st.lists(names, max_size=3)),
    st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), names),
)
def test_users_and_counts_are_those_that_reach_a_filter(
    trees: dict[str, list[str]], bound: dict[str, str]
) -> None:
    library = Library({}, {name: a_filter(name, *below) for name, below in trees.items()})

    def reached(tops: Iterable[str]) -> set[str]:
        found: set[str] = set()
        while new := {*tops} - found:
            found |= new
            tops = [below for top in found for below in trees.get(top, [])]
        return found

    for name in "abcde":
        users = sorted(vif for vif, top in bound.items() if name in reached([top]))
        assert library.users(name, bound) == tuple(users)
        assert library.counts(bound).get(name, 0) == len(users)


def test_who_asks_for_a_set_is_who_reaches_a_rule_that_names_it_or_could() -> None:
    def asking(name: str, of_set: str) -> Filter:
        text = (
            f"<filter name='{name}'><rule action='drop' direction='in'>"
            f"<all ipset='{of_set}' ipsetflags='src'/></rule></filter>"
        )
        return parse_untrusted(text.encode())

    library = library_of(
        asking("bad", "bad"),
        asking("good", "good"),
        asking("any", "$SET"),
        a_filter("below", "other", "bad"),
        a_filter("other", "good", "missing"),
    )
    bound = {name: name for name in (*library.filters, "missing")}

    assert library.askers("bad", bound) == {"bad", "any", "below"}
    assert library.askers("good", bound) == {"good", "any", "below", "other"}
    assert library.askers("bad", {}) == set()
