"""What can be wrong with a filter: its text, the tree it is in, the parameters it is given."""

from .syntax import Position
from .values import shown

_LISTED = 20


class FilterError(ValueError):
    """A text is not a filter document; *why* stands at *position* of *source*."""

    def __init__(self, source: str, position: Position, why: str) -> None:
        super().__init__(f"{source}:{position.line}:{position.column}: {why}")
        self.source = source
        self.position = position
        self.why = why


class FilterLoop(ValueError):
    """Filters refer to each other in a circle; *names* begins and ends with the same."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"filters refer to each other in a loop: {_listed(names, ' -> ')}")
        self.names = names


class BindError(ValueError):
    """A filter cannot be bound, with the parameters given and the filters that are there."""


class MissingFilters(BindError):
    """Filters that are referred to are not there."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"filters are missing: {_listed(names)}")
        self.names = names


class MissingSet(BindError):
    """A set that a rule names is not there."""

    def __init__(self, name: str, filter_name: str, line: int) -> None:
        self.name = name
        self.filter_name = filter_name
        self.where = where(filter_name, line)
        super().__init__(f"{self.where}: there is no set {name!r}")


class MissingVariables(BindError):
    """Variables have no value; *names* are as V, or as V[2] where only that element is missing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"parameters are missing: {_listed(names)}")
        self.names = names


def where(filter_name: str, line: int) -> str:
    """Return the place of a rule, as messages say it."""
    return f"filter {filter_name!r}, line {line}"


def _listed(names: tuple[str, ...], joint: str = ", ") -> str:
    listed = [shown(name) for name in names[:_LISTED]]
    more = len(names) - _LISTED
    return joint.join([*listed, *([f"and {more} more"] if more > 0 else [])])
