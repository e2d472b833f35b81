"""`multiplexerctl`: run what is asked for, and say how it ended.

Whatever goes wrong is one line on standard error and an exit status; commands raise.
"""

import os
import sys
from collections.abc import Sequence

from multiplexer.cli.arguments import Misuse
from multiplexer.cli.client import ControlClient, DaemonUnreachable, control_path
from multiplexer.cli.command_line import take_control
from multiplexer.cli.commands import parser
from multiplexer.cli.exit_status import FAILED, FORBIDDEN, INTERRUPTED, MISUSED, UNREACHABLE
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.errors import BadMessage, RemoteProtocolError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `multiplexerctl` and return its exit status."""
    _have_standard_streams()
    line = parser()
    given = vars(line.parse_args(argv))
    command, json, path = given.pop("command"), given.pop("json"), take_control(line, given)
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


def _fail(why: str, status: int) -> int:
    print(f"multiplexerctl: {why}", file=sys.stderr)
    return status
