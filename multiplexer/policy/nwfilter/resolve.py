"""From a filter and its parameters to a flat list of rules without variables.

The tree is walked depth first.  A filter that is referred to twice gives its
rules twice.  What is given to a binding stands above what a reference gives,
and an outer reference above an inner one.

Of a rule with variables there is one copy for each combination of their
values.  Variables of the same iterator go through their lists side by side, so
those must be of one length, and a combination that comes twice within an
iterator counts once; different iterators go through all combinations, that
with the lowest number fastest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Final

import attrs

from .errors import BindError, MissingVariables, where
from .names import ROOT
from .protocols import PROTOCOLS, Attribute
from .resolved import Match, Resolved, ResolvedRule
from .syntax import Condition, Direction, Filter, Parameter, Rule, Variable
from .tree import check_all_there, check_no_loop
from .values import Number, Value

#: More rules than this, which the datapath takes, are refused, however few bytes they take.
MAX_RULES: Final = 65536
#: And so are more references, each as often as it is passed.
MAX_PASSED: Final = 65536

_Scope = Mapping[str, tuple[str, ...]]


def over(given: Iterable[Parameter], supplied: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """Return what is *given*, and of what is *supplied* whatever is not given."""
    merged = {each.name: each for each in (*supplied, *given)}
    return tuple(merged[name] for name in sorted(merged))


def resolve(
    name: str, filters: Mapping[str, Filter], parameters: Iterable[Parameter] = ()
) -> tuple[ResolvedRule, ...]:
    """Return the rules of the tree below filter *name*, in document order.

    Raises:
        FilterLoop: if filters refer to each other in a circle.
        MissingFilters: if one that is referred to is not in *filters*.
        MissingVariables: if any have no value; all are named.
        BindError: if a value is not of the type that a rule wants, lists that
            go together have different lengths, a range ends before it begins,
            or the rules are too many.
    """
    check_no_loop(name, filters)
    check_all_there(name, filters)
    rules: list[ResolvedRule] = []
    missing: dict[str, None] = {}
    for filter_, rule, scope in _walk(name, filters, parameters):
        lacking = _lacking(rule, scope)
        missing.update(dict.fromkeys(lacking))
        if lacking:
            continue
        for values in _combinations(filter_, rule, scope, MAX_RULES - len(rules)):
            matches = _matches(filter_, rule, values)
            rules.append(
                ResolvedRule(
                    filter_.name, filter_.chain, filter_.priority, rule, matches, len(rules)
                )
            )
    if missing:
        raise MissingVariables(tuple(missing))
    return tuple(rules)


def in_judging_order(rules: Iterable[ResolvedRule]) -> tuple[ResolvedRule, ...]:
    """Return *rules* with those of the root chain first, then by priority, else as they were."""
    return tuple(sorted(rules, key=lambda each: (each.chain != ROOT, each.priority)))


def _walk(
    name: str, filters: Mapping[str, Filter], parameters: Iterable[Parameter]
) -> Iterator[tuple[Filter, Rule, _Scope]]:
    """Yield each rule of a tree without loops, with the parameters in force there."""
    passed = 0
    top = filters[name]
    stack = [(top, {each.name: each.values for each in parameters}, iter(top.entries))]
    while stack:
        filter_, scope, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
        elif isinstance(entry, Rule):
            yield filter_, entry, scope
        else:
            passed += 1
            if passed > MAX_PASSED:
                raise BindError(
                    f"filter {name!r} comes to more than {MAX_PASSED} references,"
                    " each counted as often as it is passed"
                )
            below = filters[entry.filter]
            own = {each.name: each.values for each in entry.parameters}
            # Most references give nothing, and are passed many times with much that is given.
            stack.append((below, own | scope if own else scope, iter(below.entries)))


def _variables(rule: Rule) -> list[Variable]:
    return [each.value for each in rule.conditions if isinstance(each.value, Variable)]


def _lacking(rule: Rule, scope: _Scope) -> list[str]:
    lacking = []
    for variable in _variables(rule):
        values = scope.get(variable.name)
        if variable.index is None:
            if values is None:
                lacking.append(variable.name)
        elif values is None or variable.index >= len(values):
            lacking.append(f"{variable.name}[{variable.index}]")
    return lacking


def _combinations(
    filter_: Filter, rule: Rule, scope: _Scope, room: int
) -> Iterator[Mapping[Variable, str]]:
    """Yield what the variables of *rule* stand for, once for each copy of it."""
    iterators: dict[int, dict[str, None]] = {}
    elements: dict[Variable, str] = {}
    for variable in _variables(rule):
        if variable.index is None:
            iterators.setdefault(variable.iterator, {})[variable.name] = None
        else:
            elements[variable] = scope[variable.name][variable.index]
    columns: list[Sequence[Mapping[Variable, str]]] = []
    for iterator, names in sorted(iterators.items(), reverse=True):
        lengths = {len(scope[name]) for name in names}
        if len(lengths) > 1:
            each = ", ".join(f"{name} has {len(scope[name])}" for name in names)
            raise BindError(
                f"{_where(filter_, rule)}: cardinality of lists that go together"
                f" by [@{iterator}] differs: {each}"
            )
        rows = dict.fromkeys(zip(*(scope[name] for name in names), strict=True))
        variables = [Variable(name, iterator) for name in names]
        columns.append([dict(zip(variables, row, strict=True)) for row in rows])
    if prod(map(len, columns)) > room:
        raise BindError(f"{_where(filter_, rule)}: more than {MAX_RULES} rules with this one's")
    for chosen in product(*columns):
        yield {name: value for row in (elements, *chosen) for name, value in row.items()}


def _matches(filter_: Filter, rule: Rule, values: Mapping[Variable, str]) -> tuple[Match, ...]:
    """Return what a frame must be, as *rule* says with *values* for its variables."""
    if rule.protocol is None:
        return ()
    table = PROTOCOLS[rule.protocol].table
    given: dict[str, Condition] = {}
    for condition in rule.conditions:
        if isinstance(condition.value, Variable):
            attribute = table[condition.attribute]
            value = _read(filter_, rule, attribute, condition.value, values)
            condition = attrs.evolve(condition, value=value)
        given[condition.attribute] = condition
    kept = [name for name in given if _has_effect(name, given, table)]
    matches = tuple(Match(name, _plain(given[name].value), given[name].negated) for name in kept)
    _check(filter_, rule, {match.attribute: match.value for match in matches}, table)
    return matches


def _read(
    filter_: Filter,
    rule: Rule,
    attribute: Attribute,
    variable: Variable,
    values: Mapping[Variable, str],
) -> Value:
    try:
        return attribute.type.read(values[variable])
    except ValueError as error:
        raise BindError(
            f"{_where(filter_, rule)}: {attribute.name}: parameter {variable.name}: {error}"
        ) from None


def _plain(value: Value | Variable) -> Resolved:
    assert not isinstance(value, Variable)
    return value.value if isinstance(value, Number) else value


def _has_effect(name: str, given: Mapping[str, Condition], table: Mapping[str, Attribute]) -> bool:
    if name == "comment":
        return False
    if name == "ipset" and "ipsetflags" not in given:
        return False
    # gratuitous='false' asks nothing, and neither does a state that names none.
    if name in ("gratuitous", "state") and not given[name].value:
        return False
    follows = table[name].follows
    return follows is None or (follows in given and _has_effect(follows, given, table))


def _check(
    filter_: Filter,
    rule: Rule,
    values: Mapping[str, Resolved],
    table: Mapping[str, Attribute],
) -> None:
    for name, last in values.items():
        start = table[name].follows
        if start is None or not table[name].ends_range:
            continue
        first = values[start]
        # Of one type both, by the table: numbers, or addresses of one family.
        if last < first:  # type: ignore[operator]
            raise BindError(
                f"{_where(filter_, rule)}: {name} is {last}, which is before {start} {first}"
            )
    if rule.protocol == "stp" and rule.direction is Direction.INOUT and "srcmacaddr" in values:
        # The other way it would be the destination, which of stp is always the same.
        raise BindError(f"{_where(filter_, rule)}: stp with srcmacaddr cannot be inout")


def _where(filter_: Filter, rule: Rule) -> str:
    return where(filter_.name, rule.position.line)
