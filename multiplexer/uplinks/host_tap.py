"""The taps of networks with ``host = true``: made, configured, and followed.

`multiplexer.host_port` says what such a tap is for and what it has.  Here it is
made so, in the broker, which keeps its own copy of each and hands duplicates to
the engine: a tap, with its addresses and routes, lives as long as the broker does,
and no longer.

What the kernel has is compared with what should be, at start, after each change
of an interface or an address of this namespace, and when the vifs change.  So a
tap that was deleted, or set down and up, is put right again.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from multiplexer.host_port import (
    LINK_LOCAL,
    FoundAddress,
    interface_of,
    mac_of,
    own_addresses,
    wanted_routes,
)
from multiplexer.model import Network
from multiplexer.uplinks import rtnetlink
from multiplexer.uplinks.nic import read_link
from multiplexer.uplinks.rtnetlink import Request, Route, RouteSocket
from multiplexer.uplinks.tap import Tap, why_not
from pfinet_proto.values import IPAddress, IPNetwork

SYSCTLS: Final = Path("/proc/sys/net")


def sysctls(interface: str) -> dict[str, str]:
    """Return the settings of a host's tap, as paths under /proc/sys/net and values.

    It answers for its own addresses, asks from them, and believes no router that a
    vif may be.  Its link-local address is the one that is bound.
    """
    return {
        f"ipv4/conf/{interface}/arp_ignore": "1",
        f"ipv4/conf/{interface}/arp_announce": "2",
        f"ipv4/conf/{interface}/accept_redirects": "0",
        f"ipv4/conf/{interface}/send_redirects": "0",
        f"ipv6/conf/{interface}/accept_ra": "0",
        f"ipv6/conf/{interface}/autoconf": "0",
        f"ipv6/conf/{interface}/router_solicitations": "0",
        f"ipv6/conf/{interface}/accept_redirects": "0",
        f"ipv6/conf/{interface}/accept_dad": "0",
        f"ipv6/conf/{interface}/addr_gen_mode": "0",
    }


@attrs.frozen
class HostState:
    """How a host's port is: its interface, its addresses, and what is wrong."""

    present: bool = False
    up: bool = False
    addresses: tuple[IPAddress, ...] = ()
    error: str | None = None


class HostTap:
    """The host's tap in one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.interface = interface_of(network.name)
        self.tap: Tap | None = None
        self.state = HostState()
        #: What the network's vifs are bound to, and what of it was asked for since
        #: `begin_claims`.
        self._prefixes: set[IPNetwork] = set()
        self._claimed: set[IPNetwork] = set()
        #: The host's addresses in the network, those too that are a vif's.
        self._found: tuple[IPAddress, ...] = ()
        #: What could not be done when the tap was made.
        self._flaws: tuple[str, ...] = ()

    def open(self, netlink: RouteSocket) -> None:
        """Make the tap, and set it up, if there is none."""
        if self.tap is not None and self.tap.interface is None:
            self.close()
        if self.tap is not None:
            return
        try:
            self.tap = Tap(self.interface)
        except OSError as error:
            self._flaws = (why_not(self.interface, error),)
            return
        requests = [
            rtnetlink.set_link(
                self.tap.index, mac=mac_of(self.network.name), mtu=self.network.mtu
            ),
            rtnetlink.set_up(self.tap.index),
        ]
        try:
            # Before it is up: nothing must be sent or believed by the usual settings.
            self._flaws = (
                *_write_sysctls(self.interface),
                *_attempt(netlink, ["MAC and MTU", "state up"], requests),
            )
        except OSError:
            self.close()
            raise

    def note_failure(self, error: OSError) -> None:
        """Say that nobody knows how the tap is now."""
        self.state = attrs.evolve(self.state, error=f"netlink: {error.strerror}")

    def close(self) -> None:
        if self.tap is not None:
            self.tap.close()
            self.tap = None

    def become(self, network: Network) -> None:
        """Be the tap of *network*, which has another MTU or other prefixes than before."""
        if network.mtu != self.network.mtu:
            self.close()
        self.network = network

    def follow(
        self,
        netlink: RouteSocket,
        found: Sequence[FoundAddress],
        taps: Collection[int],
    ) -> None:
        """Give the tap what it should have, and see how it is.

        *found* are the addresses of all interfaces, *taps* our own of these.
        """
        self._found = own_addresses(self.network, found, taps, ())
        addresses = own_addresses(self.network, found, taps, self._prefixes)
        name = self.tap.interface if self.tap is not None else None
        link = None if name is None else read_link(netlink.socket, name)
        problems = list(self._flaws)
        if self.tap is not None and link is not None and link.up:
            has = [each.address for each in found if each.interface == self.tap.index]
            problems += self._put_right(netlink, self.tap.index, has, addresses)
        self.state = HostState(
            present=self.tap is not None,
            up=link is not None and link.up,
            addresses=addresses,
            error="; ".join(problems) or None,
        )

    def _put_right(
        self,
        netlink: RouteSocket,
        index: int,
        has: Sequence[IPAddress],
        addresses: Sequence[IPAddress],
    ) -> Iterator[str]:
        """Make addresses and routes as they should be; yield what could not be done."""
        routes = set(netlink.routes(index))
        wanted = {Route(*pair) for pair in wanted_routes(self._prefixes, addresses).items()}
        strange = [each for each in has if each not in addresses and each not in LINK_LOCAL]
        missing = [each for each in addresses if each not in has]
        # A route goes before the address that it prefers, and comes after it.
        netlink.do([rtnetlink.remove_route(index, route.prefix) for route in routes - wanted])
        netlink.do([rtnetlink.remove_address(index, address) for address in strange])
        yield from _attempt(
            netlink, missing, [rtnetlink.add_address(index, address) for address in missing]
        )
        yield from _add_routes(netlink, index, wanted - routes)

    # What control asks for

    def change_routes(
        self, netlink: RouteSocket, add: Collection[IPNetwork], drop: Collection[IPNetwork]
    ) -> list[str]:
        """Have routes to the prefixes *add*, and none to *drop*; return what could not be done."""
        new, gone = set(add) - self._prefixes, self._prefixes.intersection(drop)
        self._claimed = self._claimed.difference(drop).union(add)
        self._prefixes = self._prefixes.difference(drop).union(add)
        if self.tap is None or not self.state.up:
            return []
        index = self.tap.index
        netlink.do([rtnetlink.remove_route(index, prefix) for prefix in gone])
        wanted = wanted_routes(new, self.state.addresses)
        return list(_add_routes(netlink, index, [Route(*pair) for pair in wanted.items()]))

    @property
    def prefixes(self) -> Collection[IPNetwork]:
        """What routes were asked for to."""
        return self._prefixes

    def concerns(self, prefixes: Iterable[IPNetwork]) -> bool:
        """Whether the host has an address in any of *prefixes*, which is a vif's or was."""
        return any(address in prefix for prefix in prefixes for address in self._found)

    def begin_claims(self) -> None:
        """Expect another control to ask for its routes again."""
        self._claimed = set()

    def unclaimed(self) -> frozenset[IPNetwork]:
        """Return what was not asked for again: routes to vifs that are no more."""
        return frozenset(self._prefixes - self._claimed)


