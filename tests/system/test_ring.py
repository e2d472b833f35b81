"""Rings, as clients of a running daemon have them, honest and hostile."""

import mmap
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest

from pfinet_proto.ring import SEGMENTS_BYTES, USUAL_BYTES, memory_bytes
from tests.support.clients import acting
from tests.support.lab import Daemon, Lab
from tests.support.lan import Lan, Member
from tests.support.programs import ping
from tests.support.transfer import transfer
from tests.support.usage import usages
from tests.support.waiting import eventually
from tests.system.attacks import BROADCAST, lawful
from tests.system.hostility import KINDS, Targets, scribble

ALICE, BOB = 20001, 20002
SECONDS: Final = 60.0
MOST_MIB: Final = 16


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    lab.configure({"alice": ALICE, "bob": BOB})
    with lab.daemon() as running:
        yield running


def holder(lab: Lab, vif: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = lab.ask("vif.show", name=vif)["attached"]
    return found


def transport_of(lab: Lab, vif: str) -> str | None:
    found = holder(lab, vif)
    return None if found is None else str(found["transport"])


@pytest.fixture
def trudy(lan: Lan) -> Targets:
    """Trudy, who has a vif and no stack."""
    me = lan.members["trudy"]
    broadcast = lawful(me, lan.members["bob"], b"x" * 1400)
    broadcast.dst = BROADCAST
    paths = {kind: lan.lab.socket_of("trudy", kind) for kind in KINDS if kind != "control"}
    uid = lan.vif("trudy")["owner_uid"]
    return Targets(uid, paths, bytes(broadcast), uid, paths["stream"], b"")


def test_frames_travel_by_rings_and_who_asks_is_told_so(lab: Lab, daemon: Daemon) -> None:
    with lab.user(ALICE).stack("alice") as alice, lab.user(BOB).stack("bob") as bob:
        assert ping(alice, "10.77.0.12")
        assert ping(bob, "10.77.0.1")
        assert ping(alice, "fd77::12", "-s", "1400")

        assert transport_of(lab, "alice") == transport_of(lab, "bob") == "ring"
        assert "by ring" in lab.user(ALICE).pfinet("show", "alice").stdout
        assert "by ring" in lab.multiplexerctl("vif", "show", "alice").stdout


def test_who_writes_anything_anywhere_hurts_nobody_else(lan: Lan, trudy: Targets) -> None:
    """For a minute, while the neighbours' bytes arrive as they were sent."""
    processes = lan.daemon.processes()
    before = usages(processes)
    until = time.monotonic() + SECONDS
    with acting(partial(scribble, trudy)):
        while time.monotonic() < until:
            with transfer(lan.stacks["alice"], lan.stacks["bob"], lan.members["bob"].ipv4):
                pass
        assert lan.vif("trudy")["counters"]["rx_frames"] > 0
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy's vif is free")

    assert lan.daemon.processes() == processes, "nothing was started afresh"
    for role, usage in usages(processes).items():
        assert usage.pss_mib < before[role].pss_mib + MOST_MIB
    assert ping(lan.stacks["alice"], lan.members["bob"].ipv4)


def test_a_killed_client_leaves_its_vif_free(lab: Lab, daemon: Daemon) -> None:
    with lab.user(ALICE).stack("alice"):
        found = holder(lab, "alice")
        assert found is not None
        os.kill(found["pid"], signal.SIGKILL)
        eventually(lambda: holder(lab, "alice") is None, "alice's vif is free")

    with lab.user(ALICE).stack("alice") as alice:
        assert ping(alice, "10.77.0.1")


def test_who_keeps_the_memory_after_it_has_left_keeps_nothing_else(
    lan: Lan, trudy: Targets
) -> None:
    before = usages(lan.daemon.processes())
    kept: list[mmap.mmap] = []
    for _ in range(20):
        attachment, mapping = trudy.attach_by_ring()
        attachment.close()
        kept.append(mapping)
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy's vif is free")
    received = lan.vif("trudy")["counters"]["rx_frames"]
    for mapping in kept:
        mapping.write(os.urandom(len(mapping)))
    with transfer(lan.stacks["alice"], lan.stacks["bob"], lan.members["bob"].ipv4, 5_000_000):
        pass

    assert lan.vif("trudy")["counters"]["rx_frames"] == received
    for role, usage in usages(lan.daemon.processes()).items():
        assert usage.fds <= before[role].fds + 2
        assert usage.pss_mib < before[role].pss_mib + MOST_MIB


def test_where_an_owner_has_no_more_memory_the_stream_takes_the_ring_s_place(lab: Lab) -> None:
    lab.configure({"one": ALICE, "two": ALICE, "bob": BOB})
    mib = memory_bytes(SEGMENTS_BYTES) // 2**20 + 2
    text = lab.config.read_text()
    lab.config.write_text(text.replace("[daemon]\n", f"[daemon]\nqueue_mib_per_user = {mib}\n"))
    user = lab.user(ALICE)
    with lab.daemon(), user.stack("one") as one, user.stack("two") as two:
        assert [transport_of(lab, vif) for vif in ("one", "two")] == ["ring", "stream"]
        assert ping(one, "10.77.0.12")
        assert ping(two, "10.77.0.11")
        assert "by stream" in user.pfinet("show", "two").stdout

        one.process.terminate()
        one.process.wait(20)
        eventually(lambda: holder(lab, "one") is None, "one is free")
        with user.stack("one") as again:
            assert transport_of(lab, "one") == "ring"
            assert ping(again, "10.77.0.12")


def test_the_memory_of_rings_is_that_of_what_was_agreed(lan: Lan, trudy: Targets) -> None:
    attachment, mapping = trudy.attach_by_ring()

    assert len(mapping) == memory_bytes(USUAL_BYTES)
    attachment.close()
    found = lan.vif("alice")["attached"]
    maps = subprocess.run(
        ["grep", "multiplexer-ring", f"/proc/{found['pid']}/maps"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    first, last = (int(number, 16) for number in maps.split()[0].split("-"))
    assert last - first == memory_bytes(SEGMENTS_BYTES)


def test_a_neighbour_without_rings_talks_with_one_who_has_them(lan: Lan, trudy: Targets) -> None:
    """From a ring to a stream and back: trudy speaks the plain stream here."""
    me, alice = lan.members["trudy"], lan.members["alice"]
    assert isinstance(me, Member)
    listener = lan.listeners["alice"]
    listener.frames_now()  # what it has heard so far may have filled it
    frame = bytes(lawful(me, alice, b"from a stream"))
    with trudy.connect("stream") as sock:
        sock.sendall(len(frame).to_bytes(4, "big") + frame)
        assert any(b"from a stream" in each for each in listener.frames_until(b"from a stream"))
