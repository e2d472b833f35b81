"""From a tree with variables to a flat list of rules: order, scopes, lists, effect, errors."""

import tracemalloc
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.errors import (
    BindError,
    FilterLoop,
    MissingFilters,
    MissingVariables,
)
from multiplexer.policy.nwfilter.protocols import PROTOCOLS
from multiplexer.policy.nwfilter.resolve import in_judging_order, over, resolve
from multiplexer.policy.nwfilter.resolved import Match, ResolvedRule
from multiplexer.policy.nwfilter.syntax import (
    Action,
    Condition,
    Direction,
    Filter,
    Parameter,
    Position,
    Reference,
    Rule,
    Variable,
    arranged,
)
from multiplexer.policy.nwfilter.values import Number, Side, State, Value
from pfinet_proto.values import MacAddress

MAC = MacAddress.parse("52:54:00:12:34:56")
MASK = MacAddress.parse("ff:ff:ff:00:00:00")


def rule(protocol: str | None = None, **conditions: Value | Variable) -> Rule:
    """Return a rule of line 7; a name that ends in _ is a negated condition."""
    made = (
        Condition(name.rstrip("_").replace("__", "-"), value, name.endswith("_"))
        for name, value in conditions.items()
    )
    return Rule(
        Action.DROP,
        Direction.OUT,
        protocol,
        arranged(protocol, made) if protocol else (),
        position=Position(7, 3),
    )


def filters(*made: Filter) -> dict[str, Filter]:
    return {each.name: each for each in made}


def parameter(name: str, *values: str) -> Parameter:
    return Parameter(name, values)


def ports(resolved: tuple[ResolvedRule, ...]) -> list[tuple[object, ...]]:
    """Return the values of each rule."""
    return [tuple(match.value for match in each.matches) for each in resolved]


def only(made: Rule, *parameters: Parameter) -> tuple[Match, ...]:
    """Return what the one rule that *made* becomes asks."""
    (resolved,) = resolve("f", filters(Filter("f", entries=(made,))), parameters)
    return resolved.matches


def test_a_tree_is_laid_out_depth_first_and_a_filter_twice_gives_its_rules_twice() -> None:
    a, b, c = rule("tcp"), rule("udp"), rule("all")
    tree = filters(
        Filter("top", entries=(a, Reference("sub"), b, Reference("sub"))),
        Filter("sub", "ipv4-x", -3, entries=(c,)),
    )

    resolved = resolve("top", tree)

    assert resolved == (
        ResolvedRule("top", "root", 0, a, (), 0),
        ResolvedRule("sub", "ipv4-x", -3, c, (), 1),
        ResolvedRule("top", "root", 0, b, (), 2),
        ResolvedRule("sub", "ipv4-x", -3, c, (), 3),
    )


def test_root_is_judged_first_then_by_priority_and_ties_as_written() -> None:
    def at(chain: str, priority: int, position: int) -> ResolvedRule:
        made = Rule(Action.DROP, Direction.IN, priority=priority)
        return ResolvedRule("f", chain, 0, made, (), position)

    rules = (
        at("arp", -1000, 0),
        at("root", 500, 1),
        at("ipv4", 300, 2),
        at("arp", 300, 3),
        at("root", -10, 4),
        at("root", 500, 5),
    )

    assert [each.position for each in in_judging_order(rules)] == [4, 1, 5, 0, 2, 3]


def test_numbers_become_integers_and_a_rule_keeps_what_it_is() -> None:
    made = rule("ip", srcipaddr=IPv4Address("10.0.0.0"), srcipmask=8, dscp=Number(10, True))

    assert only(made) == (
        Match("srcipaddr", IPv4Address("10.0.0.0")),
        Match("srcipmask", 8),
        Match("dscp", 10),
    )


