"""The network filter that the file names for a vif, a grant or a network, with its parameters.

Whether there is such a filter is not the file's to say, so only forms are checked.
"""

from ..model import FilterBinding
from ..policy.nwfilter.names import (
    check_filter_name,
    check_parameter_name,
    check_parameter_value,
)
from .toml_tables import Table, show
from .values import read_text


def read_filter(table: Table) -> FilterBinding | None:
    """Return the binding that *table* has in its keys filter and parameters."""
    name = table.take("filter", _read_name, None)
    if "parameters" in table and "filter" not in table:
        table.problem(("parameters",), "are for a filter, and none is given")
    given = table.table("parameters", None)
    parameters: dict[str, tuple[str, ...]] = {}
    for each in given:
        try:
            check_parameter_name(each)
        except ValueError as error:
            given.problem((each,), str(error))
        parameters[each] = given.take(each, _read_values, ())
    return None if name is None else FilterBinding.of(name, parameters)


def _read_name(raw: object) -> str:
    return check_filter_name(read_text(raw))


def _read_values(raw: object) -> tuple[str, ...]:
    """Read a value or an array of values, each a string or a number."""
    values = tuple(map(_read_value, raw if isinstance(raw, list) else [raw]))
    if not values:
        raise ValueError("an empty array, wanted a value")
    return values


def _read_value(raw: object) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        raise ValueError(f"{show(raw)}, wanted a string or a number, or an array of them")
    return check_parameter_value(str(raw))
