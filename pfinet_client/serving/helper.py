"""The process that a program starts for a kernel stack of its own.

    python -m pfinet_client.serving.helper FD [--vif NAME] [--control PATH]

It is `pfinet run` with a server of sockets in the place of the command, and FD,
a socket of the program, as its only client: it ends when the program does.
What keeps it from starting it tells there.
"""

import argparse
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from pfinet_client.command import say
from pfinet_client.entrance import Entrance
from pfinet_client.failures import EXPECTED, explain
from pfinet_client.run import KERNEL_OFFLOAD, KERNEL_TRANSPORTS, run
from pfinet_client.serving.protocol import Failed, encode
from pfinet_client.serving.server import SocketServer
from pfinet_proto.attach import Hello
from pfinet_proto.values import VifName


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the stack until its program ends; return an exit status."""
    arguments = _parser().parse_args(argv)
    program = socket.socket(fileno=arguments.fd)
    program.set_inheritable(False)
    hello = Hello(offload=KERNEL_OFFLOAD, transports=KERNEL_TRANSPORTS, client="pfinet_client")
    try:
        name = None if arguments.vif is None else VifName.parse(arguments.vif)
        status = run(Entrance(name, arguments.control, hello), SocketServer(program))
    except EXPECTED as error:
        if program.fileno() < 0:
            say(explain(error))
            return 1
        with suppress(OSError):  # the program has ended
            program.send(encode(Failed(explain(error))), socket.MSG_NOSIGNAL)
        return 1
    return os.waitstatus_to_exitcode(status) and 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pfinet_client.serving.helper")
    parser.add_argument("fd", type=int)
    parser.add_argument("--vif")
    parser.add_argument("--control")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
