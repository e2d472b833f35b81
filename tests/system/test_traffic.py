"""Users and the outside host talk with real programs, whatever kind of NIC there is.

The macvlan receives only what it was asked to, as a hardware NIC does; with
the veth, everything on the cable comes in.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import web
from tests.support.lab import LAN, Stack, interpreter
from tests.support.lan import Lan, running_lan
from tests.support.programs import Place, ping, running, tcpdump
from tests.support.wire import send

from .attacks import lawful

FAMILIES = ("ipv4", "ipv6")
WAYS = (("alice", "bob"), ("alice", "outside"), ("outside", "bob"))

family = pytest.mark.parametrize("family", FAMILIES)
way = pytest.mark.parametrize(("who", "whom"), WAYS, ids=lambda name: str(name))


@pytest.fixture(scope="module", params=["veth", "macvlan"])
def lan(request: pytest.FixtureRequest) -> Iterator[Lan]:
    with running_lan(f"traffic-{request.param}", nic=request.param) as running:
        yield running


def place(lan: Lan, name: str) -> Place:
    return lan.lab.outside if name == "outside" else lan.stacks[name]


def address(lan: Lan, name: str, family: str) -> str:
    return str(getattr(lan.members[name], family))


@family
@way
def test_ping_is_answered(lan: Lan, family: str, who: str, whom: str) -> None:
    assert ping(place(lan, who), address(lan, whom, family))


@family
def test_ping_of_full_frames_is_answered(lan: Lan, family: str) -> None:
    payload = 1500 - (28 if family == "ipv4" else 48)

    for whom in ("bob", "outside"):
        options = ("-Mdo", f"-s{payload}")
        assert ping(lan.stacks["alice"], address(lan, whom, family), *options)


@family
def test_ping_of_fragments_is_answered(lan: Lan, family: str) -> None:
    for whom in ("bob", "outside"):
        assert ping(lan.stacks["alice"], address(lan, whom, family), "-s4000")


@family
@way
def test_curl_fetches_a_page_and_the_server_sees_the_true_source(
    lan: Lan, family: str, who: str, whom: str
) -> None:
    there = address(lan, whom, family)
    script = str(lan.lab.publish(Path(web.__file__)))
    url = f"http://[{there}]/" if family == "ipv6" else f"http://{there}/"

    with running(place(lan, whom), interpreter().executable, script, there, until="ready"):
        done = place(lan, who).run("curl", "-sS", "--fail", "--max-time", "20", "-g", url)

    assert done.stdout == address(lan, who, family)


@family
@way
@pytest.mark.parametrize("options", [(), ("-R",), ("-u", "-b200M")], ids=["tcp", "back", "udp"])
def test_iperf3_moves_its_bytes(
    lan: Lan, family: str, who: str, whom: str, options: tuple[str, ...]
) -> None:
    there = address(lan, whom, family)
    size = 20_000_000

    with running(
        place(lan, whom), "iperf3", "-s", "-1", "--forceflush", "-B", there, until="listening"
    ):
        done = place(lan, who).run("iperf3", "-J", "-c", there, f"-n{size}", *options)

    end = json.loads(done.stdout)["end"]
    moved = end["sum"] if "-u" in options else end["sum_received"]
    # It counts what was received when the sender was done; some is still on its way.
    assert moved["bytes"] >= size / 2


@family
def test_tcpdump_sees_no_unicast_of_others(lan: Lan, family: str) -> None:
    """The capture shows that it works by the broadcasts that end it."""
    mallory, alice = lan.stacks["mallory"], lan.stacks["alice"]
    start, until = b"<capture begins>", b"<capture ends>"

    def broadcast(stack: Stack, mark: bytes) -> None:
        send(stack.namespace, stack.interface, [bytes(lawful(lan.members["alice"], here, mark))])

    here = lan.members["bob"]
    with tcpdump(mallory, mallory.interface) as capture:
        broadcast(alice, start)
        capture.frames_until(start)
        for whom in ("bob", "outside"):
            assert ping(alice, address(lan, whom, family))
        broadcast(alice, until)
        frames = capture.frames_until(until)

    unicast = [frame for frame in frames if not frame[0] & 1 and frame[:6] != mallory.mac]
    assert unicast == []


def test_nothing_of_two_users_talk_is_on_the_wire(lan: Lan) -> None:
    alice, bob = lan.members["alice"], lan.members["bob"]
    until = b"<wire is fenced>"
    with lan.lab.outside.listener(LAN) as wire:
        assert ping(lan.stacks["alice"], bob.ipv4)
        send(
            lan.stacks["alice"].namespace,
            lan.stacks["alice"].interface,
            [bytes(lawful(alice, bob, until))],
        )
        frames = wire.frames_until(until)

    unicast = [frame for frame in frames if not frame[0] & 1]
    assert unicast == []
