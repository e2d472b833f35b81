"""The host and the users' stacks reach each other, and the wire sees nothing of it."""

import itertools
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import attrs
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.support.lab import LAN, LAN_MAC, NIC, Daemon, Lab, Stack
from tests.support.programs import Place, ping, running
from tests.support.waiting import eventually
from tests.support.wire import send

TAP = "mx-lan"
OWNERS = {"alice": 20001, "bob": 20002}
HOST = {"ipv4": "10.77.0.2", "ipv6": "fd77::2"}
OUTSIDE = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}
ALICE = {"ipv4": "10.77.0.11", "ipv6": "fd77::11"}
BROADCAST = "ff:ff:ff:ff:ff:ff"

family = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
numbers = itertools.count(1)


@attrs.frozen
class HostLan:
    """A network that its host is in, with alice's and bob's stacks."""

    lab: Lab
    daemon: Daemon
    stacks: Mapping[str, Stack]

    def host(self) -> dict[str, Any]:
        """Return what the daemon says of the host's port."""
        return dict(self.lab.ask("network.show", name="lan")["host"])

    def drops(self) -> dict[str, int]:
        return dict(self.host()["counters"]["drops"])

    def routes(self, version: int = 4) -> str:
        return self.lab.host.run("ip", f"-{version}", "route", "show", "dev", TAP).stdout


def address_host(lab: Lab) -> None:
    """Give the host addresses on its NIC, and the strictest filter that it could have."""
    for line in (
        "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1",
        f"ip address add {HOST['ipv4']}/24 dev {NIC}",
        f"ip address add {HOST['ipv6']}/64 dev {NIC} nodad",
    ):
        lab.host.run(*line.split())


@pytest.fixture(scope="module")
def lan() -> Iterator[HostLan]:
    with ExitStack() as until_end:
        lab = until_end.enter_context(Lab("host"))
        address_host(lab)
        lab.configure(OWNERS, host=True)
        daemon = until_end.enter_context(lab.daemon())
        stacks = {
            name: until_end.enter_context(lab.user(uid).stack(name))
            for name, uid in OWNERS.items()
        }
        yield HostLan(lab, daemon, stacks)


@family
def test_a_host_that_forwards_takes_nobody_out_of_the_network(lan: HostLan, family: str) -> None:
    forward = {"ipv4": "net.ipv4.ip_forward", "ipv6": "net.ipv6.conf.all.forwarding"}[family]
    alice = lan.lab.ask("vif.show", name="alice")["mac"]
    stack = lan.stacks["alice"]
    there, until = mark(), mark()
    ip: Packet = {
        "ipv4": IP(src=ALICE["ipv4"], dst=OUTSIDE["ipv4"]),
        "ipv6": IPv6(src=ALICE["ipv6"], dst=OUTSIDE["ipv6"]),
    }[family]
    packet = Ether(src=alice, dst=lan.host()["mac"]) / ip / UDP(sport=9, dport=9)

    def drops() -> int:
        counters = lan.lab.ask("vif.show", name="alice")["counters"]
        return int(counters["drops"].get("no_receiver", 0))

    before = drops()
    assert ping(lan.lab.host, OUTSIDE[family])
    lan.lab.host.run("sysctl", "-qw", f"{forward}=1")
    try:
        with lan.lab.outside.listener(LAN) as wire:
            send(stack.namespace, stack.interface, [bytes(packet / Raw(there))])
            say(stack.namespace.socket, until, OUTSIDE["ipv4"])
            seen = wire.frames_until(until)
    finally:
        lan.lab.host.run("sysctl", "-qw", f"{forward}=0")

    assert not any(there in frame for frame in seen)
    assert drops() == before + 1


def mark() -> bytes:
    return f"<host {next(numbers):05}>".encode()


@family
@pytest.mark.parametrize("name", ["alice", "bob"])
def test_the_host_and_a_stack_answer_each_others_pings(
    lan: HostLan, family: str, name: str
) -> None:
    number = 11 + list(OWNERS).index(name)
    stack = {"ipv4": f"10.77.0.{number}", "ipv6": f"fd77::{number}"}[family]

    assert ping(lan.lab.host, stack)
    assert ping(lan.stacks[name], HOST[family])


