"""Which network filter judges the frames of a vif, and what its variables stand for."""

from collections.abc import Iterable, Mapping

import attrs


@attrs.frozen
class FilterBinding:
    """The network filter that a vif is bound to, by *name*.

    *parameters* are what its variables stand for there, each with one value or more,
    sorted by name; what the vif itself is bound to need not be among them.
    """

    name: str
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, name: str, parameters: Mapping[str, Iterable[str]]) -> "FilterBinding":
        """Return the binding to filter *name*, with *parameters* in any order."""
        return cls(name, tuple((each, tuple(parameters[each])) for each in sorted(parameters)))

    @property
    def assignments(self) -> tuple[str, ...]:
        """Each parameter with each of its values, as ``NAME=VALUE``."""
        return tuple(f"{name}={value}" for name, values in self.parameters for value in values)

    def __str__(self) -> str:
        return " ".join((self.name, *self.assignments))
