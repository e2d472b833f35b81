"""The `pfinet` command: a TCP/IP stack of one's own on a virtual interface."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

import shtab

from pfinet_client.command import Command, default_command, say
from pfinet_client.entrance import Entrance
from pfinet_client.exec import enter_and_become, join_and_become
from pfinet_client.failures import EXPECTED, explain
from pfinet_client.locate import ControlClient, control_path, locate_vif
from pfinet_client.qemu import QemuVersion, qemu_arguments, warning
from pfinet_client.remap import remap
from pfinet_client.render import vif_page, vif_table
from pfinet_client.run import KERNEL_OFFLOAD, KERNEL_TRANSPORTS, run
from pfinet_client.serving.place import listener, socket_path
from pfinet_client.serving.server import SocketServer
from pfinet_client.signals import die_by
from pfinet_client.wanted import add_wanted, creation
from pfinet_proto.attach import Hello
from pfinet_proto.control import (
    ControlError,
    NetworkShow,
    Request,
    VifBorrow,
    VifDelete,
    VifInfo,
    VifList,
    VifLocate,
    VifShow,
)
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.jsonform import to_json
from pfinet_proto.trace import (
    MAX_CAPTURE_BYTES,
    join_traces,
    read_frames,
    trace_requests,
    trace_text,
)
from pfinet_proto.typed import CommandLine, value_of
from pfinet_proto.values import VifName

#: env(1): pfinet itself failed; no command returned this.
FAILED = 125
#: sh(1): ended by SIGINT while nothing ran yet.
INTERRUPTED = 130
_FROM_SIGNAL = 128

SHELLS: Final = ("bash", "zsh", "tcsh")

#: What completes the name of a vif, by shell.
COMPLETE_VIF: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "bash": "_pfinet_vifs",
        "zsh": "_pfinet_vifs",
        "preamble": {
            "bash": """
_pfinet_vifs() {
  compgen -W "$(pfinet list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$1"
}
""",
            "zsh": """
_pfinet_vifs() {
  compadd -- ${(f)"$(pfinet list 2>/dev/null | awk 'NR > 1 { print $1 }')"}
}
""",
        },
    }
)

R = TypeVar("R")


class _Parser(CommandLine):
    """Wrong usage is pfinet's own failure, not the command's 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        say(message)
        raise SystemExit(FAILED)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, for completions and for tests of the manual."""
    top = _Parser(prog="pfinet", description=__doc__)
    top.add_argument("--control", metavar="PATH", help="the daemon's control socket")
    commands = top.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)

    start = commands.add_parser("run", help="run a command on a stack of its own")
    which = _add_place(start)
    which.add_argument("--served", action="store_true", help="join the stack that is served")
    which.add_argument("--socket", metavar="PATH", help="join the one that is served there")
    start.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    start.set_defaults(action=_run)

    enter = commands.add_parser("exec", help="run a command on a stack that already runs")
    enter.add_argument("vif", metavar="VIF")
    enter.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    enter.set_defaults(action=_exec)

    server = commands.add_parser("serve", help="serve a stack to your programs")
    _add_place(server)
    server.add_argument("--socket", metavar="PATH", help="where; default: $XDG_RUNTIME_DIR/pfinet")
    server.set_defaults(action=_serve)

    mapped = commands.add_parser("remap", help="run a command whose sockets are a served stack's")
    mapped.add_argument("--socket", metavar="PATH", help="default: $XDG_RUNTIME_DIR/pfinet")
    mapped.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    mapped.set_defaults(action=_remap)

    make = commands.add_parser("create", help="make a vif for yourself, by a grant")
    make.add_argument("name", metavar="NAME")
    add_wanted(make)
    make.add_argument("--json", action="store_true", help="for programs")
    make.set_defaults(action=_create)

    delete = commands.add_parser("delete", help="delete a vif that you made")
    delete.add_argument("vif", metavar="VIF")
    delete.set_defaults(action=_delete)

    every = commands.add_parser("list", help="list your vifs")
    every.add_argument("--json", action="store_true", help="for programs")
    every.set_defaults(action=_list)

    show = commands.add_parser("show", help="show a vif: binding, holder, counters, drops")
    show.add_argument("vif", metavar="VIF")
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(action=_show)

    trace = commands.add_parser("trace", help="say what would become of frames, and why")
    trace.add_argument("vif", metavar="VIF")
    trace.add_argument(
        "--hex", metavar="FRAME", action="extend", nargs="+", default=[], help="in hexadecimal"
    )
    trace.add_argument("--pcap", metavar="FILE", help="a capture; - is what is piped in")
    trace.add_argument("--json", action="store_true", help="for programs")
    trace.set_defaults(action=_trace)

    machine = commands.add_parser("qemu", help="print what gives a vif to a virtual machine")
    machine.add_argument("vif", metavar="VIF")
    which_qemu = machine.add_mutually_exclusive_group()
    which_qemu.add_argument("--qemu", metavar="PATH", help="default: this machine's")
    which_qemu.add_argument(
        "--qemu-version",
        metavar="X.Y",
        type=value_of(QemuVersion.parse),
        help="where that QEMU is not here",
    )
    machine.add_argument("--json", action="store_true", help="for programs: a list of arguments")
    machine.set_defaults(action=_qemu)

    completion = commands.add_parser("completion", help="print the completion for a shell")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(action=_completion)

    for command in (enter, show, trace, machine):
        _complete(command, "vif", COMPLETE_VIF)
    for command in (start, server):
        _complete(command, "vif", COMPLETE_VIF)
    for command in (start, server, mapped):
        _complete(command, "socket", shtab.FILE)
    _complete(trace, "pcap", shtab.FILE)
    _complete(machine, "qemu", shtab.FILE)
    return top


def _add_place(command: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Add the options that say which vif a stack is on, and return their group."""
    which = command.add_mutually_exclusive_group()
    which.add_argument("--vif", metavar="NAME", help="default: your only one")
    which.add_argument("--network", metavar="NETWORK", help="make a vif there for as long")
    return which


