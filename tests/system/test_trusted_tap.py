"""A user whom the administrator trusts: the daemon reads and writes the stack's tap itself."""

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import Daemon, Lab, Stack
from tests.support.programs import Place, ping, running
from tests.support.waiting import eventually
from tests.support.wire import send

ALICE, BOB = 20001, 20002
OUTSIDE = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}
NEIGHBOUR = {"ipv4": "10.77.0.12", "ipv6": "fd77::12"}
TRUSTED = "trusted_tap = true\n"

family = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """A daemon with bob's vif and, the last of the file, alice's, who is trusted."""
    lab.configure({"carol": 20003, "bob": BOB, "alice": ALICE}, extra=TRUSTED)
    with lab.daemon() as running:
        yield running


def holder(lab: Lab, vif: str = "alice") -> dict[str, Any] | None:
    found: dict[str, Any] | None = lab.ask("vif.show", name=vif)["attached"]
    return found


def is_attached_by(lab: Lab, transport: str, vif: str = "alice") -> bool:
    with suppress(OSError):  # the daemon is just away
        found = holder(lab, vif)
        return found is not None and found["transport"] == transport
    return False


def test_a_trusted_stack_talks_with_everybody_and_pumps_nothing(lab: Lab, daemon: Daemon) -> None:
    with lab.user(ALICE).stack("alice") as alice, lab.user(BOB).stack("bob"):
        for there in (*OUTSIDE.values(), *NEIGHBOUR.values()):
            assert ping(alice, there)
        found = holder(lab)

        assert found is not None
        assert found["transport"] == "tap"
        assert found["offload"] == 31
        assert "by tap" in lab.user(ALICE).pfinet("show", "alice").stdout
        # Whoever is not trusted has a second thread, which carries the frames.
        assert len(list(Path(f"/proc/{found['pid']}/task").iterdir())) == 1


@family
@pytest.mark.parametrize("options", [(), ("-R",)], ids=["sending", "receiving"])
def test_tcp_of_a_trusted_stack_is_cut_for_others_only_where_it_must(
    lab: Lab, daemon: Daemon, family: str, options: tuple[str, ...]
) -> None:
    with lab.user(ALICE).stack("alice") as alice, lab.user(BOB).stack("bob") as bob:
        for server, there in ((bob, NEIGHBOUR[family]), (lab.outside, OUTSIDE[family])):
            assert transferred(server, alice, there, *options) > 10_000_000
        counters = lab.ask("vif.show", name="alice")["counters"]

    side = "tx" if options else "rx"
    assert counters[f"{side}_bytes"] / counters[f"{side}_frames"] > 2 * 1514


def transferred(server: Place, client: Place, there: str, *options: str) -> int:
    with running(server, "iperf3", "-s", "-1", "-B", there, "--forceflush", until="listening"):
        done = client.run("iperf3", "-c", there, "-n", "20M", "-J", *options)
    return int(json.loads(done.stdout)["end"]["sum_received"]["bytes"])


def test_a_trusted_user_cannot_forge(lab: Lab, daemon: Daemon) -> None:
    bob_mac = bytes.fromhex(lab.ask("vif.show", name="bob")["mac"].replace(":", ""))
    with lab.user(ALICE).stack("alice") as alice, lab.user(BOB).stack("bob"):
        send(alice.namespace, alice.interface, [b"\xff" * 6 + bob_mac + b"\x08\x00" + bytes(46)])
        eventually(
            lambda: lab.ask("vif.show", name="alice")["counters"]["drops"].get("src_mac") == 1,
            "the forged frame is counted",
        )


@pytest.mark.parametrize("role", ["control", "engine"])
def test_a_trusted_stack_goes_on_after_a_process_of_the_daemon_died(
    lab: Lab, daemon: Daemon, role: str
) -> None:
    with lab.user(ALICE).stack("alice") as alice:
        assert ping(alice, OUTSIDE["ipv4"])
        old = daemon.processes()[role]
        lab.host.run("kill", "-9", str(old))

        assert ping(alice, OUTSIDE["ipv4"])
        eventually(partial(is_attached_by, lab, "tap"), "alice is attached by tap")
        assert ping(alice, OUTSIDE["ipv6"])


def test_a_trusted_stack_attaches_again_to_another_daemon(lab: Lab, daemon: Daemon) -> None:
    with lab.user(ALICE).stack("alice") as alice:
        assert daemon.stop() == 0
        with lab.daemon():
            assert ping(alice, OUTSIDE["ipv4"])
            assert is_attached_by(lab, "tap")


def test_a_killed_client_leaves_its_vif_free(lab: Lab, daemon: Daemon) -> None:
    with lab.user(ALICE).stack("alice"):
        found = holder(lab)
        assert found is not None
        lab.host.run("kill", "-9", str(found["pid"]))
        eventually(lambda: holder(lab) is None, "alice's vif is free")

    with lab.user(ALICE).stack("alice") as alice:
        assert ping(alice, OUTSIDE["ipv4"])


def test_a_trusted_stack_whose_interface_is_deleted_is_disconnected(
    lab: Lab, daemon: Daemon
) -> None:
    with lab.user(ALICE).stack("alice") as alice:
        alice.run("ip", "link", "delete", alice.interface)
        eventually(lambda: holder(lab) is None, "alice's vif is free")
        said = wait_for(alice, "disconnected")

    assert "the interface was deleted" in said


def wait_for(stack: Stack, words: str) -> str:
    """Return the line with *words* that pfinet says."""
    assert stack.process.stderr is not None
    return next(line for line in stack.process.stderr if words in line)


def test_a_trusted_stack_whose_vif_is_deleted_is_told_so(lab: Lab, daemon: Daemon) -> None:
    lab.multiplexerctl(
        *("vif", "create", "dave", "--owner", str(BOB), "--address", "10.77.0.60/24"),
        "--trusted-tap",
    )
    with lab.user(BOB).stack("dave") as dave:
        assert ping(dave, OUTSIDE["ipv4"])
        assert is_attached_by(lab, "tap", "dave")
        lab.multiplexerctl("vif", "delete", "dave")

        assert "was deleted" in wait_for(dave, "disconnected")


def test_a_stack_that_is_no_longer_trusted_goes_on_by_a_ring(lab: Lab, daemon: Daemon) -> None:
    create = ("vif", "create", "dave", "--owner", str(BOB), "--address", "10.77.0.60/24")
    lab.multiplexerctl(*create, "--trusted-tap")
    with lab.user(BOB).stack("dave") as dave:
        assert ping(dave, OUTSIDE["ipv4"])
        lab.multiplexerctl("vif", "set", "dave", "--no-trusted-tap")

        eventually(partial(is_attached_by, lab, "ring", "dave"), "dave is attached by ring")
        assert ping(dave, OUTSIDE["ipv4"])
