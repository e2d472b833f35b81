"""A filter comes to know the address of a vif that is bound to a prefix: by DHCP, and by use.

The DHCP server and its client are busybox's, each on a stack of its own.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.support.lab import Daemon, Lab, Stack, end
from tests.support.plain import StreamClient
from tests.support.waiting import eventually

ALICE, SERVER, BOB = 20001, 20002, 20003
SERVER_ADDRESS, BOBS_ADDRESS = "10.77.0.2", "10.77.0.3"
FIRST, SECOND = "10.77.0.33", "10.77.0.34"

CONFIG = f"""
[vif.server]
owner = "{SERVER}"
network = "lan"
addresses = ["{SERVER_ADDRESS}/24"]
roles = ["dhcp-server"]

[vif.bob]
owner = "{BOB}"
network = "lan"
addresses = ["{BOBS_ADDRESS}/24"]
"""

#: udhcpd does not ask the wire who has an address: nobody could answer.
UDHCPD = f"""
start {FIRST}
end {FIRST}
interface {{interface}}
lease_file {{folder}}/leases
pidfile {{folder}}/pid
conflict_time 1
option subnet 255.255.255.0
option lease {{lease_s}}
min_lease 1
"""

SCRIPT = """\
#!/bin/sh
case $1 in
deconfig) ip addr flush dev "$interface" scope global ;;
bound|renew) ip addr replace "$ip/24" dev "$interface"; echo "$1 $ip" ;;
esac
"""


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    lab.configure({}, extra=CONFIG)
    with lab.daemon() as daemon:
        yield daemon


def create(lab: Lab, *parameters: str) -> None:
    """Make alice's vif, bound to a prefix and to a filter that asks for its address."""
    line = ("vif", "create", "alice", "--owner", str(ALICE), "--prefix", "10.77.0.32/28")
    given = [word for each in parameters for word in ("--param", each)]
    lab.multiplexerctl(*line, "--filter", "clean-traffic", *given, "--force")


