"""vde_switch of VirtualSquare: raw ends by its library, stacks by vde_plug2tap."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address

from pfinet_proto.values import MacAddress
from tests.support.lab import Host, Lab
from tests.support.waiting import eventually

from ..frames import HostAddress
from ..traffic.program import Traffic
from .networks import bring_up, make_host, set_here
from .system import RawEnd, System

#: Frames that may wait in a socket: many more than the default of 10, so that bursts can.
QUEUE = 512


@contextmanager
def vde_switch(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run a switch, and two namespaces with a tap that is plugged into it."""
    with ExitStack() as until_end:
        host = make_host(lab, "vde", until_end)
        set_here(host, "net/unix/max_dgram_qlen", QUEUE)
        control = lab.root / "vde"
        # It ends with its input.
        host.popen(
            *("vde_switch", "-s", str(control)), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        eventually(lambda: (control / "ctl").exists(), "vde_switch runs")
        raw, stacks = [], []
        for number, address in enumerate(("10.84.0.1", "10.84.0.2")):
            mac = MacAddress(bytes((2, 0, 0, 0, 0x84, number)))
            raw.append(RawEnd(host, f"vde:{control}", HostAddress(mac, IPv4Address(address))))
            user = make_host(lab, f"vde{number}", until_end)
            set_here(user, "net/unix/max_dgram_qlen", QUEUE)
            user.popen("vde_plug2tap", "-s", str(control), "tap0")
            eventually(partial(has_interface, user, "tap0"), "vde_plug2tap runs")
            stacks.append(bring_up(user, "tap0", address))
        yield System("vde_switch", (raw[0], raw[1]), (stacks[0], stacks[1]))


def has_interface(host: Host, name: str) -> bool:
    return host.run("ip", "link", "show", name, check=False).returncode == 0
