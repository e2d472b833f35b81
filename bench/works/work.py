"""What a work is: one round of it gives samples."""

from collections.abc import Callable, Iterator

import attrs

from ..report import Sample
from ..systems.system import System

Round = Callable[[], Iterator[Sample]]


class Unchecked(AssertionError):
    """Frames of ours arrived that the daemon's counters do not know of."""


@attrs.frozen
class Found:
    """A measured value; *frames* is how many the measurement itself saw arrive."""

    value: float
    frames: int = 0


def sample(work: str, unit: str, system: System, measure: Callable[[], Found]) -> Sample:
    """Return what *measure* finds, with what the system's counters say it checked meanwhile.

    Raises:
        Unchecked: if that is less than what arrived.
    """
    before = system.checked() if system.checked else None
    found = measure()
    if system.checked is None or before is None:
        return Sample(work, system.name, unit, found.value)
    checked = system.checked() - before
    if checked < max(1, found.frames):
        raise Unchecked(f"{work}, {system.name}: {found.frames} arrived, {checked} were checked")
    return Sample(work, system.name, unit, found.value, checked)
