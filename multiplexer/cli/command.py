"""What a command is: its words, and what is done for them.

Most commands are requests to the daemon and their results.  The others are programs,
which ask, print and end as they see fit.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from multiplexer.cli.arguments import Argument
from multiplexer.cli.client import Connect
from multiplexer.cli.exit_status import DONE
from multiplexer.cli.render import as_json, as_terminal_text, as_text
from pfinet_proto import control

Requests = control.Request[Any] | Sequence[control.Request[Any]]


def only(results: Sequence[control.Result]) -> control.Result:
    """Return the result of a command that is one request."""
    (result,) = results
    return result


def done(_: object) -> int:
    """Return the exit status of a command that was done."""
    return DONE


@attrs.frozen
class Command:
    """A command: its words, what it is for, and what it asks.

    *request* makes of its arguments a request, or several, and *join* of their
    results one, which has an exit *status*.
    """

    words: tuple[str, ...]
    help: str
    request: Callable[..., Requests]
    arguments: tuple[Argument, ...] = ()
    join: Callable[[Sequence[Any]], control.Result] = only
    status: Callable[[Any], int] = done

    def run(self, connect: Connect, json: bool, **given: Any) -> int:
        """Ask the daemon, and show what it says."""
        made = self.request(**given)
        with connect() as client:
            asked = made if isinstance(made, Sequence) else (made,)
            result = self.join([client.ask(request) for request in asked])
        write(result, json)
        return self.status(result)


@attrs.frozen
class Program:
    """A command that is more than requests and their results; *run* returns the exit status."""

    words: tuple[str, ...]
    help: str
    run: Callable[..., int]
    arguments: tuple[Argument, ...] = ()


def write(result: control.Result, json: bool) -> None:
    """Print *result*, for a person or a program."""
    if json:
        text = as_json(result)
    elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        text = as_terminal_text(result, shutil.get_terminal_size().columns)
    else:
        text = as_text(result)
    sys.stdout.write(text)
    sys.stdout.flush()
