"""The commands: a table, each with what it asks and its arguments.

Adding a command is adding a row; how its result looks is `render`'s.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import shtab

from multiplexer.cli import filter_binding, filter_definition, filter_files, filter_trial, top
from multiplexer.cli.arguments import FILTER, NAME, SET_NAME, VIF_NAME, Argument, argument
from multiplexer.cli.client import Connect
from multiplexer.cli.command import Command, Program
from multiplexer.cli.command_line import parser_of
from multiplexer.cli.exit_status import DONE, FAILED
from multiplexer.cli.trace_request import FRAMES, trace
from multiplexer.cli.vif_arguments import CREATE, SET, make_vif, set_vif
from pfinet_proto import control
from pfinet_proto.trace import join_traces
from pfinet_proto.typed import CommandLine

SHELLS: Final = ("bash", "zsh", "tcsh")


def members(how_many: str) -> Argument:
    """Return the argument that is members of a set."""
    return argument(
        "members",
        metavar="MEMBER",
        nargs=how_many,
        help="an address, a prefix, or the first and last address of a range, FIRST-LAST",
    )


def status_of_reload(reloaded: control.Reloaded) -> int:
    """Return the exit status: an invalid file is an answer, and a failure."""
    return FAILED if reloaded.errors else DONE


def show_completion(connect: Connect, json: bool, shell: str) -> int:
    """Print what *shell* reads to complete our command line."""
    print(shtab.complete(parser(), shell))
    return DONE


COMMANDS: Final[tuple[Command | Program, ...]] = (
    Command(("status",), "show what runs, and what the kernel can do", control.Status),
    Command(("network", "list"), "list the networks", control.NetworkList),
    Command(("network", "show"), "show a network", control.NetworkShow, (NAME,)),
    Command(("uplink", "list"), "list the uplinks", control.UplinkList),
    Command(
        ("uplink", "show"), "show an uplink, its counters and drops", control.UplinkShow, (NAME,)
    ),
    Command(("vif", "create"), "make a vif", make_vif, (VIF_NAME, *CREATE)),
    Command(("vif", "set"), "change a vif, and tell its client", set_vif, (VIF_NAME, *SET)),
    Command(("vif", "delete"), "delete a vif, and end its client", control.VifDelete, (VIF_NAME,)),
    Command(("vif", "list"), "list the vifs", control.VifList),
    Command(
        ("vif", "show"), "show a vif, its holder, counters and drops", control.VifShow, (VIF_NAME,)
    ),
    Command(("filter", "list"), "list the filters", control.FilterList),
    Command(
        ("filter", "define"),
        "let there be the filter in a file, or change the one of its name",
        filter_definition.define,
        (filter_files.FILE, *filter_definition.STRICTNESS),
    ),
    Command(
        ("filter", "undefine"),
        "forget a filter that no vif is bound to",
        control.FilterUndefine,
        (FILTER,),
    ),
    Command(("filter", "dumpxml"), "print a filter", control.FilterDumpxml, (FILTER,)),
    Program(
        ("filter", "edit"),
        "change a filter in an editor",
        filter_definition.edit,
        (FILTER, *filter_definition.STRICTNESS),
    ),
    Program(
        ("filter", "binding", "list"),
        "list which vif is bound to which filter",
        filter_binding.list_all,
    ),
    Program(
        ("filter", "binding", "show"),
        "show the filter of a vif, and what its variables stand for",
        filter_binding.show,
        (VIF_NAME,),
    ),
    Program(
        ("filter", "binding", "create"),
        "bind a vif to a filter",
        filter_binding.create,
        filter_binding.CREATE,
    ),
    Program(
        ("filter", "binding", "delete"),
        "let a vif have no filter",
        filter_binding.delete,
        (VIF_NAME,),
    ),
    Program(
        ("filter", "validate"),
        "say whether files are filters, without asking the daemon",
        filter_files.validate,
        (filter_files.FILES, filter_files.LENIENT),
    ),
    Program(
        ("filter", "canonical"),
        "print a filter in a file as it is kept, without asking the daemon",
        filter_files.show_canonical,
        (filter_files.FILE, filter_files.LENIENT),
    ),
    Program(
        ("filter", "test"),
        "say what a filter in a file does with the frames of captures, without the daemon",
        filter_trial.test,
        filter_trial.ARGUMENTS,
    ),
    Command(("set", "list"), "list the sets of addresses that filters may name", control.SetList),
    Command(("set", "show"), "show what is in a set", control.SetShow, (SET_NAME,)),
    Command(
        ("set", "create"),
        "make a set",
        lambda name, members: control.SetCreate(name, tuple(members)),
        (NAME, members("*")),
    ),
    Command(
        ("set", "add"),
        "put addresses into a set",
        lambda name, members: control.SetChange(name, add=tuple(members)),
        (SET_NAME, members("+")),
    ),
    Command(
        ("set", "remove"),
        "take addresses out of a set",
        lambda name, members: control.SetChange(name, remove=tuple(members)),
        (SET_NAME, members("+")),
    ),
    Command(("set", "delete"), "forget a set that no vif needs", control.SetDelete, (SET_NAME,)),
    Command(
        ("trace",),
        "say what would become of frames if a vif sent them, and why",
        trace,
        (VIF_NAME, *FRAMES),
        join_traces,
    ),
    Command(
        ("reload",),
        "apply the configuration file as it is now",
        control.Reload,
        (argument("--dry-run", action="store_true", help="only say what would change"),),
        status=status_of_reload,
    ),
    Program(("top",), "watch the rates and drops of every vif", top.run, top.ARGUMENTS),
    Program(
        ("completion",),
        "print the completion of this command for a shell",
        show_completion,
        (argument("shell", choices=SHELLS, help="which shell"),),
    ),
)

#: What the words of commands before their last are about.
GROUPS: Final[Mapping[tuple[str, ...], str]] = MappingProxyType(
    {
        ("filter",): "what vifs may send and receive, beside what they must",
        ("filter", "binding"): "which vif is bound to which filter",
        ("network",): "the broadcast domains that vifs are in",
        ("set",): "addresses that filters may name",
        ("uplink",): "where networks meet the outside",
        ("vif",): "the users' virtual interfaces",
    }
)


def parser() -> CommandLine:
    """Return the parser of `multiplexerctl`, for completions and for tests of the manual too."""
    return parser_of(COMMANDS, GROUPS)
