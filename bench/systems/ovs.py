"""Open vSwitch with its switch in user space: no kernel module, and nothing of the machine's.

Its database, sockets and logs are in a folder of the lab.  Its ports are taps
that it makes itself, with segmentation offload: that was its fastest way, by a
third at 60 bytes and eight times with TCP.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.lab import Host, Lab
from tests.support.waiting import eventually

from ..traffic.program import Traffic
from .networks import bring_up, ip, make_host, packet_end
from .system import System

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
VSWITCHD = "/usr/sbin/ovs-vswitchd"


@contextmanager
def ovs_userspace(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run database and switch, and two namespaces with a tap of the switch each."""
    with ExitStack() as until_end:
        host = make_host(lab, "ovs", until_end)
        here = host.namespace.path.name
        folder = lab.root / "ovs"
        vsctl = start_switch(host, folder)
        raw, stacks = [], []
        for number, address in enumerate(("10.85.0.1", "10.85.0.2")):
            user = make_host(lab, f"ovs{number}", until_end)
            port = f"port{number}"
            host.run(*vsctl, "add-port", "br0", port, "--", "set", "interface", port, "type=tap")
            ip(f"-n {here} link set {port} netns {user.namespace.path.name}")
            stacks.append(bring_up(user, port, address))
            raw.append(packet_end(user, port, address))
        yield System("ovs_userspace", (raw[0], raw[1]), (stacks[0], stacks[1]))


def start_switch(host: Host, folder: Path) -> tuple[str, ...]:
    """Start all of it in *folder*, with a bridge br0, and return the command that controls it."""
    folder.mkdir()
    database, socket = folder / "conf.db", folder / "db.sock"
    environment = [f"OVS_{key}={folder}" for key in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")]
    alone = ("env", *environment)

    def start(*argv: str) -> None:
        host.popen(*alone, *argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    host.run("ovsdb-tool", "create", str(database), SCHEMA)
    start("ovsdb-server", str(database), f"--remote=punix:{socket}")
    eventually(socket.exists, "ovsdb-server runs")
    vsctl = (*alone, "ovs-vsctl", f"--db=unix:{socket}", "--timeout=20")
    host.run(*vsctl, "--no-wait", "init")
    segments = "other_config:userspace-tso-enable=true"
    host.run(*vsctl, "--no-wait", "set", "Open_vSwitch", ".", segments)
    start(VSWITCHD, f"unix:{socket}", f"--unixctl={folder / 'ctl'}")
    host.run(*vsctl, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
    return vsctl
