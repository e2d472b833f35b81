"""`open_stack` of the kernel kind in programs of unprivileged uids, against a fake daemon."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path

import attrs
import pytest

from pfinet_proto.attach import GoodbyeCode, Update, encode
from tests.client.client_user import TIMEOUT_S, ClientUser, RunningStack
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.support.waiting import eventually

#: Run on an installed stack: BODY is the rest of an async function.
PROGRAM = """
import os, socket, sys, trio
from functools import partial
from pfinet_client.stack import StackError, open_stack

def say(*words):
    print(*words, flush=True)

async def wait_line():
    return (await trio.to_thread.run_sync(sys.stdin.readline)).strip()

async def main():
    async with open_stack(VIF, KIND) as stack:
        stack.install()
BODY

trio.run(main)
"""


def program(vif: str, body: str, kind: str = "kernel") -> str:
    indented = "\n".join(f"        {line}" for line in body.strip().splitlines())
    opening = PROGRAM.replace("VIF", repr(vif)).replace("KIND", repr(kind))
    return opening.replace("BODY", indented)


#: Answers each line in capitals, led by the address of who wrote it.
SERVER = """
async def answer(stream):
    line = await stream.receive_some()
    peer = stream.socket.getpeername()[0]
    await stream.send_all(peer.encode() + b" " + line.upper())
    await stream.aclose()

async with trio.open_nursery() as nursery:
    for host in ("0.0.0.0", "::"):
        await nursery.start(partial(trio.serve_tcp, answer, 80, host=host))
    say("up")
"""


#: Says how many bytes came, at their end.
COUNT = """
async def count(stream):
    total = 0
    while data := await stream.receive_some():
        total += len(data)
    await stream.send_all(str(total).encode())

async with trio.open_nursery() as nursery:
    await nursery.start(trio.serve_tcp, count, 81)
    say("up")
"""


@contextmanager
def server(user: ClientUser, vif: str, kind: str = "kernel") -> Iterator[RunningStack]:
    with user.program(program(vif, SERVER, kind)) as running:
        yield running


# What the sockets are.


@pytest.mark.parametrize(
    ("host", "seen"), [("10.9.0.2", "10.9.0.1"), ("fd09::2", "fd09::1")], ids=["IPv4", "IPv6"]
)
def test_unchanged_trio_code_talks_over_the_vif(
    alice: ClientUser, bob: ClientUser, host: str, seen: str
) -> None:
    client = f"""
stream = await trio.open_tcp_stream({host!r}, 80)
await stream.send_all(b"hello")
say((await stream.receive_some()).decode())
"""
    with server(bob, "v2"):
        done = alice.run_program(program("v1", client))

    assert (done.stdout, done.stderr) == (f"{seen} HELLO\n", "")


#: Run on an installed stack beside a server.
ANYIO = """
import anyio
async with await anyio.connect_tcp("10.9.0.2", 80) as stream:
    await stream.send(b"hello")
    say((await stream.receive()).decode())
"""


def test_anyio_connects_over_the_vif(alice: ClientUser, bob: ClientUser) -> None:
    with server(bob, "v2"):
        done = alice.run_program(program("v1", ANYIO))

    assert (done.stdout, done.stderr) == ("10.9.0.1 HELLO\n", "")


def test_a_connection_that_is_left_open_fails_with_the_end_of_the_stack(
    alice: ClientUser, bob: ClientUser
) -> None:
    left = """
import errno, trio
from pfinet_client.stack import open_stack

async def main():
    async with open_stack("v1") as stack:
        sock = stack.socket()
        await sock.connect(("10.9.0.2", 80))
    try:
        await sock.recv(100)
    except OSError as error:
        print(errno.errorcode[error.errno])

trio.run(main)
"""
    with server(bob, "v2"):
        done = alice.run_program(left)

    assert (done.stdout, done.stderr) == ("ECONNABORTED\n", "")


def test_two_stacks_of_one_program_talk_to_each_other() -> None:
    both = """
import trio
from pfinet_client.stack import open_stack

async def main():
    async with open_stack("v1") as one, open_stack("v2") as other:
        with one.socket(type=trio.socket.SOCK_DGRAM) as sender:
            with other.socket(type=trio.socket.SOCK_DGRAM) as receiver:
                await receiver.bind(("0.0.0.0", 53))
                await sender.sendto(b"hello", ("10.9.0.2", 53))
                print(await receiver.recvfrom(100))
                # Nothing was installed: trio's own socket is the host's.
                with trio.socket.socket() as plain:
                    cookies = {each.getsockopt(1, 71, 8) for each in (sender, receiver, plain)}
                    print(len(cookies))