@family
def test_the_host_and_the_outside_still_reach_each_other(lan: HostLan, family: str) -> None:
    assert ping(lan.lab.outside, HOST[family])
    assert ping(lan.lab.host, OUTSIDE[family])
    assert lan.lab.ask("uplink.show", name="wire")["counters"]["drops"].get("uplink_spoof", 0) == 0


@family
@pytest.mark.parametrize("way", ["from the host", "to the host"])
def test_tcp_goes_both_ways_in_segments_that_nobody_has_cut(
    lan: HostLan, family: str, way: str
) -> None:
    before = lan.host()["counters"]
    client: Place = lan.lab.host if way == "from the host" else lan.stacks["alice"]
    server: Place = lan.stacks["alice"] if way == "from the host" else lan.lab.host
    there = ALICE[family] if way == "from the host" else HOST[family]

    with running(server, "iperf3", "-s", "-1", "-B", there, "--forceflush", until="listening"):
        done = client.run("iperf3", "-c", there, "-n", "20M", "-J")

    # The last few may still be under way when iperf3 counts.
    assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] > 10_000_000
    after = lan.host()["counters"]
    side = "rx" if way == "from the host" else "tx"
    frames = after[f"{side}_frames"] - before[f"{side}_frames"]
    assert (after[f"{side}_bytes"] - before[f"{side}_bytes"]) / frames > 2 * 1514


def test_what_the_host_and_a_stack_say_to_each_other_is_not_on_the_wire(lan: HostLan) -> None:
    there, back, until = mark(), mark(), mark()
    with (
        lan.lab.outside.listener(LAN) as wire,
        lan.stacks["alice"].listener() as alice,
        lan.lab.host.listener(TAP) as host,
    ):
        say(lan.lab.host.namespace.socket, there, ALICE["ipv4"])
        alice.frames_until(there)
        say(lan.stacks["alice"].namespace.socket, back, HOST["ipv4"])
        host.frames_until(back)
        say(lan.stacks["alice"].namespace.socket, until, OUTSIDE["ipv4"])

        seen = wire.frames_until(until)
    assert not any(there in frame or back in frame for frame in seen)


def say(open_socket: Any, text: bytes, address: str) -> None:
    with open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, (address, 9))


def forged(lan: HostLan) -> dict[str, tuple[Packet, str]]:
    """Frames that the host's port does not let through, and why."""
    mac = lan.host()["mac"]
    alice = lan.lab.ask("vif.show", name="alice")["mac"]
    data = UDP(dport=9) / Raw(b"forged")
    return {
        "another's MAC": (
            Ether(src=alice, dst=BROADCAST) / IP(dst=ALICE["ipv4"]) / data,
            "src_mac",
        ),
        "a stranger's address": (
            Ether(src=mac, dst=alice) / IP(src=OUTSIDE["ipv4"], dst=ALICE["ipv4"]) / data,
            "ipv4_src",
        ),
        "ARP for the gateway": (
            Ether(src=mac, dst=BROADCAST) / ARP(op=2, hwsrc=mac, psrc=OUTSIDE["ipv4"]),
            "arp_sender",
        ),
        "to a station on the wire": (
            Ether(src=mac, dst=LAN_MAC) / IP(src=HOST["ipv4"], dst=OUTSIDE["ipv4"]) / data,
            "no_receiver",
        ),
        "a question for the wire": (
            Ether(src=mac, dst=BROADCAST)
            / ARP(op=1, hwsrc=mac, psrc=HOST["ipv4"], pdst=OUTSIDE["ipv4"]),
            "no_receiver",
        ),
    }


@pytest.mark.parametrize(
    "what",
    [
        "another's MAC",
        "a stranger's address",
        "ARP for the gateway",
        "to a station on the wire",
        "a question for the wire",
    ],
)
def test_what_the_host_may_not_send_by_its_tap_is_dropped_and_counted(
    lan: HostLan, what: str
) -> None:
    frame, reason = forged(lan)[what]
    before = lan.drops().get(reason, 0)

    send(lan.lab.host.namespace, TAP, [bytes(frame)])

    eventually(lambda: lan.drops().get(reason, 0) > before, f"{what} is counted as {reason}")


