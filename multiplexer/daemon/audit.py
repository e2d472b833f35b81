"""What a process of the daemon says on stderr: its log, and who did what.

One event is one line.  Under systemd stderr is the journal, which keeps time
and reads a priority in angle brackets (sd-daemon(3)); elsewhere the line begins
with the time.  Names that come from clients appear escaped, so that no client
can end a line and write one of its own.  Nor is any line so long that the journal
would cut it, and take what is behind for another.
"""

import datetime
import enum
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Final, Literal, TextIO

PROGRAM: Final = "multiplexerd"

#: What can be told of; multiplexerd(8) says what each is.
Event = Literal[
    "vif-created",
    "vif-changed",
    "vif-deleted",
    "address-learned",
    "filter-defined",
    "filter-undefined",
    "set-created",
    "set-changed",
    "set-deleted",
    "host-conflict",
    "host-conflict-over",
    "reloaded",
    "attached",
    "detached",
    "refused",
    "dropped",
    "failed",
    "restarted",
    "request-refused",
]

#: Of a value in an audit event; the addresses of a vif, 128 at most, fit.
MAX_VALUE_CHARS: Final = 6000

#: Far below LineMax= of the journal, 48 KiB (journald.conf(5)).
MAX_LINE_BYTES: Final = 16384

_CUT: Final = " [cut]"

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,:/@%+-]+")


class Priority(enum.IntEnum):
    """syslog(3)'s."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


def format_event(event: Event, fields: Mapping[str, object]) -> str:
    """Return an audit event as text: ``vif-created name=a owner=alice by="uid 0"``.

    Fields that are None are left out; a value that is not a plain word is
    quoted and escaped as JSON, in ASCII, and one that is too long is cut.
    """
    words: list[str] = [event]
    for key, value in fields.items():
        text = str(value)[:MAX_VALUE_CHARS]
        if value is not None:
            words.append(f"{key}={text if _PLAIN.fullmatch(text) else json.dumps(text)}")
    return " ".join(words)


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether *stream* leads to the journal, by $JOURNAL_STREAM (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


class Log:
    """The log of one process."""

    def __init__(
        self,
        role: str,
        stream: TextIO,
        *,
        journal: bool,
        clock: Callable[[], datetime.datetime] = _now,
    ) -> None:
        self._role = role
        self._stream = stream
        self._journal = journal
        self._clock = clock

    def audit(self, event: Event, **fields: object) -> None:
        """Say who did what, or was refused: *fields* in their order, None left out."""
        self._write(Priority.NOTICE, f"audit: {format_event(event, fields)}")

    def info(self, text: str) -> None:
        self._write(Priority.INFO, text)

    def warning(self, text: str) -> None:
        self._write(Priority.WARNING, text)

    def error(self, text: str) -> None:
        self._write(Priority.ERROR, text)

    def _write(self, priority: Priority, text: str) -> None:
        if self._journal:
            lead = f"<{priority}>"
        else:
            lead = self._clock().isoformat(timespec="milliseconds") + " "
        for line in text.splitlines():
            self._stream.write(f"{lead}{PROGRAM}[{self._role}]: {_short(line)}\n")
        self._stream.flush()


def _short(line: str) -> str:
    data = line.encode(errors="backslashreplace")
    if len(data) <= MAX_LINE_BYTES:
        return line
    return data[:MAX_LINE_BYTES].decode(errors="ignore") + _CUT


def open_log(role: str) -> Log:
    """Return the log of this process, on stderr."""
    return Log(role, sys.stderr, journal=is_journal(sys.stderr, os.environ))
