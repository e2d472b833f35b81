"""Uplinks and networks: where frames go, and whether any go to the wire."""

import enum

import attrs

from pfinet_proto.values import IPAddress, IPNetwork

from .addresses import AddressRange, is_inside
from .filter_binding import FilterBinding
from .limits import Limits
from .sizes import MAX_MTU, MIN_IPV6_MTU, MIN_MTU, IPVersion


class UplinkKind(enum.Enum):
    """Where an uplink leads."""

    NIC = "nic"
    NONE = "none"


class Mode(enum.Enum):
    """How a network forwards."""

    SWITCH = "switch"
    HUB = "hub"


class LinkLocal(enum.Enum):
    """Which link-local addresses a vif may use."""

    EUI64 = "eui64"
    FIRST_COME = "first-come"


@attrs.frozen
class Uplink:
    """Where networks meet the outside.

    *interface* is None if, and only if, *kind* is NONE.  *external* are the
    prefixes of the network on the wire.
    """

    name: str
    kind: UplinkKind
    interface: str | None = None
    external: tuple[IPNetwork, ...] = ()

    def __attrs_post_init__(self) -> None:
        if (self.kind is UplinkKind.NIC) != (self.interface is not None):
            raise ValueError(
                f"uplink {self.name!r} of kind {self.kind.value} has interface {self.interface!r}"
            )


@attrs.frozen
class Network:
    """One broadcast domain: its prefixes, at most one of each family, and what its vifs are told.

    *mtu* is in bytes of the IP packet.  Nobody gets an address in *reserved*.
    *autoconf* also binds the address that a stack makes of the IPv6 prefix and
    its MAC by itself (RFC 4862).  *limits* and *link_local* are those of vifs with
    none of their own; *filter* is that of vifs for which nothing else says one.  With
    *host* the machine itself is in it, by a port of its own.
    """

    name: str
    mode: Mode
    uplink: str | None
    prefixes: tuple[IPNetwork, ...]
    gateways: tuple[IPAddress, ...] = ()
    mtu: int = 1500
    dns: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()
    reserved: tuple[AddressRange, ...] = ()
    autoconf: bool = True
    limits: Limits = attrs.field(factory=Limits)
    link_local: LinkLocal = LinkLocal.EUI64
    host: bool = False
    filter: FilterBinding | None = None

    def __attrs_post_init__(self) -> None:
        for what, values in (("prefix", self.prefixes), ("gateway", self.gateways)):
            versions = [value.version for value in values]
            if len(versions) != len(set(versions)):
                raise ValueError(f"network {self.name!r} has more than one {what} of one family")
        lowest = MIN_IPV6_MTU if self.prefix(6) else MIN_MTU
        if not lowest <= self.mtu <= MAX_MTU:
            raise ValueError(f"mtu is {self.mtu}, wanted {lowest} to {MAX_MTU}")

    def prefix(self, version: IPVersion) -> IPNetwork | None:
        """Return the network's prefix of one family."""
        return next((prefix for prefix in self.prefixes if prefix.version == version), None)

    def covers(self, prefix: IPNetwork) -> bool:
        """Whether all addresses of *prefix* are the network's."""
        return any(is_inside(prefix, own) for own in self.prefixes)


def has_uplink_port(network: Network, uplink: Uplink) -> bool:
    """Whether frames go between *network* and the wire of *uplink*.

    They do only where all its prefixes are on the wire's external network.
    """
    return uplink.kind is UplinkKind.NIC and all(
        any(is_inside(prefix, external) for external in uplink.external)
        for prefix in network.prefixes
    )