def test_a_broadcast_of_the_host_reaches_the_vifs_and_not_the_wire(lan: HostLan) -> None:
    sign, until = mark(), mark()
    frame = Ether(src=lan.host()["mac"], dst=BROADCAST)
    frame /= IP(src=HOST["ipv4"], dst="255.255.255.255") / UDP(dport=9) / Raw(sign)
    with (
        lan.lab.outside.listener(LAN) as wire,
        lan.stacks["alice"].listener() as alice,
        lan.stacks["bob"].listener() as bob,
    ):
        send(lan.lab.host.namespace, TAP, [bytes(frame)])
        alice.frames_until(sign)
        bob.frames_until(sign)
        say(lan.stacks["alice"].namespace.socket, until, OUTSIDE["ipv4"])

        assert not any(sign in found for found in wire.frames_until(until))


def test_a_station_on_the_wire_does_not_reach_the_hosts_tap(lan: HostLan) -> None:
    sign, until = mark(), mark()
    data = IP(src=OUTSIDE["ipv4"], dst=HOST["ipv4"]) / UDP(dport=9) / Raw(sign)
    with lan.lab.host.listener(TAP) as host, lan.stacks["alice"].listener() as alice:
        for dst in (lan.host()["mac"], BROADCAST):
            send(lan.lab.outside.namespace, LAN, [bytes(Ether(src=LAN_MAC, dst=dst) / data)])
        alice.frames_until(sign)
        say(lan.stacks["alice"].namespace.socket, until, HOST["ipv4"])

        assert not any(sign in found for found in host.frames_until(until))


def test_the_tap_believes_no_router_and_has_the_hosts_addresses_alone(lan: HostLan) -> None:
    shown = json.loads(lan.lab.host.run("ip", "-j", "address", "show", "dev", TAP).stdout)[0]
    addresses = {(each["local"], each["prefixlen"]) for each in shown["addr_info"]}

    assert (HOST["ipv4"], 32) in addresses
    assert (HOST["ipv6"], 128) in addresses
    assert {local for local, _ in addresses if not local.startswith("fe80:")} == {*HOST.values()}
    assert shown["mtu"] == 1500
    accept = lan.lab.host.run("sysctl", "-n", f"net.ipv6.conf.{TAP}.accept_ra").stdout
    assert accept.strip() == "0"


def test_the_hosts_port_is_shown(lan: HostLan) -> None:
    shown = lan.lab.multiplexerctl("network", "show", "lan").stdout

    assert TAP in shown
    assert HOST["ipv4"] in shown
    assert "the vifs of lan" in lan.lab.multiplexerctl("status").stdout


def test_a_trace_names_the_host_as_a_receiver(lan: HostLan) -> None:
    frame = Ether(src=lan.lab.ask("vif.show", name="alice")["mac"], dst=lan.host()["mac"])
    frame /= IP(src=ALICE["ipv4"], dst=HOST["ipv4"]) / UDP(dport=9)

    shown = lan.lab.multiplexerctl("trace", "alice", "--hex", bytes(frame).hex()).stdout

    assert f"host {TAP}" in shown


def test_routes_follow_a_vif_that_is_made_changed_and_deleted(lan: HostLan) -> None:
    arguments = ("carol", "--owner", "20003", "--address", "10.77.0.50/24")
    lan.lab.multiplexerctl("vif", "create", *arguments, "--prefix", "10.77.0.64/28")
    routes = lan.routes()
    assert "10.77.0.50 " in routes
    assert "10.77.0.64/28 " in routes
    assert f"src {HOST['ipv4']}" in routes

    lan.lab.multiplexerctl("vif", "set", "carol", "--address", "10.77.0.52/24")
    assert "10.77.0.52 " in lan.routes()
    assert "10.77.0.50 " not in lan.routes()

    lan.lab.multiplexerctl("vif", "delete", "carol")

    assert "10.77.0.52 " not in lan.routes()
    assert "10.77.0.64/28 " not in lan.routes()


def test_a_vif_cannot_have_an_address_or_the_mac_of_the_host(lan: HostLan) -> None:
    for extra in (
        ("--address", f"{HOST['ipv4']}/24"),
        ("--address", "10.77.0.51/24", "--mac", lan.host()["mac"]),
    ):
        done = lan.lab.multiplexerctl(
            "vif", "create", "thief", "--owner", "20003", *extra, check=False
        )
        assert done.returncode != 0
        assert "host" in done.stderr


