"""The lab with everybody in it: alice, bob and mallory on their stacks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Address
from typing import Any, Final

import attrs

from .accounts import accounts
from .lab import LAN, Daemon, Lab, Stack
from .wire import Listener

OWNERS: Final = {"alice": 20001, "bob": 20002, "mallory": 20003, "trudy": 20004}
ATTACHED: Final = ("alice", "bob", "mallory")


@attrs.frozen
class Member:
    """Who somebody is on the LAN, as text."""

    mac: str
    ipv4: str
    ipv6: str

    @property
    def link_local(self) -> str:
        """Return the link-local address that follows from the MAC (RFC 4291, appendix A)."""
        mac = bytes.fromhex(self.mac.replace(":", ""))
        identifier = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
        return str(IPv6Address(IPv6Address("fe80::").packed[:8] + identifier))


@attrs.frozen
class Lan:
    """A running network.

    Mallory has subordinate uids, so that tcpdump, which switches users, runs in
    that stack.  Trudy has a vif and no stack: for other ways in.
    """

    lab: Lab
    daemon: Daemon
    stacks: Mapping[str, Stack]
    members: Mapping[str, Member]
    listeners: Mapping[str, Listener]

    def vif(self, name: str) -> dict[str, Any]:
        """Return what the daemon tells administrators of vif *name*."""
        shown: dict[str, Any] = self.lab.ask("vif.show", name=name)
        return shown

    def drops(self, name: str) -> dict[str, int]:
        """Return the frames of vif *name* that were dropped, by reason."""
        return dict(self.vif(name)["counters"]["drops"])

    def uplink_drops(self) -> dict[str, int]:
        return dict(self.lab.ask("uplink.show", name="wire")["counters"]["drops"])


@contextmanager
def running_lan(
    name: str,
    *,
    mode: str = "switch",
    mtu: int = 1500,
    wire_mtu: int | None = None,
    nic: str = "veth",
    extra: str = "",
    daemon_module: str = "multiplexer.daemon",
) -> Iterator[Lan]:
    """Run everything, and listen in every stack but mallory's, and outside."""
    with ExitStack() as until_end:
        lab = until_end.enter_context(
            Lab(name, mtu=wire_mtu or mtu, nic=nic, daemon_module=daemon_module)
        )
        lab.configure(OWNERS, mode=mode, mtu=mtu, extra=extra)
        daemon = until_end.enter_context(lab.daemon())
        with accounts({"mallory": OWNERS["mallory"]}, lab.root):
            stacks = {
                who: until_end.enter_context(lab.user(OWNERS[who]).stack(who)) for who in ATTACHED
            }
        members = {"outside": Member(lab.outside.mac(LAN).hex(":"), "10.77.0.1", "fd77::1")}
        for number, who in enumerate(OWNERS, start=11):
            mac = str(lab.ask("vif.show", name=who)["mac"])
            members[who] = Member(mac, f"10.77.0.{number}", f"fd77::{number}")
        listeners = {who: stacks[who].listener() for who in ("alice", "bob")}
        listeners["outside"] = lab.outside.listener(LAN)
        for listener in listeners.values():
            until_end.enter_context(listener)
        yield Lan(lab, daemon, stacks, members, listeners)
