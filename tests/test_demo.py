"""The demo says what it must, and leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.support.netns import run
from tests.support.waiting import eventually

CHECKOUT = Path(__file__).parent.parent


@attrs.frozen
class Machine:
    """What can be left behind on a machine, apart from processes."""

    mounts: str
    interfaces: str
    namespaces: str
    files: frozenset[str]
    tun_mode: int


def machine(temporary: Path) -> Machine:
    """Return what there is; *temporary* is the demo's $TMPDIR."""
    return Machine(
        Path("/proc/self/mounts").read_text(),
        run(["ip", "-o", "link"]).stdout,
        run(["ip", "netns"]).stdout,
        frozenset(
            str(entry)
            for folder in (Path("/run"), Path("/dev/shm"), temporary)
            for entry in folder.iterdir()
        ),
        os.stat("/dev/net/tun").st_mode,
    )


def processes() -> set[int]:
    """Return every process there is but zombies, in this PID namespace and those below."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if stat.rpartition(")")[2].split()[0] != "Z":
                found.add(int(entry.name))
    return found


@pytest.fixture
def before(tmp_path: Path) -> tuple[Machine, set[int]]:
    """What there was, and ran, before the demo started."""
    return machine(tmp_path), processes()


@pytest.fixture
def demo(before: tuple[Machine, set[int]], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_the_demo_finds_all_as_it_must_be(
    before: tuple[Machine, set[int]], demo: subprocess.Popen[str], tmp_path: Path
) -> None:
    intact, running = before

    output, _ = demo.communicate(timeout=120)

    assert demo.returncode == 0, output
    assert "FAIL" not in output
    assert "findings are as they must be" in output
    assert output.count("nowhere") == 15
    assert machine(tmp_path) == intact
    eventually(lambda: processes() <= running, "all its processes have ended")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_nothing_behind(
    before: tuple[Machine, set[int]],
    demo: subprocess.Popen[str],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """It is interrupted in the middle: daemon and stacks run, pings are under way."""
    intact, running = before
    assert demo.stdout is not None
    for line in demo.stdout:
        if "pings" in line:
            break
    assert processes() - running > {demo.pid}

    demo.send_signal(number)
    demo.wait(60)

    eventually(lambda: processes() <= running, "all its processes have ended")
    assert demo.returncode != 0
    assert machine(tmp_path) == intact
