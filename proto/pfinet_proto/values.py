"""The values that appear on the wire, in configuration and on screen alike.

Each is checked when it is made and compared by content, so a function that
takes one need not check it again.
"""

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, NewType, Self

import attrs

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

#: Text of any number of lines: line breaks and tabs may stand in it, other control
#: characters may not.
Text = NewType("Text", str)

_MAC_TEXT = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_VIF_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_LINK_LOCAL = IPv6Network("fe80::/64")


def _length(wanted: int) -> Callable[[Any, Any, bytes], None]:
    def check(_instance: object, _attribute: object, value: bytes) -> None:
        if len(value) != wanted:
            raise ValueError(f"MAC address is {len(value)} bytes, not {wanted}")

    return check


@attrs.frozen(order=True, repr=False)
class MacAddress:
    """A 48-bit Ethernet address."""

    packed: bytes = attrs.field(validator=[attrs.validators.instance_of(bytes), _length(6)])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the usual form, ``52:54:00:12:34:56``, in either case.

        Raises:
            ValueError: if *text* is not six pairs of hexadecimal digits joined by colons.
        """
        if not _MAC_TEXT.fullmatch(text):
            raise ValueError(f"{text!r} is not a MAC address such as 52:54:00:12:34:56")
        return cls(bytes.fromhex(text.replace(":", "")))

    def __str__(self) -> str:
        return self.packed.hex(":")

    def __repr__(self) -> str:
        return f"MacAddress({str(self)!r})"

    @property
    def is_group(self) -> bool:
        """True of multicast and broadcast (IEEE 802, clause 8.2)."""
        return bool(self.packed[0] & 0x01)

    def eui64(self, prefix: IPv6Network) -> IPv6Address:
        """Return the address that autoconfiguration makes under *prefix* (RFC 4291, appendix A).

        Raises:
            ValueError: if *prefix* is not a /64, which the 64-bit identifier needs.
        """
        if prefix.prefixlen != 64:
            raise ValueError(f"prefix {prefix} is not a /64")
        upper, lower = self.packed[:3], self.packed[3:]
        identifier = bytes([upper[0] ^ 0x02]) + upper[1:] + b"\xff\xfe" + lower
        return IPv6Address(prefix.network_address.packed[:8] + identifier)

    def link_local(self) -> IPv6Address:
        """Return the link-local address made of this MAC address (RFC 4862, section 5.3)."""
        return self.eui64(_LINK_LOCAL)


def _vif_name(_instance: object, _attribute: object, value: str) -> None:
    if not _VIF_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a vif name: 1 to 31 of a-z, 0-9 and -, the first not a -"
        )


@attrs.frozen(order=True, repr=False)
class VifName:
    """What a virtual interface is called: ``[a-z0-9][a-z0-9-]{0,30}``."""

    text: str = attrs.field(validator=[attrs.validators.instance_of(str), _vif_name])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return *text* as a name.

        Raises:
            ValueError: if it is not one.
        """
        return cls(text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"VifName({self.text!r})"
