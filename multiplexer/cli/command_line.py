"""The parser of a table of commands, each under the groups that its words begin with."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from multiplexer.cli.command import Command, Program
from pfinet_proto.typed import CommandLine


def parser_of(
    commands: Sequence[Command | Program], groups: Mapping[tuple[str, ...], str]
) -> CommandLine:
    """Return the parser of *commands*; *groups* says what the words before their last are about.

    What it parses has the command itself as ``command``.
    """
    top = CommandLine(prog="multiplexerctl", description="Administer the network multiplexer.")
    _add_global(top, control=None, json=False)
    parsers: dict[tuple[str, ...], Any] = {
        (): top.add_subparsers(metavar="COMMAND", required=True)
    }
    for command in commands:
        *group, last = command.words
        for length in range(1, len(group) + 1):
            words = tuple(group[:length])
            if words not in parsers:
                made = parsers[words[:-1]].add_parser(words[-1], help=groups[words])
                parsers[words] = made.add_subparsers(metavar="COMMAND", required=True)
        below = parsers[tuple(group)]
        one = below.add_parser(last, help=command.help, description=f"{command.help}.")
        for each in command.arguments:
            options = dict(each.options)
            complete = options.pop("complete", None)
            action = one.add_argument(each.name, **options)
            if complete is not None:  # where shtab looks for it
                action.complete = dict(complete)
        # After the command they mean the same, and must not undo what stood before it.
        _add_global(one, "control_after", control=None, json=argparse.SUPPRESS)
        one.set_defaults(command=command)
    return top


def take_control(line: CommandLine, given: dict[str, Any]) -> str | None:
    """Take the path of the control socket, before the command or after it, out of what is *given*.

    It is a usage error if the two differ.
    """
    before, after = given.pop("control"), given.pop("control_after")
    if None not in (before, after) and before != after:
        line.error(f"argument --control: is {before} and {after}, wanted one of them")
    path: str | None = before if after is None else after
    return path


def _add_global(to: CommandLine, control_is: str = "control", **defaults: Any) -> None:
    to.add_argument(
        "--control",
        dest=control_is,
        metavar="PATH",
        default=defaults["control"],
        help="the daemon's control socket",
    )
    to.add_argument(
        "--json", action="store_true", default=defaults["json"], help="write JSON, for programs"
    )