def _complete(command: argparse.ArgumentParser, argument: str, how: Mapping[str, Any]) -> None:
    """Say *how* a shell completes an argument, where shtab looks for it."""
    (action,) = (action for action in command._actions if action.dest == argument)
    action.complete = dict(how)  # type: ignore[attr-defined]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pfinet` and return its exit status.

    Does not return if the command was ended by a signal: this process then
    ends by the same one.
    """
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.action(arguments)
    except EXPECTED as error:
        say(explain(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _run(arguments: argparse.Namespace) -> int:
    if arguments.served or arguments.socket:
        return join_and_become(socket_path(arguments.socket), _command(arguments))
    with _vif(arguments) as name:
        status = run(_entrance(arguments, name), Command(_command(arguments)))
    return _end_as(status)


def _entrance(arguments: argparse.Namespace, name: VifName | None) -> Entrance:
    client = f"pfinet {arguments.subcommand}"
    hello = Hello(offload=KERNEL_OFFLOAD, transports=KERNEL_TRANSPORTS, client=client)
    return Entrance(name, arguments.control, hello)


def _end_as(status: int) -> int:
    """End as a process with the wait status *status* did, by a signal or with what is returned."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        die_by(number)
        return _FROM_SIGNAL + number
    return os.WEXITSTATUS(status)


@contextmanager
def _vif(arguments: argparse.Namespace) -> Iterator[VifName | None]:
    """Yield the name of the vif to run on: one that is given, or one that is made for it."""
    if arguments.network is None:
        yield None if arguments.vif is None else VifName.parse(arguments.vif)
        return
    borrowed = _ask(arguments, VifBorrow(arguments.network)).name
    try:
        yield borrowed
    finally:
        # A daemon that does not hear of it deletes the vif by itself, a little later.
        with suppress(ControlError, BadMessage, RemoteProtocolError, OSError):
            _ask(arguments, VifDelete(borrowed))


