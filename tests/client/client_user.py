"""An unprivileged uid that runs `pfinet` against a fake daemon."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from attrs import frozen

from tests.client.fake_daemon import FakeDaemon
from tests.support.lab import interpreter

TIMEOUT_S = 60


@frozen
class ClientUser:
    """A uid, and the daemon that its `pfinet` finds by the environment."""

    uid: int
    daemon: FakeDaemon

    @property
    def environment(self) -> dict[str, str]:
        return {
            **interpreter().environment,
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
        argv = self.command(*arguments)
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
        process = self.popen(*arguments, prefix=prefix, **options)
        try:
            out, error = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    @contextmanager
    def stack(self, vif: str, script: str, **options: Any) -> Iterator["RunningStack"]:
        """Run a shell script on a stack, from when it has said `up` until it is ended."""
        full = f"echo up; {script}"
        process = self.popen("run", "--vif", vif, "--", "sh", "-c", full, **options)
        try:
            running = RunningStack(process)
            line = running.read_line()
            if line != "up":
                raise AssertionError(f"{line!r}, {process.communicate(timeout=TIMEOUT_S)}")
            yield running
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)


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
