"""multiplexer-filter(5) says what the language is: tables, names, examples, differences."""

import re
from pathlib import Path

import pytest

from multiplexer.policy.nwfilter.names import CHAIN_PRIORITIES
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.protocols import ALIASES, PROTOCOLS, Layer, Protocol
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.syntax import Action, Direction, Filter, Parameter
from multiplexer.policy.nwfilter.values import Integer
from multiplexer.stock import stock_filters

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "man" / "multiplexer-filter.5").read_text()

PARAMETERS = (Parameter("MAC", ("52:54:00:12:34:56",)), Parameter("IP", ("10.0.0.1",)))


def section(title: str) -> str:
    (found,) = re.findall(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def is_of(protocol: Protocol, title: str) -> bool:
    """Return whether a table under *title* is of *protocol*."""
    if title == "All of layer 3":
        return protocol.layer is Layer.L3
    listed, same, _ = title.partition(", and the same over IPv6")
    names = listed.split(", ")
    return protocol.name in (*names, *(f"{name}-ipv6" for name in names if same))


def described(protocol: Protocol) -> set[tuple[str, str, str]]:
    """Return the rows of the page's tables of *protocol*, types as of its family."""
    tables = re.findall(
        r"^\.Ss ([^\n]*)\n(.*?)(?=^\.Ss |\Z)", section("PROTOCOLS"), re.MULTILINE | re.DOTALL
    )
    rows = set()
    for title, text in tables:
        if is_of(protocol, title):
            for name, kind, meaning in re.findall(r"^\.It Ic (\S+) Ta (\S+) Ta (.*)$", text, re.M):
                if protocol.layer is Layer.L3 and protocol.ethertype == 0x86DD:
                    kind = kind.replace("IP_", "IPV6_")
                rows.add((name, kind, meaning))
    return rows


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda each: str(each.name))
def test_every_attribute_of_every_protocol_has_its_row_and_there_is_no_other(
    protocol: Protocol,
) -> None:
    assert described(protocol) == {
        (each.name, each.type.name, each.meaning) for each in protocol.attributes
    }


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w-]+", text))


def test_every_protocol_is_named_under_its_layer() -> None:
    lead = section("PROTOCOLS").split("\n.Ss ")[0]
    l2, l3 = lead.split("Those of layer 3")

    for protocol in PROTOCOLS.values():
        assert protocol.name in words(l2 if protocol.layer is Layer.L2 else l3)


def test_every_type_has_its_item_and_there_is_no_other() -> None:
    items = re.findall(r"^\.It Li (\S+)\n", section("TYPES"), re.MULTILINE)

    types = {each.type.name for protocol in PROTOCOLS.values() for each in protocol.attributes}
    assert sorted(items) == sorted(types)


def test_the_names_of_numbers_are_in_the_item_of_their_type() -> None:
    for protocol in PROTOCOLS.values():
        for each in protocol.attributes:
            if isinstance(each.type, Integer) and each.type.names:
                shared = "ETHERTYPE" if each.type.name == "ENCAPSULATED" else each.type.name
                (item,) = re.findall(rf"^\.It Li {shared}\n(.*?)^\.It ", PAGE, re.M | re.S)
                assert re.findall(r"^\.Ql (\w+)", item, re.M) == list(each.type.names)


def test_every_other_name_is_told() -> None:
    assert {name for _, name in ALIASES} <= words(section("PROTOCOLS"))


def test_every_chain_has_its_row_with_its_priority() -> None:
    rows = re.findall(r"^\.It Li (\w+) Ta (\S+) Ta ", section("DESCRIPTION"), re.MULTILINE)

    told = {name: int(priority.replace("\\-", "-")) for name, priority in rows}
    assert told == {**CHAIN_PRIORITIES, "root": 0}


def test_every_action_and_direction_is_told() -> None:
    told = re.findall(r"^\.Ql (\w+)", section("DESCRIPTION"), re.MULTILINE)

    assert {each.value for each in (*Action, *Direction)} <= set(told)


def test_every_stock_filter_is_told() -> None:
    assert set(stock_filters()) <= words(section("STOCK FILTERS"))


def example() -> Filter:
    (text,) = re.findall(r"^<filter name.*?</filter>", section("EXAMPLES"), re.M | re.S)
    return parse_untrusted(text.encode(), "multiplexer-filter.5")


def test_the_worked_example_is_a_filter_that_can_be_bound() -> None:
    filter_ = example()

    rules = resolve(filter_.name, {**stock_filters(), filter_.name: filter_}, PARAMETERS)

    own = [each for each in rules if each.filter == "test-eth0"]
    assert [(each.action.value, each.direction.value, each.protocol) for each in own] == [
        ("accept", "in", "tcp"),
        ("accept", "in", "tcp"),
        ("accept", "out", "icmp"),
        ("drop", "inout", "all"),
    ]
    assert len(rules) > len(own)


def test_the_other_rules_of_the_example_are_rules() -> None:
    text = "".join(re.findall(r"^<rule .*?^</rule>", section("EXAMPLES"), re.M | re.S))

    filter_ = parse_untrusted(f"<filter name='x'>{text}</filter>".encode())

    assert len(filter_.entries) == 2


def test_every_difference_from_libvirt_has_a_test_and_every_such_test_an_item() -> None:
    """A test of a difference says in its docstring: Deviation, a colon, and the item."""
    items = re.findall(r"^\.It Sy (\S+)$", section("DIFFERENCES FROM LIBVIRT"), re.MULTILINE)

    tested = {
        item
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for item in re.findall(r'^ {4}"""Deviation: ([\w-]+)\.', path.read_text(), re.MULTILINE)
    }
    assert len(set(items)) == len(items)
    assert tested == set(items)
