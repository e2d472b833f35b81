"""What a vif may be bound to in its network.

Both the file's static vifs and those made at run time are judged by these
rules, so they stand here once and know neither a line number nor a caller.
Each rule yields a Fault for everything that breaks it; who calls decides
whether the first one ends it or all are collected.

What a vif claims is a list of prefixes: those it was given, and the addresses
that its stack makes of its MAC by itself.  That no two vifs claim the same is
the matter of `multiplexer.ledger`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_network
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, VifName

from .model import MAX_BOUND, NO_MAC, Network, Vif

#: Where no network of ours may lie: nobody can have such an address.
UNUSABLE: Final[Mapping[IPNetwork, str]] = MappingProxyType(
    {
        ip_network("0.0.0.0/32"): "the unspecified address",
        ip_network("255.255.255.255/32"): "the broadcast address",
        ip_network("0.0.0.0/8"): 'of "this network" (RFC 1122, section 3.2.1.3)',
        ip_network("127.0.0.0/8"): "loopback",
        ip_network("169.254.0.0/16"): "link-local",
        ip_network("224.0.0.0/4"): "multicast",
        ip_network("240.0.0.0/4"): "reserved (RFC 1112, section 4)",
        ip_network("::/128"): "the unspecified address",
        ip_network("::1/128"): "loopback",
        ip_network("::ffff:0:0/96"): "IPv4-mapped",
        ip_network("fe80::/10"): "link-local",
        ip_network("ff00::/8"): "multicast",
    }
)

#: Where ff:fe begins in an address that is made of a MAC.
_EUI64_MARK_BIT: Final = 88


class Wanted(Protocol):
    """A binding that somebody asks for."""

    @property
    def name(self) -> VifName: ...
    @property
    def network(self) -> str | None: ...
    @property
    def addresses(self) -> tuple[IPInterface, ...]: ...
    @property
    def prefixes(self) -> tuple[IPNetwork, ...]: ...
    @property
    def mac(self) -> MacAddress | None: ...


@attrs.frozen
class Fault:
    """Why a binding cannot be.

    *code* is one of the protocol's error codes; *field*, and *index* where the
    field is a list, is the part of what was asked for that is at fault.
    """

    code: str
    message: str
    field: str
    index: int | None = None


@attrs.frozen
class Claim:
    """All addresses of *prefix* for one vif.

    *field* is where they were given; "mac" if they are derived from it.
    """

    prefix: IPNetwork
    field: str
    index: int | None = None

    @property
    def is_derived(self) -> bool:
        return self.field == "mac"

    def __str__(self) -> str:
        if self.is_derived:
            return f"address {self.prefix.network_address}, which stacks make of the MAC,"
        if self.field == "addresses":
            return f"address {self.prefix.network_address}"
        return f"prefix {self.prefix}"

    def fault(self, code: str, why: str) -> Fault:
        return Fault(code, f"{self} {why}", self.field, self.index)

    def touches(self, address: IPAddress) -> bool:
        # A scope, as fe80::1%eth0 has one, is no part of an address on the wire.
        prefix = self.prefix
        if address.version != prefix.version:
            return False
        bits = prefix.max_prefixlen - prefix.prefixlen
        return int(address) >> bits == int(prefix.network_address) >> bits

    def relation(self, address: IPAddress) -> str:
        """Return "is" if *address* is all that is claimed, else how it is part of it."""
        return "is" if self.prefix.num_addresses == 1 else f"holds {address},"


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Return whether two prefixes have an address in common.

    Their own method makes up four addresses for each answer, and to check a
    thousand vifs takes a hundred thousand answers.
    """
    if one.version != other.version:
        return False
    bits = one.max_prefixlen - min(one.prefixlen, other.prefixlen)
    return int(one.network_address) >> bits == int(other.network_address) >> bits


def host_prefix(address: IPAddress) -> IPNetwork:
    """Return the prefix of one address: a /32 or a /128; a scope is dropped."""
    return ip_network((int(address), address.max_prefixlen))


