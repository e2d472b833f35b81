"""By which numbers the datapath knows networks and NICs.

At a start they are positions in the file.  While the daemon runs, what stays
keeps its number, so that nothing that refers to it has to change, and what is
new gets a number that nobody has or had a moment ago: then it does not matter
in which order the old goes and the new comes.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Self

import attrs


class NumbersExhausted(Exception):
    """What is there and what is to come are more than there are numbers."""


@attrs.frozen
class Numbering:
    """The datapath's id of each network, and its port of each nic uplink, by name."""

    networks: Mapping[str, int] = MappingProxyType({})
    nics: Mapping[str, int] = MappingProxyType({})

    @classmethod
    def first(cls, networks: Iterable[str], nics: Iterable[str]) -> Self:
        """Return the numbering that a start has."""
        return cls(_positions(networks), _positions(nics))

    def following(self, then: Self, most_networks: int, most_nics: int) -> Self:
        """Return the numbering of the names of *then*, after this one.

        Raises:
            NumbersExhausted: if there are too many at once.
        """
        return type(self)(
            _follow(self.networks, then.networks, most_networks, "networks"),
            _follow(self.nics, then.nics, most_nics, "NICs"),
        )


def _positions(names: Iterable[str]) -> Mapping[str, int]:
    return MappingProxyType({name: number for number, name in enumerate(names)})


def _follow(
    before: Mapping[str, int], names: Iterable[str], most: int, what: str
) -> Mapping[str, int]:
    wanted = tuple(names)
    free = (number for number in range(most) if number not in set(before.values()))
    numbers = {}
    for name in wanted:
        number = before[name] if name in before else next(free, None)
        if number is None:
            both = len({*before, *wanted})
            raise NumbersExhausted(
                f"{both} {what}, those that go and those that come, wanted at most {most} at once"
            )
        numbers[name] = number
    return MappingProxyType(numbers)
