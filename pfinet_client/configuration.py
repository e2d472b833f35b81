"""What a binding means for a stack, and what changes when it becomes another one.

A stack is configured once when it starts, and again whenever the daemon says
that its vif has changed.  Both are the same: a list of actions that lead from
one configuration, or from a fresh interface, to another.  Their order keeps
connections over unchanged addresses alive: what comes is there before what
goes is gone.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv6Interface, IPv6Network

import attrs

from pfinet_proto.attach import Binding
from pfinet_proto.values import IPAddress, IPInterface, MacAddress

INTERFACE = "pfinet0"

#: As ip(8) and the kernel number IPv6 routes; more gateways follow in the binding's order.
_FIRST_METRIC = 1024
#: Below it the kernel takes IPv6 and its settings off the interface (RFC 8200, section 5).
_MIN_IPV6_MTU = 1280


@attrs.frozen
class Route:
    """A default route."""

    gateway: IPAddress
    metric: int


@attrs.frozen
class Configuration:
    """How a stack is set up.

    *sysctls* are paths under /proc/sys/net and values, *learned* the addresses
    that the stack may have made by itself, of a router's advertisements.
    """

    mac: MacAddress
    mtu: int
    sysctls: Mapping[str, str]
    addresses: tuple[IPInterface, ...]
    learned: tuple[IPInterface, ...]
    routes: tuple[Route, ...]
    resolv_conf: str


# The actions.


@attrs.frozen
class SetLink:
    """Give the interface what is not None.

    To set the MAC address, also to what it is, makes the kernel tell the
    neighbours who has the interface's addresses (arp_notify, ndisc_notify).
    """

    mac: MacAddress | None = None
    mtu: int | None = None


@attrs.frozen
class StartLink:
    """Take the interface up."""


@attrs.frozen
class SetSysctl:
    """Write *value* to *path* under /proc/sys/net."""

    path: str
    value: str


@attrs.frozen
class AddAddress:
    """Let the stack have *address*."""

    address: IPInterface


@attrs.frozen
class RemoveAddress:
    """Take *address* away, if the stack has it."""

    address: IPInterface


@attrs.frozen
class AddRoute:
    """Let *route* be there."""

    route: Route


@attrs.frozen
class RemoveRoute:
    """Take *route* away, if it is there."""

    route: Route


@attrs.frozen
class WriteNames:
    """Have programs find *text* in resolv.conf."""

    text: str


Action = (
    SetLink
    | StartLink
    | SetSysctl
    | AddAddress
    | RemoveAddress
    | AddRoute
    | RemoveRoute
    | WriteNames
)


def configuration(binding: Binding) -> Configuration:
    """Return how a stack with *binding* is set up."""
    return Configuration(
        mac=binding.mac,
        mtu=binding.mtu,
        sysctls=_sysctls(binding),
        addresses=binding.addresses,
        learned=tuple(
            IPv6Interface((binding.mac.eui64(prefix), prefix.prefixlen))
            for prefix in binding.prefixes
            if isinstance(prefix, IPv6Network) and prefix.prefixlen == 64
        ),
        routes=tuple(
            Route(gateway, _FIRST_METRIC + number)
            for number, gateway in enumerate(binding.gateways)
        ),
        resolv_conf=_resolv_conf(binding),
    )


def _sysctls(binding: Binding) -> dict[str, str]:
    """Return the settings of the interface.

    A router is listened to only by a vif that is bound to an IPv6 prefix: there
    alone any address that autoconfiguration makes is one of its own.
    """
    values = {
        f"ipv4/conf/{INTERFACE}/arp_notify": "1",
        # Else the kernel drops the other addresses of a prefix with the first of them.
        f"ipv4/conf/{INTERFACE}/promote_secondaries": "1",
    }
    if binding.mtu < _MIN_IPV6_MTU:
        return values
    listens = any(prefix.version == 6 for prefix in binding.prefixes)
    return values | {
        f"ipv6/conf/{INTERFACE}/accept_dad": "0",
        f"ipv6/conf/{INTERFACE}/ndisc_notify": "1",
        # The link-local address that is bound is the EUI-64.
        f"ipv6/conf/{INTERFACE}/addr_gen_mode": "0",
        f"ipv6/conf/{INTERFACE}/accept_ra": "1" if listens else "0",
        f"ipv6/conf/{INTERFACE}/autoconf": "1" if listens else "0",
        f"ipv6/conf/{INTERFACE}/router_solicitations": "-1" if listens else "0",
    }


def _resolv_conf(binding: Binding) -> str:
    """Return the text of resolv.conf(5) for a binding.

    Without any name server it is a comment, never the host's own file: glibc
    then asks 127.0.0.1, which is the stack itself.
    """
    lines = [f"# vif {binding.vif}, network {binding.network}"]
    lines += [f"nameserver {address}" for address in binding.dns]
    if binding.search:
        lines.append("search " + " ".join(binding.search))
    return "\n".join(lines) + "\n"


def start(new: Configuration) -> list[Action]:
    """Return what sets up a fresh interface; its resolv.conf is made with its mounts.

    What must hold before the first packet is set before the interface goes up.
    """
    return [
        SetLink(new.mac, new.mtu),
        *(SetSysctl(path, value) for path, value in new.sysctls.items()),
        *map(AddAddress, new.addresses),
        StartLink(),
        *map(AddRoute, new.routes),
    ]


def changes(old: Configuration, new: Configuration) -> list[Action]:
    """Return what leads from *old* to *new* while the stack runs."""
    actions: list[Action] = []
    if old.mtu != new.mtu:
        actions.append(SetLink(mtu=new.mtu))
    # With the MTU the kernel may have made the settings of IPv6 anew.
    before = old.sysctls if old.sysctls.keys() == new.sysctls.keys() else {}
    actions += [
        SetSysctl(path, value) for path, value in new.sysctls.items() if before.get(path) != value
    ]
    actions += _address_changes(old, new)
    actions += _route_changes(old, new)
    if old.mac != new.mac or any(isinstance(action, AddAddress) for action in actions):
        actions.append(SetLink(mac=new.mac))
    if old.resolv_conf != new.resolv_conf:
        actions.append(WriteNames(new.resolv_conf))
    return actions


def _address_changes(old: Configuration, new: Configuration) -> Iterator[Action]:
    before, after = set(_held(old)), set(_held(new))
    gone = [address for address in _held(old) if address not in after]
    # An IPv6 address cannot be there twice, with one prefix and with another.
    moved = {address.ip for address in after - before if address.version == 6}
    yield from (RemoveAddress(address) for address in gone if address.ip in moved)
    yield from (AddAddress(address) for address in _held(new) if address not in before)
    yield from (RemoveAddress(address) for address in gone if address.ip not in moved)
    for address in old.learned:
        if address not in new.learned and address not in after:
            yield RemoveAddress(address)


def _held(configuration: Configuration) -> Iterator[IPInterface]:
    """Yield the addresses, and the link-local one that the kernel made of the MAC address."""
    yield from configuration.addresses
    if configuration.mtu >= _MIN_IPV6_MTU:
        yield IPv6Interface((configuration.mac.link_local(), 64))


def _route_changes(old: Configuration, new: Configuration) -> Iterator[Action]:
    before = set(old.routes)
    yield from (AddRoute(route) for route in new.routes if route not in before)
    yield from (RemoveRoute(route) for route in old.routes if route not in new.routes)
    if _has_ipv4(old) and not _has_ipv4(new):
        # The kernel took them with the last address.
        yield from (AddRoute(route) for route in new.routes if route.gateway.version == 4)


def _has_ipv4(configuration: Configuration) -> bool:
    return any(address.version == 4 for address in configuration.addresses)
