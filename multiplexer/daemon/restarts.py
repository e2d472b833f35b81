"""Who is started again when a process dies, and how often.

Control can die alone: the engine goes on, and a new control takes over what
the broker kept for it.  Without its engine a control is worth nothing, since
all that it knows of attachments is that engine's; so if the engine dies, both
start afresh, and nothing outlives it but the rings that the broker keeps.  So
they do if a control that was to take over fails by itself, because what it found
may be why.
"""

from collections import deque
from typing import Final

import attrs

from multiplexer.daemon import channel

#: How `Process.reap` describes a process that another has ended.
KILLED: Final = "signal "


class RestartBudget:
    """At most *limit* restarts in any *period_s*."""

    def __init__(self, limit: int = 5, period_s: float = 60) -> None:
        self.limit = limit
        self.period_s = period_s
        self._times: deque[float] = deque(maxlen=limit)

    def spend(self, now_s: float) -> bool:
        """Return whether one more is within the budget, and count it if so."""
        if len(self._times) == self.limit and now_s - self._times[0] < self.period_s:
            return False
        self._times.append(now_s)
        return True

    def was_spent_within(self, period_s: float, now_s: float) -> bool:
        """Return whether the last restart was less than *period_s* ago."""
        return bool(self._times) and now_s - self._times[-1] < period_s


def may_take_over(control_was_ready: bool, end: str) -> bool:
    """Whether the next control may go on with the engine of one that ended as *end* says."""
    return control_was_ready or end.startswith(KILLED)


def counted(restarts: channel.Restarts, *, engine: bool) -> channel.Restarts:
    """Return *restarts* with one more: of control alone, or with its engine."""
    if engine:
        return attrs.evolve(restarts, engine=restarts.engine + 1)
    return attrs.evolve(restarts, control=restarts.control + 1)