trio.run(main)
"""
    with fake_daemon((binding(1), 20001), (binding(2), 20001)) as daemon:
        done = ClientUser(20001, daemon).run_program(both)

    greeting, cookies = done.stdout.splitlines()
    assert greeting.startswith("(b'hello', ('10.9.0.1', ")
    assert cookies == "3"


def test_other_families_are_the_hosts(alice: ClientUser) -> None:
    """SO_NETNS_COOKIE tells the network namespaces of sockets apart."""
    families = """
def cookie(family, kind, make):
    with make(family, kind) as made:
        return made.getsockopt(socket.SOL_SOCKET, 71, 8)

inet, inet6, unix, netlink = (
    cookie(family, kind, trio.socket.socket)
    for family, kind in (
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_INET6, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_NETLINK, socket.SOCK_RAW),
    )
)
host = cookie(socket.AF_INET, socket.SOCK_STREAM, socket.socket)
say(inet == inet6, unix == netlink == host, inet == host)
"""
    done = alice.run_program(program("v1", families))

    assert (done.stdout, done.stderr) == ("True True False\n", "")


def test_the_user_pings_without_privilege(alice: ClientUser, bob: ClientUser) -> None:
    ping = """
with trio.socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    await raw.sendto(bytes((8, 0, 0xF7, 0xFD, 0, 1, 0, 1)), ("10.9.0.2", 0))
    packet, (peer, _) = await raw.recvfrom(100)
    say(peer, packet[20])
"""
    with server(bob, "v2"):
        done = alice.run_program(program("v1", ping))

    assert (done.stdout, done.stderr) == ("10.9.0.2 0\n", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("socket.AF_INET, socket.SOCK_SEQPACKET", "ESOCKTNOSUPPORT"),
        ("socket.AF_INET6, socket.SOCK_STREAM, 200", "EPROTONOSUPPORT"),
    ],
)
def test_what_the_stack_refuses_is_refused_with_its_own_error(
    alice: ClientUser, arguments: str, error: str
) -> None:
    refused = f"""
import errno
try:
    trio.socket.socket({arguments})
except OSError as refusal:
    say(errno.errorcode[refusal.errno])
"""
    assert alice.run_program(program("v1", refused)).stdout == f"{error}\n"


def test_numbers_of_more_than_32_bits_are_the_callers_fault(alice: ClientUser) -> None:
    wrong = """
try:
    stack.socket(socket.AF_INET, 1 << 40)
except ValueError as error:
    say(error)
with stack.socket() as sock:
    say(sock.type)
"""
    shown = alice.run_program(program("v1", wrong)).stdout.splitlines()

    assert "not numbers of 32 bits" in shown[0]
    assert shown[1] == str(int(__import__("socket").SOCK_STREAM))


# What it takes from the vif.


def test_the_stack_follows_its_binding(alice: ClientUser) -> None:
    follow = """
say("up")
await wait_line()
while len(stack.binding.addresses) == 2:
    await trio.sleep(0.01)
with trio.socket.socket() as sock:
    await sock.bind(("10.9.0.77", 0))
    say(sock.getsockname()[0], stack.binding.mtu)
"""
    with alice.program(program("v1", follow)) as running:
        port = alice.daemon.ports["v1"]
        wanted = (*port.binding.addresses, ip_interface("10.9.0.77/24"))
        changed = attrs.evolve(port.binding, addresses=wanted, mtu=1400)
        assert port.attach is not None
        port.attach.send(encode(Update(changed)))
        running.say("")

        assert running.read_line() == "10.9.0.77 1400"


def test_connections_survive_the_daemon(alice: ClientUser, bob: ClientUser) -> None:
    talk = """
