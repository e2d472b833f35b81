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

from multiplexer.cli.client import ControlClient, DaemonUnreachable, control_path
from multiplexer.cli.render import as_json, as_terminal_text, as_text
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.typed import read_interface, read_prefix, read_rate, value_of
from pfinet_proto.values import IPInterface, IPNetwork, MacAddress, VifName

# Exit codes; usage errors are argparse's.
DONE: Final = 0
FAILED: Final = 1
UNREACHABLE: Final = 3
FORBIDDEN: Final = 4
INTERRUPTED: Final = 130  # sh(1): by SIGINT


@attrs.frozen
class Argument:
    """What argparse has to know of one argument of a command."""

    name: str
    options: Mapping[str, Any]


@attrs.frozen
class Command:
    """A command: its words, what it is for, and the request that it makes of its arguments."""

    words: tuple[str, ...]
    help: str
    request: Callable[..., control.Request[Any]]
    arguments: tuple[Argument, ...] = ()


def argument(name: str, **options: Any) -> Argument:
    return Argument(name, MappingProxyType(options))


def read_ethertype(text: str) -> int:
    """Return *text* as a number, in hexadecimal after 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is no EtherType, wanted one such as 0x88cc") from None


def make_vif(
    name: VifName,
    owner: str,
    address: Sequence[IPInterface],
    prefix: Sequence[IPNetwork],
    mac: MacAddress | None,
    network: str | None,
    **more: Any,
) -> control.VifCreate:
    """Return the request that `vif create` is; *more* are `LIMITS` and `TRUST`."""
    return control.VifCreate(
        name,
        owner,
        tuple(address),
        tuple(prefix),
        mac,
        network,
        control.OwnLimitsInfo(**{limit: more[limit] for limit in LIMIT_NAMES}),
        control.TrustInfo(
            tuple(more["role"]), tuple(more["ethertype"]), more["link_local"], more["trusted_tap"]
        ),
    )


VIF_NAME: Final = argument("name", metavar="NAME", type=value_of(VifName.parse))
NAME: Final = argument("name", metavar="NAME")

#: The fields of `control.OwnLimitsInfo`.
LIMIT_NAMES: Final = ("frames_per_s", "bytes_per_s", "broadcast_per_s", "copies_per_s")

LIMITS: Final = tuple(
    argument(
        f"--{name.replace('_', '-')}",
        metavar="RATE",
        type=value_of(read_rate),
        help=f"{what} it may send; 0: no limit (default: what its network says)",
    )
    for name, what in zip(
        LIMIT_NAMES,
        ("frames", "bytes", "broadcasts and multicasts", "copies made of those"),
        strict=True,
    )
)

TRUST: Final = (
    argument(
        "--role",
        metavar="ROLE",
        action="append",
        default=[],
        choices=("router", "dhcp-server"),
        help="let it be a router or a dhcp-server; may be repeated",
    ),
    argument(
        "--ethertype",
        metavar="NUMBER",
        action="append",
        default=[],
        type=value_of(read_ethertype),
        help="one more EtherType that it may send; may be repeated",
    ),
    argument(
        "--link-local",
        metavar="WHICH",
        choices=("eui64", "first-come"),
        help="its link-local addresses: eui64 or first-come (default: what its network says)",
    ),
    argument(
        "--trusted-tap",
        action="store_true",
        help="let the daemon read and write its client's tap",
    ),
)

COMMANDS: Final = (
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
        (
            VIF_NAME,
            argument("--owner", metavar="USER", required=True, help="user name, or uid"),
            argument(
                "--address",
                metavar="ADDR/LEN",
                action="append",
                default=[],
                type=value_of(read_interface),
                help="an address that it is bound to; may be repeated",
            ),
            argument(
                "--prefix",
                metavar="PREFIX",
                action="append",
                default=[],
                type=value_of(read_prefix),
                help="a prefix, each address of which it is bound to; may be repeated",
            ),
            argument(
                "--mac",
                metavar="MAC",
                type=value_of(MacAddress.parse),
                help="default: made of the NIC's and the name",
            ),
            argument("--network", metavar="NAME", help="default: where the addresses lie"),
            *LIMITS,
            *TRUST,
        ),
    ),
    Command(("vif", "delete"), "delete a vif, and end its client", control.VifDelete, (VIF_NAME,)),
    Command(("vif", "list"), "list the vifs", control.VifList),
    Command(
        ("vif", "show"), "show a vif, its holder, counters and drops", control.VifShow, (VIF_NAME,)
    ),
)

#: What the first word of a command of two is about.
GROUPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "network": "the broadcast domains that vifs are in",
        "uplink": "where networks meet the outside",
        "vif": "the users' virtual interfaces",
    }
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, for completions and for tests of the manual."""
    top = argparse.ArgumentParser(
        prog="multiplexerctl", description="Administer the network multiplexer."
    )
    _add_global(top, control=None, json=False)
    words = top.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        *group, last = command.words
        below = words
        if group:
            (name,) = group
            if name not in groups:
                made = words.add_parser(name, help=GROUPS[name])
                groups[name] = made.add_subparsers(metavar="COMMAND", required=True)
            below = groups[name]
        one = below.add_parser(last, help=command.help, description=f"{command.help}.")
        for each in command.arguments:
            one.add_argument(each.name, **each.options)
        # After the command they mean the same, and must not undo what stood before it.
        _add_global(one, control=argparse.SUPPRESS, json=argparse.SUPPRESS)
        one.set_defaults(command=command)
    return top


def _add_global(to: argparse.ArgumentParser, **defaults: Any) -> None:
    to.add_argument(
        "--control",
        metavar="PATH",
        default=defaults["control"],
        help="the daemon's control socket",
    )
    to.add_argument(
        "--json", action="store_true", default=defaults["json"], help="write JSON, for programs"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run `multiplexerctl` and return its exit status."""
    given = vars(parser().parse_args(argv))
    command, path, json = given.pop("command"), given.pop("control"), given.pop("json")
    try:
        with ControlClient(control_path(path)) as client:
            result = client.ask(command.request(**given))
        _write(result, json)
    except ControlError as error:
        return _fail(str(error), FORBIDDEN if error.code is ErrorCode.FORBIDDEN else FAILED)
    except DaemonUnreachable as error:
        return _fail(str(error), UNREACHABLE)
    except (BadMessage, RemoteProtocolError) as error:
        return _fail(f"the daemon broke the protocol: {error}", FAILED)
    except ValueError as error:
        return _fail(str(error), FAILED)
    except BrokenPipeError:
        # Who read our output has enough; what is left in the buffer must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


def _write(result: control.Result, json: bool) -> None:
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
