"""A process of the daemon is killed in the middle of a transfer, and the transfer goes on."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import pytest

from tests.support import plain
from tests.support.lab import Daemon, Lab, Stack
from tests.support.lan import Member
from tests.support.programs import ping, running
from tests.support.waiting import eventually
from tests.system.attacks import lawful

OWNERS = {"alice": 20001, "bob": 20002}
BOB = "10.77.0.12"

#: Enough that a transfer is still in its middle after any restart.
ALL_BYTES = 1_500_000_000
#: Seen to move, before and after.
SOME_BYTES = 20_000_000
#: The kernel's TCP waits longer than the daemon is away, and twice as long each time.
FINISH_TIMEOUT_S = 60


def vif(lab: Lab, name: str = "alice") -> Any:
    return lab.ask("vif.show", name=name)


def answer_of(lab: Lab, op: str, **arguments: Any) -> Any:
    """Return what the daemon answers, None while it does not."""
    try:
        return lab.ask(op, **arguments)
    except (OSError, EOFError, plain.Refused):
        return None


def sent(lab: Lab) -> int:
    """Return how many bytes alice has sent."""
    answer = answer_of(lab, "vif.show", name="alice")
    return 0 if answer is None else int(answer["counters"]["rx_bytes"])


@attrs.frozen
class Transfer:
    """An iperf3 from alice to bob that has begun."""

    lab: Lab
    process: subprocess.Popen[str]

    def wait_progress(self) -> None:
        """Wait until it has moved some bytes more."""
        before = sent(self.lab)
        eventually(lambda: sent(self.lab) > before + SOME_BYTES, "bytes move")

    def finish(self) -> None:
        """Wait until it has ended well: all bytes sent, on the connection that it began with."""
        output, _ = self.process.communicate(timeout=FINISH_TIMEOUT_S)
        assert self.process.returncode == 0, output
        end = json.loads(output)["end"]
        assert len(end["streams"]) == 1
        assert end["sum_sent"]["bytes"] >= ALL_BYTES


@contextmanager
def transfer(lab: Lab, alice: Stack, bob: Stack) -> Iterator[Transfer]:
    with running(bob, "iperf3", "-s", "-1", "--forceflush", until="listening"):
        process = alice.popen("iperf3", "-J", "-c", BOB, f"-n{ALL_BYTES}", stdout=subprocess.PIPE)
        begun = Transfer(lab, process)
        begun.wait_progress()
        yield begun


@pytest.fixture
def stacks(lab: Lab) -> Iterator[tuple[Daemon, Stack, Stack]]:
    """A daemon with the stacks of alice and bob."""
    lab.configure(OWNERS)
    with ExitStack() as stack:
        daemon = stack.enter_context(lab.daemon())
        alice = stack.enter_context(lab.user(20001).stack("alice"))
        bob = stack.enter_context(lab.user(20002).stack("bob"))
        yield daemon, alice, bob


def test_nobody_notices_that_control_was_killed(
    lab: Lab, stacks: tuple[Daemon, Stack, Stack]
) -> None:
    daemon, alice, bob = stacks
    before = daemon.processes()
    with transfer(lab, alice, bob) as moving:
        attached = vif(lab)
        os.kill(before["control"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (1, 0), "another control is there")
        moving.wait_progress()
        still = vif(lab)
        moving.finish()
    after = daemon.processes()

    assert after["engine"] == before["engine"]
    assert after["control"] != before["control"]
    assert still["id"] == attached["id"]
    assert still["attached"]["pid"] == attached["attached"]["pid"]
    assert still["attached"]["since_s"] >= attached["attached"]["since_s"]
    assert still["counters"]["rx_bytes"] > attached["counters"]["rx_bytes"]
    assert lab.query("status")["attached"] == 2
    assert ping(alice, "10.77.0.1")
    assert ping(bob, "fd77::1")


def test_a_client_without_a_handshake_notices_nothing_either(lab: Lab) -> None:
    """Such as a QEMU, which could not come back."""
    lab.configure(OWNERS)
    with lab.daemon() as daemon:
        alice, bob = (
            plain.StreamClient(lab.socket_of(name, "stream"), uid) for name, uid in OWNERS.items()
        )
        here, there = (
            Member(vif(lab, name)["mac"], f"10.77.0.{number}", f"fd77::{number}")
            for number, name in enumerate(OWNERS, start=11)
        )
        with alice, bob:
            eventually(lambda: lab.query("status")["attached"] == 2, "both are attached")
            os.kill(daemon.processes()["control"], signal.SIGKILL)
            alice.send([bytes(lawful(here, there, b"without a control"))])
            bob.receive_until(b"without a control")
            eventually(lambda: lab.restarts() == (1, 0), "another control is there")
            alice.send([bytes(lawful(here, there, b"with another"))])
            bob.receive_until(b"with another")

            assert lab.query("status")["attached"] == 2
        eventually(lambda: lab.query("status")["attached"] == 0, "both vifs are free")


def test_a_dead_engine_costs_a_moment_and_no_attachment(
    lab: Lab, stacks: tuple[Daemon, Stack, Stack]
) -> None:
    daemon, alice, bob = stacks
    before = daemon.processes()
    with transfer(lab, alice, bob) as moving:
        attached = vif(lab)
        os.kill(before["engine"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (0, 1), "another engine is there")
        moving.wait_progress()
        again = vif(lab)
        moving.finish()
    after = daemon.processes()

    assert set(before.values()) & set(after.values()) == {before["broker"]}
    assert (again["id"], again["mac"]) == (attached["id"], attached["mac"])
    assert (
        again["attached"].items()
        >= {
            **{key: attached["attached"][key] for key in ("pid", "offload")},
            "transport": "ring",
        }.items()
    )
    assert alice.process.poll() is None
    assert ping(alice, "10.77.0.1")
    assert ping(bob, "fd77::1")
    alice.process.terminate()
    _, said = alice.process.communicate(timeout=20)
    assert "attach" not in said, "it has not even noticed"


def test_a_second_engine_that_dies_soon_takes_the_rings_along(
    lab: Lab, stacks: tuple[Daemon, Stack, Stack]
) -> None:
    """Something in one of them may be why."""
    daemon, alice, _ = stacks
    for number in (1, 2):
        os.kill(daemon.processes()["engine"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (0, number), "another engine is there")  # noqa: B023
    assert ping(alice, BOB)

    assert alice.process.stderr is not None
    assert "attaching again" in alice.process.stderr.readline()
    assert alice.process.stderr.readline() == "pfinet: vif alice: attached again, by ring\n"


def test_a_dead_broker_that_is_started_again_costs_a_moment(lab: Lab) -> None:
    lab.configure(OWNERS)
    with ExitStack() as stack:
        first = Daemon(lab)
        alice = stack.enter_context(lab.user(20001).stack("alice"))
        bob = stack.enter_context(lab.user(20002).stack("bob"))
        with transfer(lab, alice, bob) as moving:
            attached = vif(lab)
            first.kill()
            stack.enter_context(lab.daemon())
            moving.wait_progress()
            again = vif(lab)
            moving.finish()

        assert (again["id"], again["mac"]) == (attached["id"], attached["mac"])
        assert again["attached"]["pid"] == attached["attached"]["pid"]
        assert ping(alice, "10.77.0.1")
        assert ping(bob, "fd77::1")


def test_a_client_that_came_before_control_was_killed_still_leaves_properly(
    lab: Lab, stacks: tuple[Daemon, Stack, Stack]
) -> None:
    daemon, alice, _ = stacks
    os.kill(daemon.processes()["control"], signal.SIGKILL)
    eventually(lambda: lab.restarts() == (1, 0), "another control is there")

    alice.process.terminate()
    alice.process.wait(20)
    eventually(lambda: vif(lab)["attached"] is None, "the vif is free")

    with lab.user(20001).stack("alice") as again:
        assert ping(again, "10.77.0.1")
        lab.multiplexerctl("vif", "list")
