"""Both kinds of stack with the addresses that IPv6 makes by itself.

Link-local ones, and those that a router's advertisement leads to where a whole
prefix is bound to the vif (SLAAC, RFC 4862).
"""

import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from tests.client.test_stack import program
from tests.support.lab import LAN, LAN_MAC, Lab, interpreter
from tests.support.lan import Member
from tests.support.programs import running
from tests.system.test_stacks import drops

ALICE = 20001
OUTSIDE = "fd77::1"

#: Alice's, of the network's prefix, and none of her vif's addresses lies in it.
PREFIX = "fd77:0:0:8::"
ROUTED = f"""
[vif.alice]
owner = "{ALICE}"
network = "lan"
addresses = ["10.77.0.11/24"]
prefixes = ["{PREFIX}/64"]
"""

#: Sends the frame of its argument whenever a router is solicited (RFC 4861, section 4.1).
ROUTER = f"""
import socket, sys
SOLICITATION = 133
ALL_PROTOCOLS = 3
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as wire:
    wire.bind(("{LAN}", ALL_PROTOCOLS))
    print("ready", flush=True)
    while True:
        frame = wire.recv(9000)
        if frame[12:14] == b"\\x86\\xdd" and frame[20] == 58 and frame[54] == SOLICITATION:
            print("solicited", flush=True)
            wire.send(bytes.fromhex(sys.argv[1]))
"""


def advertisement(own: str) -> bytes:
    """Return what says that the router at *own* is one for an hour, and the prefix on the link."""
    return bytes(
        Ether(src=LAN_MAC, dst="33:33:00:00:00:01")
        / IPv6(src=own, dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=3600)
        / ICMPv6NDOptSrcLLAddr(lladdr=LAN_MAC)
        / ICMPv6NDOptPrefixInfo(
            prefix=PREFIX, prefixlen=64, L=1, A=1, validlifetime=3600, preferredlifetime=3600
        )
    )


#: Tells each client the address that it is seen at, without its scope.
MIRROR = """
import socket
with socket.create_server(("::", 9), family=socket.AF_INET6) as server:
    print("ready", flush=True)
    while True:
        sock, peer = server.accept()
        with sock:
            sock.sendall(peer[0].partition("%")[0].encode())
"""

kinds = pytest.mark.parametrize("kind", ["kernel", "lwip"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("stack-ipv6") as made:
        made.configure({}, extra=ROUTED)
        text = made.config.read_text().replace("fd77::/64", "fd77::/56")
        made.config.write_text(text)
        made.outside.run("ip", "route", "add", f"{PREFIX}/64", "dev", LAN)
        with (
            made.daemon(),
            running(made.outside, interpreter().executable, "-c", MIRROR, until="ready"),
        ):
            yield made


def member(lab: Lab, name: str = "alice") -> Member:
    return Member(str(lab.ask("vif.show", name=name)["mac"]), "10.77.0.11", "::")


def outside(lab: Lab) -> Member:
    return Member(LAN_MAC, "10.77.0.1", OUTSIDE)


def run(lab: Lab, kind: str, body: str) -> subprocess.CompletedProcess[str]:
    argv = (interpreter().executable, "-c", program("alice", body, kind))
    return lab.user(ALICE).run(*argv, check=False)


@kinds
def test_an_advertised_prefix_becomes_an_address(lab: Lab, kind: str) -> None:
    """Of which the outside host sees that it is used; nothing that claims it is dropped."""
    interface = ip_address(member(lab).link_local).packed[8:]
    own = str(IPv6Address(ip_address(PREFIX).packed[:8] + interface))
    before = drops(lab)
    reach = f"""
while True:
    with trio.socket.socket(socket.AF_INET6) as sock:
        try:
            await sock.bind(({own!r}, 0))
            await sock.connect(({OUTSIDE!r}, 9))
        except OSError:
            await trio.sleep(0.05)
            continue
        say(await sock.recv(100))
        break
stream = await trio.open_tcp_stream({OUTSIDE!r}, 9)
say(await stream.receive_some(100), stream.socket.getsockname()[0])
"""
    router = ("-c", ROUTER, advertisement(outside(lab).link_local).hex())
    with running(lab.outside, interpreter().executable, *router, until="ready") as routing:
        done = run(lab, kind, reach)
        assert routing.stdout is not None
        assert routing.stdout.readline() == "solicited\n"

    assert (done.stdout, done.stderr) == (f"{own.encode()!r}\n{own.encode()!r} {own}\n", "")
    assert drops(lab) == before


@kinds
def test_a_link_local_address_reaches_another(lab: Lab, kind: str) -> None:
    """Which interface is meant there is said as on any host."""
    reach = f"""
with trio.socket.socket(socket.AF_INET6) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"pfinet0")
    await sock.connect(({outside(lab).link_local!r}, 9))
    say(await sock.recv(100))
"""
    done = run(lab, kind, reach)

    assert (done.stdout, done.stderr) == (f"{member(lab).link_local.encode()!r}\n", "")


@kinds
def test_a_link_local_address_is_reached(lab: Lab, kind: str) -> None:
    serve = """
served = trio.Event()

async def answer(stream):
    peer = stream.socket.getpeername()
    await stream.send_all(repr((peer[0].partition("%")[0], peer[3] > 0)).encode())
    await stream.aclose()
    served.set()

async with trio.open_nursery() as nursery:
    await nursery.start(partial(trio.serve_tcp, answer, 80, host="::"))
    say("ready")
    await served.wait()
    await wait_line()
    nursery.cancel_scope.cancel()
"""
    argv = (interpreter().executable, "-c", program("alice", serve, kind))
    process = lab.user(ALICE).popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    ask = (
        "import socket, sys; print(socket.create_connection((sys.argv[1], 80)).recv(99).decode())"
    )
    own = f"{member(lab).link_local}%{LAN}"
    done = lab.outside.run(interpreter().executable, "-c", ask, own)
    process.stdin.close()

    assert done.stdout == f"('{outside(lab).link_local}', True)\n"
    assert process.wait(20) == 0
