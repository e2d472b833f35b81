"""The command line: a table of commands, each a request and its arguments.

Adding a command is adding a row; how its result looks is `render`'s.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs
import shtab

from multiplexer.cli import filter_binding, filter_definition, filter_files, filter_trial, top
from multiplexer.cli.arguments import (
    COMPLETE_FILE,
    FILTER,
    NAME,
    SET_NAME,
    VIF_NAME,
    Argument,
    Misuse,
    argument,
)
from multiplexer.cli.client import ControlClient, DaemonUnreachable, control_path
from multiplexer.cli.input_files import read_at_most
from multiplexer.cli.render import as_json, as_terminal_text, as_text
from multiplexer.cli.vif_arguments import CREATE, SET, make_vif, set_vif
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.trace import MAX_CAPTURE_BYTES, join_traces, read_frames, trace_requests
from pfinet_proto.typed import CommandLine, value_of
from pfinet_proto.values import VifName

# Exit codes; usage errors are argparse's.
DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
UNREACHABLE: Final = 3
FORBIDDEN: Final = 4
INTERRUPTED: Final = 130  # sh(1): by SIGINT

SHELLS: Final = ("bash", "zsh", "tcsh")

#: How often `top` looks, in seconds.
MIN_INTERVAL_S: Final = 0.1
MAX_INTERVAL_S: Final = 3600.0

Connect = Callable[[], ControlClient]


Requests = control.Request[Any] | Sequence[control.Request[Any]]


def only(results: Sequence[control.Result]) -> control.Result:
    """Return the result of a command that is one request."""
    (result,) = results
    return result


def done(_: object) -> int:
    """Return the exit status of a command that was done."""
    return DONE


def status_of_reload(reloaded: control.Reloaded) -> int:
    """Return the exit status: an invalid file is an answer, and a failure."""
    return FAILED if reloaded.errors else DONE


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


def trace(name: VifName, hex: Sequence[str], pcap: str | None) -> Requests:
    """Return the requests that `trace` is.

    Raises:
        Misuse: if there is no frame, or the capture is none.
        OSError: if the capture cannot be read.
    """
    capture = read_capture(pcap)
    try:
        return tuple(trace_requests(name, read_frames(hex, pcap, capture)))
    except ValueError as error:
        raise Misuse(str(error)) from None


def read_capture(path: str | None) -> bytes:
    """Return what a file holds, or standard input as ``-``; nothing without a path.

    Raises:
        ValueError: if it is too long.
        OSError: if it cannot be read.
    """
    if path is None:
        return b""
    try:
        return read_at_most(path, MAX_CAPTURE_BYTES)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def show_top(connect: Connect, json: bool, interval: float, count: int | None) -> int:
    """Run `top` until it is quit, or has shown *count* times."""
    top.run(connect, interval, count, json)
    return DONE


def show_completion(connect: Connect, json: bool, shell: str) -> int:
    """Print what *shell* reads to complete our command line."""
    print(shtab.complete(parser(), shell))
    return DONE


def read_interval(text: str) -> float:
    """Return *text* as a number of seconds."""
    wanted = f"wanted seconds from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g}"
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number, {wanted}") from None
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise ValueError(f"{text} is out of range, {wanted}")
    return seconds


def read_count(text: str) -> int:
    """Return *text* as a number of times."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is no count, wanted an integer from 1 on")
    return int(text)


def members(how_many: str) -> Argument:
    """Return the argument that is members of a set."""
    return argument(
        "members",
        metavar="MEMBER",
        nargs=how_many,
        help="an address, a prefix, or the first and last address of a range, FIRST-LAST",
    )


COMMANDS: Final[tuple[Command | Program, ...]] = (
    Command(("status",), "show what runs, and what the kernel can do", control.Status),
    Command(("network", "list"), "list the networks", control.NetworkList),
    Command(("network", "show"), "show a network", control.NetworkShow, (NAME,)),
    Command(("uplink", "list"), "list the uplinks", control.UplinkList),
    Command(
        ("uplink", "show"), "show an uplink, its counters and drops", control.UplinkShow, (NAME,)
    ),
    Command(
        ("vif", "create"),
        "make a vif",
        make_vif,
        (VIF_NAME, *CREATE),
    ),
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
        (
            VIF_NAME,
            argument(
                "--hex",
                metavar="FRAME",
                action="extend",
                nargs="+",
                default=[],
                help="frames in hexadecimal, from the destination MAC on",
            ),
            argument(
                "--pcap",
                metavar="FILE",
                complete=COMPLETE_FILE,
                help="a capture; - is what is piped in",
            ),
        ),
        join_traces,
    ),
    Command(
        ("reload",),
        "apply the configuration file as it is now",
        control.Reload,
        (argument("--dry-run", action="store_true", help="only say what would change"),),
        status=status_of_reload,
    ),
    Program(
        ("top",),
        "watch the rates and drops of every vif",
        show_top,
        (
            argument(
                "--interval",
                metavar="SECONDS",
                type=value_of(read_interval),
                default=1.0,
                help="between two looks (default: 1)",
            ),
            argument(
                "--count",
                metavar="N",
                type=value_of(read_count),
                help="end after so many looks (default: when quit by q)",
            ),
        ),
    ),
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
    """Return the parser of the command line, for completions and for tests of the manual."""
    top = CommandLine(prog="multiplexerctl", description="Administer the network multiplexer.")
    _add_global(top, control=None, json=False)
    groups: dict[tuple[str, ...], Any] = {(): top.add_subparsers(metavar="COMMAND", required=True)}
    for command in COMMANDS:
        *group, last = command.words
        for length in range(1, len(group) + 1):
            words = tuple(group[:length])
            if words not in groups:
                made = groups[words[:-1]].add_parser(words[-1], help=GROUPS[words])
                groups[words] = made.add_subparsers(metavar="COMMAND", required=True)
        below = groups[tuple(group)]
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run `multiplexerctl` and return its exit status."""
    _have_standard_streams()
    line = parser()
    given = vars(line.parse_args(argv))
    command, json = given.pop("command"), given.pop("json")
    before, path = given.pop("control"), given.pop("control_after")
    if None not in (before, path) and before != path:
        line.error(f"argument --control: is {before} and {path}, wanted one of them")
    path = before if path is None else path
    try:
        status: int = command.run(lambda: ControlClient(control_path(path)), json, **given)
    except ControlError as error:
        return _fail(str(error), FORBIDDEN if error.code is ErrorCode.FORBIDDEN else FAILED)
    except DaemonUnreachable as error:
        return _fail(str(error), UNREACHABLE)
    except (BadMessage, RemoteProtocolError) as error:
        return _fail(f"the daemon broke the protocol: {error}", FAILED)
    except Misuse as error:
        return _fail(str(error), MISUSED)
    except ValueError as error:
        return _fail(str(error), FAILED)
    except BrokenPipeError:
        # Who read our output has enough.
        _write_no_more()
        return FAILED
    except OSError as error:
        if error.filename is None:
            _write_no_more()
        where = "standard output" if error.filename is None else error.filename
        return _fail(f"{where}: {error.strerror}", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _have_standard_streams() -> None:
    """Read nothing from, and write into nothing, those that the caller has closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _write_no_more() -> None:
    """Let what is left in the buffer not raise again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def _fail(why: str, status: int) -> int:
    print(f"multiplexerctl: {why}", file=sys.stderr)
    return status
