"""Random filters, of every protocol and attribute, for tests of the filter language."""

from hypothesis import strategies as st

from multiplexer.policy.nwfilter.names import CHAIN_PRIORITIES
from multiplexer.policy.nwfilter.protocols import PROTOCOLS, WITH_PORTS, Attribute
from multiplexer.policy.nwfilter.syntax import (
    Action,
    Condition,
    Direction,
    Filter,
    Parameter,
    Reference,
    Rule,
    Variable,
    arranged,
)
from multiplexer.policy.nwfilter.values import Number
from tests.support.nwvalues import any_value

PARAMETER_NAMES = st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True)
PARAMETER_VALUES = st.from_regex(r"[A-Za-z0-9_.:]{1,12}", fullmatch=True)
FILTER_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
PRIORITIES = st.integers(-1000, 1000)

VARIABLES = st.one_of(
    st.builds(Variable, PARAMETER_NAMES, st.integers(0, 1000)),
    st.builds(Variable, PARAMETER_NAMES, index=st.integers(0, 10**6)),
)


def conditions(attribute: Attribute, with_variables: bool) -> st.SearchStrategy[Condition]:
    """Return what *attribute* may ask."""
    asked = any_value(attribute.type)
    return st.builds(
        Condition,
        st.just(attribute.name),
        asked | VARIABLES if with_variables else asked,
        st.booleans(),
    )


@st.composite
def rules(draw: st.DrawFn, with_variables: bool = True) -> Rule:
    """Return a rule that may be written: ports of ip and ipv6 have a protocol beside them."""
    name = draw(st.none() | st.sampled_from(sorted(PROTOCOLS)))
    made: list[Condition] = []
    if name is not None:
        table = PROTOCOLS[name].table
        chosen = draw(st.lists(st.sampled_from(sorted(table)), unique=True, max_size=5))
        if name in ("ip", "ipv6") and any("port" in each for each in chosen):
            chosen = [each for each in chosen if each != "protocol"]
            made.append(Condition("protocol", Number(draw(st.sampled_from(sorted(WITH_PORTS))))))
        for one, other in (("ipset", "ipsetflags"), ("ipsetflags", "ipset")):
            if one in chosen and other not in chosen:
                chosen.append(other)
        made.extend(draw(conditions(table[each], with_variables)) for each in chosen)
    return Rule(
        draw(st.sampled_from(Action)),
        draw(st.sampled_from(Direction)),
        name,
        arranged(name, made) if name is not None else (),
        draw(PRIORITIES),
        draw(st.booleans()),
    )


def _references() -> st.SearchStrategy[Reference]:
    lists = st.lists(PARAMETER_VALUES, min_size=1, max_size=3).map(tuple)
    given = st.dictionaries(PARAMETER_NAMES, lists, max_size=3)
    return st.builds(
        lambda name, values: Reference(
            name, tuple(Parameter(each, values[each]) for each in sorted(values))
        ),
        FILTER_NAMES,
        given,
    )


@st.composite
def documents(draw: st.DrawFn, with_variables: bool = True) -> Filter:
    """Return a filter with rules and references."""
    kind = draw(st.just("root") | st.sampled_from(sorted(CHAIN_PRIORITIES)))
    suffix = "" if kind == "root" else draw(st.from_regex(r"[A-Za-z0-9_.:-]{0,8}", fullmatch=True))
    return Filter(
        draw(FILTER_NAMES),
        kind + suffix,
        draw(PRIORITIES),
        str(draw(st.uuids())) if draw(st.booleans()) else None,
        tuple(draw(st.lists(rules(with_variables) | _references(), max_size=4))),
    )
