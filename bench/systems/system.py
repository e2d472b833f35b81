"""What a system under measurement is: two ends, or two stacks, that reach each other."""

from collections.abc import Callable

import attrs

from tests.support.lab import Host
from tests.support.programs import Place

from ..frames import EXPERIMENTAL, HostAddress


@attrs.frozen
class RawEnd:
    """Where frames are put in and come out; *what* is for the program `traffic`."""

    place: Host
    what: str
    address: HostAddress


@attrs.frozen
class StackEnd:
    """A kernel's stack, in which programs run."""

    place: Place
    address: str


@attrs.frozen
class Wire:
    """The far end of the cable that a system's NIC is plugged into.

    *checked* returns how many frames from there the system has checked so far.
    """

    end: RawEnd
    checked: Callable[[], int] | None = None


@attrs.frozen
class System:
    """One of the contenders, running.

    *checked* returns how many frames the system's own counters say that it
    checked so far; None: it does not check.  *is_free* returns whether the raw
    ends can be opened: the last program's may not be closed yet.  A system that
    *translates* puts an address of its own in the place of the first stack's, so
    that only connections from there come to their end.
    """

    name: str
    raw: tuple[RawEnd, RawEnd] | None = None
    stacks: tuple[StackEnd, StackEnd] | None = None
    wire: Wire | None = None
    ethertype: int = EXPERIMENTAL
    checked: Callable[[], int] | None = None
    is_free: Callable[[], bool] = lambda: True
    translates: bool = False
