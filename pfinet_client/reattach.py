"""Whether to attach again after an attachment ended, and when.

A daemon that restarts, crashes or is upgraded comes back, and nobody knows
when: a client tries for as long as it takes, at once first, because an
established connection waits, then ever less often.  It gives up only when it
is told that the vif is not its own any more, or that the daemon and it have no
language in common.
"""

from collections.abc import Mapping
from typing import Any

from pfinet_proto.attach import Goodbye, GoodbyeCode, RefusedCode
from pfinet_proto.control import ErrorCode

Code = GoodbyeCode | RefusedCode | ErrorCode

#: Of each kind of end those after which no try can succeed.  A vif that is
#: `taken` is held by what the daemon has not let go of yet: often by ourselves.
_FINAL: Mapping[type[Any], frozenset[Any]] = {
    GoodbyeCode: frozenset(
        {GoodbyeCode.DELETED, GoodbyeCode.OWNER_CHANGED, GoodbyeCode.TAKEN_OVER}
    ),
    RefusedCode: frozenset(
        {
            RefusedCode.VERSION,
            RefusedCode.NOT_OWNER,
            RefusedCode.NO_TRANSPORT,
            RefusedCode.GONE,
        }
    ),
    ErrorCode: frozenset({ErrorCode.NOT_FOUND, ErrorCode.FORBIDDEN}),
}

#: Less than any restart takes.
_FIRST_PAUSE_S = 0.005
#: What a person hardly notices, and a thousand waiting clients hardly cost.
LONGEST_PAUSE_S = 1.0
#: The part of the time waited up to now that may be waited in vain at the end.
_IN_VAIN = 0.25


def is_final(code: Code) -> bool:
    """Return whether what ended, or was refused, with *code* will not be had again."""
    return code in _FINAL[type(code)]


def farewell(goodbye: Goodbye) -> str:
    """Return why the daemon ended an attachment, for the person."""
    return goodbye.text or goodbye.code.name.lower().replace("_", " ")


class Pauses:
    """How long to wait before each try: not at all, then ever longer, to a bound.

    Who has waited for a moment is there a moment later; who has waited for long
    may wait a little longer.
    """

    def __init__(self) -> None:
        self._tries = 0
        self._waited_s = 0.0

    def next_s(self) -> float:
        """Return the seconds to wait before the next try."""
        self._tries += 1
        if self._tries == 1:
            return 0.0
        pause_s = min(max(_IN_VAIN * self._waited_s, _FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._waited_s += pause_s
        return pause_s

    def note_attached_for(self, lived_s: float) -> None:
        """Begin anew after an attachment that lasted; one that did not was a failed try."""
        if lived_s >= LONGEST_PAUSE_S:
            self._tries, self._waited_s = 0, 0.0
