"""The host's own port in a network with ``host = true``: what it is, claims and reaches.

A frame that the daemon sends out of a NIC never comes back to that machine's own
stack, and what that stack sends to the NIC is not the daemon's to see.  So users
and the host reach each other over a tap of the host's, whose other end is a port
of the network and checked like any vif.  To the wire the host has its NIC: nothing
passes between the port and the wire.

The tap has the host's own addresses in the network's prefixes, those that its
other interfaces have, each alone and without the network around it; and for what
each vif is bound to a route.  So whatever else the host does with the network
stays with its NIC, and strict reverse path filtering holds.
"""

import hashlib
from collections.abc import Collection, Iterable
from ipaddress import ip_network
from typing import Final

import attrs

from pfinet_proto.values import IPAddress, IPNetwork, MacAddress

from .binding import bound_prefixes, host_prefix
from .model import MAX_BOUND, Limits, Network, Vif

#: IFNAMSIZ without the zero byte (linux/if.h).
MAX_INTERFACE_BYTES: Final = 15
PREFIX: Final = "mx-"

LINK_LOCAL: Final = ip_network("fe80::/10")


@attrs.frozen
class FoundAddress:
    """An address of an interface of the host; *rank* is lower where a source is preferred."""

    interface: int
    address: IPAddress
    rank: int = 0


def interface_of(network: str) -> str:
    """Return the name of the host's interface in *network*.

    One that would be too long ends with a part of its hash: ``mx-a-long--1f2e``.
    """
    name = PREFIX + network
    if len(name) <= MAX_INTERFACE_BYTES:
        return name
    digest = hashlib.sha256(network.encode()).hexdigest()[:4]
    return f"{name[: MAX_INTERFACE_BYTES - 5]}-{digest}"


def mac_of(network: str) -> MacAddress:
    """Return the MAC of the host in *network*.

    It is the same on every machine, since it is never on a wire.
    """
    digest = hashlib.sha256(f"host in {network}".encode()).digest()
    return MacAddress(b"\x52\x54" + digest[:4])


def limits_of(network: Network) -> Limits:
    """Return the limits of the host's port: what it may send to all, not to one."""
    return attrs.evolve(network.limits, frames_per_s=0, bytes_per_s=0)


def own_addresses(
    network: Network,
    found: Iterable[FoundAddress],
    taps: Collection[int],
    taken: Collection[IPNetwork],
) -> tuple[IPAddress, ...]:
    """Return the host's addresses in *network*, the preferred one of each family first.

    *taps* are our own interfaces, *taken* what vifs of the network are bound to.
    There are no more than a port can be bound to, beside its link-local one.
    """
    candidates = [
        each
        for each in sorted(found, key=lambda each: each.rank)
        if each.interface not in taps
        and network.covers(host_prefix(each.address))
        and not any(prefix.overlaps(host_prefix(each.address)) for prefix in taken)
    ]
    own = tuple(dict.fromkeys(each.address for each in candidates))
    ipv4 = [address for address in own if address.version == 4]
    ipv6 = [address for address in own if address.version == 6]
    return (*ipv4[: MAX_BOUND[4]], *ipv6[: MAX_BOUND[6] - 1])


def claims_of_host(network: Network, addresses: Iterable[IPAddress]) -> tuple[IPNetwork, ...]:
    """Return all that the host's port may claim: *addresses*, and its link-local one."""
    link_local = mac_of(network.name).link_local()
    return tuple(map(host_prefix, (*addresses, link_local)))


def routes_to(network: Network, vif: Vif) -> tuple[IPNetwork, ...]:
    """Return the prefixes that the host reaches *vif* by; link-local ones need no route."""
    return tuple(
        prefix for prefix in bound_prefixes(network, vif) if not prefix.overlaps(LINK_LOCAL)
    )


def wanted_routes(
    prefixes: Iterable[IPNetwork], addresses: Iterable[IPAddress]
) -> dict[IPNetwork, IPAddress]:
    """Return the source address of the route to each of *prefixes*.

    Without an address of its family in the network the host has no route: it would
    send from an address of another network, which its port may not.
    """
    sources: dict[int, IPAddress] = {}
    for address in addresses:
        sources.setdefault(address.version, address)
    return {prefix: sources[prefix.version] for prefix in prefixes if prefix.version in sources}
