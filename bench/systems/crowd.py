"""A daemon of ours with very many vifs, each of a user of its own, all attached."""

import resource
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import attrs

from pfinet_proto.values import MacAddress
from tests.support.lab import CONFIG, LAN, Daemon, Lab
from tests.support.plain import LENGTH, connected
from tests.support.usage import Usage, usages
from tests.support.waiting import eventually

from ..frames import IPV4, HostAddress, udp_frame
from .multiplexer import RAW_SOCKETS, nobody_on
from .system import RawEnd, System

FIRST_UID: Final = 30000
SMALL_NET, WIDE_NET = "10.77.0.0/24", "10.77.0.0/16"
FIRST_ADDRESS: Final = IPv4Address("10.77.4.1")

VIF: Final = """
[vif.{name}]
owner = "{uid}"
network = "lan"
addresses = ["{address}/16", "fd77::{number:x}:1/64"]
"""


@attrs.frozen
class Member:
    """One vif of the crowd and its owner."""

    name: str
    uid: int
    address: HostAddress
    folder: Path


@attrs.frozen
class Crowd:
    """The running daemon; *start_s* is from its start until the last vif was attached."""

    lab: Lab
    daemon: Daemon
    members: Sequence[Member]
    clients: dict[str, socket.socket]
    start_s: float

    def frames_checked(self) -> int:
        """Return how many frames from all vifs the daemon has checked."""
        return sum(int(vif["counters"]["rx_frames"]) for vif in self.vifs())

    def vifs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lab.query("vif", "list")["vifs"]
        return found

    def memory_mib(self) -> float:
        """Return the memory of all processes of the daemon, what they share counted once (PSS)."""
        return sum(usage.pss_mib for usage in self._usages())

    def cpu_s(self) -> float:
        """Return the processor time of all processes of the daemon, ended threads included."""
        return sum(usage.cpu_s for usage in self._usages())

    def _usages(self) -> Collection[Usage]:
        return usages(self.daemon.processes()).values()

    def say_something(self) -> None:
        """Have each client send one frame to the next, which proves that it is attached."""
        following = [*self.members[1:], self.members[0]]
        for member, neighbour in zip(self.members, following, strict=True):
            frame = udp_frame(member.address, neighbour.address, 60, IPV4)
            self.clients[member.name].sendall(LENGTH.pack(len(frame)) + frame)
        eventually(
            lambda: self.frames_checked() >= len(self.members), "each client's frame was checked"
        )

    def leave(self, member: Member) -> None:
        """End the attachment of *member*, so that another client can have the vif."""
        self.clients.pop(member.name).close()
        eventually(nobody_on(self.lab, member.name), f"{member.name} is free")

    @contextmanager
    def as_systems(self) -> Iterator[list[System]]:
        """Give the vifs of the first two members as raw ends, all others still attached.

        There is a system for each kind of raw client.
        """
        for member in self.members[:2]:
            self.leave(member)
        yield [self._pair(kind, socket) for kind, socket in RAW_SOCKETS.items()]

    def _pair(self, kind: str, socket: str) -> System:
        pair = self.members[:2]
        first, second = (
            RawEnd(self.lab.host, f"{kind}:{member.folder / socket}:{member.uid}", member.address)
            for member in pair
        )
        return System(
            f"multiplexer_{kind}",
            raw=(first, second),
            ethertype=IPV4,
            checked=self.frames_checked,
            is_free=nobody_on(self.lab, *(member.name for member in pair)),
        )


@contextmanager
def crowd(size: int, name: str) -> Iterator[Crowd]:
    """Start a daemon with *size* vifs in its file, and attach to all of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as until_end:
        lab = until_end.enter_context(Lab(name))
        lab.config.write_text(configuration(lab, size))
        let_nobody_look_for_routers(lab)
        start_s = time.monotonic()
        daemon = until_end.enter_context(lab.daemon())
        clients = {}
        for folder in (lab.run_dir / "vif").iterdir():
            stream = folder / "stream"
            uid = stream.stat().st_uid
            clients[f"v{uid - FIRST_UID}"] = until_end.enter_context(connected(stream, uid))
        eventually(lambda: lab.ask("status")["attached"] == size, "all vifs are attached")
        took_s = time.monotonic() - start_s
        members = [member_of(lab, vif) for vif in lab.query("vif", "list")["vifs"]]
        yield Crowd(lab, daemon, members, clients, took_s)


def let_nobody_look_for_routers(lab: Lab) -> None:
    """Keep the outside host's kernel from asking all, now and then, who is a router (RFC 7559)."""
    with lab.outside.namespace.entered():
        Path(f"/proc/sys/net/ipv6/conf/{LAN}/router_solicitations").write_text("0")


def configuration(lab: Lab, size: int) -> str:
    """Return a configuration with *size* vifs."""
    text = CONFIG.format(
        run_dir=lab.run_dir, state_dir=lab.root / "state", mode="switch", mtu=1500
    )
    text = text.replace(SMALL_NET, WIDE_NET)
    text = text.replace("20001-20089", f"{FIRST_UID}-{FIRST_UID + size}")
    for number in range(size):
        text += VIF.format(
            name=f"v{number}",
            uid=FIRST_UID + number,
            address=FIRST_ADDRESS + number + number // 250 * 6,
            number=number + 1,
        )
    return text


def member_of(lab: Lab, vif: dict[str, Any]) -> Member:
    """Return the member that *vif*, as the daemon shows it, is."""
    return Member(
        vif["name"],
        vif["owner_uid"],
        HostAddress(
            MacAddress.parse(vif["mac"]), IPv4Address(vif["addresses"][0].partition("/")[0])
        ),
        lab.run_dir / "vif" / vif["id"],
    )
