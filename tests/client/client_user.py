"""An unprivileged uid that runs `pfinet` against a fake daemon."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, ClassVar

from attrs import frozen

from tests.client.fake_daemon import FakeDaemon
from tests.support.lab import interpreter

TIMEOUT_S = 60


@frozen
class ClientUser:
    """A uid, and the daemon that its `pfinet` finds by the environment."""

    uid: int
    daemon: FakeDaemon
    search_path: ClassVar[tuple[str, ...]] = ()
    """Where programs of all users look for packages first."""

    @property
    def environment(self) -> dict[str, str]:
        search_path = ":".join((*self.search_path, *interpreter().search_path))
        return {
            **({"PYTHONPATH": search_path} if search_path else {}),
            "PATH": os.defpath + ":/usr/sbin:/sbin",
            "LC_ALL": "C.UTF-8",
            "MULTIPLEXER_CONTROL": str(self.daemon.control),
        }

    def command(self, *arguments: str) -> list[str]:
        return interpreter().module("pfinet_client", *arguments)

    def popen(
        self, *arguments: str, prefix: tuple[str, ...] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start `pfinet` with *arguments*; *prefix* is a command of root's that ends in it."""
        return self.start(self.command(*arguments), prefix=prefix, **options)

    def start(
        self, argv: list[str], *, prefix: tuple[str, ...] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start any program as this user."""
        identity: dict[str, Any] = {"user": self.uid, "group": self.uid, "extra_groups": []}
        if prefix:
            drop = ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups")
            argv, identity = [*prefix, *drop, "--", *argv], {}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            argv,
            text=True,
            **{"cwd": "/", "env": self.environment, **identity, **pipes, **options},
        )

    def pfinet(
        self, *arguments: str, prefix: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `pfinet` with *arguments* to its end."""
        return _completed(self.popen(*arguments, prefix=prefix, **options))

    @contextmanager
    def stack(self, vif: str, script: str, **options: Any) -> Iterator["RunningStack"]:
        """Run a shell script on a stack, from when it has said `up` until it is ended."""
        full = f"echo up; {script}"
        process = self.popen("run", "--vif", vif, "--", "sh", "-c", full, **options)
        with _until_ended(process) as running:
            yield running

    @contextmanager
    def program(self, script: str, *arguments: str, **options: Any) -> Iterator["RunningStack"]:
        """Run a Python program that uses a stack, from when it has said `up` until it is ended."""
        argv = [interpreter().executable, "-c", script, *arguments]
        with _until_ended(self.start(argv, **options)) as running:
            yield running

    def run_program(
        self, script: str, *arguments: str, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program to its end."""
        return self.run_to_end([interpreter().executable, "-c", script, *arguments], **options)

    def run_to_end(self, argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run any program to its end."""
        return _completed(self.start(argv, **options))


@contextmanager
def _until_ended(process: subprocess.Popen[str]) -> Iterator["RunningStack"]:
    try:
        running = RunningStack(process)
        line = running.read_line()
        if line != "up":
            raise AssertionError(f"{line!r}, {process.communicate(timeout=TIMEOUT_S)}")
        yield running
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def _completed(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, error = process.communicate(timeout=TIMEOUT_S)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


@frozen
class RunningStack:
    """A `pfinet run` whose script is running."""

    process: subprocess.Popen[str]

    def read_line(self) -> str:
        """Return the next line that the script prints."""
        return _pipe(self.process.stdout).readline().rstrip("\n")

    def read_error_line(self) -> str:
        """Return the next line on the standard error."""
        return _pipe(self.process.stderr).readline().rstrip("\n")

    def say(self, line: str) -> None:
        """Give the script a line to read."""
        pipe = _pipe(self.process.stdin)
        pipe.write(line + "\n")
        pipe.flush()

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