def test_the_outermost_value_wins() -> None:
    """What the binding gives stands above a reference, and an outer one above an inner."""
    port = rule("tcp", dstportstart=Variable("A"), dstportend=Variable("B"), option=Variable("C"))
    tree = filters(
        Filter("top", entries=(Reference("mid", (parameter("A", "2"), parameter("B", "2"))),)),
        Filter(
            "mid",
            entries=(
                Reference("end", (parameter("A", "3"), parameter("B", "3"), parameter("C", "3"))),
                Reference("end", (parameter("C", "9"),)),
            ),
        ),
        Filter("end", entries=(port,)),
    )

    assert ports(resolve("top", tree, [parameter("A", "1")])) == [(1, 2, 3), (1, 2, 9)]


def test_a_value_given_by_a_reference_is_seen_below_it_only() -> None:
    port = rule("tcp", dstportstart=Variable("A"))
    tree = filters(
        Filter("top", entries=(Reference("end", (parameter("A", "2"),)), port)),
        Filter("end", entries=(port,)),
    )

    with pytest.raises(MissingVariables):
        resolve("top", tree)


def expand(made: Rule, **lists: str) -> list[tuple[object, ...]]:
    given = [Parameter(name, tuple(values.split())) for name, values in lists.items()]
    return ports(resolve("f", filters(Filter("f", entries=(made,))), given))


def test_plain_variables_go_side_by_side() -> None:
    made = rule("tcp", srcportstart=Variable("A"), dstportstart=Variable("B", 0))

    assert expand(made, A="1 2 3", B="7 8 9") == [(1, 7), (2, 8), (3, 9)]


def test_iterators_go_through_all_combinations_the_lowest_fastest() -> None:
    made = rule(
        "tcp",
        srcportstart=Variable("A", 2),
        dstportstart=Variable("B", 1),
        option=Variable("A", 2),
        dscp=Variable("C", 5),
    )

    assert expand(made, A="1 2", B="7 8 9", C="30 31") == [
        (c, a, b, a) for c in (30, 31) for a in (1, 2) for b in (7, 8, 9)
    ]


def test_one_list_by_two_iterators_is_squared() -> None:
    made = rule("tcp", srcportstart=Variable("A", 1), dstportstart=Variable("A", 2))

    assert expand(made, A="1 2") == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_a_combination_counts_once_within_an_iterator() -> None:
    made = rule("tcp", srcportstart=Variable("A"), dstportstart=Variable("B"))

    assert expand(made, A="1 1 1 2", B="5 6 5 5") == [(1, 5), (1, 6), (2, 5)]


def test_a_negated_list_is_a_rule_for_each_value() -> None:
    made = rule("ip", srcipaddr_=Variable("IP"))
    given = [parameter("IP", "10.0.0.1", "10.0.0.2")]

    resolved = resolve("f", filters(Filter("f", entries=(made,))), given)

    assert [each.matches for each in resolved] == [
        (Match("srcipaddr", IPv4Address("10.0.0.1"), negated=True),),
        (Match("srcipaddr", IPv4Address("10.0.0.2"), negated=True),),
    ]


def test_an_element_is_one_value_beside_any_iterator() -> None:
    made = rule("tcp", srcportstart=Variable("A", index=1), dstportstart=Variable("A"))

    assert expand(made, A="4 5") == [(5, 4), (5, 5)]


@given(
    a=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    b=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    first=st.integers(0, 3),
    second=st.integers(0, 3),
)
def test_lists_are_combined_as_nested_loops_would(
    a: list[int], b: list[int], first: int, second: int
) -> None:
    """Two variables: side by side by one iterator, else loops with the lower one inside."""
    made = rule("tcp", srcportstart=Variable("A", first), dstportstart=Variable("B", second))
    lists = {"A": " ".join(map(str, a)), "B": " ".join(map(str, b))}
    if first == second and len(a) != len(b):
        with pytest.raises(BindError, match="cardinality"):
            expand(made, **lists)
        return

    expected: list[tuple[int, int]]
    if first == second:
        expected = list(dict.fromkeys(zip(a, b, strict=True)))
    elif first < second:
        expected = [(x, y) for y in dict.fromkeys(b) for x in dict.fromkeys(a)]
    else:
        expected = [(x, y) for x in dict.fromkeys(a) for y in dict.fromkeys(b)]
    assert expand(made, **lists) == expected


