"""Sets of addresses: members in and out, one form, and whether rules can ask for them."""

import re
from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.errors import BindError
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.sets import (
    MAX_MEMBERS,
    NamedSet,
    check_sets,
    read_members,
    write_member,
)
from multiplexer.policy.nwfilter.syntax import Action, Condition, Direction, Filter, Rule, arranged
from multiplexer.policy.nwfilter.values import Side
from pfinet_proto.values import IPNetwork


def nets(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


@pytest.mark.parametrize(
    ("text", "members", "written"),
    [
        ("10.0.0.1", ("10.0.0.1/32",), ["10.0.0.1"]),
        ("10.0.0.0/8", ("10.0.0.0/8",), ["10.0.0.0/8"]),
        ("10.0.0.1-10.0.0.2", ("10.0.0.1/32", "10.0.0.2/32"), ["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.0-10.0.0.7", ("10.0.0.0/29",), ["10.0.0.0/29"]),
        ("FD00::1", ("fd00::1/128",), ["fd00::1"]),
        ("fd00::-fd00::ff", ("fd00::/120",), ["fd00::/120"]),
    ],
)
def test_members_are_read_and_written(
    text: str, members: tuple[str, ...], written: list[str]
) -> None:
    assert read_members(text) == nets(*members)
    assert [write_member(each) for each in read_members(text)] == written


@pytest.mark.parametrize(
    "text",
    ["", "x", "10.0.0.1/8", "10.0.0.2-10.0.0.1", "10.0.0.1-fd00::1", "1-2-3", "fe80::1%lo", "-"],
)
def test_what_is_no_member_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a member of a set"):
        read_members(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1/8", ", wanted 10.0.0.0/8 for that prefix"),
        (
            "fd00::2-fd00::1",
            ", whose first address is not before the last, wanted fd00::1-fd00::2",
        ),
        *(
            (text, ", wanted an address, a prefix, or the first and last address of a range")
            for text in ("x", "10.0.0.1-fd00::1", "fe80::1%lo", "fe80::1%lo/64", "1-2-3")
        ),
    ],
)
def test_who_errs_in_a_member_is_told_what_was_wanted(text: str, why: str) -> None:
    whole = re.escape(f"{text!r} is not a member of a set{why}")
    with pytest.raises(ValueError, match=f"^{whole}$"):
        read_members(text)


def test_a_set_has_one_form() -> None:
    twice = NamedSet("web").with_members(nets("10.0.0.128/25", "fd00::/64", "10.0.0.0/25"))

    assert twice.members == nets("10.0.0.0/24", "fd00::/64")
    assert twice.with_members(nets("10.0.0.7/32")) == twice
    with pytest.raises(ValueError, match="members of set 'web' are not collapsed"):
        NamedSet("web", nets("10.0.0.0/25", "10.0.0.128/25"))


def test_taking_out_a_part_leaves_the_rest() -> None:
    whole = NamedSet("web", nets("10.0.0.0/30", "fd00::/127"))

    assert whole.without(nets("10.0.0.1/32")).members == nets(
        "10.0.0.0/32", "10.0.0.2/31", "fd00::/127"
    )
    assert whole.without(nets("10.0.0.0/8", "fd00::/16")).members == ()
    assert whole.without(nets("192.168.0.0/16")) == whole


def test_a_set_has_a_name_and_bounds() -> None:
    with pytest.raises(ValueError, match="is not the name of a set"):
        NamedSet("a/b")
    # Every second address, so that none collapse.
    many = tuple(IPv4Network((n * 2, 32)) for n in range(MAX_MEMBERS + 1))
    with pytest.raises(ValueError, match="has 65537 members, wanted at most 65536"):
        NamedSet("web", many)


SMALL = st.integers(24, 32).flatmap(
    lambda length: st.integers(0, 255).map(
        lambda low: IPv4Network((low & ~((1 << (32 - length)) - 1), length))
    )
)


@given(st.lists(SMALL, max_size=6), st.lists(SMALL, max_size=6))
def test_a_set_holds_what_was_put_in_and_not_taken_out(
    put: list[IPv4Network], taken: list[IPv4Network]
) -> None:
    made = NamedSet("web").with_members(put).without(taken)

    for low in range(256):
        address = IPv4Address(low)
        held = any(address in each for each in put) and not any(address in each for each in taken)
        assert any(address in each for each in made.members) == held


def rules_with(*flags: Side) -> Filter:
    asked = arranged("tcp", [Condition("ipset", "web"), Condition("ipsetflags", flags)])
    return Filter("f", entries=(Rule(Action.DROP, Direction.IN, "tcp", asked),))


def test_rules_may_ask_for_sets_that_are_there_by_one_dimension() -> None:
    web = {"web": NamedSet("web")}
    one = resolve("f", {"f": rules_with(Side.SRC)})
    two = resolve("f", {"f": rules_with(Side.SRC, Side.DST)})

    check_sets(one, web)
    with pytest.raises(BindError, match="filter 'f', line 0: there is no set 'web'"):
        check_sets(one, {})
    with pytest.raises(
        BindError, match="ipsetflags 'src,dst' ask for 2 dimensions, and set 'web' has one"
    ):
        check_sets(two, web)
