"""A role: a process of the daemon with its own uid, and how it comes to life.

The broker executes the interpreter afresh for each role, so that a role
inherits no memory of root's.  In the new process the order is always the same:

1. import the role's module, still as root: the package may lie where its user
   cannot read, and nothing of ours is opened by path later;
2. become the user, without groups or capabilities, for good;
3. be killed if the broker dies, and stay on one processor, if it is told to;
4. wrap the inherited sockets, and call the module's ``main``.
"""

import argparse
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs

from multiplexer.daemon import channel, privileges

#: What a role's environment keeps of the broker's; no name of Python's is there.
KEPT_ENVIRONMENT: Final = ("JOURNAL_STREAM", "TZ")
ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
)


@attrs.frozen
class Role:
    """Where a role's ``main`` is, and the class that it takes its sockets in.

    The class has one field for each socket that `Process.start` is given.
    """

    name: str
    module: str
    boot: str


CONTROL: Final = Role("control", "multiplexer.daemon.control", "ControlBoot")
ENGINE: Final = Role("engine", "multiplexer.daemon.engine", "EngineBoot")


class Process:
    """A running role, seen from the broker.

    *pidfd* becomes readable when it ends.
    """

    def __init__(self, role: Role, popen: "subprocess.Popen[bytes]") -> None:
        self.role = role
        self.pidfd = os.pidfd_open(popen.pid)
        self._popen = popen

    @classmethod
    def start(
        cls,
        role: Role,
        identity: privileges.Identity,
        sockets: Mapping[str, socket.socket],
        *,
        cpu: int | None = None,
    ) -> "Process":
        """Start *role* with *sockets*, by name; the caller still has and closes them.

        With *cpu* it never runs on another processor.
        """
        fds = ",".join(f"{name}={sock.fileno()}" for name, sock in sockets.items())
        command = [
            *(sys.executable, "-I", str(Path(__file__).with_name("__main__.py"))),
            # A relative entry would depend on where the broker was started.
            *("--path", os.pathsep.join(path for path in sys.path if os.path.isabs(path))),
            *("--role", role.name, "--module", role.module, "--boot", role.boot),
            *("--uid", str(identity.uid), "--gid", str(identity.gid)),
            *("--parent", str(os.getpid()), "--fds", fds),
            *(() if cpu is None else ("--cpu", str(cpu))),
        ]
        kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        popen = subprocess.Popen(
            command,
            cwd="/",
            env={**ENVIRONMENT, **kept},
            pass_fds=[sock.fileno() for sock in sockets.values()],
            stdin=subprocess.DEVNULL,
            # A signal that the terminal sends to a foreground group is the broker's alone.
            start_new_session=True,
        )
        return cls(role, popen)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; False if it has not come after *timeout_s*."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def reap(self) -> str:
        """Wait for the end, and say what it was: ``exit status 1``, ``signal SIGKILL``."""
        status = self._popen.wait()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"exit status {status}"


def stop(processes: Sequence[Process], grace_s: float) -> list[str]:
    """Ask *processes* to end, kill those that have not after *grace_s*, and reap all.

    Returns how each has ended, as `Process.reap`.
    """
    for process in processes:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    ends = []
    for process in processes:
        if not process.wait(max(deadline - time.monotonic(), 0)):
            process.signal(signal.SIGKILL)
        ends.append(process.reap())
    return ends


def main(argv: Sequence[str]) -> int:
    """Be the role that the broker's command line names, and return the exit status."""
    parser = argparse.ArgumentParser(prog="multiplexerd")
    for name in ("--role", "--module", "--boot", "--fds"):
        parser.add_argument(name, required=True)
    for name in ("--uid", "--gid", "--parent"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--cpu", type=int)
    args = parser.parse_args(argv)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    module = importlib.import_module(args.module)
    privileges.become(privileges.Identity(args.uid, args.gid))
    privileges.die_with_parent(args.parent)
    if args.cpu is not None:
        os.sched_setaffinity(0, {args.cpu})
    boot = getattr(module, args.boot)(
        **{name: socket.socket(fileno=int(fd)) for name, fd in _pairs(args.fds)}
    )
    try:
        module.main(boot)
    except channel.SiblingGone:
        # The broker is stopping us, or starts us again with the sibling that died.
        return 0
    return 0


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(name, fd) for name, _, fd in (pair.partition("=") for pair in text.split(","))]