stream = await trio.open_tcp_stream("10.9.0.2", 80)
say("up")
await wait_line()
await stream.send_all(b"still here")
say((await stream.receive_some()).decode())
"""
    with server(bob, "v2") as serving, alice.program(program("v1", talk)) as running:
        alice.daemon.close()
        alice.daemon.start()
        for each in (serving, running):
            assert "attaching again" in each.read_error_line()
            assert "attached again" in each.read_error_line()
        running.say("")

        assert running.read_line() == "10.9.0.1 STILL HERE"


# Beginnings and ends.


def test_what_prevents_a_stack_is_said(alice: ClientUser) -> None:
    done = alice.run_program(program("v9", "say('unexpected')"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "pfinet_client.errors.StackError: no vif v9"


def test_a_name_that_is_none_is_said(alice: ClientUser) -> None:
    done = alice.run_program(program("No Vif", "say('unexpected')"))

    assert "StackError" in done.stderr.splitlines()[-1]
    assert "'No Vif'" in done.stderr.splitlines()[-1]


def test_a_kind_that_is_unknown_is_said(alice: ClientUser) -> None:
    script = program("v1", "pass").replace("'kernel'", "'hurd'")

    done = alice.run_program(script)

    assert done.stderr.splitlines()[-1] == 'ValueError: kind is \'hurd\', not "kernel" or "lwip"'


def test_at_its_end_trio_is_as_before_and_the_vif_is_free(alice: ClientUser) -> None:
    script = program("v1", "pass").replace(
        "\ntrio.run(main)",
        """
async def twice():
    await main()
    with trio.socket.socket() as sock, socket.socket() as host:
        print(sock.getsockopt(1, 71, 8) == host.getsockopt(1, 71, 8))
    await main()

trio.run(twice)""",
    )

    done = alice.run_program(script)

    assert (done.stdout, done.stderr) == ("True\n", "")
    assert alice.daemon.ports["v1"].holder is None


def test_a_program_that_is_killed_leaves_no_stack(alice: ClientUser) -> None:
    with alice.program(program("v1", "say('up')\nawait trio.sleep_forever()")) as running:
        running.process.kill()

        assert alice.daemon.ports["v1"].detached.wait(TIMEOUT_S)


def helpers_of(running: RunningStack) -> list[int]:
    """Return the pids of the processes that hold the stack: outside it, and inside."""
    (outside,) = children(running.process.pid)
    return [outside, *children(outside)]


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


@pytest.mark.parametrize("which", [0, 1], ids=["outside", "inside"])
def test_without_its_helper_there_are_no_more_sockets_and_the_program_goes_on(
    alice: ClientUser, which: int
) -> None:
    orphan = """
import errno
say("up")
await wait_line()
try:
    while True:
        trio.socket.socket().close()
except OSError as error:
    say(errno.errorcode[error.errno])
with trio.socket.socket(socket.AF_UNIX) as sock:
    say("done")
"""
    with alice.program(program("v1", orphan)) as running:
        os.kill(helpers_of(running)[which], signal.SIGKILL)
        running.say("")

        assert running.read_line() == "ENETDOWN"
        assert running.read_line() == "done"
        assert running.wait() == 0


def test_a_vif_that_is_lost_for_good_ends_the_stack(daemon: FakeDaemon) -> None:
    wait = """
say("up")
await wait_line()
await trio.lowlevel.wait_readable(stack._connection.fileno())
try:
    trio.socket.socket()
except OSError as error:
    say(error.strerror)
"""
    with ClientUser(20001, daemon).program(program("v1", wait)) as running:
        daemon.say_goodbye("v1", GoodbyeCode.DELETED, "vif v1 was deleted")
        running.say("")

        assert running.read_line() == "the stack has ended"


def test_the_terminals_interrupt_is_the_programs_to_handle(alice: ClientUser) -> None:
    patient = """
say("up")
with trio.open_signal_receiver(2) as signals:
    say("ready")
    async for _ in signals:
        break
with trio.socket.socket() as sock:
    say("there")
"""
    script = program("v1", patient)
    with alice.program(script, process_group=0) as running:
        assert running.read_line() == "ready"
        os.killpg(running.process.pid, signal.SIGINT)

        assert running.read_line() == "there"
        assert running.wait() == 0


def test_the_helper_holds_no_more_than_it_needs(alice: ClientUser) -> None:
    """Not the attachment, above all: the vif is free only when every duplicate is closed."""
    with alice.program(program("v1", "say('up')\nawait trio.sleep_forever()")) as running:
        _, inside = helpers_of(running)

        def has_settled() -> bool:
            links = [os.readlink(each) for each in Path(f"/proc/{inside}/fd").iterdir()]
            kinds = sorted(each.partition(":")[0] for each in links[:])
            return kinds.count("socket") == 2 and not any("tun" in each for each in links)

        eventually(has_settled, "the helper has two sockets")


def test_it_needs_no_more_than_two_lines(alice: ClientUser) -> None:
    """README's example."""
    done = alice.run_program("""
import trio
from pfinet_client.stack import open_stack

async def main():
    async with open_stack() as stack:
        stack.install()
        print(stack.binding.vif)

trio.run(main)
""")
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.stdout, done.stderr) == ("v1\n", "")
