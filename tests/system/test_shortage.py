"""A start with too few descriptors or too little memory: what is said, and what is not lost."""

import resource
from pathlib import Path

import pytest

from multiplexer.config import parse_config
from multiplexer.daemon.shortage import ADDRESS_SPACE_BYTES, wanted_files
from tests.support.lab import Lab
from tests.support.netns import CommandFailed
from tests.support.plain import Refused

OWNERS = {f"v{number}": 20001 for number in range(8)}


@pytest.fixture
def small(lab: Lab) -> Lab:
    lab.configure(OWNERS)
    return lab


def wanted(lab: Lab, vifs: int, *, attached: bool = False) -> int:
    config = parse_config(lab.config.read_text(), str(lab.config))
    return wanted_files(config, vifs, attached=attached)


def start_with(lab: Lab, limit: str) -> str:
    """Return what a daemon says that does not start under *limit*, an option of prlimit."""
    done = lab.host.run("prlimit", limit, *lab.daemon_command(), check=False)
    assert done.returncode == 1
    assert not lab.run_dir.exists()
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_soft_limit_is_raised_by_the_daemon_itself(small: Lab) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with small.daemon(wrapper=("prlimit", "--nofile=20:")) as daemon:
        for pid in daemon.processes().values():
            limits = Path(f"/proc/{pid}/limits").read_text()
            (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
            assert line.split()[3:5] == [str(hard), str(hard)]


@pytest.mark.parametrize("limit", [6, 10, 20, 40, None])
def test_too_few_descriptors_end_the_start_with_the_limit_and_what_is_wanted(
    small: Lab, limit: int | None
) -> None:
    least = wanted(small, len(OWNERS))
    limit = least - 1 if limit is None else limit

    said = start_with(small, f"--nofile={limit}")

    assert (
        f"the sockets of {len(OWNERS)} vifs: RLIMIT_NOFILE is {limit} open files,"
        f" wanted at least {least}"
    ) in said


def test_just_enough_descriptors_start_and_it_is_said_that_not_all_can_attach(
    small: Lab,
) -> None:
    least = wanted(small, len(OWNERS))
    with small.daemon(wrapper=("prlimit", f"--nofile={least}")) as daemon:
        assert len(small.ask("vif.list")["vifs"]) == len(OWNERS)
        most = wanted(small, len(OWNERS), attached=True)
        assert (
            f"not all of {len(OWNERS)} vifs can be attached at once: RLIMIT_NOFILE is {least}"
            f" open files, wanted {most}"
        ) in daemon.log.read_text()


def test_no_vif_is_made_that_the_next_start_would_have_no_descriptors_for(small: Lab) -> None:
    limit = wanted(small, len(OWNERS) + 1)
    with small.daemon(wrapper=("prlimit", f"--nofile={limit}")):
        create(small, "one")
        with pytest.raises(
            CommandFailed, match=rf"RLIMIT_NOFILE is {limit} open files, wanted at"
        ):
            create(small, "two")
        small.configure({**OWNERS, "another": 20001})
        with pytest.raises(
            CommandFailed, match=rf"RLIMIT_NOFILE is {limit} open files, wanted at"
        ):
            small.multiplexerctl("reload")
        small.configure(OWNERS)
    with small.daemon(wrapper=("prlimit", f"--nofile={limit}")):
        assert small.ask("vif.show", name="one")["name"] == "one"
        with pytest.raises(Refused, match="two"):
            small.ask("vif.show", name="two")


def test_the_vifs_that_were_made_count_as_well(small: Lab) -> None:
    with small.daemon():
        create(small, "one")
    limit = wanted(small, len(OWNERS))

    said = start_with(small, f"--nofile={limit}")

    assert (
        f"multiplexerd[control]: the sockets of {len(OWNERS) + 1} vifs: RLIMIT_NOFILE is" in said
    )


def test_too_little_memory_ends_the_start_with_the_limit_and_what_is_wanted(small: Lab) -> None:
    limit = ADDRESS_SPACE_BYTES - 4096

    said = start_with(small, f"--as={limit}")

    assert f"memory: RLIMIT_AS is {limit} bytes, wanted at least {ADDRESS_SPACE_BYTES}" in said


def create(lab: Lab, name: str) -> None:
    host = {"one": 50, "two": 51}[name]
    lab.multiplexerctl(
        "vif", "create", name, "--owner", "20005", "--address", f"10.77.0.{host}/24"
    )