def edge_addresses(prefix: IPNetwork) -> Mapping[IPAddress, str]:
    """Return the addresses of a network's prefix that no host has, each with what it is.

    A prefix of one or two addresses has none (RFC 3021, RFC 6164).
    """
    if prefix.max_prefixlen - prefix.prefixlen <= 1:
        return {}
    if prefix.version == 4:
        return {
            prefix.network_address: f"the network address of {prefix}",
            prefix.broadcast_address: f"the broadcast address of {prefix}",
        }
    return {prefix.network_address: f"the subnet-router anycast address of {prefix}"}


def unusable_reason(prefix: IPNetwork) -> str | None:
    """Return what an address of *prefix* is that nobody can have, or None."""
    return next((what for range_, what in UNUSABLE.items() if overlap(prefix, range_)), None)


def derived_addresses(
    network: Network, wanted: Wanted, mac: MacAddress
) -> tuple[IPv6Address, ...]:
    """Return the addresses that a stack gives itself: link-local, and in the prefix if a /64.

    Both are the EUI-64 of the MAC (RFC 4291, appendix A).  The latter is only for whom
    something of IPv6 was given: nothing else says that it may be in that prefix.
    """
    addresses = [mac.link_local()]
    prefix = _autoconf_prefix(network)
    if not any(claim.prefix.version == 6 for claim in given_claims(wanted)):
        return tuple(addresses)
    if prefix is not None:
        addresses.append(mac.eui64(prefix))
    return tuple(addresses)


def may_be_derived(network: Network, prefix: IPNetwork) -> bool:
    """Return whether a stack in *network* could make an address of *prefix* of some MAC.

    That is one with ff:fe in the middle of its last 64 bits (RFC 4291, appendix A).
    """
    if _autoconf_prefix(network) is None or prefix.version != 6:
        return False
    fixed = min(max(prefix.prefixlen - _EUI64_MARK_BIT, 0), 16)
    mark = int(prefix.network_address) >> (128 - _EUI64_MARK_BIT - 16) & 0xFFFF
    return (mark ^ 0xFFFE) >> (16 - fixed) == 0


def _autoconf_prefix(network: Network) -> IPv6Network | None:
    prefix = network.prefix(6)
    if network.autoconf and isinstance(prefix, IPv6Network) and prefix.prefixlen == 64:
        return prefix
    return None


def given_claims(wanted: Wanted) -> tuple[Claim, ...]:
    """Return what *wanted* was given to claim."""
    return (
        *(
            Claim(host_prefix(address.ip), "addresses", index)
            for index, address in enumerate(wanted.addresses)
        ),
        *(Claim(prefix, "prefixes", index) for index, prefix in enumerate(wanted.prefixes)),
    )


def claims(network: Network, wanted: Wanted, mac: MacAddress | None) -> tuple[Claim, ...]:
    """Return all that *wanted* claims; without *mac* only what it was given."""
    derived = derived_addresses(network, wanted, mac) if mac is not None else ()
    return (
        *given_claims(wanted),
        *(Claim(host_prefix(address), "mac") for address in derived),
    )


def bound_prefixes(network: Network, vif: Vif) -> tuple[IPNetwork, ...]:
    """Return all that *vif* may claim, each once: addresses, prefixes, derived addresses."""
    return tuple(dict.fromkeys(claim.prefix for claim in claims(network, vif, vif.mac)))


def choose_network(networks: Sequence[Network], wanted: Wanted) -> Network | Fault:
    """Return the network that *wanted* names, or else the one that its first address is in."""
    if wanted.network is not None:
        for network in networks:
            if network.name == wanted.network:
                return network
        return Fault("not_found", f"no network is named {wanted.network!r}", "network")
    given = given_claims(wanted)
    if not given:
        return _nothing_given(wanted)
    what = unusable_reason(given[0].prefix)
    if what is not None:
        return given[0].fault("invalid", f"is {what}")
    found = _network_of(networks, given[0].prefix)
    return found or given[0].fault("invalid", "is outside every network")


