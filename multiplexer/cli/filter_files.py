"""Filters in files, without a daemon: are they valid, and what would dumpxml print.

A file is judged by itself, and with the others that are given and the stock
filters only for loops: what it refers to may be defined later.
"""

import json as jsonlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from multiplexer.cli.arguments import COMPLETE_FILE, argument
from multiplexer.cli.input_files import read_at_most
from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.elements import MAX_DOCUMENT_LEN
from multiplexer.policy.nwfilter.errors import FilterError, FilterLoop
from multiplexer.policy.nwfilter.library import NotInLibrary, check_shown
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.syntax import Filter, Position
from multiplexer.policy.nwfilter.tree import check_no_loop
from multiplexer.stock import stock_filters
from pfinet_proto.values import Text

VALID: Final = 0
INVALID: Final = 1

#: As long as the one that a filter without is given.
SOME_UUID: Final = "00000000-0000-4000-8000-000000000000"

LENIENT: Final = argument(
    "--lenient", action="store_true", help="take what libvirt takes, instead of refusing it"
)
FILES: Final = argument(
    "files",
    metavar="FILE",
    nargs="+",
    complete=COMPLETE_FILE,
    help="a filter; - is standard input",
)
FILE: Final = argument(
    "file", metavar="FILE", complete=COMPLETE_FILE, help="a filter; - is standard input"
)


@attrs.frozen
class Complaint:
    """What is wrong with a file, and where; a file that cannot be read is wrong nowhere."""

    why: str
    position: Position | None = None


def validate(
    connect: Callable[[], object], json: bool, files: Sequence[str], lenient: bool
) -> int:
    """Say of each file whether it is a filter; the exit status is 0 if all are."""
    # Standard input can be read once only.
    read = {file: read_filter(file, lenient) for file in dict.fromkeys(files)}
    found = {file: made for file, made in read.items() if isinstance(made, Filter)}
    verdicts = {
        file: _in_company(file, made, found) if isinstance(made, Filter) else made
        for file, made in read.items()
    }
    if json:
        said = [_as_values(file, verdict) for file, verdict in verdicts.items()]
        sys.stdout.write(jsonlib.dumps({"files": said}, indent=2) + "\n")
    else:
        for file, verdict in verdicts.items():
            if isinstance(verdict, Filter):
                print(f"{file}: filter {verdict.name!r} is valid")
            else:
                print(as_line(file, verdict), file=sys.stderr)
    return VALID if all(isinstance(each, Filter) for each in verdicts.values()) else INVALID


def show_canonical(connect: Callable[[], object], json: bool, file: str, lenient: bool) -> int:
    """Print the canonical text of a file; the exit status is 1 if it is no filter."""
    made = read_filter(file, lenient)
    if isinstance(made, Complaint):
        print(as_line(file, made), file=sys.stderr)
        return INVALID
    text = canonical(made)
    if json:
        text = jsonlib.dumps({"name": made.name, "xml": text}, indent=2) + "\n"
    sys.stdout.write(text)
    return VALID


def read_filter(file: str, lenient: bool) -> Filter | Complaint:
    """Return the filter in a file, or what is wrong with that."""
    try:
        text = read_text(file)
    except OSError as error:
        return Complaint(error.strerror or str(error))
    except ValueError as error:
        return Complaint(str(error))
    try:
        made = parse_untrusted(text.encode(), file, lenient)
        check_shown(attrs.evolve(made, uuid=made.uuid or SOME_UUID))
    except FilterError as error:
        return Complaint(error.why, error.position)
    except NotInLibrary as error:
        return Complaint(str(error), Position(1, 1))
    return made


def read_text(file: str) -> Text:
    """Return the text of the document in *file*.

    Raises:
        ValueError: if it is too long for one, or no text; the file is not named.
        OSError: if it cannot be read.
    """
    octets = read_at_most(file, MAX_DOCUMENT_LEN)
    try:
        return Text(octets.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 at byte {error.start}") from None


def _in_company(file: str, made: Filter, found: Mapping[str, Filter]) -> Filter | Complaint:
    """Return *made*, unless with the others it is refused."""
    twin = next((other for other, each in found.items() if each.name == made.name), file)
    if twin != file:
        return Complaint(f"filter {made.name!r} is in {twin} too", Position(1, 1))
    company = {**stock_filters(), **{each.name: each for each in found.values()}}
    try:
        check_no_loop(made.name, company)
    except FilterLoop as loop:
        # A loop that it only leads into is told of those that make it.
        if made.name in loop.names:
            following = loop.names[loop.names.index(made.name) + 1 :][0]
            (first, *_) = (each for each in made.references if each.filter == following)
            return Complaint(str(loop), first.position)
    return made


def as_line(file: str, complaint: Complaint) -> str:
    """Return what is wrong with a file, for people."""
    where = complaint.position
    return (
        f"{file}:{where.line}:{where.column}: {complaint.why}"
        if where
        else (f"{file}: {complaint.why}")
    )


def _as_values(file: str, verdict: Filter | Complaint) -> dict[str, object]:
    if isinstance(verdict, Filter):
        return {"file": file, "valid": True, "name": verdict.name}
    where = verdict.position
    place = {"line": where.line, "column": where.column} if where else {}
    return {"file": file, "valid": False, **place, "error": verdict.why}
