"""Every fuzz target for a while, all at once: $FUZZ_SECONDS each, by default a minute.

`make fuzz` runs them for longer.  The seed is fixed; how far a run gets depends on
the machine.  What was found is in the output, and of a C target below build/fuzz as well.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.fuzz import messages, seeds

ROOT: Final = Path(__file__).parents[2]
DATAPATH: Final = ROOT / "multiplexer" / "datapath"
#: Where inputs that break a C target are kept; git ignores it.
ARTIFACTS: Final = ROOT / "build" / "fuzz"
SECONDS: Final = int(os.environ.get("FUZZ_SECONDS", "60"))
SEED: Final = 1
#: To build, and to end after the time is over.
MORE_SECONDS: Final = 120

COMPILE: Final = (
    *("clang", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
    *(f"-I{DATAPATH}", f"-I{DATAPATH / 'core'}", f"-I{ROOT / 'proto' / 'include'}"),
    f"-I{ROOT / 'tests' / 'datapath' / 'sanitize'}",
)

#: Fewer would show that a target is stuck, be the machine slow.
LEAST_INPUTS: Final = 200


@attrs.frozen
class Run:
    status: int
    output: str


def sources() -> list[Path]:
    """Return the C datapath, but for what only seccomp knows."""
    found = [*(DATAPATH / "core").glob("*.c"), *(DATAPATH / "io").glob("*.c")]
    return sorted(path for path in found if path.name != "sandbox.c")


def build(folder: Path) -> dict[str, Path]:
    """Return the program of each C target."""
    programs = {target: folder / target for target in seeds.SEEDS}
    builds = [
        subprocess.Popen(
            [*COMPILE, str(ROOT / f"tests/fuzz/fuzz_{target}.c"), *sources(), "-o", program]
        )
        for target, program in programs.items()
    ]
    assert all(process.wait(MORE_SECONDS) == 0 for process in builds)
    return programs


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what runs each target."""
    found = {}
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for target, program in build(folder).items():
        corpus = folder / f"corpus-{target}"
        seeds.plant(target, corpus)
        found[target] = [
            *(str(program), f"-seed={SEED}", f"-max_total_time={SECONDS}", "-max_len=8192"),
            *("-timeout=20", "-print_final_stats=1", f"-artifact_prefix={ARTIFACTS}/{target}-"),
            str(corpus),
        ]
    for target in messages.TARGETS:
        found[target] = [
            *(sys.executable, "-m", "tests.fuzz.messages", target),
            *("--seconds", str(SECONDS), "--seed", str(SEED)),
        ]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Run]]:
    folder = tmp_path_factory.mktemp("fuzz")
    started = {}
    for target, command in commands(folder).items():
        with (folder / f"{target}.log").open("w") as log:
            started[target] = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
    try:
        yield {
            target: Run(
                process.wait(SECONDS + MORE_SECONDS), (folder / f"{target}.log").read_text()
            )
            for target, process in started.items()
        }
    finally:
        for process in started.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("target", seeds.SEEDS)
def test_no_bytes_break_the_datapath(runs: Mapping[str, Run], target: str) -> None:
    run = runs[target]

    assert run.status == 0, run.output[-20_000:]
    executed = re.search(r"number_of_executed_units: (\d+)", run.output)
    added = re.search(r"new_units_added: +(\d+)", run.output)
    assert executed is not None
    assert int(executed[1]) > LEAST_INPUTS
    assert added is not None
    assert int(added[1]) > 0, "a run that covers no more than its seeds has found nothing"


@pytest.mark.parametrize("target", messages.TARGETS)
def test_no_bytes_make_a_decoder_raise_what_it_does_not_name(
    runs: Mapping[str, Run], target: str
) -> None:
    run = runs[target]

    assert run.status == 0, run.output[-20_000:]
    inputs = re.search(r"(\d+) inputs", run.output)
    assert inputs is not None
    assert int(inputs[1]) > LEAST_INPUTS


def test_every_target_is_run() -> None:
    targets = {path.stem.removeprefix("fuzz_") for path in Path(__file__).parent.glob("*.c")}
    assert targets == set(seeds.SEEDS)


def test_git_ignores_what_was_found() -> None:
    top = ARTIFACTS.relative_to(ROOT).parts[0]

    assert f"{top}/" in (ROOT / ".gitignore").read_text().splitlines()
