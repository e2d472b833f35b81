"""What is over a vif's rate is dropped and counted; nothing is lost without a count."""

from collections.abc import Iterator

import pytest

from tests.support.lan import Lan, Member, running_lan
from tests.support.plain import StreamClient
from tests.support.waiting import eventually

from .attacks import lawful

LIMITED = """
[vif.slow]
owner = "20010"
network = "lan"
addresses = ["10.77.0.70/24"]
limits = { frames_per_s = 20 }

[vif.quiet]
owner = "20010"
network = "lan"
addresses = ["10.77.0.71/24"]
limits = { broadcast_per_s = 5 }
"""
OWNER = 20010
SENT = 200


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with running_lan("limits", extra=LIMITED) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "address", "reason"),
    [
        ("slow", "10.77.0.70", "rate_limit"),
        ("quiet", "10.77.0.71", "broadcast_limit"),
    ],
)
def test_frames_over_the_limit_are_dropped_and_counted(
    lan: Lan, name: str, address: str, reason: str
) -> None:
    sign = f"<limit of {name}>".encode()
    me = Member(lan.vif(name)["mac"], address, "fd77::70")
    frame = lawful(me, lan.members["bob"], sign)
    if reason == "rate_limit":
        frame.dst = lan.members["bob"].mac
    seen: list[bytes] = []

    def dropped() -> int:
        return lan.drops(name).get(reason, 0)

    def all_accounted_for() -> bool:
        seen.extend(found for found in lan.listeners["bob"].frames_now() if sign in found)
        return len(seen) + dropped() == SENT

    with StreamClient(lan.lab.socket_of(name, "stream"), OWNER) as client:
        client.send([bytes(frame)] * SENT)
        eventually(all_accounted_for, f"{SENT} frames seen or dropped")

    assert dropped() > 0
