"""What a work is: one round of it gives samples."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import attrs

from ..report import Sample
from ..systems.system import System

Round = Callable[[], Iterator[Sample]]


class Unchecked(AssertionError):
    """Frames of ours arrived that the daemon's counters do not know of."""


@attrs.frozen
class Found:
    """A measured value; *frames* is how many the measurement itself saw arrive.

    *others* is what else the same measurement found, by its unit.
    """

    value: float
    frames: int = 0
    others: Mapping[str, float] = attrs.field(factory=lambda: MappingProxyType({}))


def sample(work: str, unit: str, system: System, measure: Callable[[], Found]) -> Iterator[Sample]:
    """Yield what *measure* finds, with what the system's counters say it checked meanwhile.

    Raises:
        Unchecked: if that is less than what arrived.
    """
    before = system.checked() if system.checked else None
    found = measure()
    checked = None
    if system.checked is not None and before is not None:
        checked = system.checked() - before
        if checked < max(1, found.frames):
            raise Unchecked(
                f"{work}, {system.name}: {found.frames} arrived, {checked} were checked"
            )
    for named, value in {unit: found.value, **found.others}.items():
        yield Sample(work, system.name, named, value, checked)
