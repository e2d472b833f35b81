"""slirp4netns, and passt as pasta: a stack in a namespace, without an address of its own outside.

They end each connection of the namespace themselves and make one of the host's
own for it, with the host's address.  So there is no frame to or from anybody
else, no raw end, and only what the namespace begins: TCP to a server on the host.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from tests.support.lab import Host, Lab
from tests.support.waiting import eventually

from ..traffic.program import Traffic
from .networks import ip, make_host, plug_in, set_here
from .system import StackEnd, System

#: No frame of theirs meets a wire, so theirs may be as long as a frame can be.
MTU = 65520
TAP = "tap0"
EVERYBODY = "0 2147483647"


@contextmanager
def slirp4netns(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run slirp4netns for a namespace."""

    def command(namespace: str) -> tuple[str, ...]:
        options = ("--configure", f"--mtu={MTU}", "--disable-dns", "--netns-type=path")
        return ("slirp4netns", *options, namespace, TAP)

    with translated(lab, "slirp4netns", "10.86.0.1", "10.0.2.100", command) as system:
        yield system


@contextmanager
def passt(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run pasta, which is passt for namespaces, for one."""

    def command(namespace: str) -> tuple[str, ...]:
        addresses = ("--address", "10.87.0.2", "--netmask", "24", "--gateway", "10.87.0.254")
        options = ("--foreground", "--quiet", "--config-net", "--ipv4-only", f"--mtu={MTU}")
        # It forwards nothing to the namespace, and is told so: else it looks for ports there.
        ports = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")
        interface = ("--interface", "out0", "--ns-ifname", TAP)
        where = ("--runas", "0", "--netns-only", "--netns", namespace)
        return ("pasta", *options, *addresses, *ports, *interface, *where)

    with translated(lab, "passt", "10.87.0.1", "10.87.0.2", command) as system:
        yield system


@contextmanager
def translated(
    lab: Lab,
    name: str,
    server: str,
    client: str,
    command: Callable[[str], tuple[str, ...]],
) -> Iterator[System]:
    """Run a translator beside a host that has an address, a route, and the server."""
    with ExitStack() as until_end:
        host = make_host(lab, name, until_end)
        here = host.namespace.path.name
        plug_in(lab, host, "out0", until_end)
        ip(
            f"-n {here} address add {server}/24 dev out0",
            f"-n {here} route add default via {server.rpartition('.')[0]}.254",
        )
        # Unprivileged echo requests are how they pass on the namespace's.
        set_here(host, "net/ipv4/ping_group_range", EVERYBODY)
        user = make_host(lab, f"{name}-user", until_end)
        host.popen(*command(str(user.namespace.path)), stdout=subprocess.DEVNULL)
        eventually(partial(has_address, user, client), f"{name} runs")
        stacks = (StackEnd(user, client), StackEnd(host, server))
        yield System(name, stacks=stacks, translates=True)


def has_address(host: Host, address: str) -> bool:
    return address in host.run("ip", "-4", "address", "show", "up").stdout
