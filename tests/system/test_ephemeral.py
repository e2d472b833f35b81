"""`pfinet run --network`: a vif for as long as a command runs, whoever dies meanwhile."""

import os
import signal

import pytest

from tests.support.lab import Lab, User
from tests.support.waiting import eventually

ALICE = 20001

GRANT = f"""
[grant.alice]
to = ["{ALICE}"]
network = "lan"
addresses = ["10.77.0.100-10.77.0.109"]
vifs = 2
"""


@pytest.fixture
def alice(lab: Lab) -> User:
    lab.configure({}, extra=GRANT)
    return lab.user(ALICE)


def test_a_command_has_a_vif_of_its_own_and_leaves_nothing(lab: Lab, alice: User) -> None:
    with lab.daemon():
        with alice.borrowed_stack("lan") as stack:
            stack.run("ping", "-c1", "-W5", "10.77.0.1")
            assert alice.vifs() == [f"lan-{ALICE}-1"]
            with alice.borrowed_stack("lan") as other:
                other.run("ping", "-c1", "-W5", "10.77.0.100")
                refused = alice.pfinet("run", "--network", "lan", "true", check=False)
            assert alice.vifs() == [f"lan-{ALICE}-1"]

        assert refused.stderr == (
            'pfinet: grant "alice": you have 2 vifs, which is all it gives\n'
        )
        assert alice.vifs() == []


def test_a_client_that_is_killed_leaves_nothing_for_long(lab: Lab, alice: User) -> None:
    with lab.daemon(), alice.borrowed_stack("lan") as stack:
        stack.process.send_signal(signal.SIGKILL)

        eventually(lambda: not alice.vifs(), "the vif is gone")


def test_a_vif_outlives_control_with_its_client_and_no_longer(lab: Lab, alice: User) -> None:
    with lab.daemon() as daemon, alice.borrowed_stack("lan") as stack:
        os.kill(daemon.processes()["control"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (1, 0), "another control is there")

        stack.run("ping", "-c1", "-W5", "10.77.0.1")
        assert alice.show(stack.vif)["attached"]["pid"] == stack.process.pid
        stack.process.send_signal(signal.SIGKILL)
        eventually(lambda: not alice.vifs(), "the vif is gone")


def test_a_client_keeps_its_vif_over_a_restart_of_the_daemon(lab: Lab, alice: User) -> None:
    with lab.daemon() as daemon, alice.borrowed_stack("lan") as stack:
        before = alice.show(stack.vif)
        daemon.kill()
        with lab.daemon():
            eventually(lambda: alice.show(stack.vif)["attached"] is not None, "it is back")
            after = alice.show(stack.vif)
            stack.run("ping", "-c3", "-W5", "10.77.0.1")

    for same in ("id", "mac", "addresses"):
        assert before[same] == after[same]
