"""What clients do, in the audit log, but no more than somebody can read.

A client can connect, attach, leave and be refused as fast as it likes, and each
is a line of the log.  So each uid has a number of lines to itself; beyond
them its lines are counted, and the next one that is written tells how many are
missing.  What administrators do is not limited.
"""

import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from multiplexer.daemon.audit import Event, Log
from multiplexer.daemon.peer import Peer

#: Lines of one uid at once, and how many a second are added up to that.
BURST: Final = 100
LINES_PER_S: Final = 2.0

#: How long a warning is not repeated that comes as long as something lasts.
WARN_EACH_S: Final = 60.0

#: All whom nobody knows have the lines of so many.
STRANGERS: Final = 10


@attrs.define
class _Budget:
    """Lines that may be written: at most *burst* at once, and *per_s* more each second."""

    burst: float
    per_s: float
    at_s: float
    lines: float = attrs.field(default=attrs.Factory(lambda self: self.burst, takes_self=True))
    missing: int = 0

    def fill(self, now_s: float) -> None:
        self.lines = min(self.burst, self.lines + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s


class ClientLog:
    """The log of what clients cause.

    One user may have thousands of subordinate uids, so all of whom *is_known*
    says that they are strangers have only so many lines together.
    """

    def __init__(self, log: Log, clock: Callable[[], float] = trio.current_time) -> None:
        self._log = log
        self._clock = clock
        self._budgets: dict[int, _Budget] = {}
        self._strangers: _Budget | None = None
        self._warned_s: dict[str, float] = {}
        self.is_known: Callable[[Peer], bool] = lambda peer: True

    def audit(self, event: Event, by: Peer, **fields: object) -> None:
        """Say what *by* did, or was refused, if it has lines left."""
        budget = self._charge(by, 1)
        if budget is not None:
            self._log.audit(event, by=by, **fields, missing=budget.missing or None)
            budget.missing = 0

    def error(self, text: str, by: Peer) -> None:
        """Say what went wrong in serving *by*, if it has all the lines left."""
        if self._charge(by, len(text.splitlines())) is not None:
            self._log.error(text)

    def warning(self, text: str) -> None:
        """Say what is wrong with serving anybody, but not again within a minute."""
        now_s = self._clock()
        if now_s - self._warned_s.get(text, -math.inf) >= WARN_EACH_S:
            self._warned_s[text] = now_s
            self._log.warning(text)

    def _charge(self, by: Peer, lines: int) -> _Budget | None:
        """Take *lines* from the budget of *by* and return it; None if it has them not."""
        now_s = self._clock()
        own = self._budgets.setdefault(by.uid, _Budget(BURST, LINES_PER_S, now_s))
        charged = [own]
        if not self.is_known(by):
            if self._strangers is None:
                self._strangers = _Budget(STRANGERS * BURST, STRANGERS * LINES_PER_S, now_s)
            charged.append(self._strangers)
        # More than anybody can have takes all of it.
        wanted = min(lines, BURST)
        for budget in charged:
            budget.fill(now_s)
        if any(budget.lines < wanted for budget in charged):
            own.missing += lines
            return None
        for budget in charged:
            budget.lines -= wanted
        return own
