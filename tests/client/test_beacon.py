"""Which process runs which stack, told by the name of an open file."""

import os
import subprocess
import sys

import pytest

from pfinet_client import beacon
from pfinet_proto.values import VifName

LAB, CONTROL = VifName("lab1"), "/run/multiplexer/control"


def test_it_is_seen_while_it_is_open() -> None:
    light = beacon.light(LAB, CONTROL)

    assert beacon.find(LAB, CONTROL) == (os.getpid(),)
    os.close(light)
    assert beacon.find(LAB, CONTROL) == ()


@pytest.mark.parametrize(
    ("vif", "control"), [(VifName("lab"), CONTROL), (LAB, "/run/other/control"), (LAB, "control")]
)
def test_another_vif_or_daemon_is_not_meant(vif: VifName, control: str) -> None:
    light = beacon.light(LAB, CONTROL)

    assert beacon.find(vif, control) == ()
    os.close(light)


def test_a_relative_path_is_the_same_as_the_absolute_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/run")
    light = beacon.light(LAB, "multiplexer/control")

    assert beacon.find(LAB, CONTROL) == (os.getpid(),)
    os.close(light)


def test_the_longest_path_of_a_socket_fits() -> None:
    control = "/" + "x" * 106
    light = beacon.light(VifName("v" * 31), control)

    assert beacon.find(VifName("v" * 31), control) == (os.getpid(),)
    os.close(light)


def test_another_users_process_is_not_found_even_by_root() -> None:
    """It could pretend to run anybody's stack."""
    name = f"pfinet {LAB} {CONTROL}"
    script = (
        f"import os, sys; os.memfd_create({name!r}); print('lit', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script], user=20001, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"lit\n"

    assert beacon.find(LAB, CONTROL) == ()
    other.communicate(b"\n")
