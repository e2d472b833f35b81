"""One user cannot hurt another: clients that stall, flood or die."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.lan import OWNERS, Lan, running_lan
from tests.support.plain import LENGTH, StreamClient, connected
from tests.support.programs import ping
from tests.support.waiting import eventually

from .attacks import lawful

FRAME = 1400
FLOOD = 20_000
DAVE = """
[vif.dave]
owner = "20005"
network = "lan"
addresses = ["10.77.0.90/24"]
limits = { broadcast_per_s = 0, copies_per_s = 0 }
"""
DAVE_UID = 20005


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with running_lan("fairness", extra=DAVE) as running:
        yield running


def assert_others_are_well(lan: Lan) -> None:
    alice = lan.stacks["alice"]
    for address in (lan.members["bob"].ipv4, lan.members["bob"].ipv6, "10.77.0.1", "fd77::1"):
        assert ping(alice, address)


def trudy(lan: Lan) -> StreamClient:
    return StreamClient(lan.lab.socket_of("trudy", "stream"), OWNERS["trudy"])


def dave(lan: Lan) -> StreamClient:
    return StreamClient(lan.lab.socket_of("dave", "stream"), DAVE_UID)


def test_a_client_that_does_not_read_loses_frames_of_its_own_alone(lan: Lan) -> None:
    """What it did not take is counted at its own vif."""
    frame = lawful(lan.members["trudy"], lan.members["alice"], b"x" * FRAME)
    frame.src, frame.dst = lan.vif("dave")["mac"], lan.members["trudy"].mac
    frame.payload.src = "10.77.0.90"
    with trudy(lan), dave(lan) as sender:
        sender.send([bytes(frame)] * FLOOD)
        eventually(
            lambda: lan.vif("dave")["counters"]["rx_frames"] >= FLOOD, "all frames were judged"
        )
        assert_others_are_well(lan)
        counters = lan.vif("trudy")["counters"]

    assert counters["drops"]["queue_full"] > 0
    assert counters["drops"]["queue_full"] + counters["tx_frames"] >= FLOOD


def test_a_flood_of_broadcasts_leaves_the_others_their_share(lan: Lan) -> None:
    frame = lawful(lan.members["trudy"], lan.members["alice"], b"x" * FRAME)
    frame.src = lan.vif("dave")["mac"]
    frame.payload.src = "10.77.0.90"
    record = LENGTH.pack(len(bytes(frame))) + bytes(frame)
    pid = os.fork()
    if pid == 0:
        try:
            with dave(lan) as sender:
                while True:
                    sender.send_raw(record * 100)
        finally:
            os._exit(0)
    try:
        eventually(lambda: lan.vif("dave")["counters"]["rx_frames"] > FLOOD, "the flood is on")
        assert_others_are_well(lan)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("part", [b"\0", LENGTH.pack(60), LENGTH.pack(60) + b"x" * 59])
def test_a_client_that_stops_in_the_middle_of_a_record_stalls_nobody(
    lan: Lan, part: bytes
) -> None:
    with trudy(lan) as client:
        client.send_raw(part)
        assert_others_are_well(lan)
        assert lan.vif("trudy")["attached"] is not None
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy's vif is free")


def test_a_killed_client_frees_its_vif(lan: Lan) -> None:
    user = lan.lab.user(DAVE_UID)
    with user.stack("dave") as stack:
        os.kill(lan.vif("dave")["attached"]["pid"], signal.SIGKILL)
        eventually(lambda: lan.vif("dave")["attached"] is None, "dave's vif is free")
        stack.process.wait(20)
    with user.stack("dave") as stack:
        assert ping(stack, lan.members["bob"].ipv4)


def test_many_idle_connections_of_one_user_leave_room_for_others(lan: Lan) -> None:
    path = lan.lab.run_dir / "control"
    held = []
    try:
        for _ in range(1000):
            try:
                held.append(connected(path, DAVE_UID))
            except OSError:
                break
        assert lan.lab.ask("vif.list", uid=OWNERS["alice"])["vifs"]
        assert lan.lab.ask("status")["vifs"] == 5
    finally:
        for sock in held:
            sock.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 4, LENGTH.pack(3) + b"[1]", LENGTH.pack(65537), b"GET / HTTP/1.0\r\n\r\n"],
    ids=["nothing", "longest", "no object", "too long", "http"],
)
def test_nonsense_on_the_control_socket_ends_that_connection_alone(lan: Lan, data: bytes) -> None:
    with connected(lan.lab.run_dir / "control", DAVE_UID) as sock:
        sock.sendall(data)
        assert lan.lab.ask("vif.list", uid=OWNERS["alice"])["vifs"]
