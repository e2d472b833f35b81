"""What gives a vif to a virtual machine, by the version of its QEMU."""

import json
import shlex
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from pfinet_client.errors import StackError
from pfinet_client.qemu import QemuVersion, qemu_arguments, warning
from pfinet_proto.values import VifName
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_cli import INFO

PATH = "/run/multiplexer/vif/0123/stream"
BACKEND = f"stream,id=pfinet-lab1,server=off,addr.type=unix,addr.path={PATH}"
DEVICE = "virtio-net-pci,netdev=pfinet-lab1,mac=52:54:00:00:00:01"


@pytest.mark.parametrize(
    ("version", "reconnect"),
    [
        ("7.2", ""),
        ("8.0", ",reconnect=1"),
        ("9.1", ",reconnect=1"),
        ("9.2", ",reconnect-ms=200"),
        ("10.0", ",reconnect-ms=200"),
    ],
)
def test_a_version_gets_the_arguments_that_it_knows(version: str, reconnect: str) -> None:
    arguments = qemu_arguments(QemuVersion.parse(version), INFO, 1500, PATH)

    assert arguments == ("-netdev", BACKEND + reconnect, "-device", DEVICE)


@pytest.mark.parametrize("version", ["7.1", "6.9", "2.12"])
def test_a_version_without_netdev_stream_is_refused(version: str) -> None:
    with pytest.raises(StackError, match=rf"QEMU {version} has no -netdev stream"):
        qemu_arguments(QemuVersion.parse(version), INFO, 1500, PATH)


@pytest.mark.parametrize("mtu", [1400, 9000])
def test_an_unusual_mtu_is_told_to_the_guest(mtu: int) -> None:
    arguments = qemu_arguments(QemuVersion(8, 0), INFO, mtu, PATH)

    assert arguments[-1] == f"{DEVICE},host_mtu={mtu}"


def test_a_comma_in_the_path_begins_no_option() -> None:
    arguments = qemu_arguments(QemuVersion(7, 2), INFO, 1500, "/run/a,b/stream")

    assert arguments[1].endswith("addr.path=/run/a,,b/stream")


def test_a_name_of_digits_makes_an_identifier_of_qemu_s() -> None:
    """Which must begin with a letter."""
    arguments = qemu_arguments(QemuVersion(7, 2), evolve(INFO, name=VifName("9")), 1500, PATH)

    assert "id=pfinet-9," in arguments[1]


def test_only_a_version_that_cannot_reconnect_is_warned_of() -> None:
    said = warning(QemuVersion(7, 2))

    assert said is not None
    assert "QEMU 7.2 cannot attach again" in said
    assert warning(QemuVersion(8, 0)) is None


@pytest.mark.parametrize(
    ("report", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n", QemuVersion(7, 2)),
        ("QEMU emulator version 10.0.2\nCopyright (c)\n", QemuVersion(10, 0)),
        ("QEMU emulator version 8.1.50 (v8.1.0-1-gabc)", QemuVersion(8, 1)),
        ("GNU bash, version 5.2", None),
        ("", None),
    ],
)
def test_a_version_is_read_from_what_qemu_says(report: str, version: QemuVersion | None) -> None:
    assert QemuVersion.of_report(report) == version


# The command.


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1, vif=VifName("lab1")), 20001)) as running:
        yield running


def fake_qemu(daemon: FakeDaemon, says: str, name: str = "qemu") -> Path:
    program = daemon.directory / name
    program.write_text(f"#!/bin/sh\necho {shlex.quote(says)}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return program


def path_of_stream(daemon: FakeDaemon) -> str:
    return f"{daemon.directory}/lab1/stream"


def test_it_asks_the_qemu_that_it_is_told(alice: ClientUser) -> None:
    program = fake_qemu(alice.daemon, "QEMU emulator version 9.2.1")

    done = alice.pfinet("qemu", "--qemu", str(program), "lab1")

    backend = BACKEND.replace(PATH, path_of_stream(alice.daemon))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"-netdev {backend},reconnect-ms=200 -device {DEVICE}\n"


def test_it_takes_a_version_instead_and_prints_json(alice: ClientUser) -> None:
    done = alice.pfinet("qemu", "--qemu-version", "8.2", "--json", "lab1")

    assert json.loads(done.stdout)[1].endswith(",reconnect=1")


def test_it_finds_the_qemu_of_the_path(alice: ClientUser) -> None:
    fake_qemu(alice.daemon, "QEMU emulator version 8.0.0", "qemu-system-fake")
    environment = {**alice.environment, "PATH": f"{alice.daemon.directory}:/nonexistent"}

    done = alice.pfinet("qemu", "lab1", env=environment)

    assert (done.returncode, done.stderr) == (0, "")
    assert ",reconnect=1 " in done.stdout


def test_no_qemu_at_all_is_told_with_a_way_out(alice: ClientUser) -> None:
    environment = {**alice.environment, "PATH": "/nonexistent"}

    done = alice.pfinet("qemu", "lab1", env=environment)

    assert done.returncode == 125
    assert "no qemu-system-* in PATH: name one by --qemu" in done.stderr


@pytest.mark.parametrize("says", ["GNU bash, version 5.2", ""])
def test_a_program_that_is_no_qemu_is_told(alice: ClientUser, says: str) -> None:
    program = fake_qemu(alice.daemon, says)

    done = alice.pfinet("qemu", "--qemu", str(program), "lab1")

    assert done.returncode == 125
    assert done.stderr == f"pfinet: {program} --version says {says!r}, not which QEMU it is\n"


def test_a_program_that_cannot_be_run_is_told(alice: ClientUser) -> None:
    done = alice.pfinet("qemu", "--qemu", "/nonexistent/qemu", "lab1")

    assert (done.returncode, done.stderr) == (
        125,
        "pfinet: /nonexistent/qemu: No such file or directory\n",
    )


def test_an_old_qemu_is_warned_of_and_an_older_one_refused(alice: ClientUser) -> None:
    old = alice.pfinet("qemu", "--qemu-version", "7.2", "lab1")
    older = alice.pfinet("qemu", "--qemu-version", "7.1", "lab1")

    assert old.returncode == 0
    assert old.stderr.startswith("pfinet: QEMU 7.2 cannot attach again")
    assert (older.returncode, older.stdout) == (125, "")
    assert older.stderr.startswith("pfinet: QEMU 7.1 has no -netdev stream")


def test_a_version_that_is_none_is_wrong_usage(alice: ClientUser) -> None:
    done = alice.pfinet("qemu", "--qemu-version", "new", "lab1")

    assert done.returncode == 125
    assert "'new' is not a version of QEMU such as 8.2" in done.stderr


def test_the_qemu_of_this_machine_takes_the_arguments(alice: ClientUser) -> None:
    """It connects to the socket before its virtual machine starts."""
    arguments = json.loads(alice.pfinet("qemu", "--json", "lab1").stdout)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path_of_stream(alice.daemon))
        listener.listen()
        listener.settimeout(TIMEOUT_S)
        program = ("qemu-system-x86_64", "-accel", "tcg", "-m", "16", "-nodefaults", "-S")
        silent = ("-display", "none", "-monitor", "none", "-serial", "none")
        process = subprocess.Popen([*program, *silent, *arguments])
        try:
            listener.accept()[0].close()
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