def _add_routes(netlink: RouteSocket, index: int, routes: Collection[Route]) -> Iterator[str]:
    names = [f"route to {route.prefix}" for route in routes]
    return _attempt(netlink, names, [rtnetlink.add_route(index, route) for route in routes])


def _attempt(
    netlink: RouteSocket, names: Sequence[object], requests: Sequence[Request]
) -> Iterator[str]:
    """Do *requests* and yield what was refused, by *names*."""
    for name, code in zip(names, netlink.do(requests), strict=True):
        if code:
            yield f"{name}: {os.strerror(code)}"


def _write_sysctls(interface: str) -> Iterator[str]:
    has_ipv6 = (SYSCTLS / "ipv6").is_dir()
    for name, value in sysctls(interface).items():
        if has_ipv6 or not name.startswith("ipv6/"):
            try:
                (SYSCTLS / name).write_text(value)
            except OSError as error:
                yield f"{SYSCTLS / name}: {error.strerror}"


class HostTaps:
    """Every tap of the host's, by network."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._hosts = {network.name: HostTap(network) for network in networks if network.host}
        self._netlink = RouteSocket() if self._hosts else None
        #: Whether the last `refresh` failed, so that another may find and mend more.
        self.is_stale = False
        #: How each was when `take_changes` last looked.
        self._seen: dict[str, tuple[HostState, Tap | None]] = {}

    def __iter__(self) -> Iterator[HostTap]:
        return iter(self._hosts.values())

    def __getitem__(self, network: str) -> HostTap:
        return self._hosts[network]

    def follow(self, networks: Iterable[Network]) -> list[str]:
        """Be the taps of *networks* from the next `refresh` on; return those that go.

        What vifs of a network are bound to is remembered where the host stays in it.
        """
        wanted = {network.name: network for network in networks if network.host}
        gone = [name for name in self._hosts if name not in wanted]
        for name in gone:
            self._hosts.pop(name).close()
            self._seen.pop(name, None)
        for name, network in wanted.items():
            if name not in self._hosts:
                self._hosts[name] = HostTap(network)
            elif self._hosts[name].network != network:
                self._hosts[name].become(network)
        if wanted and self._netlink is None:
            self._netlink = RouteSocket()
        return gone

    def close(self) -> None:
        for host in self:
            host.close()
        if self._netlink is not None:
            self._netlink.close()

    def refresh(self) -> None:
        """Put right what is not as it should be; if the kernel fails us, that is its state."""
        if self._netlink is None:
            return
        try:
            self._look(self._netlink)
        except OSError as error:
            self.is_stale = True
            for host in self:
                host.note_failure(error)
        else:
            self.is_stale = False

    def _look(self, netlink: RouteSocket) -> None:
        for host in self:
            host.open(netlink)
        found = netlink.addresses()
        taps = {host.tap.index for host in self if host.tap is not None}
        for host in self:
            host.follow(netlink, found, taps)

    def take_changes(self) -> list[HostTap]:
        """Return those that have changed since the last call."""
        changed = [
            host for host in self if self._seen.get(host.network.name) != (host.state, host.tap)
        ]
        for host in changed:
            self._seen[host.network.name] = (host.state, host.tap)
        return changed

    def prefixes(self, network: str) -> Collection[IPNetwork]:
        """Return the prefixes that routes in *network* were asked for to."""
        return self[network].prefixes if network in self._hosts else ()

    def change_routes(
        self, network: str, add: Collection[IPNetwork], drop: Collection[IPNetwork]
    ) -> None:
        """Have routes in *network* to the prefixes *add*, and none to *drop*."""
        if network not in self._hosts:  # nor any route in it
            return
        assert self._netlink is not None
        host = self[network]
        problems = host.change_routes(self._netlink, add, drop)
        if problems or host.concerns([*add, *drop]):
            self.refresh()

    def begin_claims(self) -> None:
        """Expect another control to ask for its routes again."""
        for host in self:
            host.begin_claims()

    def end_unclaimed(self) -> None:
        """Remove the routes that it did not ask for: to vifs that are no more."""
        for host in self:
            self.change_routes(host.network.name, (), host.unclaimed())
