"""What clients do, in the audit log, but no more than somebody can read.

A client can connect, attach, leave and be refused as fast as it likes, and each
is a line of the log.  So each uid has a number of lines to itself; beyond
them its lines are counted, and the next one that is written tells how many are
missing.  What administrators do is not limited.
"""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from multiplexer.daemon.audit import Log
from multiplexer.daemon.peer import Peer

#: Lines of one uid at once, and how many a second are added up to that.
BURST: Final = 100
LINES_PER_S: Final = 2.0


@attrs.define
class _Budget:
    lines: float
    at_s: float
    missing: int = 0


class ClientLog:
    """The log of what clients cause."""

    def __init__(self, log: Log, clock: Callable[[], float] = trio.current_time) -> None:
        self._log = log
        self._clock = clock
        self._budgets: dict[int, _Budget] = {}

    def audit(self, event: str, by: Peer, **fields: object) -> None:
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
        self._log.warning(text)

    def _charge(self, by: Peer, lines: int) -> _Budget | None:
        """Take *lines* from the budget of *by* and return it; None if it has them not."""
        now_s = self._clock()
        budget = self._budgets.setdefault(by.uid, _Budget(BURST, now_s))
        budget.lines = min(BURST, budget.lines + (now_s - budget.at_s) * LINES_PER_S)
        budget.at_s = now_s
        # More than anybody can have takes all of it.
        wanted = min(lines, BURST)
        if budget.lines < wanted:
            budget.missing += lines
            return None
        budget.lines -= wanted
        return budget
