"""From a filter to its one canonical text, as dumpxml prints it.

Of a rule the attributes that stand for themselves come first, and the negated
ones in a second element.  Chain and a rule's priority are always said, a
chain's priority unless it is both 0 and the default.  Reading the text gives
the same filter.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from .names import default_chain_priority
from .protocols import PROTOCOLS
from .syntax import Condition, Filter, Reference, Rule, Variable

# Blanks other than a space would be read as one.
_ESCAPED: Final = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "'": "&apos;",
        '"': "&quot;",
        "\t": "&#9;",
        "\n": "&#10;",
        "\r": "&#13;",
    }
)


def canonical(filter_: Filter) -> str:
    """Return the text of *filter_*, lines that end."""
    return "".join(f"{line}\n" for line in _lines(filter_))


def _lines(filter_: Filter) -> Iterator[str]:
    attributes = [("name", filter_.name), ("chain", filter_.chain)]
    if filter_.priority or default_chain_priority(filter_.chain):
        attributes.append(("priority", str(filter_.priority)))
    head = _tag("filter", attributes)
    if filter_.uuid is None and not filter_.entries:
        yield f"<{head}/>"
        return
    yield f"<{head}>"
    if filter_.uuid is not None:
        yield f"  <uuid>{filter_.uuid}</uuid>"
    for entry in filter_.entries:
        yield from _of_rule(entry) if isinstance(entry, Rule) else _of_reference(entry)
    yield "</filter>"


def _of_rule(rule: Rule) -> Iterator[str]:
    attributes = [
        ("action", rule.action.value),
        ("direction", rule.direction.value),
        ("priority", str(rule.priority)),
    ]
    if not rule.statematch:
        attributes.append(("statematch", "false"))
    head = _tag("rule", attributes)
    if rule.protocol is None:
        yield f"  <{head}/>"
        return
    yield f"  <{head}>"
    plain = [each for each in rule.conditions if not each.negated]
    negated = [each for each in rule.conditions if each.negated]
    if plain or not negated:
        yield f"    <{_tag(rule.protocol, _of_conditions(rule.protocol, plain))}/>"
    if negated:
        listed = [("match", "no"), *_of_conditions(rule.protocol, negated)]
        yield f"    <{_tag(rule.protocol, listed)}/>"
    yield "  </rule>"


def _of_conditions(protocol: str, conditions: Iterable[Condition]) -> Iterator[tuple[str, str]]:
    table = PROTOCOLS[protocol].table
    for each in conditions:
        value = each.value
        is_variable = isinstance(value, Variable)
        yield (
            each.attribute,
            str(value) if is_variable else table[each.attribute].type.write(value),
        )


def _of_reference(reference: Reference) -> Iterator[str]:
    head = _tag("filterref", [("filter", reference.filter)])
    if not reference.parameters:
        yield f"  <{head}/>"
        return
    yield f"  <{head}>"
    for parameter in reference.parameters:
        for value in parameter.values:
            yield f"    <{_tag('parameter', [('name', parameter.name), ('value', value)])}/>"
    yield "  </filterref>"


def _tag(name: str, attributes: Iterable[tuple[str, str]]) -> str:
    said = (f"{key}='{value.translate(_ESCAPED)}'" for key, value in attributes)
    return " ".join((name, *said))
