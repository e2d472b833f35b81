"""What lwIP has where it is built from its source: `pfinet_client/stack/lwip/port`."""

import ctypes
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_lwip import PLAIN
from tests.client.test_stack import program, server
from tests.support.lab import CHECKOUT, interpreter

pytestmark = [
    pytest.mark.usefixtures("lwip_build"),
    pytest.mark.parametrize("lwip_build", ["source"], indirect=True),
]

PORT = CHECKOUT / "pfinet_client" / "stack" / "lwip" / "port"
#: The clock of sequence numbers: RFC 793, section 3.3.
TICKS_PER_S = 250_000
WORD = 1 << 32

SYN, ACK = 0x02, 0x10
MSS, WINDOW_SCALE, SACK_PERMITTED, TIMESTAMPS = 2, 3, 4, 8


@attrs.frozen
class Segment:
    """The header of a TCP segment over IPv4; *options* are the values by their kinds."""

    source_port: int
    target_port: int
    sequence: int
    flags: int
    window: int
    options: dict[int, bytes]


def segment(frame: bytes) -> Segment | None:
    """Return what *frame* has of TCP."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    tcp = frame[14 + 4 * (frame[14] & 15) :]
    rest, options = tcp[20 : 4 * (tcp[12] >> 4)], {}
    while rest and rest[0] != 0:
        length = 1 if rest[0] == 1 else rest[1]
        options[rest[0]] = rest[2:length]
        rest = rest[length:]
    number = int.from_bytes
    return Segment(
        number(tcp[0:2], "big"),
        number(tcp[2:4], "big"),
        number(tcp[4:8], "big"),
        tcp[13],
        number(tcp[14:16], "big"),
        options,
    )


def segments(daemon: FakeDaemon, vif: str) -> list[Segment]:
    """Return what the client of *vif* sent so far."""
    found = map(segment, daemon.ports[vif].records)
    return [each for each in found if each is not None]


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 20001), (binding(2), 20002), offload=PLAIN) as running:
        yield running


# Numbers that nobody guesses.


def test_the_hash_is_siphash(tmp_path: Path) -> None:
    """Against the vectors of its authors, for data of 0, 1, 2, ... bytes."""
    library = tmp_path / "siphash.so"
    subprocess.run(
        ["gcc", "-std=c11", "-O2", "-shared", "-fPIC", PORT / "siphash.c", "-o", library],
        check=True,
    )
    siphash = ctypes.CDLL(str(library)).pl_siphash
    siphash.restype = ctypes.c_uint64
    siphash.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
    vectors = {
        0: 0x726FDB47DD0E0E31,
        1: 0x74F839C593DC67FD,
        7: 0xAB0200F58B01D137,
        8: 0x93F5F5799A932462,
        15: 0xA129CA6149BE45E5,
    }

    assert {n: siphash(bytes(range(16)), bytes(range(n)), n) for n in vectors} == vectors


#: Each port is closed, so that the next connection from ours is free to be.
REFUSED = """
for port in PORTS:
    with trio.socket.socket() as sock:
        await sock.bind(("10.9.0.1", 1000))
        try:
            await sock.connect(("10.9.0.2", port))
        except ConnectionRefusedError:
            pass
