"""The Linux bridge: with a veth pair to each stack, and with a tap of each."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from typing import Final

from pfinet_proto.values import MacAddress
from tests.support.lab import Host, Lab

from ..frames import HostAddress
from ..traffic.program import Traffic, line
from .networks import bring_up, ip, let_bridges_switch_alone, make_host, packet_end, plug_in
from .system import RawEnd, System, Wire

PORTS: Final = ("port0", "port1")


@contextmanager
def bridge_veth(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run two namespaces on a bridge in a third."""
    with ExitStack() as until_end:
        switch, hosts = veths_on_bridge(lab, "bridge", until_end)
        wire = plug_bridge_in(lab, switch, until_end)
        ends = zip(hosts, ("10.81.0.1", "10.81.0.2"), strict=True)
        first, second = (
            (packet_end(host, "eth0", address), bring_up(host, "eth0", address))
            for host, address in ends
        )
        yield System("bridge_veth", (first[0], second[0]), (first[1], second[1]), wire)


def make_bridge(lab: Lab, name: str, until_end: ExitStack) -> Host:
    """Make a namespace with the bridge `br0`, which switches alone."""
    switch = make_host(lab, name, until_end)
    let_bridges_switch_alone(switch)
    here = switch.namespace.path.name
    ip(f"-n {here} link add br0 type bridge", f"-n {here} link set br0 up")
    return switch


def plug_bridge_in(lab: Lab, switch: Host, until_end: ExitStack) -> Wire:
    """Make a NIC that is a port of the bridge."""
    wire = plug_in(lab, switch, "nic0", until_end)
    ip(f"-n {switch.namespace.path.name} link set nic0 master br0")
    return wire


def veths_on_bridge(lab: Lab, name: str, until_end: ExitStack) -> tuple[Host, list[Host]]:
    """Make a namespace with a bridge, and two that are on it at PORTS, each by its `eth0`."""
    switch = make_bridge(lab, name, until_end)
    here = switch.namespace.path.name
    hosts = []
    for port in PORTS:
        host = make_host(lab, f"{name}-{port}", until_end)
        there = host.namespace.path.name
        ip(
            f"link add {port} netns {here} type veth peer name eth0 netns {there}",
            f"-n {here} link set {port} master br0 up",
        )
        hosts.append(host)
    return switch, hosts


@contextmanager
def bridge_tap(lab: Lab, traffic: Traffic) -> Iterator[System]:
    """Run a bridge with two taps for raw ends, and two with stacks behind them.

    A stack behind a tap is what a virtual machine is: its own interface, and a
    program that carries frames between that and the tap.
    """
    with ExitStack() as until_end:
        switch = make_bridge(lab, "taps", until_end)
        here = switch.namespace.path.name
        wire = plug_bridge_in(lab, switch, until_end)
        raw, stacks = [], []
        for number, address in enumerate(("10.82.0.1", "10.82.0.2")):
            ip(
                f"-n {here} tuntap add raw{number} mode tap",
                f"-n {here} link set raw{number} master br0 up",
            )
            mac = MacAddress(bytes((2, 0, 0, 0, 0x82, number)))
            raw.append(RawEnd(switch, f"tap:raw{number}", HostAddress(mac, IPv4Address(address))))
            host = make_host(lab, f"tap{number}", until_end)
            pump = switch.popen(
                *(str(traffic.path), "pump", f"port{number}", f"inner{number}"),
                stdout=subprocess.PIPE,
            )
            line(pump)
            ip(
                f"-n {here} link set port{number} master br0 up",
                f"-n {here} link set inner{number} netns {host.namespace.path.name}",
            )
            stacks.append(bring_up(host, f"inner{number}", address))
        yield System("bridge_tap", (raw[0], raw[1]), (stacks[0], stacks[1]), wire)
