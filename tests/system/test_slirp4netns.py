"""slirp4netns on the bess socket: a program that we did not write, as an unprivileged user.

It is a router with a DHCP server in it.  Its MAC address follows from its IPv4
address, so the administrator binds both; what it may say is up to the vif's roles.
It too waits for who connects, so socat joins the two sockets, message by message.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from tests.support.lab import Lab, end
from tests.support.lan import Member
from tests.support.plain import StreamClient
from tests.support.waiting import eventually

OWNER = 20010

#: Each with its own slirp4netns at .2, and somebody else at .5.
NETWORKS = """
[network.{name}]
prefixes = ["{prefix}.0/24"]

[vif.{name}-slirp]
owner = "{owner}"
network = "{name}"
addresses = ["{prefix}.2/24"]
mac = "{mac}"
roles = {roles}

[vif.{name}-user]
owner = "{owner}"
network = "{name}"
addresses = ["{prefix}.5/24"]
"""
PREFIXES = {"served": "10.80.0", "guarded": "10.82.0", "foreign": "10.83.0"}
MACS = {
    "served": "52:55:0a:50:00:02",
    "guarded": "52:55:0a:52:00:02",
    "foreign": "52:54:00:00:00:02",
}
ROLES = {"served": '["dhcp-server"]', "guarded": "[]", "foreign": '["dhcp-server"]'}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("slirp") as running:
        text = "".join(
            NETWORKS.format(
                name=name, prefix=prefix, owner=OWNER, mac=MACS[name], roles=ROLES[name]
            )
            for name, prefix in PREFIXES.items()
        )
        running.configure({}, extra=text)
        with running.daemon():
            yield running


@contextmanager
def slirp(lab: Lab, network: str) -> Iterator[StreamClient]:
    """Run slirp4netns at .2 of *network*, and yield a client at .5."""
    vif = f"{network}-slirp"
    home = lab.root / vif
    home.mkdir()
    os.chown(home, OWNER, OWNER)
    listens = home / "socket"
    router = as_owner(
        lab, "slirp4netns", f"--cidr={PREFIXES[network]}.0/24", "--target-type=bess", listens
    )
    eventually(listens.exists, "slirp4netns listens")
    ends = [f"UNIX-CONNECT:{path},socktype=5" for path in (listens, lab.socket_of(vif, "bess"))]
    cable = as_owner(lab, "socat", "-b65600", *ends)
    try:
        eventually(lambda: attached(lab, vif) == "bess", f"slirp4netns is on {vif}")
        with StreamClient(lab.socket_of(f"{network}-user", "stream"), OWNER) as client:
            eventually(lambda: attached(lab, f"{network}-user") == "stream", "we are attached")
            yield client
    finally:
        end(cable)
        end(router)


def as_owner(lab: Lab, *command: object) -> subprocess.Popen[str]:
    argv = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]
    return lab.popen([*argv, *map(str, command)], env=lab.environment, stderr=subprocess.DEVNULL)


def attached(lab: Lab, vif: str) -> str | None:
    holder = lab.ask("vif.show", name=vif)["attached"]
    return None if holder is None else str(holder["transport"])


def drops(lab: Lab, network: str) -> dict[str, int]:
    return dict(lab.ask("vif.show", name=f"{network}-slirp")["counters"]["drops"])


def user(lab: Lab, network: str) -> Member:
    mac = lab.ask("vif.show", name=f"{network}-user")["mac"]
    return Member(mac, f"{PREFIXES[network]}.5", "::")


def discover(me: Member) -> bytes:
    """Return the first message of a DHCP client."""
    return bytes(
        Ether(src=me.mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=bytes.fromhex(me.mac.replace(":", "")), xid=0x77)
        / DHCP(options=[("message-type", "discover"), "end"])
    )


def who_has(me: Member, network: str) -> bytes:
    return bytes(
        Ether(src=me.mac, dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=1, hwsrc=me.mac, psrc=me.ipv4, pdst=f"{PREFIXES[network]}.2")
    )


def test_it_answers_arp_and_leases_addresses_with_the_role(lab: Lab) -> None:
    with slirp(lab, "served") as client:
        me = user(lab, "served")
        client.send([who_has(me, "served"), discover(me)])
        offer = Ether(client.receive_until(b"\x63\x82\x53\x63")[-1])

    assert offer.src == MACS["served"]
    assert offer[BOOTP].op == 2
    assert ("message-type", 2) in offer[DHCP].options
    assert "dhcp_server" not in drops(lab, "served")


def test_without_the_role_its_leases_are_dropped_and_all_else_passes(lab: Lab) -> None:
    with slirp(lab, "guarded") as client:
        me = user(lab, "guarded")
        client.send([discover(me)])
        eventually(lambda: drops(lab, "guarded").get("dhcp_server", 0) == 1, "the offer dropped")
        client.send([who_has(me, "guarded")])
        (answer,) = client.receive_until(bytes.fromhex(MACS["guarded"].replace(":", "")))

    assert Ether(answer)[ARP].op == 2


def test_with_another_mac_than_the_bound_one_it_is_not_heard(lab: Lab) -> None:
    with slirp(lab, "foreign") as client:
        me = user(lab, "foreign")
        client.send([who_has(me, "foreign"), discover(me)])
        eventually(lambda: drops(lab, "foreign").get("src_mac", 0) >= 2, "both dropped")

        assert client.receive_now() == []
