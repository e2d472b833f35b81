"""A configuration with errors is told of all of them, and nothing starts."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.netns import run

BROKEN = {
    "no TOML": ("[daemon\n", 1),
    "unknown key": ("[network.lan]\nprefixes = ['10.0.0.0/24']\ncolour = 'red'\n", 3),
    "unknown mode": ("[network.lan]\nmode = 'magic'\nprefixes = ['10.0.0.0/24']\n", 2),
    "no prefix": ("[network.lan]\nprefixes = ['10.0.0.0/99']\n", 2),
    "unknown uplink": ("[network.lan]\nuplink = 'gone'\nprefixes = ['10.0.0.0/24']\n", 2),
}


@pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_check_names_the_file_and_line_of_an_error(lab: Lab, text: str, line: int) -> None:
    lab.config.write_text(text)

    done = run([*lab.daemon_command(), "--check"], check=False, env=lab.environment)

    assert done.returncode != 0
    assert f"{lab.config}:{line}:" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tells_all_errors_at_once(lab: Lab) -> None:
    lab.config.write_text("".join(BROKEN[name][0] for name in ("unknown key",)) + "mtu = 12\n")

    done = run([*lab.daemon_command(), "--check"], check=False, env=lab.environment)

    assert f"{lab.config}:3:" in done.stderr
    assert f"{lab.config}:4:" in done.stderr


def test_check_accepts_what_starts(lab: Lab) -> None:
    lab.configure({"alice": 20001})

    done = run([*lab.daemon_command(), "--check"], check=False, env=lab.environment)

    assert (done.returncode, done.stderr) == (0, "")
    assert not lab.run_dir.exists()


def make_device(path: Path) -> None:
    """Make another /dev/zero, which has no end."""
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


@pytest.mark.parametrize("make", [os.mkfifo, make_device], ids=["fifo", "device"])
@pytest.mark.parametrize("options", [(), ("--check",)], ids=["start", "check"])
def test_what_is_no_file_is_refused_at_once(
    lab: Lab, make: Callable[[Path], None], options: tuple[str, ...]
) -> None:
    """A FIFO that nobody writes into would be waited for."""
    make(lab.config)

    done = run([*lab.daemon_command(), *options], check=False, env=lab.environment)

    assert done.returncode == 1
    assert f"{lab.config} is no regular file" in done.stderr
    assert not lab.run_dir.exists()


def test_nothing_starts_half(lab: Lab) -> None:
    lab.configure({"alice": 20001}, extra="\n[vif.twin]\nowner = '20001'\naddresses = []\nx = 1\n")

    done = run(lab.daemon_command(), check=False, env=lab.environment)

    assert done.returncode != 0
    assert not lab.run_dir.exists()