def _serve(arguments: argparse.Namespace) -> int:
    # The socket is there before the stack: clients wait for it, and none is made for nothing.
    with listener(socket_path(arguments.socket)) as front, _vif(arguments) as name:
        status = run(_entrance(arguments, name), SocketServer(front))
    return _end_as(status)


def _remap(arguments: argparse.Namespace) -> int:
    return _end_as(remap(socket_path(arguments.socket), Command(_command(arguments))))


def _exec(arguments: argparse.Namespace) -> int:
    name = VifName.parse(arguments.vif)
    return enter_and_become(
        name,
        control_path(arguments.control),
        lambda: _ask(arguments, VifShow(name)),
        _command(arguments),
    )


def _list(arguments: argparse.Namespace) -> int:
    result = _ask(arguments, VifList())
    own = [vif for vif in result.vifs if vif.owner_uid == os.getuid()]
    if arguments.json:
        _print_json([to_json(vif) for vif in own])
    elif own:
        print(vif_table(own))
    for vif in result.aside:
        if vif.owner_uid == os.getuid():
            say(f"vif {vif.name} is set aside: the configuration file leaves no room for it")
    return 0


def _create(arguments: argparse.Namespace) -> int:
    return _print_vif(arguments, _ask(arguments, creation(arguments)))


def _delete(arguments: argparse.Namespace) -> int:
    _ask(arguments, VifDelete(VifName.parse(arguments.vif)))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    return _print_vif(arguments, _ask(arguments, VifShow(VifName.parse(arguments.vif))))


def _print_vif(arguments: argparse.Namespace, vif: VifInfo) -> int:
    if arguments.json:
        _print_json(to_json(vif))
    else:
        own = vif.owner_uid == os.getuid()
        print(vif_page(vif, locate_vif(vif.name, arguments.control) if own else None))
    return 0


def _read_capture(pcap: str) -> bytes:
    """Return what a file holds, or standard input as ``-``.

    Raises:
        ValueError: if it is too long; it is not read to its end.
        OSError: if it cannot be read.
    """
    with ExitStack() as undo:
        file = sys.stdin.buffer if pcap == "-" else undo.enter_context(open(pcap, "rb"))
        capture = file.read(MAX_CAPTURE_BYTES + 1)
    if len(capture) > MAX_CAPTURE_BYTES:
        raise ValueError(f"{pcap}: longer than {MAX_CAPTURE_BYTES} bytes")
    return capture


def _trace(arguments: argparse.Namespace) -> int:
    name, pcap = VifName.parse(arguments.vif), arguments.pcap
    capture = b"" if pcap is None else _read_capture(pcap)
    requests = trace_requests(name, read_frames(arguments.hex, pcap, capture))
    with ControlClient(control_path(arguments.control)) as client:
        result = join_traces([client.ask(request) for request in requests])
    if arguments.json:
        _print_json(to_json(result))
    else:
        print(trace_text(result.traces), end="")
    return 0


def _qemu(arguments: argparse.Namespace) -> int:
    # Only here, for it takes long to import, and `pfinet run` shall start fast.
    from pfinet_client.qemu_program import ask_version, find_qemu

    name = VifName.parse(arguments.vif)
    version = arguments.qemu_version or ask_version(arguments.qemu or find_qemu())
    with ControlClient(control_path(arguments.control)) as client:
        path = client.ask(VifLocate(name)).path("stream")
        vif = client.ask(VifShow(name))
        mtu = client.ask(NetworkShow(vif.network)).mtu
    words = qemu_arguments(version, vif, mtu, path)
    note = warning(version)
    if note is not None:
        say(note)
    if arguments.json:
        _print_json(words)
    else:
        print(shlex.join(words))
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    print(shtab.complete(parser(), arguments.shell))
    return 0


def _command(arguments: argparse.Namespace) -> Sequence[str]:
    words: list[str] = arguments.command
    # argparse leaves the separator in what remains.
    return (words[1:] if words[:1] == ["--"] else words) or default_command()


def _ask(arguments: argparse.Namespace, request: Request[R]) -> R:
    with ControlClient(control_path(arguments.control)) as client:
        return client.ask(request)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
