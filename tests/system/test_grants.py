"""Users make vifs for themselves, as far as the administrator's grants go."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import LAN_MAC, Lab, User
from tests.support.lan import Member
from tests.support.plain import Refused, StreamClient
from tests.support.waiting import eventually

from .attacks import lawful

ALICE, BOB, CAROL = 20001, 20002, 20003
STUDENTS = 20500

RATE = 20
BURST = 2000
#: Far more than it takes to read a burst.
LONGEST_S = 60

GRANTS = f"""
[grant.alice]
to = ["{ALICE}"]
network = "lan"
addresses = ["10.77.0.100-10.77.0.109", "fd77::100/124"]
limits = {{ frames_per_s = {RATE} }}

[grant.students]
to = ["@{STUDENTS}"]
network = "lan"
addresses = ["10.77.0.120-10.77.0.129"]
vifs = 2

[grant.carol]
to = ["{CAROL}"]
network = "lan"
addresses = ["10.77.0.140"]
filter = "no-ip-multicast"
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("grants") as lab:
        lab.configure({}, extra=GRANTS)
        with lab.daemon():
            yield lab


@pytest.fixture
def alice(lab: Lab) -> Iterator[User]:
    user = lab.user(ALICE)
    yield user
    delete_all(user)


@pytest.fixture
def bob(lab: Lab) -> Iterator[User]:
    user = lab.user(BOB, STUDENTS)
    yield user
    delete_all(user)


@pytest.fixture
def carol(lab: Lab) -> Iterator[User]:
    user = lab.user(CAROL)
    yield user
    delete_all(user)


def delete_all(user: User) -> None:
    for name in user.vifs():
        user.pfinet("delete", name)


def created(user: User, *arguments: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(user.pfinet("create", "--json", *arguments).stdout)
    return made


def refusal(user: User, *arguments: str) -> str:
    done = user.pfinet(*arguments, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    return done.stderr.removeprefix("pfinet: ").removesuffix("\n")


def test_a_user_makes_a_vif_and_its_stack_reaches_the_outside(alice: User) -> None:
    made = created(alice, "mine")

    assert made["addresses"] == ["10.77.0.100/24", "fd77::100/64"]
    assert (made["owner_uid"], made["grant"]) == (ALICE, "alice")
    with alice.stack("mine") as stack:
        stack.run("ping", "-c1", "-W5", "10.77.0.1")
        stack.run("ping", "-c1", "-W5", "fd77::1")


def test_a_grant_is_for_the_members_of_its_group_alone(lab: Lab, bob: User) -> None:
    assert created(bob, "study")["grant"] == "students"
    assert created(bob, "more", "--address", "10.77.0.129/24")["addresses"] == ["10.77.0.129/24"]
    assert refusal(bob, "create", "third") == (
        'grant "students": you have 2 vifs, which is all it gives'
    )
    assert refusal(lab.user(BOB), "create", "third") == (
        f"uid {BOB} is no administrator (root, or of daemon.admins), and no grant names it"
    )


def test_a_user_cannot_escape_the_filter_of_its_grant(lab: Lab, carol: User) -> None:
    """Neither as an administrator would remove it, nor by making the vif again."""
    gateway = Member(LAN_MAC, "10.77.0.1", "fd77::1")
    for _ in range(2):
        made = created(carol, "mine")
        assert made["filter"]["name"] == "no-ip-multicast"
        with pytest.raises(Refused, match="is no administrator"):
            lab.ask("vif.set", CAROL, name="mine", defaults=["filter"])
        me = Member(made["mac"], "10.77.0.140", "fd77::140")
        frame = lawful(me, gateway, b"<of carol>")
        frame.dst, frame["IP"].dst = "01:00:5e:01:02:03", "239.1.2.3"
        with StreamClient(lab.socket_of("mine", "stream"), CAROL) as client:
            client.send([bytes(frame)])
            eventually(lambda: carol.show("mine")["counters"]["rx_frames"] == 1, "it is read")

        assert carol.show("mine")["counters"]["drops"] == {"filter_out": 1}
        carol.pfinet("delete", "mine")


def test_a_user_of_two_grants_is_told_why_neither_gives(lab: Lab) -> None:
    alice = lab.user(ALICE, STUDENTS)

    assert refusal(alice, "create", "x", "--address", "10.77.0.110/24") == (
        'grant "alice": address 10.77.0.110 is not in'
        " 10.77.0.100-10.77.0.109 or fd77::100-fd77::10f;"
        ' grant "students": address 10.77.0.110 is not in 10.77.0.120-10.77.0.129'
    )


def test_a_user_deletes_its_own_and_no_other(lab: Lab, alice: User, bob: User) -> None:
    created(alice, "mine")
    lab.multiplexerctl(
        *("vif", "create", "given", "--owner", str(BOB), "--address", "10.77.0.50/24")
    )

    assert refusal(bob, "delete", "mine") == 'there is no vif "mine"'
    assert refusal(bob, "delete", "given") == (
        'vif "given" was made by an administrator, who alone may delete it'
    )
    alice.pfinet("delete", "mine")
    assert alice.vifs() == []
    lab.multiplexerctl("vif", "delete", "given")


def test_a_vif_sends_no_more_than_its_grant_gives(lab: Lab, alice: User) -> None:
    made = created(alice, "mine")
    me = Member(made["mac"], "10.77.0.100", "fd77::100")
    gateway = Member(LAN_MAC, "10.77.0.1", "fd77::1")
    frame = lawful(me, gateway, b"<of alice>")
    frame.dst = gateway.mac

    with StreamClient(lab.socket_of("mine", "stream"), ALICE) as client:
        client.send([bytes(frame)] * BURST)
        eventually(lambda: alice.show("mine")["counters"]["rx_frames"] == BURST, "all are read")

    dropped = alice.show("mine")["counters"]["drops"]["rate_limit"]
    assert BURST - LONGEST_S * RATE <= dropped <= BURST - RATE


def test_an_address_that_the_host_gets_later_is_shown_as_a_conflict(lab: Lab, alice: User) -> None:
    created(alice, "mine")
    lab.host.run("ip", "address", "add", "10.77.0.100/32", "dev", "lo")
    try:
        eventually(
            lambda: alice.show("mine")["host_conflicts"] == ["10.77.0.100"], "the host has it"
        )
        alice.pfinet("delete", "mine")
        assert "10.77.0.101/24" in created(alice, "other")["addresses"]
    finally:
        lab.host.run("ip", "address", "del", "10.77.0.100/32", "dev", "lo")


def test_a_vif_has_its_grant_and_counts_after_a_restart(lab: Lab) -> None:
    with Lab("grants-restart") as other:
        other.configure({}, extra=GRANTS)
        user = other.user(ALICE)
        with other.daemon():
            before = created(user, "mine")
        with other.daemon():
            assert user.show("mine") == before
            assert "you have 1 vif" in refusal(user, "create", "another")
