"""Arithmetic of addresses: ranges, and which prefix lies in which."""

from ipaddress import IPv4Network, IPv6Network

import attrs

from pfinet_proto.values import IPAddress, IPNetwork


@attrs.frozen
class AddressRange:
    """All addresses from *first* to *last*, both of one family."""

    first: IPAddress
    last: IPAddress

    def __attrs_post_init__(self) -> None:
        if self.first.version != self.last.version or int(self.first) > int(self.last):
            raise ValueError(f"{self.first}-{self.last} is no range")

    def overlaps(self, prefix: IPNetwork) -> bool:
        """Whether any address of *prefix* is in the range."""
        return (
            prefix.version == self.first.version
            and int(prefix.network_address) <= int(self.last)
            and int(self.first) <= int(prefix.broadcast_address)
        )

    def holds(self, prefix: IPNetwork) -> bool:
        """Whether every address of *prefix* is in the range."""
        return (
            prefix.version == self.first.version
            and int(self.first) <= int(prefix.network_address)
            and int(prefix.broadcast_address) <= int(self.last)
        )

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.first != self.last else str(self.first)


def is_inside(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether *outer* has every address of *inner*; families never mix."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
