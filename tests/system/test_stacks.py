"""Both kinds of stack in a Python program, against the kernel of the outside host."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.client.test_stack import program
from tests.support.lab import Lab, interpreter
from tests.support.programs import running

ALICE = 20001
#: For a program that exchanges a GiB each way; not how fast it must be.
PATIENCE_S = 300
OUTSIDE = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}
OWN = {"ipv4": "10.77.0.11", "ipv6": "fd77::11"}
#: Reasons for which frames to a vif are dropped.
FOR_ALICE = ("detached", "queue_full")

kinds = pytest.mark.parametrize("kind", ["kernel", "lwip"])
family = pytest.mark.parametrize("family", OWN)

#: What a seed stands for, piece by piece: no two of them are the same.
PIECES = """
def pieces(seed, length):
    block = bytearray(random.Random(seed).randbytes(min(length, 1 << 20)))
    for at in range(0, length, len(block)):
        block[:8] = at.to_bytes(8, "big")
        yield bytes(block[: length - at])
"""

#: Run by the outside host: hashes what it gets, and sends as much of its own, by a seed.
PEER = f"""
import hashlib, random, socket, threading
{PIECES}
def serve(sock):
    with sock:
        want, seed = sock.makefile("rb").readline().split()
        digest, left = hashlib.sha256(), int(want)
        sock.sendall(b"go")
        while left:
            data = sock.recv(min(left, 1 << 18))
            assert data, "the stack's connection ended early"
            digest.update(data)
            left -= len(data)
        sock.sendall(digest.digest())
        digest = hashlib.sha256()
        for piece in pieces(int(seed), int(want)):
            sock.sendall(piece)
            digest.update(piece)
        sock.sendall(digest.digest())

any_host = {{"family": socket.AF_INET6, "dualstack_ipv6": True}}
with socket.create_server(("::", 9), backlog=600, **any_host) as server:
    print("ready", flush=True)
    while True:
        sock, _ = server.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
"""

#: Exchanges LENGTH bytes each way over CONNECTIONS at once; says how many were whole.
EXCHANGE = f"""
import hashlib, random
{PIECES}
whole = []

async def exactly(stream, length):
    while length:
        data = await stream.receive_some(min(length, 1 << 18))
        assert data, "the peer's connection ended early"
        yield data
        length -= len(data)

async def digest(stream):
    return b"".join([data async for data in exactly(stream, 32)])

async def exchange(seed):
    async with await trio.open_tcp_stream("HOST", 9) as stream:
        await stream.send_all(b"LENGTH %d\\n" % seed)
        assert b"".join([data async for data in exactly(stream, 2)]) == b"go"
        sent = hashlib.sha256()
        for piece in pieces(-seed, LENGTH):
            await stream.send_all(piece)
            sent.update(piece)
        assert await digest(stream) == sent.digest()
        received = hashlib.sha256()
        async for data in exactly(stream, LENGTH):
            received.update(data)
        assert await digest(stream) == received.digest()
        whole.append(seed)

async with trio.open_nursery() as nursery:
    for seed in range(1, CONNECTIONS + 1):
        nursery.start_soon(exchange, seed)
say(len(whole))
"""


def exchange(host: str, length: int, connections: int = 1) -> str:
    script = EXCHANGE.replace("HOST", host).replace("LENGTH", str(length))
    return script.replace("CONNECTIONS", str(connections))


@contextmanager
def network(name: str, mtu: int = 1500) -> Iterator[Lab]:
    with Lab(name, mtu=mtu) as lab:
        lab.configure({"alice": ALICE}, mtu=mtu)
        with (
            lab.daemon(),
            running(lab.outside, interpreter().executable, "-c", PEER, until="ready"),
        ):
            yield lab


@pytest.fixture(scope="module")
def lan() -> Iterator[Lab]:
    with network("stacks") as lab:
        yield lab


def run(lab: Lab, kind: str, body: str) -> subprocess.CompletedProcess[str]:
    """Run a program on a stack of alice's."""
    argv = (interpreter().executable, "-c", program("alice", body, kind))
    return lab.user(ALICE).run(*argv, check=False, timeout_s=PATIENCE_S)


@kinds
@pytest.mark.parametrize(("family", "length"), [("ipv4", 1 << 30), ("ipv6", 1 << 26)])
def test_bulk_arrives_whole_each_way(lan: Lab, kind: str, family: str, length: int) -> None:
    done = run(lan, kind, exchange(OUTSIDE[family], length))

    assert (done.stdout, done.stderr) == ("1\n", "")


@kinds
def test_500_connections_at_once_are_all_served(lan: Lab, kind: str) -> None:
    done = run(lan, kind, exchange(OUTSIDE["ipv4"], 20_000, 500))

    assert (done.stdout, done.stderr) == ("500\n", "")


@kinds
@pytest.mark.parametrize("mtu", [1280, 9000])
def test_frames_may_be_of_any_size(kind: str, mtu: int) -> None:
    with network(f"stacks-{mtu}", mtu) as lab:
        for host in OUTSIDE.values():
            done = run(lab, kind, exchange(host, 1 << 20))
            assert (done.stdout, done.stderr) == ("1\n", "")


@kinds
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_what_is_off_the_link_is_reached_by_the_gateway(lan: Lab, kind: str, host: str) -> None:
    length = "32" if "." in host else "128"
    lan.outside.run("ip", "address", "replace", f"{host}/{length}", "dev", "lo")
    lan.outside.run("ip", "link", "set", "lo", "up")

    assert run(lan, kind, exchange(host, 1000)).stdout == "1\n"


@kinds
@family
def test_the_outside_host_is_served(lan: Lab, kind: str, family: str) -> None:
    """And its address is seen."""
    serve = """
served = trio.Event()

async def answer(stream):
    await stream.send_all(stream.socket.getpeername()[0].encode())
    await stream.aclose()
    served.set()

async with trio.open_nursery() as nursery:
    for host in ("0.0.0.0", "::"):
        await nursery.start(partial(trio.serve_tcp, answer, 80, host=host))
    say("ready")
    await served.wait()
    await wait_line()
    nursery.cancel_scope.cancel()
"""
    user = lan.user(ALICE)
    process = user.popen(
        interpreter().executable,
        "-c",
        program("alice", serve, kind),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    ask = (
        "import socket, sys; print(socket.create_connection((sys.argv[1], 80)).recv(99).decode())"
    )
    done = lan.outside.run(interpreter().executable, "-c", ask, OWN[family])
    process.stdin.close()

    assert done.stdout == f"{OUTSIDE[family]}\n"
    assert process.wait(20) == 0


@kinds
def test_nothing_that_it_sends_is_dropped_by_the_daemon(lan: Lab, kind: str) -> None:
    """lwIP, too, claims no address that is not bound to the vif."""
    before = drops(lan)
    for host in OUTSIDE.values():
        assert run(lan, kind, exchange(host, 1000)).stdout == "1\n"

    assert drops(lan) == before


def drops(lan: Lab) -> dict[str, int]:
    """Return what was dropped of the frames that alice sent, by reason."""
    found = dict(lan.ask("vif.show", name="alice")["counters"]["drops"])
    return {reason: count for reason, count in found.items() if reason not in FOR_ALICE}
