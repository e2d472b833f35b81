"""The C program beside this file: built once, and run at the ends of a system."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from tests.support.lab import end
from tests.support.netns import CommandFailed, run

from ..systems.system import RawEnd, StackEnd

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
WIRE_HEADERS: Final = ROOT / "proto/include"
#: A client's side of rings, as `pfinet` has it.
RINGS: Final = ROOT / "pfinet_client/pump"

#: The sender goes on for as long as the counter warms up and counts, and a little more.
MARGIN_S: Final = 0.5
RTT_TIMES: Final = 3000


@attrs.frozen
class Counted:
    """What a receiver counted."""

    frames: int
    seconds: float


@attrs.frozen
class Answered:
    """How long answers took."""

    median_us: float
    p99_us: float


@attrs.frozen
class Flood:
    """A frame that *source* sends as fast as it can for *seconds*, which *target* counts.

    *frames* are that one, and the receiver's hello.  One of TCP that *varies* is sent from
    many ports in turn.
    """

    source: RawEnd
    target: RawEnd
    frames: tuple[bytes, bytes]
    seconds: float
    varies: bool = False


@attrs.frozen
class Traffic:
    """The built program."""

    path: Path

    @classmethod
    def build(cls, folder: Path) -> "Traffic":
        """Compile it into *folder*."""
        program = folder / "traffic"
        sources = [str(RINGS / "rings.c"), *sorted(str(source) for source in HERE.glob("*.c"))]
        flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{WIRE_HEADERS}", f"-I{RINGS}"]
        run(["gcc", *flags, *sources, "-o", str(program), "-lvdeplug"])
        return cls(program)

    @contextmanager
    def running(self, end_: RawEnd | StackEnd, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run it at an end for a while, from when that is open."""
        process = end_.place.popen(
            str(self.path), *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            line(process)
            yield process
        finally:
            end(process)

    @contextmanager
    def flood(self, flood: Flood) -> Iterator[subprocess.Popen[str]]:
        """Run *flood*, and give the program that counts; what it says is for counted()."""
        source, target = flood.source, flood.target
        frame, hello = (each.hex() for each in flood.frames)
        frame = f"*{frame}" if flood.varies else frame
        count = ("count", target.what, frame, hello, str(flood.seconds))
        with (
            self.running(target, *count) as counter,
            self.running(source, "send", source.what, frame, str(flood.seconds + MARGIN_S)),
        ):
            yield counter

    def count(self, flood: Flood) -> Counted:
        """Return what *flood* brings."""
        with self.flood(flood) as counter:
            return counted(counter)

    def rtt(
        self,
        source: tuple[RawEnd | StackEnd, str],
        target: tuple[RawEnd | StackEnd, str],
        frames: tuple[bytes, bytes],
    ) -> Answered:
        """Return the time from one frame to its answer.

        *frames* are the question and the answer; each end comes with how to open it.
        """
        question, answer = (frame.hex() for frame in frames)
        with (
            self.running(target[0], "answer", target[1], answer, question),
            self.running(
                *(source[0], "ask", source[1], question, answer, str(RTT_TIMES))
            ) as asker,
        ):
            median_us, p99_us, _ = line(asker).split()
        return Answered(float(median_us), float(p99_us))

    def alone(self, *arguments: str) -> list[float]:
        """Return the numbers that it says when it is run for no system."""
        return [float(number) for number in run([str(self.path), *arguments]).stdout.split()]


def counted(counter: subprocess.Popen[str]) -> Counted:
    """Return what a counting program says at its end."""
    frames, took_s = line(counter).split()
    return Counted(int(frames), float(took_s))


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that *process* says.

    Raises:
        CommandFailed: if it ends instead; the text holds why.
    """
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        _, error = process.communicate(timeout=20)
        raise CommandFailed(f"{process.args!r}: exit status {process.returncode}\n{error}")
    return said
