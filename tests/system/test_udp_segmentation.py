"""Datagrams that an application sends many at a time travel as one frame, as far as they can.

Its kernel leaves the cutting to whoever is next (UDP_SEGMENT, udp(7)); the receiver's
counts the datagrams, each with its bytes.
"""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.lab import Host, Lab, Stack

ALICE, BOB = 20001, 20002
SIZE, TOGETHER, TIMES = 1400, 40, 50
TOTAL = TOGETHER * TIMES

PYTHON = "/usr/bin/python3"

# After each burst it answers, so that no more is under way than its buffer holds.
RECEIVE = """
import json, socket, sys
here, together, times = sys.argv[1], *map(int, sys.argv[2:])
end = socket.socket(socket.AF_INET6 if ":" in here else socket.AF_INET, socket.SOCK_DGRAM)
end.bind((here, 7000))
end.settimeout(20)
print("ready", flush=True)
seen = set()
for _ in range(times):
    for _ in range(together):
        datagram, sender = end.recvfrom(65536)
        seen.add(datagram)
    end.sendto(b"more", sender)
print(json.dumps([len(seen), sorted({len(each) for each in seen})]))
"""

SEND = """
import socket, sys
there, size, together, times = sys.argv[1], *map(int, sys.argv[2:])
end = socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET, socket.SOCK_DGRAM)
end.setsockopt(socket.SOL_UDP, 103, size)  # UDP_SEGMENT
end.settimeout(20)
end.connect((there, 7000))
for time in range(times):
    numbers = range(time * together, (time + 1) * together)
    end.send(b"".join(number.to_bytes(4, "big") * (size // 4) for number in numbers))
    end.recv(16)
"""

family = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
OUTSIDE = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A running daemon with two vifs and a wire."""
    with Lab("uso") as running:
        running.configure({"bob": BOB, "alice": ALICE})
        with running.daemon():
            yield running


def address(lab: Lab, vif: str, family: str) -> str:
    """Return the address of *family* that is bound to *vif*."""
    addresses = lab.ask("vif.show", name=vif)["addresses"]
    found: str = next(each for each in addresses if (":" in each) == (family == "ipv6"))
    return found.split("/")[0]


def sent(receiver: Stack | Host, sender: Stack | Host, there: str) -> list[int]:
    """Return how many different datagrams came, and their sizes."""
    end = receiver.popen(
        PYTHON, "-c", RECEIVE, there, *map(str, (TOGETHER, TIMES)), stdout=subprocess.PIPE
    )
    assert end.stdout is not None
    assert end.stdout.readline() == "ready\n"
    sender.run(PYTHON, "-c", SEND, there, *map(str, (SIZE, TOGETHER, TIMES)))
    output, _ = end.communicate(timeout=30)
    found: list[int] = json.loads(output)
    return found


@family
def test_neighbours_cut_nothing(lab: Lab, family: str) -> None:
    with lab.user(ALICE).stack("alice") as alice, lab.user(BOB).stack("bob") as bob:
        found = sent(bob, alice, address(lab, "bob", family))
        counters = lab.ask("vif.show", name="alice")["counters"]

    assert found == [TOTAL, [SIZE]]
    assert counters["drops"] == {}
    assert counters["rx_frames"] < TOTAL / 4


@family
def test_the_wire_gets_and_gives_them_as_well(lab: Lab, family: str) -> None:
    with lab.user(ALICE).stack("alice") as alice:
        outwards = sent(lab.outside, alice, OUTSIDE[family])
        inwards = sent(alice, lab.outside, address(lab, "alice", family))
        counters = lab.ask("vif.show", name="alice")["counters"]

    assert outwards == inwards == [TOTAL, [SIZE]]
    assert counters["drops"] == {}
    assert counters["tx_frames"] < TOTAL / 4