def test_lists_that_go_together_have_one_length() -> None:
    made = rule("tcp", srcportstart=Variable("A", 3), dstportstart=Variable("B", 3))

    with pytest.raises(
        BindError,
        match=r"filter 'f', line 7: cardinality of lists .* \[@3\] differs: A has 2, B has 1",
    ):
        expand(made, A="1 2", B="1")


def test_every_missing_variable_is_named_once() -> None:
    tree = filters(
        Filter(
            "f",
            entries=(
                rule("tcp", srcportstart=Variable("X"), dstportstart=Variable("IP", index=1)),
                rule("arp", arpsrcmacaddr=Variable("MAC"), arpdstmacaddr=Variable("X", 4)),
                Reference("g", (parameter("Y", "5"),)),
            ),
        ),
        Filter("g", entries=(rule("udp", srcportstart=Variable("Y", index=1)),)),
    )

    with pytest.raises(
        MissingVariables, match=r"parameters are missing: 'X', 'IP\[1\]', 'Y\[1\]'"
    ) as raised:
        resolve("f", tree, [parameter("MAC", str(MAC)), parameter("IP", "10.0.0.1")])

    assert raised.value.names == ("X", "IP[1]", "Y[1]")


@pytest.mark.parametrize("value", ["abc", "300.1.1.1", "::1"])
def test_a_value_of_the_wrong_type_is_named_with_its_rule(value: str) -> None:
    """Deviation: variable-types."""
    with pytest.raises(
        BindError,
        match=f"filter 'f', line 7: srcipaddr: parameter IP: '{value}' is not an IPv4 address",
    ):
        only(rule("ip", srcipaddr=Variable("IP")), parameter("IP", value))


def test_values_are_read_as_the_attribute_wants_them() -> None:
    made = rule("tcp", state=Variable("S"), ipset=Variable("N"), ipsetflags=(Side.SRC,))

    assert only(made, parameter("S", "new"), parameter("N", "web")) == (
        Match("state", frozenset({State.NEW})),
        Match("ipset", "web"),
        Match("ipsetflags", (Side.SRC,)),
    )


def test_what_has_no_effect_is_left_out() -> None:
    assert only(rule("mac", srcmacmask=MASK, comment="why")) == ()
    assert only(rule("tcp", srcportend=Number(9), dstipto=IPv4Address("10.0.0.1"))) == ()
    assert only(rule("icmp", code=Number(1))) == ()
    assert only(rule("arp", gratuitous=False)) == ()
    assert only(rule("arp", gratuitous_=True)) == (Match("gratuitous", True, negated=True),)
    assert only(rule("tcp", state=frozenset(), ipset="x")) == ()
    assert only(rule("tcp", ipsetflags=(Side.DST,))) == ()
    assert only(rule("ipv6", typeend=Number(3), codeend=Number(3))) == ()
    assert only(rule("ipv6", code=Number(3))) == (Match("code", 3),)


def test_the_mask_of_one_arp_address_is_not_the_others() -> None:
    """Deviation: arp-masks."""
    address = IPv4Address("10.0.0.0")

    assert only(rule("arp", arpsrcipaddr=address, arpsrcipmask=8, arpdstipaddr=address)) == (
        Match("arpsrcipaddr", address),
        Match("arpsrcipmask", 8),
        Match("arpdstipaddr", address),
    )


def test_what_completes_another_is_negated_as_that_one() -> None:
    assert only(rule("mac", srcmacaddr_=MAC, srcmacmask=MASK)) == (
        Match("srcmacaddr", MAC, negated=True),
        Match("srcmacmask", MASK, negated=True),
    )
    assert only(rule("tcp", dstportstart=Number(1), dstportend_=Number(2))) == (
        Match("dstportstart", 1),
        Match("dstportend", 2),
    )
    assert [
        each.negated
        for each in only(
            rule("ipv6", type_=Number(1), typeend=Number(2), code=Number(3), codeend=Number(4))
        )
    ] == [True] * 4
    assert [each.negated for each in only(rule("ipv6", code_=Number(3), codeend=Number(4)))] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (rule("tcp", srcportstart=Number(9), srcportend=Number(8)), "srcportend is 8.*start 9"),
        (
            rule("udp", dstipfrom=IPv4Address("10.0.0.2"), dstipto=IPv4Address("10.0.0.1")),
            "dstipto is 10.0.0.1, which is before dstipfrom 10.0.0.2",
        ),
        (rule("ipv6", type=Number(9), typeend=Number(8)), "typeend is 8"),
        (rule("ipv6", code=Number(9), codeend=Number(8)), "codeend is 8"),
        (rule("stp", age=Number(9), age__hi=Number(8)), "age-hi is 8"),
    ],
)
def test_a_range_does_not_end_before_it_begins(made: Rule, why: str) -> None:
    with pytest.raises(BindError, match=f"filter 'f', line 7: {why}"):
        only(made)


