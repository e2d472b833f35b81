"""Sets of addresses that rules may ask for by `ipset`, and that change beside the filters.

A set has a name and holds addresses and prefixes of both families; of a frame
those of its own family are looked at.  It is kept collapsed: sorted, nothing
within something else, halves as their whole, so that equal sets are equal
values.  Members are written as ipset(8) writes those of hash:net: an address, a
prefix, or the first and last address of a range.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import (
    IPv4Network,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
    summarize_address_range,
)
from itertools import chain
from typing import Final

import attrs

from pfinet_proto.values import IPNetwork

from .errors import BindError, MissingSet, where
from .protocols import PROTOCOLS
from .resolved import ResolvedRule
from .values import MAX_IPSET_NAME, IpsetName, shown

#: As many as ipset(8) gives room for by default.
MAX_MEMBERS: Final = 65_536

_NAME: Final = IpsetName()

#: Without what would not be seen in a list, or taken for an option.
_NEW_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:+-]{0,30}")


def check_new_name(text: str) -> str:
    """Return *text* if a set can be made that is called so; rules may name it by more.

    Raises:
        ValueError: if not.
    """
    if not _NEW_NAME.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not the name of a set:"
            f" a letter or _, then letters, digits and _.:+-, at most {MAX_IPSET_NAME}"
        )
    return text


def collapsed(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Return the fewest prefixes that cover just *networks*: IPv4 before IPv6, each sorted."""
    given = tuple(networks)
    return (
        *collapse_addresses(each for each in given if isinstance(each, IPv4Network)),
        *collapse_addresses(each for each in given if isinstance(each, IPv6Network)),
    )


@attrs.frozen
class NamedSet:
    """A set; *members* are collapsed()."""

    name: str = attrs.field()
    members: tuple[IPNetwork, ...] = attrs.field(default=())

    @name.validator
    def _valid_name(self, _attribute: object, value: str) -> None:
        _NAME.read(value)

    @members.validator
    def _collapsed(self, _attribute: object, value: tuple[IPNetwork, ...]) -> None:
        if len(value) > MAX_MEMBERS:
            raise ValueError(
                f"set {self.name!r} has {len(value)} members, wanted at most {MAX_MEMBERS}"
            )
        if value != collapsed(value):
            raise ValueError(f"members of set {self.name!r} are not collapsed")

    def with_members(self, networks: Iterable[IPNetwork]) -> "NamedSet":
        """Return the set with *networks* too.

        Raises:
            ValueError: if they are too many.
        """
        return attrs.evolve(self, members=collapsed((*self.members, *networks)))

    def without(self, networks: Iterable[IPNetwork]) -> "NamedSet":
        """Return the set without any address of *networks*, which may cut members in parts.

        Raises:
            ValueError: if the parts are too many.
        """
        members = self.members
        for gone in collapsed(networks):
            members = tuple(chain.from_iterable(_cut(each, gone) for each in members))
        return attrs.evolve(self, members=collapsed(members))


def _cut(member: IPNetwork, gone: IPNetwork) -> Iterable[IPNetwork]:
    """Return what is left of *member* when *gone* is taken out."""
    # Of two prefixes one is within the other, or they are apart.
    if isinstance(member, IPv4Network) and isinstance(gone, IPv4Network):
        if gone.supernet_of(member):
            return ()
        return member.address_exclude(gone) if member.supernet_of(gone) else (member,)
    if isinstance(member, IPv6Network) and isinstance(gone, IPv6Network):
        if gone.supernet_of(member):
            return ()
        return member.address_exclude(gone) if member.supernet_of(gone) else (member,)
    return (member,)


def read_members(text: str) -> tuple[IPNetwork, ...]:
    """Return the prefixes that *text* says: an address, a prefix, or a range ``FIRST-LAST``.

    Raises:
        ValueError: if it is none of these.
    """
    first, dash, last = text.partition("-")
    try:
        if "%" in text:
            raise ValueError("a zone")
        if not dash:
            return (ip_network(text),)
        return tuple(summarize_address_range(ip_address(first), ip_address(last)))
    except (ValueError, TypeError):
        raise ValueError(f"{shown(text)} is not a member of a set{_why_no_member(text)}") from None


def _why_no_member(text: str) -> str:
    """Return what is wrong with *text*, and what was wanted."""
    first, dash, last = text.partition("-")
    try:
        if not dash and "%" not in text:
            return f", wanted {ip_network(text, strict=False)} for that prefix"
        low, high = ip_address(first), ip_address(last)
        if low.version == high.version and int(low) > int(high):
            return f", whose first address is not before the last, wanted {high}-{low}"
    except ValueError:
        pass
    return ", wanted an address, a prefix, or the first and last address of a range"


def write_member(member: IPNetwork) -> str:
    """Return the text of *member*: one that is a single address is written as it."""
    if member.prefixlen == member.max_prefixlen:
        return str(member.network_address)
    return str(member)


def check_sets(rules: Iterable[ResolvedRule], sets: Mapping[str, NamedSet]) -> None:
    """Return if each set that *rules* ask for is there, by one dimension.

    ipset(8) has sets of several dimensions, to each of which a flag belongs;
    ours have one, and rules that ask for more of them would never match.

    Raises:
        BindError: if a set is missing, or flags are more than one.
    """
    for rule in rules:
        name, flags = rule.match("ipset"), rule.match("ipsetflags")
        if name is None or flags is None:
            continue
        line = rule.rule.position.line
        if name.value not in sets:
            raise MissingSet(str(name.value), rule.filter, line)
        if isinstance(flags.value, tuple) and len(flags.value) != 1:
            kind = PROTOCOLS[rule.protocol or "all"].table["ipsetflags"].type
            raise BindError(
                f"{where(rule.filter, line)}:"
                f" ipsetflags {kind.write(flags.value)!r} ask for"
                f" {len(flags.value)} dimensions, and set {name.value!r} has one"
            )
