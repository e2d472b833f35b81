"""`open_stack` of the lwip kind in programs of unprivileged uids, against a fake daemon.

With both builds of lwIP.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_address, ip_interface
from itertools import pairwise

import attrs
import pytest

from pfinet_proto.attach import GoodbyeCode, Offload, Update, encode
from pfinet_proto.stream import encode_frames
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_stack import ANYIO, COUNT, program, server
from tests.client.test_stack_names import ASK_LATE, NAME_SERVER, name_a_server

pytestmark = pytest.mark.usefixtures("lwip_build")

#: The fake daemon hands frames on as they are, and lwIP takes plain ones.
PLAIN = Offload(0)

CLIENT = """
stream = await trio.open_tcp_stream({host!r}, 80)
await stream.send_all(b"hello")
say((await stream.receive_some()).decode())
"""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 20001), (binding(2), 20002), offload=PLAIN) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "seen"), [("10.9.0.2", "10.9.0.1"), ("fd09::2", "fd09::1")], ids=["IPv4", "IPv6"]
)
@pytest.mark.parametrize(
    ("ours", "theirs"), [("lwip", "kernel"), ("kernel", "lwip"), ("lwip", "lwip")]
)
def test_unchanged_trio_code_talks_over_the_vif(
    alice: ClientUser, bob: ClientUser, ours: str, theirs: str, host: str, seen: str
) -> None:
    with server(bob, "v2", theirs):
        done = alice.run_program(program("v1", CLIENT.format(host=host), ours))

    assert (done.stdout, done.stderr) == (f"{seen} HELLO\n", "")


def test_it_opens_no_socket_of_the_host(alice: ClientUser, bob: ClientUser) -> None:
    """Its only ones are Unix sockets, to the daemon and of trio's own."""
    count = """
import os, re
stream = await trio.open_tcp_stream("10.9.0.2", 80)
held = trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
await held.bind(("::", 53))
inodes = set()
for each in os.listdir("/proc/self/fd"):
    try:
        inodes.update(re.findall(r"socket:\\[(\\d+)\\]", os.readlink(f"/proc/self/fd/{each}")))
    except FileNotFoundError:
        pass
with open("/proc/self/net/unix") as lines:
    unix = {line.split()[6] for line in lines}
say(len(inodes) > 0, inodes - unix)
"""
    with server(bob, "v2"):
        done = alice.run_program(program("v1", count, "lwip"))

    assert (done.stdout, done.stderr) == ("True set()\n", "")


def test_other_families_are_the_hosts(alice: ClientUser) -> None:
    """SO_NETNS_COOKIE tells the network namespaces of sockets apart."""
    families = """
def cookie(family, kind, make):
    with make(family, kind) as made:
        return made.getsockopt(socket.SOL_SOCKET, 71, 8)

host = cookie(socket.AF_INET, socket.SOCK_STREAM, socket.socket)
for family, kind in ((socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_NETLINK, socket.SOCK_RAW)):
    say(cookie(family, kind, trio.socket.socket) == host)
"""
    done = alice.run_program(program("v1", families, "lwip"))

    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


def test_a_second_one_in_a_program_is_refused(alice: ClientUser) -> None:
    with fake_daemon((binding(1), 20001), (binding(2), 20001), offload=PLAIN) as daemon:
        again = 'async with open_stack("v2", "lwip"):\n    say("unexpected")'
        done = ClientUser(20001, daemon).run_program(program("v1", again, "lwip"))

    assert done.stdout == ""
    assert "StackError: this program has a stack of lwip already" in done.stderr


def test_an_installation_without_lwip_says_so(alice: ClientUser) -> None:
    without = 'import sys\nsys.modules["pfinet_client.stack.lwip._lwip"] = None\n'

    done = alice.run_program(without + program("v1", "pass", "lwip"))

    assert "StackError: this installation was built without lwip" in done.stderr


