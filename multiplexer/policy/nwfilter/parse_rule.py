"""Reading a rule: its switches, and the protocol elements that say what a frame must be."""

import re
from typing import Final

from .elements import Element
from .errors import FilterError
from .names import DEFAULT_RULE_PRIORITY
from .protocols import ALIASES, PROTOCOLS, WITH_PORTS, Attribute, Protocol
from .reader import Reader
from .syntax import Action, Condition, Direction, Rule, Variable, arranged
from .values import Number, Value, shown

_VARIABLE: Final = re.compile(r"\$([A-Za-z0-9_]+)(?:\[ *(@?) *([0-9]{1,9}) *\])?")
_PORTS: Final = ("srcportstart", "srcportend", "dstportstart", "dstportend")
_OFF: Final = ("0", "false")
_ON: Final = ("1", "true")


def read_rule(reader: Reader, element: Element) -> Rule:
    """Return the rule that *element* is.

    Raises:
        FilterError: if it is none.
    """
    reader.check_attributes(element, ("action", "direction", "priority", "statematch"))
    reader.check_blank(element)
    bodies = _bodies(reader, element)
    rule = Rule(
        reader.one_of(element, "action", Action),
        reader.one_of(element, "direction", Direction),
        bodies[0].name if bodies else None,
        _conditions(reader, bodies) if bodies else (),
        _priority(reader, element),
        _statematch(reader, element),
        element.position,
    )
    _check_ports(reader, element, rule)
    return rule


def _priority(reader: Reader, element: Element) -> int:
    if "priority" not in element.attributes:
        return DEFAULT_RULE_PRIORITY
    try:
        return reader.priority(element)
    except FilterError:
        if not reader.lenient:
            raise
        return DEFAULT_RULE_PRIORITY


def _statematch(reader: Reader, element: Element) -> bool:
    text = element.attributes.get("statematch", "true")
    if text.lower() not in (*_OFF, *_ON) and not reader.lenient:
        reader.refuse(element, f"statematch: {shown(text)} is not true, 1, false or 0")
    return text.lower() not in _OFF


def _bodies(reader: Reader, rule: Element) -> list[Element]:
    """Return the elements that together say what a frame must be: all of one protocol."""
    known = [child for child in rule.children if child.name in PROTOCOLS]
    first = known[0].name if known else None
    if not reader.lenient:
        for child in rule.children:
            if child.name not in PROTOCOLS:
                reader.unknown(child, "rule", f"a protocol: {', '.join(PROTOCOLS)}")
            if child.name != first:
                reader.refuse(child, f"<{child.name}> beside <{first}>, wanted one protocol")
            reader.check_empty(child)
    return [child for child in known if child.name == first]


def _conditions(reader: Reader, bodies: list[Element]) -> tuple[Condition, ...]:
    protocol = PROTOCOLS[bodies[0].name]
    found: dict[str, Condition] = {}
    for body in bodies:
        negated = _is_negated(reader, body)
        for name, text in body.attributes.items():
            attribute = None if name == "match" else _attribute(reader, body, protocol, name)
            if attribute is None:
                continue
            if attribute.name in found and not reader.lenient:
                reader.refuse(body, f"{attribute.name}: given twice in one rule")
            value = _value(reader, body, attribute, text)
            found[attribute.name] = Condition(attribute.name, value, negated)
    for name, beside in (("ipset", "ipsetflags"), ("ipsetflags", "ipset")):
        if name in found and beside not in found and not reader.lenient:
            reader.refuse(bodies[0], f"{name}: wanted {beside} beside it")
    return arranged(protocol.name, found.values())


def _is_negated(reader: Reader, body: Element) -> bool:
    text = body.attributes.get("match", "yes")
    if text not in ("yes", "no") and not reader.lenient:
        reader.refuse(body, f"match: {shown(text)} is not yes or no")
    return text == "no"


def _attribute(reader: Reader, body: Element, protocol: Protocol, name: str) -> Attribute | None:
    """Return what *name* says of *protocol*; None for what libvirt passes over."""
    attribute = protocol.table.get(ALIASES.get((protocol.name, name), name))
    if attribute is None and not reader.lenient:
        reader.check_attributes(body, ("match", *protocol.table))
    return attribute


def _value(reader: Reader, body: Element, attribute: Attribute, text: str) -> Value | Variable:
    with reader.complaining(body, attribute.name):
        if text.startswith("$"):
            return _variable(text)
        kind = attribute.type
        return kind.read_lenient(text) if reader.lenient else kind.read(text)


def _variable(text: str) -> Variable:
    found = _VARIABLE.fullmatch(text)
    if not found:
        raise ValueError(f"{shown(text)} is not a variable, wanted $NAME, $NAME[@0] or $NAME[0]")
    name, is_iterator, number = found.groups()
    if number is None:
        return Variable(name)
    return Variable(name, int(number)) if is_iterator else Variable(name, index=int(number))


def _check_ports(reader: Reader, element: Element, rule: Rule) -> None:
    """Refuse ports of an ip or ipv6 rule that does not say of which protocol they are."""
    given = {condition.attribute: condition for condition in rule.conditions}
    ports = [name for name in _PORTS if name in given]
    if rule.protocol not in ("ip", "ipv6") or not ports:
        return
    protocol = given.get("protocol")
    if (
        protocol is None
        or protocol.negated
        or not isinstance(protocol.value, Number)
        or protocol.value.value not in WITH_PORTS
    ):
        reader.refuse(
            element, f"{ports[0]}: wanted protocol tcp, udp, udplite, sctp or 33 beside it"
        )
