"""Hostile clients: the others' bytes arrive, and the daemon stays as small as it was."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

import pytest

from tests.support.clients import acting
from tests.support.lan import OWNERS, Lan, Member, running_lan
from tests.support.programs import ping
from tests.support.transfer import transfer
from tests.support.usage import Usage, usages
from tests.support.waiting import eventually

from .attacks import BROADCAST, lawful
from .hostility import ACTS, KINDS, Done, Targets, kill_and_keep_tap

EVE_UID: Final = 20006
#: Nothing limits what eve sends.
EVE: Final = f"""
[vif.eve]
owner = "{EVE_UID}"
network = "lan"
addresses = ["10.77.0.91/24"]
limits = {{ broadcast_per_s = 0, copies_per_s = 0 }}
"""

#: While it lasts, and afterwards: of each process, more than before.
MOST_MIB: Final = 48
MOST_FDS: Final = 150
LEFT_MIB: Final = 16
LEFT_FDS: Final = 4
#: For one attack and one transfer, and be the machine slow.
MOST_CPU_S: Final = 90


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with running_lan("hostile", extra=EVE) as running:
        yield running


@pytest.fixture(scope="module")
def targets(lan: Lan) -> Targets:
    eve = Member(lan.vif("eve")["mac"], "10.77.0.91", "")
    trudy = lan.members["trudy"]
    broadcast = lawful(eve, trudy, b"x" * 1400)
    broadcast.dst = BROADCAST
    to_us = lawful(trudy, eve, b"x" * 1400)
    to_us.dst = eve.mac
    paths = {kind: lan.lab.socket_of("eve", kind) for kind in KINDS if kind != "control"}
    return Targets(
        uid=EVE_UID,
        paths={**paths, "control": lan.lab.run_dir / "control"},
        broadcast=bytes(broadcast),
        accomplice_uid=OWNERS["trudy"],
        accomplice=lan.lab.socket_of("trudy", "stream"),
        frame_to_us=bytes(to_us),
    )


def exceeds(now: Usage, before: Usage, mib: float, fds: int) -> bool:
    return now.pss_mib > before.pss_mib + mib or now.fds > before.fds + fds


def are_within(
    now: Mapping[str, Usage], before: Mapping[str, Usage], mib: float, fds: int
) -> bool:
    return not any(exceeds(now[role], before[role], mib, fds) for role in before)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_the_others_bytes_arrive_and_the_daemon_stays_small(
    lan: Lan, targets: Targets, act: Callable[[Targets, Done], None]
) -> None:
    processes = lan.daemon.processes()
    before = usages(processes)

    with (
        acting(partial(act, targets)),
        transfer(lan.stacks["alice"], lan.stacks["bob"], lan.members["bob"].ipv4),
    ):
        during = usages(processes)
        assert lan.lab.ask("status")["vifs"] > 0

    assert are_within(during, before, MOST_MIB, MOST_FDS), (before, during)
    eventually(lambda: lan.vif("eve")["attached"] is None, "eve's vif is free")
    eventually(
        lambda: are_within(usages(processes), before, LEFT_MIB, LEFT_FDS),
        f"the daemon is as small as before: {before}",
    )
    after = usages(processes)
    for role in processes:
        assert after[role].cpu_s - before[role].cpu_s < MOST_CPU_S
    assert lan.daemon.processes() == processes, "nothing was started afresh"


def test_a_killed_client_whose_tap_lives_on_leaves_its_vif(lan: Lan) -> None:
    """The daemon has only ever had the stream: what became of the tap is not its matter."""
    user = lan.lab.user(EVE_UID)
    with user.stack("eve") as stack:
        tap = kill_and_keep_tap(lan.vif("eve")["attached"]["pid"])
        try:
            with transfer(lan.stacks["alice"], lan.stacks["bob"], lan.members["bob"].ipv4):
                eventually(lambda: lan.vif("eve")["attached"] is None, "eve's vif is free")
            stack.process.wait(20)
            with user.stack("eve") as again:
                assert ping(again, lan.members["bob"].ipv4)
        finally:
            os.close(tap)
