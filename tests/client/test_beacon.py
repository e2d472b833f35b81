"""Which process runs which stack, told by the name of an open file."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


def test_a_set_uid_program_of_another_user_is_not_found() -> None:
    """It is root's by its effective uid, and keeps the files of who started it."""
    with _lit("os.setresuid(20001, 0, 0)") as pid:
        assert os.stat(f"/proc/{pid}").st_uid == 0
        assert beacon.find(LAB, CONTROL) == ()


def test_another_users_process_is_not_found_even_by_root() -> None:
    """It could pretend to run anybody's stack."""
    with _lit("os.setresuid(20001, 20001, 20001)"):
        assert beacon.find(LAB, CONTROL) == ()


@contextmanager
def _lit(become: str) -> Iterator[int]:
    """Yield the id of a process that, having run *become*, seems to run the stack."""
    name = f"pfinet {LAB} {CONTROL}"
    script = (
        f"import os, sys; os.memfd_create({name!r}); {become};"
        " print('lit', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"lit\n"
        yield other.pid
    finally:
        other.communicate(b"\n")
