"""Defining filters at the daemon: from a file, or by editing what it has.

An edit is lost to nobody: what the daemon refuses can be corrected, and whoever
gives up is told where it is.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from multiplexer.cli.arguments import argument
from multiplexer.cli.client import Connect
from multiplexer.cli.exit_status import DONE, FAILED
from multiplexer.cli.filter_files import read_text
from multiplexer.cli.render import as_json, as_text
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.jsonform import NO_TEXT
from pfinet_proto.values import Text

#: What is the author's to correct.
CORRECTABLE: Final = (ErrorCode.BAD_REQUEST, ErrorCode.INVALID, ErrorCode.CONFLICT)

STRICTNESS: Final = (
    argument(
        "--validate",
        action="store_true",
        help="refuse what the language does not have; that is done in any case",
    ),
    argument(
        "--lenient", action="store_true", help="take what libvirt takes, instead of refusing it"
    ),
)


def define(file: str, validate: bool, lenient: bool) -> control.FilterDefine:
    """Return the request that `filter define` is.

    Raises:
        ValueError: if the file is no text or too long, or it is to be read in both ways.
        OSError: if it cannot be read.
    """
    _check_strictness(validate, lenient)
    # Only bytes that are no text could not be said.
    source = file.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return control.FilterDefine(_text_of(file), lenient, source)


def edit(connect: Connect, json: bool, filter: str, validate: bool, lenient: bool) -> int:
    """Let the caller edit a filter, again if it is refused, and define that.

    Raises:
        ControlError: if there is none such, or it cannot be changed.
        ValueError: if it is to be read in both ways, or was changed meanwhile.
        OSError: if there is no editor.
    """
    _check_strictness(validate, lenient)
    with connect() as client:
        now = client.ask(control.FilterDumpxml(filter))
    if now.stock:
        raise ValueError(f"{now.name!r} is a stock filter, which nobody changes")
    command = editor(os.environ)
    draft = Path(tempfile.mkdtemp(prefix="multiplexerctl-")) / "filter.xml"
    draft.write_text(now.xml, encoding="utf-8")
    made: control.FilterInfo | None = None
    try:
        made = _edited(connect, now, [*command, str(draft)], draft, lenient)
    finally:
        if made is not None or not _has_work(draft, now.xml):
            # With what the editor has left beside it.
            shutil.rmtree(draft.parent, ignore_errors=True)
        else:
            print(f"multiplexerctl: what you wrote is in {draft}", file=sys.stderr)
    if made is None:
        return FAILED
    sys.stdout.write(as_json(made) if json else as_text(made))
    return DONE


def _edited(
    connect: Connect,
    now: control.FilterText,
    command: Sequence[str],
    draft: Path,
    lenient: bool,
) -> control.FilterInfo | None:
    """Return what became of the edit by *command*; None if its author gave up."""
    while True:
        if subprocess.run(command, check=False).returncode != 0:
            print("multiplexerctl: the editor failed, so nothing is changed", file=sys.stderr)
            return None
        try:
            text = _text_of(str(draft))
            with connect() as client:
                # Also who leaves it as it is gets to know what it is.
                if client.ask(control.FilterDumpxml(now.uuid)).xml != now.xml:
                    raise ControlError(
                        ErrorCode.UNAVAILABLE, f"filter {now.name!r} was changed meanwhile"
                    )
                return client.ask(control.FilterDefine(text, lenient, draft.name))
        except ControlError as error:
            if error.code not in CORRECTABLE:
                raise
            print(f"multiplexerctl: {error}", file=sys.stderr)
        except ValueError as error:
            print(f"multiplexerctl: {error}", file=sys.stderr)
        if not _again():
            return None


def _has_work(draft: Path, before: str) -> bool:
    """Return whether the author has left something in *draft* that was not there *before*."""
    try:
        return draft.read_text(encoding="utf-8", errors="replace") != before
    except FileNotFoundError:
        return False


def editor(environment: Mapping[str, str]) -> list[str]:
    """Return the command of the caller's editor, which may have arguments.

    Raises:
        ValueError: if its quotes do not match.
    """
    for name in ("VISUAL", "EDITOR"):
        given = environment.get(name, "").strip()
        if given:
            try:
                return shlex.split(given)
            except ValueError:
                raise ValueError(f"{name} is {given!r}, whose quotes do not match") from None
    return ["vi"]


def _again() -> bool:
    print("Edit it again? [y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    # The end of the input is no wish to go on.
    return answer.strip().lower() in ("y", "yes")


def _text_of(file: str) -> Text:
    try:
        text = read_text(file)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    found = NO_TEXT.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        why = f"{found.group()!r} is no character of a document"
        raise ValueError(f"{file}:{line}:{column}: {why}")
    return text


def _check_strictness(validate: bool, lenient: bool) -> None:
    if validate and lenient:
        raise ValueError("--validate and --lenient are opposites")
