"""What a role is when its main begins, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from multiplexer.daemon import privileges, process
from multiplexer.daemon.privileges import Identity, find_identity

NOBODY = Identity(64000, 64001)

#: A role that says what it is, then waits until its socket is closed.
ROLE = """
import json, os, resource, signal, socket, sys
import attrs

@attrs.frozen
class Boot:
    ours: socket.socket

MADE_AS = os.getuid()

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False  # it was the listing's own
    return True

def main(boot):
    status = dict(
        line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines()
        if ":\\t" in line
    )
    try:
        open(__file__).close()
        own_source = "readable"
    except PermissionError:
        own_source = "denied"
    boot.ours.send(json.dumps({
        "made_as": MADE_AS,
        "status": status,
        "own_source": own_source,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "umask": os.umask(0),
        "fds": [int(fd) for fd in os.listdir("/proc/self/fd") if is_open(int(fd))],
        "socket": boot.ours.fileno(),
        "session": os.getsid(0) == os.getpid(),
        "sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "isolated": sys.flags.isolated,
        "processors": sorted(os.sched_getaffinity(0)),
    }).encode())
    what = boot.ours.recv(16)
    if what == b"deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        boot.ours.send(b"ok")
        signal.pause()
    elif what:
        sys.exit(int(what))
"""


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[process.Role]:
    """A role whose module lies where only root can read."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "its_module.py").write_text(ROLE)
        monkeypatch.syspath_prepend(directory)
        yield process.Role("test", "its_module", "Boot")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]


def start(role: process.Role, ends: Ends, cpu: int | None = None) -> process.Process:
    running = process.Process.start(role, NOBODY, {"ours": ends[1]}, cpu=cpu)
    ends[1].close()
    return running


def test_a_role_has_no_privilege_and_nothing_of_the_brokers_but_its_sockets(
    role: process.Role, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nonexistent")
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    monkeypatch.delenv("TZ", raising=False)

    running = start(role, ends)
    said = json.loads(ends[0].recv(65536))
    ends[0].close()

    assert running.reap() == "exit status 0"
    status = said["status"]
    assert said["made_as"] == 0
    assert said["own_source"] == "denied"
    assert status["Uid"].split() == ["64000"] * 4
    assert status["Gid"].split() == ["64001"] * 4
    assert status["Groups"].split() == []
    assert {int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert said["environment"] == {**process.ENVIRONMENT, "JOURNAL_STREAM": "1:2"}
    assert said["directory"] == "/"
    assert said["umask"] == 0o077
    assert set(said["fds"]) == {0, 1, 2, said["socket"]}
    assert said["session"]
    assert said["sigint"]
    assert said["core"] == [0, 0]
    assert said["isolated"] == 1
    assert said["processors"] == sorted(os.sched_getaffinity(0))


def test_a_role_stays_on_the_processor_that_it_is_given(role: process.Role, ends: Ends) -> None:
    processor = max(os.sched_getaffinity(0))
    running = start(role, ends, processor)
    said = json.loads(ends[0].recv(65536))
    ends[0].close()

    assert running.reap() == "exit status 0"
    assert said["processors"] == [processor]


def test_a_roles_memory_and_descriptors_are_closed_to_its_own_user(
    role: process.Role, ends: Ends
) -> None:
    running = start(role, ends)
    ends[0].recv(65536)

    assert os.stat(f"/proc/{running.pid}/mem").st_uid == 0
    ends[0].close()
    running.reap()


@pytest.mark.parametrize(("said", "end"), [(b"0", "exit status 0"), (b"3", "exit status 3")])
def test_the_end_of_a_role_is_told_by_its_pidfd_and_named(
    role: process.Role, ends: Ends, said: bytes, end: str
) -> None:
    running = start(role, ends)
    ends[0].recv(65536)

    assert not running.wait(0)
    ends[0].send(said)

    assert running.wait(10)
    assert running.reap() == end


def test_a_role_that_is_killed_is_named_by_the_signal(role: process.Role, ends: Ends) -> None:
    running = start(role, ends)
    ends[0].recv(65536)

    running.signal(signal.SIGSEGV)

    assert running.reap() == "signal SIGSEGV"


def test_stopping_asks_first_and_kills_what_does_not_listen(
    role: process.Role, ends: Ends
) -> None:
    other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    deaf, polite = start(role, ends), start(role, other)
    ends[0].recv(65536)
    other[0].recv(65536)
    ends[0].send(b"deaf")
    ends[0].recv(16)

    ended = process.stop([deaf, polite], grace_s=0.2)

    assert ended == ["signal SIGKILL", "signal SIGTERM"]
    other[0].close()


def test_a_role_dies_with_the_process_that_started_it(role: process.Role, ends: Ends) -> None:
    starter = os.fork()
    if starter == 0:
        process.Process.start(role, NOBODY, {"ours": ends[1]})
        ends[0].recv(65536)
        os._exit(0)
    ends[1].close()
    os.waitpid(starter, 0)

    # The other end is closed when the role is gone.
    assert ends[0].recv(1) == b""


def test_an_account_is_found_by_name_and_by_number() -> None:
    assert find_identity("daemon") == Identity(1, 1)
    assert find_identity("1") == Identity(1, 1)
    assert find_identity("64007") == Identity(64007, 64007)


@pytest.mark.parametrize(("user", "why"), [("root", "root"), ("0", "root"), ("nouser", "no user")])
def test_root_and_nobody_at_all_are_no_account_for_a_role(user: str, why: str) -> None:
    with pytest.raises(LookupError, match=why):
        find_identity(user)


def test_capabilities_are_limited_to_those_kept() -> None:
    kept = privileges.bits("cap_chown", "cap_net_raw")
    source = (
        "import json; from multiplexer.daemon import privileges as p\n"
        f"p.limit_capabilities({kept})\n"
        "print(json.dumps([p.permitted(), open('/proc/self/status').read()]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=True, text=True
    ).stdout
    permitted, status = json.loads(output)

    assert privileges.names_of(permitted) == ["cap_chown", "cap_net_raw"]
    assert f"CapEff:\t{kept:016x}" in status
    assert f"CapBnd:\t{kept:016x}" in status