def test_a_code_is_no_end_of_a_range() -> None:
    assert len(only(rule("icmp", type=Number(9), code=Number(0)))) == 2


def test_stp_with_a_source_cannot_go_both_ways() -> None:
    made = Rule(Action.DROP, Direction.INOUT, "stp", (Condition("srcmacaddr", MAC),))

    with pytest.raises(BindError, match="stp with srcmacaddr cannot be inout"):
        only(made)


def test_a_loop_and_a_missing_filter_are_refused() -> None:
    with pytest.raises(FilterLoop):
        resolve("f", filters(Filter("f", entries=(Reference("f"),))))
    with pytest.raises(MissingFilters):
        resolve("f", filters(Filter("f", entries=(Reference("g"),))))
    with pytest.raises(MissingFilters):
        resolve("f", {})


def doubling(depth: int, leaf: tuple[Rule, ...]) -> dict[str, Filter]:
    """Return filters of which each refers twice to the next."""
    return filters(
        Filter("f0", entries=leaf),
        *(
            Filter(f"f{n + 1}", entries=(Reference(f"f{n}"), Reference(f"f{n}")))
            for n in range(depth)
        ),
    )


@pytest.mark.parametrize("leaf", [(), (rule(),)])
def test_a_tree_that_explodes_is_refused(leaf: tuple[Rule, ...]) -> None:
    assert len(resolve("f10", doubling(10, leaf))) == 1024 * len(leaf)
    with pytest.raises(BindError, match="comes to more than 65536"):
        resolve("f60", doubling(60, leaf))


def test_lists_that_explode_are_refused_before_they_do() -> None:
    made = rule("tcp", srcportstart=Variable("A", 1), dstportstart=Variable("A", 2))
    lists = " ".join(map(str, range(400)))

    with pytest.raises(BindError, match="more than 65536 rules"):
        expand(made, A=lists)


def test_a_deep_tree_does_not_copy_what_is_given_at_each_step() -> None:
    deep = 500
    filters = {
        f"f{number}": Filter(f"f{number}", entries=(Reference(f"f{number + 1}"),))
        for number in range(deep)
    }
    filters[f"f{deep}"] = Filter(f"f{deep}")
    given = [Parameter(f"P{number}", ("1",)) for number in range(2000)]

    tracemalloc.start()
    try:
        assert resolve("f0", filters, given) == ()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_what_is_given_stands_above_what_is_supplied() -> None:
    given = (parameter("IP", "10.0.0.1"), parameter("X", "1"))
    supplied = (parameter("MAC", str(MAC)), parameter("IP", "10.0.0.2"))

    assert over(given, supplied) == (given[0], supplied[0], given[1])


def test_every_attribute_can_be_a_variable() -> None:
    """The table lists no type that cannot be read from a parameter's value."""
    for protocol in PROTOCOLS.values():
        for attribute in protocol.attributes:
            made = Rule(
                Action.DROP,
                Direction.OUT,
                protocol.name,
                (Condition(attribute.name, Variable("V")),),
            )
            values = [
                "1",
                "0x600",
                "10.0.0.1",
                "fd00::1",
                "00:00:00:00:00:00",
                "src",
                "new",
                "vlan",
            ]
            accepted = []
            for value in values:
                try:
                    only(made, parameter("V", value))
                except BindError:
                    continue
                accepted.append(value)
            # Its slash cannot be part of a parameter's value.
            assert accepted or attribute.name == "flags"
