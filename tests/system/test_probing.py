"""A station on the wire keeps its address: no vif is made for it without force."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import LAN, LAN_MAC, Lab, User
from tests.support.waiting import eventually

ALICE = 20001

GRANT = f"""
[grant.alice]
to = ["{ALICE}"]
network = "lan"
addresses = ["10.77.0.100-10.77.0.109", "fd77::100-fd77::109"]
vifs = 9
prefixes = true
"""


@pytest.fixture(scope="module", params=["veth", "macvlan"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A station outside has the first addresses of the grant; the NIC may filter."""
    with Lab(f"probing-{request.param}", nic=request.param) as lab:
        for address in ("10.77.0.100/24", "fd77::101/64"):
            lab.outside.run("ip", "address", "add", address, "dev", LAN, "nodad")
        lab.configure({}, extra=GRANT)
        with lab.daemon():
            yield lab


@pytest.fixture
def alice(lab: Lab) -> User:
    return lab.user(ALICE)


def refusal(user: User, *arguments: str) -> str:
    done = user.pfinet("create", *arguments, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    return done.stderr


@pytest.mark.parametrize("address", ["10.77.0.100/24", "fd77::101/64"])
def test_a_user_is_refused_what_a_station_has(lab: Lab, alice: User, address: str) -> None:
    said = refusal(alice, "mine", "--address", address)

    bare = address.partition("/")[0]
    assert said == f"pfinet: address {bare} is in use on the wire, by {LAN_MAC}\n"
    assert lab.query("vif", "list")["vifs"] == []


def test_a_prefix_that_holds_the_address_is_refused(alice: User) -> None:
    assert "10.77.0.100 is in use" in refusal(alice, "mine", "--prefix", "10.77.0.100/30")


def test_who_names_no_address_gets_free_ones_and_can_use_them(alice: User) -> None:
    made: dict[str, Any] = json.loads(alice.pfinet("create", "--json", "free").stdout)
    try:
        with alice.stack("free") as stack:
            stack.run("ping", "-c1", "-W5", "10.77.0.100")
            stack.run("ping", "-c1", "-W5", "fd77::101")
    finally:
        alice.pfinet("delete", "free")

    assert made["addresses"] == ["10.77.0.101/24", "fd77::100/64"]
    assert made["conflicts"] == []
    assert made["counters"]["rx_frames"] == 0


def test_an_administrator_needs_force(lab: Lab) -> None:
    words = ("vif", "create", "forced", "--owner", str(ALICE), "--address", "10.77.0.100/24")

    refused = lab.multiplexerctl(*words, check=False)
    made = json.loads(lab.multiplexerctl(*words, "--force", "--json").stdout)
    lab.multiplexerctl("vif", "delete", "forced")

    assert refused.returncode == 1
    assert refused.stderr == (
        f"multiplexerctl: address 10.77.0.100 is in use on the wire, by {LAN_MAC}"
        " (--force makes the vif nevertheless)\n"
    )
    assert made["addresses"] == ["10.77.0.100/24"]


def test_neighbours_learn_at_once_who_has_an_address_now(lab: Lab, alice: User) -> None:
    words = ("--address", "10.77.0.107/24", "--address", "fd77::107/64")
    cached = ("lladdr", "02:00:00:00:00:77", "nud", "stale", "dev", LAN)
    for address in ("10.77.0.107", "fd77::107"):
        lab.outside.run("ip", "neigh", "replace", address, *cached)
    made = json.loads(alice.pfinet("create", "--json", "moved", *words).stdout)

    def known(address: str) -> str:
        shown = json.loads(lab.outside.run("ip", "-j", "neigh", "show", address).stdout)
        return str(shown[0]["lladdr"])

    eventually(lambda: known("10.77.0.107") == made["mac"], "the IPv4 address is known")
    eventually(lambda: known("fd77::107") == made["mac"], "the IPv6 address is known")
    alice.pfinet("delete", "moved")