"""


def first_numbers(alice: ClientUser, *ports: int) -> list[int]:
    """Return the initial sequence numbers of connections of a program from port 1000."""
    daemon = alice.daemon
    done = alice.run_program(program("v1", REFUSED.replace("PORTS", str(ports)), "lwip"))
    assert (done.stdout, done.stderr) == ("", "")
    assert daemon.ports["v1"].detached.wait(TIMEOUT_S)
    # One that is sent again is the same.
    begun = [
        (each.target_port, each.sequence) for each in segments(daemon, "v1") if each.flags & SYN
    ]
    return [sequence for _, sequence in dict.fromkeys(begun)][-len(ports) :]


def test_the_same_connection_begins_later_in_the_sequence(
    alice: ClientUser, bob: ClientUser
) -> None:
    """So segments of the one before are no part of it (RFC 6528)."""
    with server(bob, "v2"):
        first, second, third = first_numbers(alice, 7, 7, 7)

    assert 0 < (second - first) % WORD < TIMEOUT_S * TICKS_PER_S
    assert 0 < (third - second) % WORD < TIMEOUT_S * TICKS_PER_S


def test_another_connection_begins_anywhere(alice: ClientUser, bob: ClientUser) -> None:
    """And in another program anywhere else."""
    ports = tuple(range(100, 116))
    with server(bob, "v2"):
        first = first_numbers(alice, *ports)
        second = first_numbers(alice, *ports)

    steps = [(after - before) % WORD for before, after in pairwise(first)]
    # One in 286 is as near as that by chance.
    assert sum(step < TIMEOUT_S * TICKS_PER_S for step in steps) < 4
    between = {((b - a) % WORD) >> 20 for a, b in zip(first, second, strict=True)}
    assert len(between) > 8


# What it offers a peer.

#: Sends a number of bytes to whoever connects.
SEND = """
async def send(stream):
    await stream.send_all(bytes(BYTES))

async with trio.open_nursery() as nursery:
    await nursery.start(trio.serve_tcp, send, 81)
    say("up")
"""

#: Says how many came, of which it reads none before it is told to.
RECEIVE = """
stream = await trio.open_tcp_stream("10.9.0.2", 81)
say("up")
await wait_line()
total = 0
while data := await stream.receive_some():
    total += len(data)
say(total)
"""


def sender(count: int) -> str:
    return program("v2", SEND.replace("BYTES", str(count)))


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_it_asks_for_a_window_of_a_mebibyte_and_every_option(mtu: int) -> None:
    bindings = (binding(1, mtu=mtu), 20001), (binding(2, mtu=mtu), 20002)
    with (
        fake_daemon(*bindings, offload=PLAIN) as daemon,
        ClientUser(20002, daemon).program(sender(3_000_000)),
        ClientUser(20001, daemon).program(program("v1", RECEIVE, "lwip")) as running,
    ):
        running.say("")
        assert running.read_line() == "3000000"
        sent = segments(daemon, "v1")

    (syn, *_) = [each for each in sent if each.flags & SYN]
    assert int.from_bytes(syn.options[MSS], "big") == mtu - 40
    assert set(syn.options) >= {WINDOW_SCALE, SACK_PERMITTED, TIMESTAMPS}
    scale = syn.options[WINDOW_SCALE][0]
    assert max(each.window << scale for each in sent if not each.flags & SYN) > 1_000_000
    assert all(TIMESTAMPS in each.options for each in sent if each.flags & ACK)


def test_what_is_lost_is_told_by_selective_acknowledgements(
    alice: ClientUser, bob: ClientUser
) -> None:
    sack = 5
    long: list[bytes] = []

    def lose_one(records: list[bytes]) -> list[bytes]:
        """Lose the tenth long frame, which hundreds follow."""
        kept = []
        for record in records:
            is_long = len(record) > 1400
            if is_long:
                long.append(record)
            if not is_long or len(long) != 10:
                kept.append(record)
        return kept

    alice.daemon.wire = lose_one
    with (
        bob.program(sender(1_000_000)),
        alice.program(program("v1", RECEIVE, "lwip")) as running,
    ):
        running.say("")
        assert running.read_line() == "1000000"

    assert any(sack in each.options for each in segments(alice.daemon, "v1"))


def test_a_folder_that_is_no_source_of_lwip_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [interpreter().executable, "pfinet_client/stack/lwip/build_ffi.py"],
        cwd=CHECKOUT,
        env={"PFINET_LWIP_SRC": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == (
        f"PFINET_LWIP_SRC={tmp_path}: no source of lwIP, it has no src/core/init.c\n"
    )