def test_one_after_the_other_are_as_good(alice: ClientUser, bob: ClientUser) -> None:
    """The fake daemon notices a little later that the first has gone, so it is waited for."""
    once = program("v1", CLIENT.format(host="10.9.0.2"), "lwip")
    twice = once.replace(
        "\ntrio.run(main)", '\nsay("up")\ntrio.run(main)\nsys.stdin.readline()\ntrio.run(main)'
    )
    with server(bob, "v2"), alice.program(twice) as running:
        assert running.read_line() == "10.9.0.1 HELLO"
        assert alice.daemon.ports["v1"].detached.wait(TIMEOUT_S)
        running.say("")
        assert running.read_line() == "10.9.0.1 HELLO"
        assert running.wait() == 0


def test_half_a_connection_may_be_closed(alice: ClientUser, bob: ClientUser) -> None:
    send = """
stream = await trio.open_tcp_stream("10.9.0.2", 81)
await stream.send_all(bytes(1 << 22))
await stream.send_eof()
say((await stream.receive_some()).decode())
say(await stream.receive_some())
"""
    with bob.program(program("v2", COUNT, "lwip")):
        done = alice.run_program(program("v1", send, "lwip"))

    assert (done.stdout, done.stderr) == ("4194304\nb''\n", "")


@pytest.mark.parametrize("kind", ["kernel", "lwip"])
def test_who_does_not_read_holds_up_who_sends(
    alice: ClientUser, bob: ClientUser, kind: str
) -> None:
    """And all arrives once it does."""
    read_late = """
async def count(stream):
    await wait_line()
    total = 0
    while data := await stream.receive_some():
        total += len(data)
    await stream.send_all(str(total).encode())

async with trio.open_nursery() as nursery:
    await nursery.start(trio.serve_tcp, count, 81)
    say("up")
"""
    send_until_stuck = """
stream = await trio.open_tcp_stream("10.9.0.2", 81)
sent, stuck = 0, False
say("up")
while not stuck:
    with trio.move_on_after(1) as patience:
        sent += await stream.socket.send(bytes(100_000))
    stuck = patience.cancelled_caught
say("stuck")
await stream.send_eof()
say(int((await stream.receive_some()).decode()) == sent)
"""
    reading, sending = program("v2", read_late, kind), program("v1", send_until_stuck, "lwip")
    with bob.program(reading) as reader, alice.program(sending) as sender:
        assert sender.read_line() == "stuck"
        reader.say("")
        assert sender.read_line() == "True"


def test_a_reset_is_an_error_and_a_refusal_another(alice: ClientUser, bob: ClientUser) -> None:
    reset = """
import struct

async def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()

async with trio.open_nursery() as nursery:
    await nursery.start(trio.serve_tcp, reset, 81)
    say("up")
"""
    meet = """
import errno
stream = await trio.open_tcp_stream("10.9.0.2", 81)
try:
    say(await stream.receive_some())
except trio.BrokenResourceError as error:
    say(errno.errorcode[error.__cause__.errno])
try:
    await trio.socket.socket().connect(("10.9.0.2", 82))
except OSError as error:
    say(errno.errorcode[error.errno])
"""
    for kind in ("kernel", "lwip"):
        with bob.program(program("v2", reset, kind)):
            done = alice.run_program(program("v1", meet, "lwip"))
        assert (done.stdout, done.stderr) == ("ECONNRESET\nECONNREFUSED\n", "")
        assert bob.daemon.ports["v2"].detached.wait(TIMEOUT_S)
        assert bob.daemon.ports["v1"].detached.wait(TIMEOUT_S)