def binding_faults(
    networks: Sequence[Network], network: Network, wanted: Wanted, mac: MacAddress | None
) -> Iterator[Fault]:
    """Yield what keeps *wanted* out of *network*; *mac*, if it is known, is the vif's."""
    if mac is not None:
        yield from mac_faults(mac)
    if not wanted.addresses and not wanted.prefixes:
        yield _nothing_given(wanted)
    all_claims = claims(network, wanted, mac)
    seen: list[Claim] = []
    for claim in all_claims:
        if claim.is_derived:
            yield from place_faults(network, claim)
        else:
            yield from (
                list(_claim_faults(networks, network, wanted, claim))
                or list(_repetition_faults(claim, seen))
            )
            seen.append(claim)
    for version, most in MAX_BOUND.items():
        own = [claim for claim in all_claims if claim.prefix.version == version]
        if len(own) > most:
            message = (
                f"{len(own)} IPv{version} addresses and prefixes, those that stacks make"
                f" of the MAC included; a vif has at most {most}"
            )
            yield Fault("invalid", message, "addresses" if wanted.addresses else "prefixes")


def mac_faults(mac: MacAddress) -> Iterator[Fault]:
    """Yield why no vif can have *mac*."""
    if mac.packed == NO_MAC:
        yield Fault("invalid", f"MAC {mac} is no address", "mac")
    if mac.is_group:
        yield Fault("invalid", f"MAC {mac} is a group address", "mac")


def _nothing_given(wanted: Wanted) -> Fault:
    return Fault("invalid", f'vif "{wanted.name}" has no address and no prefix', "addresses")


def _network_of(networks: Iterable[Network], prefix: IPNetwork) -> Network | None:
    return next((network for network in networks if network.covers(prefix)), None)


def _claim_faults(
    networks: Sequence[Network], network: Network, wanted: Wanted, claim: Claim
) -> Iterator[Fault]:
    what = unusable_reason(claim.prefix)
    if what is not None:
        yield claim.fault("invalid", f"is {what}")
        return
    if not network.covers(claim.prefix):
        elsewhere = _network_of(networks, claim.prefix)
        own = " and ".join(str(prefix) for prefix in network.prefixes)
        if elsewhere is None:
            yield claim.fault("invalid", f'is outside network "{network.name}" ({own})')
        else:
            yield claim.fault(
                "invalid",
                f'is in network "{elsewhere.name}", the vif in "{network.name}" ({own})',
            )
        return
    if claim.field == "addresses" and claim.index is not None:
        length = wanted.addresses[claim.index].network.prefixlen
        prefix = network.prefix(wanted.addresses[claim.index].version)
        if prefix is not None and length != prefix.prefixlen:
            yield claim.fault(
                "invalid",
                f'has length /{length}, wanted /{prefix.prefixlen} as in network "{network.name}"',
            )
    yield from place_faults(network, claim)


def _repetition_faults(claim: Claim, seen: Iterable[Claim]) -> Iterator[Fault]:
    # An address inside a prefix of the same vif is fine: it is the one to be configured.
    for other in seen:
        if claim.field == other.field and overlap(claim.prefix, other.prefix):
            same = claim.prefix == other.prefix
            yield claim.fault("invalid", "is given twice" if same else f"overlaps {other}")


def place_faults(network: Network, claim: Claim) -> Iterator[Fault]:
    """Yield what of the network's own addresses *claim* would take."""
    for prefix in network.prefixes:
        for address, what in edge_addresses(prefix).items():
            if claim.touches(address):
                yield claim.fault("invalid", f"{claim.relation(address)} {what}")
    for gateway in network.gateways:
        if claim.touches(gateway):
            relation = claim.relation(gateway)
            yield claim.fault("conflict", f'{relation} the gateway of network "{network.name}"')
    for reserved in network.reserved:
        if reserved.overlaps(claim.prefix):
            where = "is in" if claim.prefix.num_addresses == 1 else "overlaps"
            yield claim.fault(
                "conflict", f'{where} the reserved range {reserved} of network "{network.name}"'
            )