def test_the_tap_follows_the_hosts_addresses(lan: HostLan) -> None:
    lan.lab.host.run("ip", "address", "add", "10.77.0.3/24", "dev", NIC)
    eventually(lambda: "10.77.0.3" in lan.host()["addresses"], "the host has the address")
    assert ping(lan.stacks["alice"], "10.77.0.3")

    lan.lab.host.run("ip", "address", "delete", "10.77.0.3/24", "dev", NIC)

    eventually(lambda: "10.77.0.3" not in lan.host()["addresses"], "the address is gone")
    assert ping(lan.stacks["alice"], HOST["ipv4"])
    shown = lan.lab.host.run("ip", "address", "show", "dev", TAP).stdout
    assert "10.77.0.3/" not in shown


@pytest.mark.parametrize("line", [f"delete {TAP}", f"set {TAP} down"])
def test_a_tap_that_somebody_takes_away_comes_back(lan: HostLan, line: str) -> None:
    lan.lab.host.run("ip", "link", *line.split())
    if "down" in line:
        eventually(lambda: not lan.host()["up"], "the host's port is down")
        lan.lab.host.run("ip", "link", "set", TAP, "up")
    eventually(lambda: lan.host()["up"], "the host's port is up")
    eventually(partial(has_routes, lan), "the routes are there")

    assert ping(lan.lab.host, ALICE["ipv4"])
    assert ping(lan.stacks["alice"], HOST["ipv6"])


def has_routes(lan: HostLan) -> bool:
    return ALICE["ipv4"] in lan.routes() and ALICE["ipv6"] in lan.routes(6)


@pytest.fixture
def addressed(lab: Lab) -> Lab:
    address_host(lab)
    lab.configure(OWNERS, host=True)
    return lab


def test_the_tap_goes_with_the_daemon(addressed: Lab) -> None:
    with addressed.daemon() as daemon:
        assert TAP in addressed.host.run("ip", "-o", "link", "show").stdout
        assert daemon.stop() == 0

    assert TAP not in addressed.host.run("ip", "-o", "link", "show").stdout


@pytest.mark.parametrize("role", ["control", "engine"])
def test_the_host_reaches_vifs_again_after_a_process_of_the_daemon_died(
    addressed: Lab, role: str
) -> None:
    with addressed.daemon() as daemon:
        old = daemon.processes()[role]
        addressed.host.run("kill", "-9", str(old))
        eventually(partial(is_replaced, daemon, role, old), f"there is another {role}")
        assert addressed.ask("network.show", name="lan")["host"]["up"]
        with addressed.user(20001).stack("alice") as alice:
            assert ping(addressed.host, ALICE["ipv4"])
            assert ping(alice, HOST["ipv4"])


def test_the_host_reaches_vifs_again_after_the_whole_daemon_was_killed(addressed: Lab) -> None:
    """Its tap may still be there when the next one starts, for as long as an engine dies."""
    with addressed.daemon() as killed, addressed.user(20001).stack("alice") as alice:
        killed.kill()
        with addressed.daemon():
            assert ping(addressed.host, ALICE["ipv4"])
            assert ping(alice, HOST["ipv4"])


def is_replaced(daemon: Daemon, role: str, old: int) -> bool:
    try:
        return daemon.processes().get(role) not in (None, old)
    except (OSError, ValueError):  # one that just ends, or has not become its role yet
        return False


def test_a_host_without_an_address_in_the_network_is_told_so(lab: Lab) -> None:
    lab.configure(OWNERS, host=True)
    with lab.daemon() as daemon:
        assert "no address in this network" in lab.multiplexerctl("network", "show", "lan").stdout
        assert "no address in it" in daemon.log.read_text()


def test_a_host_in_no_network_is_told_so(lab: Lab) -> None:
    lab.configure(OWNERS)
    with lab.daemon():
        assert "no vif" in lab.multiplexerctl("status").stdout
        assert "reaches no vif" in lab.multiplexerctl("network", "show", "lan").stdout
        assert TAP not in lab.host.run("ip", "-o", "link", "show").stdout
