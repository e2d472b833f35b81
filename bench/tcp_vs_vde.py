"""One TCP stream between two stacks, ours against vde2: python -m bench.tcp_vs_vde.

Both carry it between two kernel stacks at MTU 1500: ours as two `pfinet run`
of two users on one switched network, vde2 as two `vde_plug2tap` on one
`vde_switch`.  Rounds alternate, so that both meet the same machine.  What is
reported is what iperf3 received; and the memory of our daemon before any of it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from tests.support.lab import Host, Lab
from tests.support.netns import NetworkNamespace, run
from tests.support.programs import Place, ping, running
from tests.support.seclusion import seclude
from tests.support.waiting import eventually

OWNERS: Final = {"alice": 20001, "bob": 20002}
SERVER: Final = "10.77.0.12"
VDE_ADDRESSES: Final = ("10.78.0.11", "10.78.0.12")


@attrs.frozen
class Contender:
    """Two places that can talk, and the address of the second."""

    name: str
    client: Place
    server: Place
    address: str

    def gbit_per_s(self, seconds: int) -> float:
        """Return what one TCP stream carries, in 1e9 bit/s."""
        with running(
            *(self.server, "iperf3", "-s", "-1", "--forceflush", "-B", self.address),
            until="listening",
        ):
            done = self.client.run("iperf3", "-J", "-c", self.address, f"-t{seconds}")
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def has_tap(place: Host) -> bool:
    return place.run("ip", "link", "show", "tap0", check=False).returncode == 0


@contextmanager
def vde(lab: Lab) -> Iterator[Contender]:
    """Run vde_switch and two namespaces on it."""
    with ExitStack() as until_end:
        control = lab.root / "vde"
        lab.host.popen(
            *("vde_switch", "-s", str(control)),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: (control / "ctl").exists(), "vde_switch runs")
        places = []
        for number, address in enumerate(VDE_ADDRESSES):
            namespace = NetworkNamespace.create(f"{lab.name}-vde{number}")
            until_end.callback(namespace.delete)
            place = Host(namespace, lab)
            place.popen("vde_plug2tap", "-s", str(control), "tap0")
            eventually(partial(has_tap, place), "vde_plug2tap runs")
            place.run("ip", "address", "add", f"{address}/24", "dev", "tap0")
            place.run("ip", "link", "set", "tap0", "mtu", "1500", "up")
            places.append(place)
        yield Contender("vde2", places[0], places[1], VDE_ADDRESSES[1])


@contextmanager
def ours(lab: Lab) -> Iterator[Contender]:
    with (
        lab.user(OWNERS["alice"]).stack("alice") as alice,
        lab.user(OWNERS["bob"]).stack("bob") as bob,
    ):
        yield Contender("pfinet run", alice, bob, SERVER)


def memory_kib(pid: int) -> dict[str, int]:
    """Return a process's resident set, and its fair share of it (PSS), in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines[1:])
    return {name.lower(): int(fields[name].split()[0]) for name in ("Rss", "Pss")}


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """Return all that was measured, as it is written to the file."""
    with ExitStack() as until_end:
        lab = until_end.enter_context(Lab("bench"))
        lab.configure(OWNERS)
        daemon = until_end.enter_context(lab.daemon())
        contenders = [until_end.enter_context(start(lab)) for start in (ours, vde)]
        for contender in contenders:
            assert ping(contender.client, contender.address), f"{contender.name} does not answer"
        memory = {role: memory_kib(pid) for role, pid in daemon.processes().items()}
        rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for number in range(rounds):
            for contender in contenders:
                rate = contender.gbit_per_s(seconds)
                rates[contender.name].append(rate)
                print(f"round {number + 1}: {contender.name} {rate:.2f} Gbit/s", flush=True)
    return {
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "vde2": vde_version(),
        "seconds": seconds,
        "gbit_per_s": {name: summary(found) for name, found in rates.items()},
        "memory_kib": memory,
    }


def vde_version() -> str:
    shown = run(["dpkg-query", "-W", "-f${Version}", "vde2"], check=False)
    return shown.stdout or "unknown"


def summary(rates: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(rates), 3),
        "min": round(min(rates), 3),
        "max": round(max(rates), 3),
        "all": [round(rate, 3) for rate in rates],
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report for people."""
    yield f"\nTCP, one stream, MTU 1500, Gbit/s ({found['cpus']} CPUs, Linux {found['kernel']})"
    yield f"{'':14}{'median':>8}{'min':>8}{'max':>8}"
    rates = found["gbit_per_s"]
    for name, rate in rates.items():
        yield f"{name:14}{rate['median']:8.2f}{rate['min']:8.2f}{rate['max']:8.2f}"
    mine, theirs = (rates[name]["median"] for name in ("pfinet run", "vde2"))
    yield f"{'ratio':14}{mine / theirs:8.1f}"
    yield "\nmultiplexerd at rest, two stacks attached, MiB"
    yield f"{'':14}{'PSS':>8}{'RSS':>8}"
    for role, sizes in found["memory_kib"].items():
        yield f"{role:14}{sizes['pss'] / 1024:8.1f}{sizes['rss'] / 1024:8.1f}"
    total = sum(sizes["pss"] for sizes in found["memory_kib"].values())
    yield f"{'all':14}{total / 1024:8.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=int, default=3, help="of each round, default: 3")
    parser.add_argument("--json", type=Path, default=Path("build/bench/tcp_vs_vde.json"))
    arguments = parser.parse_args()
    if (status := seclude()) is not None:
        return status
    found = measure(arguments.rounds, arguments.seconds)
    print("\n".join(table(found)))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwritten to {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