def binding(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.query("filter", "binding", "show", "alice")["filter"]
    return found


def learned(lab: Lab) -> list[str]:
    return [each["address"] for each in binding(lab)["learned"]]


def wait_learned(lab: Lab, *addresses: str) -> None:
    eventually(lambda: learned(lab) == [*addresses], f"{addresses} learned")


def ether(lab: Lab) -> Packet:
    return Ether(src=lab.ask("vif.show", name="alice")["mac"], dst="ff:ff:ff:ff:ff:ff")


def from_address(lab: Lab, address: str, mark: bytes = b"") -> bytes:
    packet = IP(src=address, dst="10.77.0.255") / UDP(sport=1, dport=2) / Raw(mark)
    return bytes(ether(lab) / packet)


def trace(lab: Lab, address: str) -> str:
    """Return what becomes of a packet of alice from *address*, and by which filter."""
    frames = [from_address(lab, address).hex()]
    traced = lab.ask("vif.trace", name="alice", frames=frames)["traces"][0]
    steps = {step["step"]: step["text"] for step in traced["steps"]}
    return f"{traced['verdict']}: {steps.get('filter')}"


@contextmanager
def dhcp_server(lab: Lab, lease_s: int = 600) -> Iterator[Stack]:
    with lab.user(SERVER).stack("server") as stack:
        folder = lab.root / "udhcpd"
        folder.mkdir(exist_ok=True)
        os.chown(folder, SERVER, SERVER)
        text = UDHCPD.format(interface=stack.interface, folder=folder, lease_s=lease_s)
        (folder / "conf").write_text(text)
        server = stack.popen("busybox", "udhcpd", "-f", "-S", "-a", "1", str(folder / "conf"))
        eventually((folder / "pid").exists, "udhcpd is there")
        try:
            yield stack
        finally:
            end(server)


@contextmanager
def dhcp_client(lab: Lab, stack: Stack) -> Iterator[subprocess.Popen[str]]:
    """Run a client that has an address; it gives that back when it is told to (SIGUSR2)."""
    script = lab.root / "udhcpc.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    command = ("busybox", "udhcpc", "-f", "-t", "20", "-T", "1", "-i", stack.interface)
    client = stack.popen(*command, "-s", str(script), stdout=subprocess.PIPE)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == f"bound {FIRST}\n"
        yield client
    finally:
        end(client)


def reaches(stack: Stack, address: str) -> bool:
    return stack.run("ping", "-c1", "-W2", address, check=False).returncode == 0


def test_a_lease_is_learned_and_ends_when_it_is_given_back(lab: Lab, daemon: Daemon) -> None:
    create(lab, "CTRL_IP_LEARNING=dhcp", f"DHCPSERVER={SERVER_ADDRESS}")
    assert (binding(lab)["learning"], learned(lab)) == ("dhcp", [])
    assert trace(lab, FIRST).startswith("filter_out: ")
    assert "learning-dhcp" in trace(lab, FIRST)

    with (
        dhcp_server(lab) as server,
        lab.user(ALICE).stack("alice") as alice,
        dhcp_client(lab, alice) as client,
    ):
        wait_learned(lab, FIRST)
        (lease,) = binding(lab)["learned"]
        assert lease["server"] == SERVER_ADDRESS
        assert 0 < lease["left_s"] <= 600
        assert reaches(alice, SERVER_ADDRESS)
        assert reaches(server, FIRST)
        # Bound to it as it is, the vif may use no other address of its prefix now.
        assert trace(lab, FIRST).startswith("pass: ")
        assert trace(lab, SECOND).startswith("filter_out: ")
        os.kill(daemon.processes()["control"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (1, 0), "another control is there")
        assert learned(lab) == [FIRST]
        assert reaches(alice, SERVER_ADDRESS)

        client.send_signal(signal.SIGUSR2)
        wait_learned(lab)
        assert "learning-dhcp" in trace(lab, FIRST)
    shown = lab.multiplexerctl("filter", "binding", "show", "alice").stdout
    assert "dhcp" in shown


def test_a_lease_is_over_when_nobody_renews_it(lab: Lab, daemon: Daemon) -> None:
    create(lab, "CTRL_IP_LEARNING=dhcp")
    with dhcp_server(lab, lease_s=6), lab.user(ALICE).stack("alice") as alice:
        with dhcp_client(lab, alice):
            wait_learned(lab, FIRST)
        wait_learned(lab)


def test_a_server_that_is_not_named_leases_nothing(lab: Lab, daemon: Daemon) -> None:
    create(lab, "CTRL_IP_LEARNING=dhcp", f"DHCPSERVER={BOBS_ADDRESS}")
    with dhcp_server(lab), lab.user(ALICE).stack("alice") as alice:
        command = ("busybox", "udhcpc", "-f", "-n", "-q", "-t", "2", "-T", "1")
        tried = alice.run(*command, "-i", alice.interface, "-s", "/bin/true", check=False)
        assert tried.returncode != 0
        drops = lab.ask("vif.show", name="alice")["counters"]["drops"]
        assert drops["filter_in"] >= 1
        assert learned(lab) == []


def test_the_first_address_that_a_stack_uses_is_its_own_until_it_is_gone(
    lab: Lab, daemon: Daemon
) -> None:
    create(lab)
    assert binding(lab)["learning"] == "any"
    assert "pass" in trace(lab, SECOND)
    with StreamClient(lab.socket_of("alice", "stream"), ALICE) as client:
        probe = ARP(op=1, hwsrc=ether(lab).src, psrc="0.0.0.0", pdst=SECOND)
        # Neither a question, nor what is not bound to it, makes an address its own.
        client.send([bytes(ether(lab) / probe), from_address(lab, BOBS_ADDRESS)])
        announcement = ARP(op=2, hwsrc=ether(lab).src, psrc=FIRST, pdst=FIRST)
        client.send([bytes(ether(lab) / announcement)])
        wait_learned(lab, FIRST)
        assert binding(lab)["learning"] is None
        assert trace(lab, SECOND).startswith("filter_out: ")

        with StreamClient(lab.socket_of("bob", "stream"), BOB) as bob:
            eventually(lambda: lab.ask("vif.show", name="bob")["attached"] is not None, "bob")
            client.send([from_address(lab, SECOND, b"<no>"), from_address(lab, FIRST, b"<end>")])
            assert not any(b"<no>" in frame for frame in bob.receive_until(b"<end>"))
        drops = lab.ask("vif.show", name="alice")["counters"]["drops"]
        assert (drops["filter_out"], drops["ipv4_src"]) == (1, 1)

    wait_learned(lab)
    with StreamClient(lab.socket_of("alice", "stream"), ALICE) as client:
        client.send([from_address(lab, SECOND)])
        wait_learned(lab, SECOND)
