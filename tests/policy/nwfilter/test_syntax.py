"""The values of a document: what cannot be said in the language cannot be made."""

from ipaddress import IPv4Address

import attrs
import pytest

from multiplexer.policy.nwfilter.names import default_chain_priority
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
from multiplexer.policy.nwfilter.values import Number


@pytest.mark.parametrize(
    ("chain", "priority"),
    [
        ("root", 0),
        ("stp", -810),
        ("mac-abc", -800),
        ("vlan", -750),
        ("ipv4-ip", -700),
        ("ipv6", -600),
        ("arpfoo", -500),
        ("rarp", -400),
    ],
)
def test_a_chain_has_the_default_priority_of_what_it_begins_with(
    chain: str, priority: int
) -> None:
    assert default_chain_priority(chain) == priority
    assert Filter("f", chain).priority == priority


@pytest.mark.parametrize("chain", ["", "rootx", "Root", "tcp", "ipv4-too-long", "arp/x", "xarp"])
def test_what_is_no_chain_is_refused(chain: str) -> None:
    with pytest.raises(ValueError, match="is not a chain"):
        Filter("f", chain)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 256])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a filter's name"):
        Filter(name)


def test_priorities_are_in_range() -> None:
    with pytest.raises(ValueError, match="priority 1001 is out of range"):
        Filter("f", priority=1001)
    with pytest.raises(ValueError, match="priority -1001 is out of range"):
        Rule(Action.DROP, Direction.IN, priority=-1001)


def test_a_uuid_is_canonical() -> None:
    with pytest.raises(ValueError, match="is not a uuid"):
        Filter("f", uuid="F88F1932-DEBF-4AA1-9FBE-F10D3AA4BC95")


def test_conditions_are_known_once_and_arranged() -> None:
    end = Condition("dstportend", Number(80))
    start = Condition("dstportstart", Number(22), negated=True)

    rule = Rule(Action.DROP, Direction.IN, "tcp", arranged("tcp", [end, start]))

    assert rule.conditions == (start, attrs.evolve(end, negated=True))
    with pytest.raises(ValueError, match="not arranged"):
        Rule(Action.DROP, Direction.IN, "tcp", (end, start))
    with pytest.raises(ValueError, match="not arranged"):
        Rule(Action.DROP, Direction.IN, "tcp", (end, end))
    with pytest.raises(ValueError, match="udplite has no attribute 'dstportend'"):
        Rule(Action.DROP, Direction.IN, "udplite", (end,))


def test_what_completes_another_is_negated_as_that_one_and_alone_not_at_all() -> None:
    """As libvirt prints it, so what was written beside a mask is not kept."""
    mask = Condition("srcipmask", 8, negated=True)
    address = Condition("srcipaddr", IPv4Address("10.0.0.0"))
    code = Condition("code", Number(1), negated=True)

    assert arranged("ip", [address, mask]) == (address, Condition("srcipmask", 8))
    assert arranged("ip", [mask]) == (Condition("srcipmask", 8),)
    assert arranged("ipv6", [code]) == (code,)
    assert arranged("ipv6", [code, Condition("type", Number(2))])[1] == Condition(
        "code", Number(1)
    )


def test_where_something_stood_is_no_part_of_what_it_is() -> None:
    here = Rule(Action.DROP, Direction.IN, position=Position(3, 5))

    assert here == Rule(Action.DROP, Direction.IN)


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="has no value"):
        Parameter("IP", ())
    with pytest.raises(ValueError, match="is not a parameter's value"):
        Parameter("IP", ("10.0.0.1/24",))
    with pytest.raises(ValueError, match="is not a parameter's name"):
        Parameter("I-P", ("10.0.0.1",))
    with pytest.raises(ValueError, match="not sorted, or one twice"):
        Reference("f", (Parameter("IP", ("10.0.0.1",)), Parameter("IP", ("10.0.0.2",))))


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (Variable("IP"), "$IP"),
        (Variable("IP", 2), "$IP[@2]"),
        (Variable("IP", index=0), "$IP[0]"),
    ],
)
def test_a_variable_is_printed_shortest(variable: Variable, text: str) -> None:
    assert str(variable) == text


def test_an_iterator_is_at_most_1000() -> None:
    with pytest.raises(ValueError, match="iterator 1001 is out of range"):
        Variable("IP", 1001)
