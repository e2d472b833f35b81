"""lwIP under hostile frames from the wire: it goes on, and nobody beside it notices.

For 5 seconds on each build, or $FUZZ_SECONDS, as `make fuzz` says.
"""

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.client.test_stack import program
from tests.support.hostile_frames import hostile_frames, seeds
from tests.support.lab import LAN, LAN_MAC, User, interpreter, package_with_lwip_source
from tests.support.lan import Lan
from tests.support.programs import running

TRUDY = 20004
SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))
SEED = 6
#: A turn of the loop that looks at the clock.
BATCH = 64
#: Fewer would show that little was tried.
LEAST_FRAMES = 10_000

#: Trudy's: whatever frames are for, somebody listens.
TARGET = """
import errno

async def answer(stream):
    with suppress(trio.BrokenResourceError):
        async with stream:
            while data := await stream.receive_some():
                await stream.send_all(data.upper())

async def take(sock):
    while True:
        await sock.recvfrom(2000)

async with trio.open_nursery() as nursery:
    for host, family, echo in (
        ("0.0.0.0", socket.AF_INET, socket.IPPROTO_ICMP),
        ("::", socket.AF_INET6, socket.IPPROTO_ICMPV6),
    ):
        await nursery.start(partial(trio.serve_tcp, answer, 80, host=host))
        datagrams = trio.socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await datagrams.bind((host, 53))
        nursery.start_soon(take, datagrams)
        nursery.start_soon(take, trio.socket.socket(family, socket.SOCK_DGRAM, echo))
    held = await trio.open_tcp_stream("10.77.0.1", 9)
    say("ready")
    await wait_line()
    await held.send_all(b"held")
    say((await held.receive_some()).decode())
    await wait_line()
    nursery.cancel_scope.cancel()
say("done")
"""

#: Answers in capitals, over IPv4 and IPv6.
ECHO = """
import socket, threading

def serve(sock):
    with sock:
        while data := sock.recv(1000):
            sock.sendall(data.upper())

any_host = {"family": socket.AF_INET6, "dualstack_ipv6": True}
with socket.create_server(("::", 9), **any_host) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""

#: Asks over one connection until its input ends; says how often it was answered.
ASK = """
import select, socket, sys
asked = 0
with socket.create_connection(("10.77.0.1", 9)) as sock:
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        sock.sendall(b"question")
        assert sock.recv(100) == b"QUESTION"
        asked += 1
print(asked)
"""


@contextmanager
def target(user: User, build: str) -> Iterator[tuple[IO[str], IO[str], subprocess.Popen[str]]]:
    """Run TARGET until the end of its input; yield what it reads and says."""
    script = "from contextlib import suppress\n" + program("trudy", TARGET, "lwip")
    path = package_with_lwip_source() if build == "source" else ""
    process = user.popen(
        *("env", f"PYTHONPATH={path}", interpreter().executable, "-c", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process.stdin, process.stdout, process
    process.stdin.close()


def bombard(lan: Lan) -> int:
    """Send hostile frames to trudy from the wire for SECONDS; return how many."""
    trudy, outside = lan.members["trudy"], lan.members["outside"]
    frames = hostile_frames(
        seeds(trudy.mac, LAN_MAC, (outside.ipv4, trudy.ipv4), (outside.ipv6, trudy.ipv6)), SEED
    )
    sent = 0
    end = time.monotonic() + SECONDS
    with lan.lab.outside.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((LAN, 0))
        while time.monotonic() < end:
            for frame in itertools.islice(frames, BATCH):
                wire.send(frame)
            sent += BATCH
    return sent


@pytest.mark.parametrize("build", ["debians", "source"])
def test_nobody_notices_what_lwip_has_to_bear(lan: Lan, build: str) -> None:
    outside, python = lan.lab.outside, interpreter().executable
    before = lan.daemon.processes()
    with (
        running(outside, python, "-c", ECHO, until="ready"),
        target(lan.lab.user(TRUDY), build) as (tell, told, process),
    ):
        received = lan.vif("trudy")["counters"]["tx_frames"]
        asking = lan.stacks["bob"].popen(
            *(python, "-c", ASK), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert asking.stdout is not None
        assert asking.stdout.readline() == "ready\n"
        sent = bombard(lan)
        answers, _ = asking.communicate("enough\n", timeout=60)

        # Of all that, lwIP had its part, and goes on.
        assert sent > LEAST_FRAMES
        assert lan.vif("trudy")["counters"]["tx_frames"] - received > LEAST_FRAMES / 2
        assert ask(lan, lan.members["trudy"].ipv4) == "HELLO\n"
        tell.write("talk\n")
        tell.flush()
        assert told.readline() == "HELD\n"
        tell.write("end\n")
        tell.flush()
        assert told.readline() == "done\n"
        assert process.wait(60) == 0
    # Nor has anybody else noticed.
    assert asking.returncode == 0
    assert int(answers) > 0
    assert lan.daemon.processes() == before
    assert lan.drops("bob") == {}


def ask(lan: Lan, host: str) -> str:
    """Return what trudy's server answers the outside host, until there is room for it.

    There may be none until connections that hostile frames began are given up.
    Asked for its link address, lwIP learns the peer's own again.
    """
    script = """
import socket, subprocess, sys, time
end = time.monotonic() + 45
while True:
    subprocess.run(["ip", "neighbor", "flush", "dev", sys.argv[2]], check=True)
    try:
        with socket.create_connection((sys.argv[1], 80), timeout=2) as sock:
            sock.sendall(b"hello")
            print(sock.recv(100).decode())
            break
    except OSError as error:
        if time.monotonic() > end:
            raise
"""
    return lan.lab.outside.run(interpreter().executable, "-c", script, host, LAN).stdout
