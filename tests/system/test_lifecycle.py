"""Start, stop, restart and sudden death of the daemon."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.lab import NIC, Daemon, Lab, children
from tests.support.plain import Refused
from tests.support.programs import ping
from tests.support.waiting import eventually

OWNERS = {"alice": 20001, "bob": 20002}
CAROL = 20005
NIC_MAC = "02:00:00:77:00:02"


def create_carol(lab: Lab) -> None:
    lab.multiplexerctl(
        *("vif", "create", "carol", "--owner", str(CAROL)),
        *("--address", "10.77.0.50/24", "--address", "fd77::50/64"),
    )


def answers(lab: Lab) -> bool:
    """Return whether the daemon answers, with its engine's counters."""
    try:
        lab.ask("vif.show", name="alice")
    except (OSError, EOFError, Refused):
        return False
    return True


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_created_vif_survives_a_restart_with_its_identity(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon():
        create_carol(lab)
        before = lab.ask("vif.show", name="carol")
    with lab.daemon():
        after = lab.ask("vif.show", name="carol")

        assert after == {**before, "counters": after["counters"]}
        with lab.user(CAROL).stack("carol") as stack:
            assert ping(stack, "10.77.0.1")
            assert ping(stack, "fd77::1")


def test_a_deleted_vif_stays_deleted(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon():
        create_carol(lab)
        folder = lab.socket_of("carol", "attach").parent
        lab.multiplexerctl("vif", "delete", "carol")
        assert not folder.exists()
    with lab.daemon(), pytest.raises(Refused, match="not_found"):
        lab.ask("vif.show", name="carol")


def test_deleting_a_vif_tells_its_stack_to_end(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon():
        create_carol(lab)
        with lab.user(CAROL).stack("carol") as stack:
            lab.multiplexerctl("vif", "delete", "carol")
            assert stack.process.wait(20) != 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("carol", "--address", "10.77.0.11/24"), "alice"),
        (("alice", "--address", "10.77.0.60/24"), "alice"),
        (("carol", "--address", "192.0.2.1/24"), "192.0.2.1"),
        (("carol", "--address", "10.77.0.0/24"), "10.77.0.0"),
        (("carol", "--address", "10.77.0.255/24"), "10.77.0.255"),
        (("carol", "--address", "10.77.0.1/24"), "gateway"),
        (("carol", "--address", "10.77.0.222/24"), "host"),
        (("carol", "--address", "10.77.0.60/24", "--mac", NIC_MAC), NIC_MAC),
        (("carol", "--address", "10.77.0.60/24", "--mac", "01:00:5e:00:00:01"), "01:00:5e"),
    ],
    ids=[
        *("duplicate", "name", "outside", "network", "broadcast", "gateway"),
        *("host", "NIC", "group"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    lab: Lab, arguments: tuple[str, ...], named: str
) -> None:
    lab.host.run("ip", "address", "add", "10.77.0.222/24", "dev", "lo")
    lab.host.run("ip", "link", "set", NIC, "address", NIC_MAC)
    lab.configure(OWNERS)
    with lab.daemon():
        done = lab.multiplexerctl("vif", "create", *arguments, "--owner", str(CAROL), check=False)

    assert done.returncode != 0
    assert named in done.stderr


def test_an_unknown_owner_is_refused_by_name(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon():
        done = lab.multiplexerctl(
            *("vif", "create", "carol", "--owner", "no-such-user"),
            *("--address", "10.77.0.50/24"),
            check=False,
        )

    assert done.returncode != 0
    assert "no-such-user" in done.stderr


def test_sigterm_stops_it_cleanly(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon() as daemon:
        family = daemon.processes()
        assert set(family) == {"broker", "control", "engine"}
        with lab.user(20001).stack("alice"):
            status = daemon.stop()

    left = [path for path in lab.run_dir.rglob("*") if path.is_socket()]
    assert status == 0
    assert left == []
    assert all(is_gone(pid) for pid in family.values())


@pytest.mark.parametrize("role", ["control", "engine"])
def test_a_killed_process_comes_back_and_stacks_can_attach(lab: Lab, role: str) -> None:
    lab.configure(OWNERS)
    with lab.daemon() as daemon:
        killed = daemon.processes()[role]
        os.kill(killed, signal.SIGKILL)
        eventually(
            lambda: (
                len(children(daemon.process.pid)) == 2
                and killed not in children(daemon.process.pid)
                and answers(lab)
            ),
            f"the {role} is back",
        )

        with lab.user(20001).stack("alice") as stack:
            assert ping(stack, "10.77.0.1")
            assert ping(stack, "fd77::1")


def test_a_killed_broker_takes_the_others_along(lab: Lab) -> None:
    lab.configure(OWNERS)
    daemon = Daemon(lab)
    family = daemon.processes()

    daemon.kill()

    eventually(lambda: all(map(is_gone, family.values())), "control and engine are gone")


def test_it_starts_over_what_a_killed_one_left(lab: Lab) -> None:
    lab.configure(OWNERS)
    Daemon(lab).kill()

    with lab.daemon(), lab.user(20001).stack("alice") as stack:
        assert ping(stack, "10.77.0.1")


def test_its_processes_have_no_privileges_but_the_brokers(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon() as daemon:
        family = daemon.processes()
        for role, uid in (("control", 20090), ("engine", 20091)):
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{family[role]}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert status["Uid"].split() == [str(uid)] * 4
            assert status["Gid"].split() == [str(uid)] * 4
            assert status["Groups"].split() == []
            assert status["NoNewPrivs"] == "1"
            assert {int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapBnd")} == {0}
            assert status["Seccomp"] == ("2" if role == "engine" else status["Seccomp"])