@pytest.mark.parametrize(("host", "family"), [("10.9.0.2", "AF_INET"), ("fd09::2", "AF_INET6")])
def test_it_pings_and_is_pinged(
    alice: ClientUser, bob: ClientUser, host: str, family: str
) -> None:
    protocol, request = {
        "AF_INET": ("socket.IPPROTO_ICMP", 8),
        "AF_INET6": ("socket.IPPROTO_ICMPV6", 128),
    }[family]
    ping = f"""
with trio.socket.socket(socket.{family}, socket.SOCK_DGRAM, {protocol}) as sock:
    await sock.connect(({host!r}, 0))
    await sock.send(bytes(({request}, 0, 0, 0, 0, 0, 0, 7)) + b"payload")
    reply = await sock.recv(100)
    say(reply[0], reply[7:])
"""
    answer = {"AF_INET": 0, "AF_INET6": 129}[family]
    for ours, theirs in (("lwip", "kernel"), ("kernel", "lwip")):
        with server(bob, "v2", theirs):
            done = alice.run_program(program("v1", ping, ours))
        assert (done.stdout, done.stderr) == (f"{answer} b'\\x07payload'\n", "")
        for port in bob.daemon.ports.values():
            assert port.detached.wait(TIMEOUT_S)


@contextmanager
def beside_name_server(dns: tuple[IPv4Address, ...]) -> Iterator[ClientUser]:
    """Yield who owns a vif with these name servers, beside one where one runs."""
    client = binding(1, dns=dns)
    name_server = binding(2, addresses=(ip_interface("10.9.0.53/24"),))
    with (
        fake_daemon((client, 20001), (name_server, 20002), offload=PLAIN) as daemon,
        ClientUser(20002, daemon).program(program("v2", NAME_SERVER)),
    ):
        yield ClientUser(20001, daemon)


def test_names_are_asked_over_lwip() -> None:
    ask = """
for name in ("www", "many"):
    say(len(await trio.socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)))
"""
    with beside_name_server((IPv4Address("10.9.0.53"),)) as user:
        done = user.run_program(program("v1", ask, "lwip"))

    assert (done.stdout, done.stderr) == ("2\n500\n", "")


def test_name_servers_may_come_later() -> None:
    with (
        beside_name_server(()) as user,
        user.program(program("v1", ASK_LATE, "lwip")) as running,
    ):
        name_a_server(user.daemon)

        assert running.read_line() == "('10.9.0.4', 80)"


def test_anyio_connects_over_the_vif(alice: ClientUser, bob: ClientUser) -> None:
    with server(bob, "v2"):
        done = alice.run_program(program("v1", ANYIO, "lwip"))

    assert (done.stdout, done.stderr) == ("10.9.0.1 HELLO\n", "")


@pytest.mark.parametrize("kind", ["lwip", "kernel"])
def test_what_is_no_port_and_no_socket_is_refused_as_by_the_kernels(
    alice: ClientUser, kind: str
) -> None:
    script = """
stream, datagrams = trio.socket.socket(), trio.socket.socket(type=socket.SOCK_DGRAM)
for port in (65536, 70000, -1):
    for attempt in (stream.bind, stream.connect, partial(datagrams.sendto, b"")):
        try:
            await attempt(("10.9.0.1", port))
        except OverflowError as error:
            say("0-65535" in str(error))
for family, type in ((socket.AF_INET, 99), (socket.AF_INET6, 0)):
    try:
        trio.socket.socket(family, type)
    except OSError as error:
        say(error.errno is not None)
await datagrams.bind(("10.9.0.1", 65535))
say(datagrams.getsockname()[1])
"""
    done = alice.run_program(program("v1", script, kind))

    assert (done.stdout.split(), done.stderr) == (["True"] * 11 + ["65535"], "")


def test_hosts_that_python_has_words_for_are_known(alice: ClientUser) -> None:
    """The C library would take 70000 beside a name for 4464."""
    script = """
with trio.socket.socket() as sock:
    try:
        await sock.bind(("localhost", 70000))
    except OverflowError:
        say("no port")
    await sock.bind(("", 80))
    say(*sock.getsockname())
with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    say(await sock.sendto(b"x", ("<broadcast>", 9)))
"""
    done = alice.run_program(program("v1", script, "lwip"))

    assert (done.stdout.splitlines(), done.stderr) == (["no port", "0.0.0.0 80", "1"], "")


