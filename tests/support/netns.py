"""Network namespaces: run programs in them, and open sockets in them from outside."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import attrs

from . import linux

NAMED: Final = Path("/run/netns")
HERE: Final = Path("/proc/thread-self/ns/net")


@attrs.frozen
class NetworkNamespace:
    """A network namespace that a path refers to."""

    path: Path

    @classmethod
    def create(cls, name: str) -> Self:
        """Make the namespace *name*, with lo up."""
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        return cls(NAMED / name)

    @classmethod
    def of_process(cls, pid: int) -> Self:
        return cls(Path(f"/proc/{pid}/ns/net"))

    def delete(self) -> None:
        """Remove the name; the namespace ends with the last process in it."""
        subprocess.run(["ip", "netns", "delete", self.path.name], check=True)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs *argv* in here."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread open its sockets in here for a while."""
        home = os.open(HERE, os.O_RDONLY)
        try:
            there = os.open(self.path, os.O_RDONLY)
            try:
                linux.setns(there, linux.CLONE_NEWNET)
            finally:
                os.close(there)
            try:
                yield
            finally:
                linux.setns(home, linux.CLONE_NEWNET)
        finally:
            os.close(home)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def is_up(self, interface: str) -> bool:
        """Return whether *interface* is up, has a carrier, and the kernel has noticed."""
        shown = run(self.command(["ip", "link", "show", "dev", interface])).stdout
        return "state UP" in shown

    def mac(self, interface: str) -> bytes:
        """Return the hardware address of *interface*."""
        with self.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((interface, 0))
            return bytes(sock.getsockname()[4])


class CommandFailed(AssertionError):
    """A program that should have succeeded did not; the text holds what it said."""


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run *argv* in / to its end and capture its output.

    Raises:
        CommandFailed: if *check* and the exit status is not 0.
    """
    done = subprocess.run(
        argv,
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and done.returncode != 0:
        raise CommandFailed(
            f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done
