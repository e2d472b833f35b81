"""Namespaces of two stacks, and what all peers set up in them."""

from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

from pfinet_proto.values import MacAddress
from tests.support.lab import Host, Lab
from tests.support.netns import NetworkNamespace, run

from ..frames import HostAddress
from .system import RawEnd, StackEnd, Wire

MTU = 1500

#: Who sends and receives on the wire: no stack's own, so that none there spends time on it.
FAR_MAC = MacAddress.parse("02:00:00:00:00:99")


def ip(*lines: str) -> None:
    """Run each of *lines* as a command line of ip(8)."""
    for line in lines:
        run(["ip", *line.split()])


def make_host(lab: Lab, name: str, until_end: ExitStack) -> Host:
    """Return a new namespace of *lab*, quiet: without IPv6, so nothing there talks by itself."""
    namespace = NetworkNamespace.create(f"{lab.name}-{name}")
    until_end.callback(namespace.delete)
    host = Host(namespace, lab)
    set_here(host, "net/ipv6/conf/all/disable_ipv6", 1)
    set_here(host, "net/ipv6/conf/default/disable_ipv6", 1)
    return host


def set_here(host: Host, key: str, value: int | str) -> None:
    """Set a key of /proc/sys that each network namespace has for itself."""
    with host.namespace.entered():
        Path("/proc/sys", key).write_text(str(value))


def let_bridges_switch_alone(host: Host) -> None:
    """Keep the bridges of a namespace from asking its netfilter about each frame."""
    for family in ("iptables", "ip6tables", "arptables"):
        path = Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}")
        with host.namespace.entered():
            if path.exists():  # else the module that asks is not there
                path.write_text("0")


def bring_up(host: Host, interface: str, address: str) -> StackEnd:
    """Give *interface* its address of a /24, and have it up."""
    name = host.namespace.path.name
    ip(
        f"-n {name} link set {interface} mtu {MTU} up",
        f"-n {name} address add {address}/24 dev {interface}",
    )
    return StackEnd(host, address)


def packet_end(host: Host, interface: str, address: str) -> RawEnd:
    """Return the end that a packet socket on *interface* is."""
    mac = MacAddress(host.mac(interface))
    return RawEnd(host, f"packet:{interface}", HostAddress(mac, IPv4Address(address)))


def plug_in(lab: Lab, switch: Host, nic: str, until_end: ExitStack) -> Wire:
    """Make a NIC in *switch*: one end of a cable whose other end is in a namespace of its own."""
    outside = make_host(lab, f"far-{switch.namespace.path.name}", until_end)
    here, there = (host.namespace.path.name for host in (switch, outside))
    ip(
        f"link add {nic} netns {here} type veth peer name far netns {there}",
        f"-n {here} link set {nic} up",
        f"-n {there} link set far up",
    )
    return wire_at(outside, "far", "10.80.0.99")


def wire_at(outside: Host, interface: str, address: str) -> Wire:
    """Return the wire whose far end is *interface*."""
    return Wire(RawEnd(outside, f"packet:{interface}", HostAddress(FAR_MAC, IPv4Address(address))))
