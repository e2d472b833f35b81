"""Bridges whose ports have the filters that ours have, in the kernel's own netfilter.

The rules stand in the chains and tables in which libvirt writes them: those of the link
layer by ebtables, those of the network layer by iptables, which the bridge asks about
each IPv4 frame.  Both are their nft variants, Debian's default.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from typing import Final

from pfinet_proto.values import MacAddress
from tests.support.lab import Host, Lab
from tests.support.netns import run

from ..frames import IPV4, HostAddress
from ..names import CLEAN_TRAFFIC, MANY_RULES, NO_FILTER
from .bridge import PORTS, veths_on_bridge
from .networks import ip, set_here
from .system import RawEnd, System

#: Of nobody's interface: a stack behind a port drops frames to it, and does not answer them.
ADDRESSES: Final = (IPv4Address("10.83.0.1"), IPv4Address("10.83.0.2"))

#: What clean-traffic says of frames from a guest, and to it, in the order of its chains.
CLEAN: Final = """\
:I-{port} ACCEPT
:I-{port}-mac ACCEPT
:I-{port}-ipv4-ip ACCEPT
:I-{port}-arp-mac ACCEPT
:I-{port}-arp-ip ACCEPT
:I-{port}-rarp ACCEPT
:O-{port} ACCEPT
:O-{port}-ipv4 ACCEPT
:O-{port}-rarp ACCEPT
-A PREROUTING -i {port} -j I-{port}
-A I-{port} -j I-{port}-mac
-A I-{port} -p IPv4 -j I-{port}-ipv4-ip
-A I-{port} -p IPv4 -j ACCEPT
-A I-{port} -p ARP -j I-{port}-arp-mac
-A I-{port} -p ARP -j I-{port}-arp-ip
-A I-{port} -p ARP -j ACCEPT
-A I-{port} -p 0x8035 -j I-{port}-rarp
-A I-{port} -p 0x835 -j ACCEPT
-A I-{port} -j DROP
-A I-{port}-mac -s {mac} -j RETURN
-A I-{port}-mac -j DROP
-A I-{port}-ipv4-ip -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN
-A I-{port}-ipv4-ip -p IPv4 --ip-src {ip} -j RETURN
-A I-{port}-ipv4-ip -j DROP
-A I-{port}-arp-mac -p ARP --arp-mac-src {mac} -j RETURN
-A I-{port}-arp-mac -j DROP
-A I-{port}-arp-ip -p ARP --arp-ip-src {ip} -j RETURN
-A I-{port}-arp-ip -j DROP
-A I-{port}-rarp -j DROP
-A POSTROUTING -o {port} -j O-{port}
-A O-{port} -p IPv4 -j O-{port}-ipv4
-A O-{port} -p ARP -j ACCEPT
-A O-{port} -p 0x8035 -j O-{port}-rarp
-A O-{port} -j DROP
-A O-{port}-ipv4 -j ACCEPT
-A O-{port}-rarp -j DROP
"""

NEW: Final = "-m conntrack --ctstate NEW,ESTABLISHED --ctdir ORIGINAL"
REPLY: Final = "-m conntrack --ctstate ESTABLISHED --ctdir REPLY"


def filter_of_ports(name: str, ports: Sequence[int]) -> str:
    """Return the filter whose guest serves TCP at *ports*, and asks whom it likes."""
    served = "".join(
        f"<rule action='accept' direction='in'><tcp dstportstart='{port}'/></rule>"
        for port in ports
    )
    rest = (
        "<rule action='accept' direction='out'><all/></rule>"
        "<rule action='drop' direction='inout' priority='1000'><all/></rule>"
    )
    return f"<filter name='{name}'>{served}{rest}</filter>"


def clean_by_ebtables(switch: Host, ends: Sequence[HostAddress]) -> None:
    """Have the ports of *switch* judged by clean-traffic."""
    rules = "".join(
        CLEAN.format(port=port, mac=end.mac, ip=end.ipv4)
        for port, end in zip(PORTS, ends, strict=True)
    )
    head = ":PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n"
    _load(switch, "ebtables-nft-restore", f"*nat\n{head}{rules}")


def ports_by_iptables(switch: Host, ports: Sequence[int]) -> None:
    """Have the ports of *switch* judged by what filter_of_ports() says."""
    lines = ["*filter", ":FORWARD ACCEPT [0:0]", ":IN - [0:0]", ":OUT - [0:0]"]
    lines += [f":{chain}-{port} - [0:0]" for port in PORTS for chain in ("FI", "FO")]
    lines += ["-A FORWARD -j IN", "-A FORWARD -j OUT"]
    for port in PORTS:
        bridged = "-m physdev --physdev-is-bridged --physdev"
        lines += [f"-A IN {bridged}-in {port} -g FI-{port}"]
        lines += [f"-A OUT {bridged}-out {port} -g FO-{port}"]
        for number in ports:
            lines += [f"-A FI-{port} -p tcp -m tcp --sport {number} {REPLY} -j RETURN"]
            lines += [f"-A FO-{port} -p tcp -m tcp --dport {number} {NEW} -j ACCEPT"]
        lines += [f"-A FI-{port} {NEW} -j RETURN", f"-A FI-{port} -j DROP"]
        lines += [f"-A FO-{port} {REPLY} -j ACCEPT", f"-A FO-{port} -j DROP"]
    _load(switch, "iptables-nft-restore", "\n".join([*lines, "COMMIT", ""]))
    set_here(switch, "net/bridge/bridge-nf-call-iptables", 1)


def _load(switch: Host, program: str, rules: str) -> None:
    path = switch.lab.root / f"{program}.rules"
    path.write_text(rules)
    with switch.namespace.entered():
        run(["sh", "-c", f'exec {program} < "$1"', "sh", str(path)])


@contextmanager
def filtered_bridges(lab: Lab, ports: Sequence[int]) -> Iterator[dict[str, System]]:
    """Run a bridge with two ends for each filter, by the filter's name; *ports* are the rules'."""
    load: dict[str, Callable[[Host, Sequence[HostAddress]], None]] = {
        NO_FILTER: lambda _switch, _ends: None,
        CLEAN_TRAFFIC: clean_by_ebtables,
        MANY_RULES: lambda switch, _ends: ports_by_iptables(switch, ports),
    }
    with ExitStack() as until_end:
        systems = {}
        for number, (name, load_into) in enumerate(load.items()):
            switch, hosts = veths_on_bridge(lab, f"bridge{number}", until_end)
            for host in hosts:
                ip(f"-n {host.namespace.path.name} link set eth0 up")
            first, second = (
                RawEnd(host, "packet:eth0", HostAddress(MacAddress(host.mac("eth0")), address))
                for host, address in zip(hosts, ADDRESSES, strict=True)
            )
            load_into(switch, (first.address, second.address))
            systems[name] = System("bridge_veth", raw=(first, second), ethertype=IPV4)
        yield systems