def test_ports_do_not_tell_of_each_other(alice: ClientUser, bob: ClientUser) -> None:
    """Each is drawn (RFC 6056), wherever a socket gets one that nobody has named."""
    ports = """
ports = []
async def use(kind, method, *arguments):
    with trio.socket.socket(socket.AF_INET, kind) as sock:
        result = getattr(sock, method)(*arguments)
        if result is not None:
            await result
        ports.append(sock.getsockname()[1])

for _ in range(10):
    await use(socket.SOCK_DGRAM, "sendto", b"hello", ("10.9.0.2", 9))
    await use(socket.SOCK_DGRAM, "connect", ("10.9.0.2", 9))
    await use(socket.SOCK_DGRAM, "bind", ("10.9.0.1", 0))
    await use(socket.SOCK_STREAM, "connect", ("10.9.0.2", 80))
    await use(socket.SOCK_STREAM, "bind", ("10.9.0.1", 0))
    await use(socket.SOCK_STREAM, "listen")
say(*ports)
"""
    with server(bob, "v2"):
        done = alice.run_program(program("v1", ports, "lwip"))
    drawn = list(map(int, done.stdout.split()))

    assert (len(drawn), done.stderr) == (60, "")
    assert all(49152 <= port <= 65535 for port in drawn)
    # Of each protocol lwIP would take the next.
    for of_one in (drawn[begin + way :: 6] for begin in (0, 3) for way in range(3)):
        assert sum(0 < after - before < 16 for before, after in pairwise(of_one)) < 3


def test_it_follows_its_binding(alice: ClientUser, bob: ClientUser) -> None:
    follow = """
say("up")
while str(stack.binding.addresses[0].ip) != "10.9.0.77":
    await trio.sleep(0.01)
stream = await trio.open_tcp_stream("10.9.0.2", 80)
say(stream.socket.getsockname()[0])
stream = await trio.open_tcp_stream("fd09::2", 80)
say(stream.socket.getsockname()[0])
"""
    with server(bob, "v2"), alice.program(program("v1", follow, "lwip")) as running:
        port = alice.daemon.ports["v1"]
        wanted = (ip_interface("10.9.0.77/24"), ip_interface("fd09::77/64"))
        assert port.attach is not None
        port.attach.send(encode(Update(attrs.evolve(port.binding, addresses=wanted, mtu=1400))))

        assert running.read_line() == "10.9.0.77"
        assert running.read_line() == "fd09::77"


def test_a_vif_that_is_lost_for_good_ends_the_stack(alice: ClientUser, daemon: FakeDaemon) -> None:
    wait = """
import errno
sock = trio.socket.socket(type=socket.SOCK_DGRAM)
await sock.bind(("10.9.0.1", 53))
say("up")
try:
    await sock.recv(1)
except trio.ClosedResourceError:
    say("closed")
try:
    trio.socket.socket()
except OSError as error:
    say(errno.errorcode[error.errno])
"""
    with alice.program(program("v1", wait, "lwip")) as running:
        daemon.say_goodbye("v1", GoodbyeCode.DELETED, "vif v1 was deleted")

        assert running.read_line() == "closed"
        assert running.read_line() == "ENETDOWN"


# Hostile frames.

ALICE_MAC = binding(1).mac.packed
BOB_MAC = binding(2).mac.packed


