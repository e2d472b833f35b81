"""A filter document as values: what its author wrote, checked, with variables unresolved.

A value here is one that the language can say: what parse() makes, canonical()
prints, and resolve() takes.  Two documents that mean the same are equal; where
in its file something stood is kept for messages, and is no part of equality.
"""

import enum
from collections.abc import Iterable, Mapping

import attrs

from .names import (
    DEFAULT_RULE_PRIORITY,
    MAX_ITERATOR,
    ROOT,
    check_chain,
    check_filter_name,
    check_parameter_name,
    check_parameter_value,
    check_priority,
    check_uuid,
    default_chain_priority,
)
from .protocols import PROTOCOLS, Attribute
from .values import Value, shown


class Action(enum.Enum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    RETURN = "return"
    CONTINUE = "continue"


class Direction(enum.Enum):
    """As the guest sees it: IN is to the guest, OUT is from it."""

    IN = "in"
    OUT = "out"
    INOUT = "inout"


@attrs.frozen
class Position:
    """Where something begins in a text: line and column, both from 1; 0 if nowhere."""

    line: int = 0
    column: int = 0


@attrs.frozen
class Variable:
    """$NAME[@iterator], or with an *index* $NAME[index]; a plain $NAME is $NAME[@0]."""

    name: str = attrs.field()
    iterator: int = attrs.field(default=0)
    index: int | None = None

    @name.validator
    def _valid_name(self, _attribute: object, value: str) -> None:
        check_parameter_name(value)

    @iterator.validator
    def _in_range(self, _attribute: object, value: int) -> None:
        if not 0 <= value <= MAX_ITERATOR:
            raise ValueError(f"iterator {value} is out of range, wanted 0 to {MAX_ITERATOR}")

    def __str__(self) -> str:
        if self.index is not None:
            return f"${self.name}[{self.index}]"
        return f"${self.name}[@{self.iterator}]" if self.iterator else f"${self.name}"


@attrs.frozen
class Condition:
    """What one attribute asks, or with *negated* what must not be so."""

    attribute: str
    value: Value | Variable
    negated: bool = False


def arranged(protocol: str, conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return *conditions* in the order of the table of *protocol*.

    Each is negated as what it completes is, and not at all if that is not
    there: what was written beside it counts for nothing.
    """
    given = {each.attribute: each for each in conditions}
    table = PROTOCOLS[protocol].table
    made: dict[str, Condition] = {}
    for name in table:
        if name in given:
            first = _negated_with(table[name], given)
            negated = given[name].negated if first is None else _is_negated(first, made)
            made[name] = attrs.evolve(given[name], negated=negated)
    return tuple(made.values())


def _negated_with(attribute: Attribute, given: Mapping[str, Condition]) -> str | None:
    """Return the attribute by which *attribute* is negated, if not by itself."""
    # A code of ipv6 may stand alone, and with a type goes by that.
    return "type" if attribute.name == "code" and "type" in given else attribute.follows


def _is_negated(name: str, made: Mapping[str, Condition]) -> bool:
    return name in made and made[name].negated


@attrs.frozen
class Rule:
    """A rule; *conditions* are arranged(), each attribute once.

    *protocol* is a name of PROTOCOLS, or None for an empty body, which is an L2
    rule that every frame matches.
    """

    action: Action
    direction: Direction
    protocol: str | None = None
    conditions: tuple[Condition, ...] = attrs.field(default=())
    priority: int = attrs.field(default=DEFAULT_RULE_PRIORITY)
    statematch: bool = True
    position: Position = attrs.field(default=Position(), eq=False)

    @conditions.validator
    def _known_once(self, _attribute: object, value: tuple[Condition, ...]) -> None:
        known = PROTOCOLS[self.protocol].table if self.protocol is not None else {}
        names = [condition.attribute for condition in value]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{self.protocol} has no attribute {shown(unknown[0])}")
        if self.protocol is not None and value != arranged(self.protocol, value):
            raise ValueError(f"{self.protocol}: not arranged: {', '.join(names)}")

    @priority.validator
    def _in_range(self, _attribute: object, value: int) -> None:
        check_priority(value)


@attrs.frozen
class Parameter:
    """What a variable stands for below a reference: *values* in order, repeats kept."""

    name: str = attrs.field()
    values: tuple[str, ...] = attrs.field()

    @name.validator
    def _valid_name(self, _attribute: object, value: str) -> None:
        check_parameter_name(value)

    @values.validator
    def _some(self, _attribute: object, value: tuple[str, ...]) -> None:
        if not value:
            raise ValueError(f"parameter {self.name} has no value")
        try:
            for each in value:
                check_parameter_value(each)
        except ValueError as error:
            raise ValueError(f"parameter {self.name}: {error}") from None


@attrs.frozen
class Reference:
    """Another filter's rules in this place; *parameters* are sorted by name, each name once."""

    filter: str
    parameters: tuple[Parameter, ...] = attrs.field(default=())
    position: Position = attrs.field(default=Position(), eq=False)

    @parameters.validator
    def _sorted(self, _attribute: object, value: tuple[Parameter, ...]) -> None:
        names = [parameter.name for parameter in value]
        if names != sorted(set(names)):
            raise ValueError(f"parameters are not sorted, or one twice: {', '.join(names)}")


@attrs.frozen
class Filter:
    """A filter: *entries* in document order; *priority* is its chain's, its default included."""

    name: str = attrs.field()
    chain: str = attrs.field(default=ROOT)
    priority: int = attrs.field(
        default=attrs.Factory(lambda self: default_chain_priority(self.chain), takes_self=True)
    )
    uuid: str | None = attrs.field(default=None)
    entries: tuple[Rule | Reference, ...] = ()

    @name.validator
    def _valid_name(self, _attribute: object, value: str) -> None:
        check_filter_name(value)

    @chain.validator
    def _valid_chain(self, _attribute: object, value: str) -> None:
        check_chain(value)

    @priority.validator
    def _in_range(self, _attribute: object, value: int) -> None:
        check_priority(value)

    @uuid.validator
    def _valid_uuid(self, _attribute: object, value: str | None) -> None:
        if value is not None:
            check_uuid(value)

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references among the entries, in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Reference))
