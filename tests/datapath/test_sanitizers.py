"""The C core under the address and undefined-behaviour sanitizers.

Each driver in sanitize/ is a program of its own with a fixed seed.  It is built
with the whole core, from source, so that the sanitizers see every access.  What it
changes it makes itself, or begins with the seeds of the fuzz target of its name.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import seeds

CORE = Path(__file__).parents[2] / "multiplexer" / "datapath" / "core"
#: Those that begin with seeds.
SEEDED = ("filter",)
DRIVERS = sorted((Path(__file__).parent / "sanitize").glob("sanitize_*.c"))

COMPILE = (
    *("gcc", "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
)
INCLUDES = (f"-I{CORE}", f"-I{Path(__file__).parent / 'sanitize'}")


def test_there_are_drivers() -> None:
    """An empty folder would make the test below pass by running nothing."""
    assert DRIVERS


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda path: path.stem)
def test_hostile_input_is_read_and_written_within_bounds(driver: Path, tmp_path: Path) -> None:
    program = tmp_path / driver.stem
    sources = [driver, *sorted(CORE.glob("*.c"))]
    subprocess.run([*COMPILE, *INCLUDES, *sources, "-o", program], check=True)
    folder, target = tmp_path / "seeds", driver.stem.removeprefix("sanitize_")
    if target in SEEDED:
        seeds.plant(target, folder)
    inputs = sorted(folder.glob("*"))
    assert bool(inputs) == (target in SEEDED)

    # An inherited LD_PRELOAD or option must not change what the sanitizers see.
    environment = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": "strict_string_checks=1"}
    result = subprocess.run(
        [program, *inputs],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert result.returncode == 0, result.stdout + result.stderr
