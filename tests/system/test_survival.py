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
from tests.support.programs import ping, running
from tests.support.waiting import eventually

OWNERS = {"alice": 20001, "bob": 20002}
BOB = "10.77.0.12"

#: Long enough for any restart on a busy machine; the kernel's TCP gives up much later.
SECONDS = 5
#: Of a transfer that runs.
SOME_BYTES = 20_000_000


def vif(lab: Lab, name: str = "alice") -> Any:
    return lab.ask("vif.show", name=name)


def answer_of(lab: Lab) -> Any:
    """Return what the daemon says of alice's vif, None while it does not answer."""
    try:
        return vif(lab)
    except (OSError, EOFError, plain.Refused):
        return None


def sent(lab: Lab) -> int:
    """Return how many bytes alice has sent."""
    answer = answer_of(lab)
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

    def finish(self) -> int:
        """Wait until it has ended well, and return how many bytes were received."""
        output, _ = self.process.communicate(timeout=SECONDS + 40)
        assert self.process.returncode == 0, output
        return int(json.loads(output)["end"]["sum_received"]["bytes"])


@contextmanager
def transfer(lab: Lab, alice: Stack, bob: Stack) -> Iterator[Transfer]:
    with running(bob, "iperf3", "-s", "-1", "--forceflush", until="listening"):
        process = alice.popen(
            "iperf3", "-J", "-c", BOB, f"-t{SECONDS}", stdout=subprocess.PIPE
        )
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
    assert lab.query("status")["control_restarts"] == 1
    assert lab.query("status")["attached"] == 2
    assert ping(alice, "10.77.0.1")
    assert ping(bob, "fd77::1")


def test_a_client_that_came_before_control_was_killed_still_leaves_properly(
    lab: Lab, stacks: tuple[Daemon, Stack, Stack]
) -> None:
    daemon, alice, _ = stacks
    killed = daemon.processes()["control"]
    os.kill(killed, signal.SIGKILL)
    eventually(
        lambda: daemon.processes().get("control", killed) != killed
        and answer_of(lab) is not None,
        "control is back",
    )

    alice.process.terminate()
    alice.process.wait(20)
    eventually(lambda: vif(lab)["attached"] is None, "the vif is free")

    with lab.user(20001).stack("alice") as again:
        assert ping(again, "10.77.0.1")
        lab.multiplexerctl("vif", "list")