def ipv4(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    """Return a frame to alice."""
    packet = bytearray(
        bytes((0x45, 0, 0, 20 + len(payload), 0, 0, 0, 0, 64, protocol, 0, 0))
        + ip_address(source).packed
        + ip_address(target).packed
    )
    total = sum(int.from_bytes(packet[at : at + 2], "big") for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return ALICE_MAC + BOB_MAC + b"\x08\x00" + bytes(packet) + payload


#: An echo request, with its checksum.
ECHO = bytes((8, 0, 0xF7, 0xFD, 0, 1, 0, 1))

HOLD = """
say("up")
while (await wait_line()) != "connect":
    say("there")
stream = await trio.open_tcp_stream("10.9.0.2", 80)
await stream.send_all(b"hello")
say((await stream.receive_some()).decode())
"""


@pytest.mark.parametrize("source", ["10.9.0.1", "127.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_a_frame_from_ones_own_address_does_no_harm(
    alice: ClientUser, bob: ClientUser, source: str
) -> None:
    """lwIP without a thread of its own aborts the process at the first of them."""
    with server(bob, "v2"), alice.program(program("v1", HOLD, "lwip")) as running:
        for target in ("10.9.0.1", "127.0.0.1", "255.255.255.255"):
            frame = ipv4(source, target, 1, ECHO)
            alice.daemon.inject("v1", encode_frames([frame], vnet=False))
        running.say("connect")

        assert running.read_line() == "10.9.0.1 HELLO"


#: Eight bytes of UDP-Lite (RFC 3828) to port 9, whose checksum covers far more than there is.
UDPLITE = bytes((0, 1, 0, 9, 0xFF, 0xFF, 0, 1))


def ipv6(header: int, payload: bytes) -> bytes:
    """Return a frame to alice."""
    packet = bytes((0x60, 0, 0, 0, 0, len(payload), header, 64))
    packet += ip_address("fd09::2").packed + ip_address("fd09::1").packed
    return ALICE_MAC + BOB_MAC + b"\x86\xdd" + packet + payload


#: A header of options, by what it leads to: it is 8 bytes long.
def led_to(header: int) -> bytes:
    return bytes((header, 0, 1, 4, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "frames",
    [
        [ipv4("10.9.0.2", "10.9.0.1", 136, UDPLITE)],
        [ipv6(136, UDPLITE)],
        [ipv6(60, led_to(136) + UDPLITE)],
        [ipv6(0, led_to(60) + led_to(43) + led_to(136) + UDPLITE)],
        [ipv6(44, bytes((136, 0, 0, 0, 0, 0, 0, 7)) + UDPLITE)],
        [ipv6(0, led_to(44) + bytes((136, 0, 0, 0, 0, 0, 0, 7)) + UDPLITE)],
        [ipv6(44, bytes((60, 0, 0, 0, 0, 0, 0, 7)) + led_to(136) + UDPLITE)],
        [
            ipv6(44, bytes((60, 0, 0, 1, 0, 0, 0, 7)) + led_to(60)),
            ipv6(44, bytes((60, 0, 0, 8, 0, 0, 0, 7)) + led_to(136) + UDPLITE),
        ],
    ],
    ids=["IPv4", "IPv6", "options", "many options", "piece", "late piece", "hidden", "in two"],
)
def test_udplite_of_more_than_there_is_does_no_harm(
    alice: ClientUser, bob: ClientUser, frames: list[bytes]
) -> None:
    """Debian's lwIP aborts the process where it sees one."""
    with server(bob, "v2"), alice.program(program("v1", HOLD, "lwip")) as running:
        alice.daemon.inject("v1", encode_frames(frames, vnet=False))
        running.say("connect")

        assert running.read_line() == "10.9.0.1 HELLO"


def test_frames_of_no_sense_do_no_harm(alice: ClientUser, bob: ClientUser) -> None:
    chance = random.Random(6)
    heads = (
        b"\x08\x00\x45\x00",
        b"\x08\x00\x4f\x00",
        b"\x86\xdd\x60\x00",
        b"\x08\x06\x00\x01\x08\x00\x06\x04",
        b"\x81\x00\x00\x01\x08\x00\x45\x00",
        b"",
    )
    mutated = [
        ipv4("10.9.0.2", "10.9.0.1", chance.choice((1, 2, 6, 17)), chance.randbytes(60))
        for _ in range(2000)
    ]
    random_frames = [
        chance.choice((ALICE_MAC, b"\xff" * 6, b"\x33\x33\x00\x00\x00\x01"))
        + BOB_MAC
        + chance.choice(heads)
        + chance.randbytes(chance.randrange(2, 1400))
        for _ in range(6000)
    ]
    with server(bob, "v2"), alice.program(program("v1", HOLD, "lwip")) as running:
        for frame in mutated + random_frames:
            alice.daemon.inject("v1", encode_frames([frame], vnet=False))
        running.say("connect")

        assert running.read_line() == "10.9.0.1 HELLO"
