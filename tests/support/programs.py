"""Real programs, run in stacks and outside, and waited for by what they say."""

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final, Protocol

from .lab import end
from .netns import CommandFailed

PCAP_HEADER: Final = 24
PCAP_RECORD: Final = struct.Struct("=IIII")


class Place(Protocol):
    """Where a program can run: a stack, or a host."""

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]: ...

    def popen(
        self, *argv: str, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[str]: ...


def ping(place: Place, address: str, *options: str) -> bool:
    """Return whether *address* answers within 20 seconds, however often it is asked."""
    argv = ("ping", "-n", "-q", "-c1", "-i0.2", "-w20", *options, address)
    return place.run(*argv, check=False).returncode == 0


@contextmanager
def running(place: Place, *argv: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program for a while, once it has said *until* on either output.

    What it says up to there is gone; its standard output can be read on.
    """
    process = place.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if until in line:
                break
        else:
            raise CommandFailed(f"{' '.join(argv)}: {''.join(said)}")
        yield process
    finally:
        end(process)


class Capture:
    """A running `tcpdump -w -`."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._output.read(PCAP_HEADER)

    def frames_until(self, mark: bytes) -> list[bytes]:
        """Return the frames up to and with the first that contains *mark*."""
        frames: list[bytes] = []
        while not frames or mark not in frames[-1]:
            head = self._output.read(PCAP_RECORD.size)
            if len(head) < PCAP_RECORD.size:
                raise EOFError("tcpdump ended")
            frames.append(self._output.read(PCAP_RECORD.unpack(head)[2]))
        return frames


@contextmanager
def tcpdump(place: Place, interface: str) -> Iterator[Capture]:
    """Capture promiscuously, once tcpdump says that it does."""
    process = place.popen(
        *("tcpdump", "-i", interface, "-s0", "-U", "--immediate-mode", "-Z", "root", "-w", "-"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        else:
            raise CommandFailed("tcpdump did not start")
        yield Capture(process.stdout.buffer)  # type: ignore[attr-defined]
    finally:
        end(process)
