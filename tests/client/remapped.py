"""A user whose programs are remapped to a served stack."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.client.client_user import TIMEOUT_S, ClientUser, RunningStack
from tests.client.test_stack import children
from tests.support.lab import interpreter


@attrs.frozen
class Remapped:
    """A user whose stack is served."""

    user: ClientUser
    path: str

    def command(self, *command: str) -> list[str]:
        return self.user.command("remap", "--socket", self.path, "--", *command)

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.user.run_to_end(self.command(*command), **options)

    def python(self, script: str, *arguments: str) -> str:
        """Return what a Python program prints, which must not fail."""
        done = self.run(interpreter().executable, "-c", script, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @contextmanager
    def program(self, script: str, **options: Any) -> Iterator[RunningStack]:
        """Run a Python program, from when it has said `up` until it is ended."""
        command = self.command(interpreter().executable, "-c", script)
        process = self.user.start(command, **options)
        running = RunningStack(process)
        try:
            assert running.read_line() == "up", process.communicate(timeout=TIMEOUT_S)
            yield running
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)


def compiled(source: str, folder: Path, *options: str) -> str:
    """Return the path of a program that every user can run."""
    (folder / "program.c").write_text(source)
    program = folder / "program"
    subprocess.run(["gcc", "-O1", *options, "-o", program, folder / "program.c"], check=True)
    program.chmod(0o755)
    return str(program)


def supervisor_of(running: RunningStack) -> int:
    """Return the process that answers for the sockets of a running program."""
    (supervisor,) = (pid for pid in children(running.process.pid) if os.getsid(pid) == pid)
    return supervisor
