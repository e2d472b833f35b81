"""The types of attribute values: what text each accepts, what that means, how it is printed.

A type turns text into a value by read(), and the value into its one canonical
text by write(), so that read(write(value)) == value.  What read() refuses it
refuses with ValueError, which says what was found and what was wanted.  What
it accepts is what libvirt's parser accepts; where that accepts anything at
all, read() wants something sensible, and read_lenient() accepts the rest.
"""

import enum
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, Final, Protocol

import attrs

from pfinet_proto.values import MacAddress

#: A comment is cut here, as libvirt does.
MAX_COMMENT: Final = 256
MAX_IPSET_NAME: Final = 31
MAX_IPSET_FLAGS: Final = 6

_SHOWN: Final = 60

_DECIMAL: Final = re.compile(r"[ \t\n\r]*\+?([0-9]{1,20})")
_HEXADECIMAL: Final = re.compile(r"[ \t\n\r]*\+?(?:0[xX])?([0-9A-Fa-f]{1,16})")
_MAC: Final = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")
_IPSET_NAME: Final = re.compile(r"[A-Za-z0-9_.:+ -]{1,31}")


def shown(text: str) -> str:
    """Return *text* as a message may quote it: escaped, and not at any length."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."


@attrs.frozen
class Number:
    """An integer, and whether it was written, and is printed, in hexadecimal."""

    value: int
    hexadecimal: bool = False


class State(enum.Enum):
    """What connection tracking says of a frame; NONE is a rule that does not ask it."""

    NEW = "NEW"
    ESTABLISHED = "ESTABLISHED"
    RELATED = "RELATED"
    INVALID = "INVALID"
    NONE = "NONE"


class TcpFlag(enum.IntFlag):
    """Bits of byte 13 of the TCP header (RFC 9293, section 3.1)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20


ALL_TCP_FLAGS: Final = TcpFlag(0x3F)


@attrs.frozen
class TcpFlags:
    """Of the flags in *mask* exactly those of *flags* are set."""

    mask: TcpFlag
    flags: TcpFlag


class Side(enum.Enum):
    """Which of a frame's addresses or ports a dimension of a set is compared with."""

    SRC = "src"
    DST = "dst"


# Masks of IP addresses are prefix lengths, plain integers; a MAC mask is itself an address.
Value = (
    Number
    | MacAddress
    | IPv4Address
    | IPv6Address
    | int
    | bool
    | str
    | TcpFlags
    | frozenset[State]
    | tuple[Side, ...]
)


class ValueType(Protocol):
    """What every type has; *name* is what the manual calls it."""

    @property
    def name(self) -> str: ...

    def read(self, text: str) -> Value:
        """Return what *text* means.

        Raises:
            ValueError: if it is not of this type.
        """

    def read_lenient(self, text: str) -> Value:
        """Return what libvirt takes *text* for."""

    def write(self, value: Any) -> str:
        """Return the canonical text of *value*, a value of this type."""


class _SameWhenLenient:
    def read_lenient(self, text: str) -> Value:
        return self.read(text)

    def read(self, text: str) -> Value:
        raise NotImplementedError


@attrs.frozen
class Integer(_SameWhenLenient):
    """A number in a range, or one of some names, in any case.

    Decimal is tried first, then hexadecimal with or without 0x: 10, 010 and 0xa
    are ten, 1f is thirty-one.
    """

    name: str
    maximum: int
    minimum: int = 0
    names: Mapping[str, int] = attrs.field(factory=lambda: MappingProxyType({}), hash=False)
    accepts_hexadecimal: bool = True
    keeps_hexadecimal: bool = True

    def read(self, text: str) -> Number:
        folded = text.lower()
        for name, value in self.names.items():
            if name.lower() == folded:
                return Number(value)
        number = self._read_number(text)
        if not self.minimum <= number.value <= self.maximum:
            raise ValueError(f"{shown(text)} is out of range, wanted {self.wanted}")
        # What has a name is printed as it, so how it was written is not kept.
        if number.value in self.names.values() or not self.keeps_hexadecimal:
            return Number(number.value)
        return number

    def _read_number(self, text: str) -> Number:
        if found := _DECIMAL.fullmatch(text):
            return Number(int(found[1]))
        found = _HEXADECIMAL.fullmatch(text)
        if found and self.accepts_hexadecimal:
            return Number(int(found[1], 16), hexadecimal=True)
        raise ValueError(f"{shown(text)} is not a number, wanted {self.wanted}")

    @property
    def wanted(self) -> str:
        """What is accepted, in words."""
        hexadecimal = self.minimum >= 0x600
        low, high = (
            (f"{self.minimum:#x}", f"{self.maximum:#x}")
            if hexadecimal
            else (str(self.minimum), str(self.maximum))
        )
        return " or ".join([f"{low} to {high}", *([", ".join(self.names)] if self.names else [])])

    def write(self, value: Number) -> str:
        for name, named in self.names.items():
            if named == value.value:
                return name
        return f"{value.value:#x}" if value.hexadecimal else str(value.value)


@attrs.frozen
class Mac(_SameWhenLenient):
    """An Ethernet address; each byte has one or two digits."""

    name: str = "MAC_ADDR"

    def read(self, text: str) -> MacAddress:
        if not _MAC.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a MAC address such as 52:54:00:12:34:56")
        return MacAddress(bytes(int(byte, 16) for byte in text.split(":")))

    def write(self, value: MacAddress) -> str:
        return str(value)


@attrs.frozen
class MacMask(_SameWhenLenient):
    """Ones, then zeros, written as an Ethernet address."""

    name: str = "MAC_MASK"

    def read(self, text: str) -> MacAddress:
        if not _MAC.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a MAC mask such as ff:ff:ff:00:00:00")
        mask = MacAddress(bytes(int(byte, 16) for byte in text.split(":")))
        _count_ones(mask.packed, text)
        return mask

    def write(self, value: MacAddress) -> str:
        return str(value)


@attrs.frozen
class Ipv4(_SameWhenLenient):
    name: str = "IP_ADDR"

    def read(self, text: str) -> IPv4Address:
        return _read_ipv4(text)

    def write(self, value: IPv4Address) -> str:
        return str(value)


@attrs.frozen
class Ipv6(_SameWhenLenient):
    name: str = "IPV6_ADDR"

    def read(self, text: str) -> IPv6Address:
        return _read_ipv6(text)

    def write(self, value: IPv6Address) -> str:
        """Return *value* as inet_ntop(3) prints it: what embeds an IPv4 address, in dots."""
        high, low = divmod(int(value), 1 << 32)
        if high == 0xFFFF or (high == 0 and low > 0xFFFF):
            return f"{'::ffff:' if high else '::'}{IPv4Address(low)}"
        return str(value)


@attrs.frozen
class IpMask(_SameWhenLenient):
    """A prefix length, or the mask itself as an address; its value is the length."""

    name: str
    bits: int

    def read(self, text: str) -> int:
        if found := _DECIMAL.fullmatch(text):
            if int(found[1]) > self.bits:
                raise ValueError(f"{shown(text)} is out of range, wanted 0 to {self.bits}")
            return int(found[1])
        try:
            mask = _read_ipv4(text) if self.bits == 32 else _read_ipv6(text)
        except ValueError:
            raise ValueError(
                f"{shown(text)} is not a mask, wanted 0 to {self.bits} or its address form"
            ) from None
        return _count_ones(mask.packed, text)

    def write(self, value: int) -> str:
        return str(value)


@attrs.frozen
class Boolean:
    name: str = "BOOLEAN"

    def read(self, text: str) -> bool:
        if text not in ("true", "yes", "1", "false", "no", "0"):
            raise ValueError(f"{shown(text)} is not true or false")
        return self.read_lenient(text)

    def read_lenient(self, text: str) -> bool:
        return text in ("true", "yes", "1")

    def write(self, value: bool) -> str:
        return "true" if value else "false"


@attrs.frozen
class Comment(_SameWhenLenient):
    """Any text; what is longer than 256 characters is cut."""

    name: str = "STRING"

    def read(self, text: str) -> str:
        return text[:MAX_COMMENT]

    def write(self, value: str) -> str:
        return value


@attrs.frozen
class IpsetName(_SameWhenLenient):
    name: str = "IPSET_NAME"

    def read(self, text: str) -> str:
        if not _IPSET_NAME.fullmatch(text):
            raise ValueError(
                f"{shown(text)} is not the name of a set,"
                f" wanted 1 to {MAX_IPSET_NAME} of letters, digits, space and _.:+-"
            )
        return text

    def write(self, value: str) -> str:
        return value


@attrs.frozen
class IpsetFlags(_SameWhenLenient):
    """What each dimension of a set is compared with: src and dst, joined by commas."""

    name: str = "IPSET_FLAGS"

    def read(self, text: str) -> tuple[Side, ...]:
        words = text.lower().split(",", MAX_IPSET_FLAGS + 1)
        if len(words) > MAX_IPSET_FLAGS or not all(word in ("src", "dst") for word in words):
            raise ValueError(
                f"{shown(text)} is not 1 to {MAX_IPSET_FLAGS} of src and dst, joined by commas"
            )
        return tuple(Side(word) for word in words)

    def write(self, value: tuple[Side, ...]) -> str:
        return ",".join(side.value for side in value)


@attrs.frozen
class States(_SameWhenLenient):
    """Connection states, joined by commas or spaces; NONE swallows the others."""

    name: str = "STATE"

    def read(self, text: str) -> frozenset[State]:
        words = {word for word in re.split(r"[, ]", text.upper()) if word}
        if not words <= State.__members__.keys():
            raise ValueError(
                f"{shown(text)} is not a list of states, wanted some of"
                f" {', '.join(State.__members__)}"
            )
        states = frozenset(State(word) for word in words)
        return frozenset({State.NONE}) if State.NONE in states else states

    def write(self, value: frozenset[State]) -> str:
        return ",".join(state.value for state in State if state in value)


@attrs.frozen
class TcpFlagMatch:
    """Which flags are looked at, a slash, and which of them are set."""

    name: str = "TCP_FLAGS"

    def read(self, text: str) -> TcpFlags:
        if any(not part.strip(", ") for part in text.split("/", 1)):
            raise ValueError(f"{shown(text)} has no flags at one side, wanted NONE for none")
        return self.read_lenient(text)

    def read_lenient(self, text: str) -> TcpFlags:
        mask, slash, flags = text.partition("/")
        if not slash:
            raise ValueError(f"{shown(text)} has no slash, wanted MASK/FLAGS such as SYN,ACK/SYN")
        return TcpFlags(_read_flags(mask, text), _read_flags(flags, text))

    def write(self, value: TcpFlags) -> str:
        return f"{_write_flags(value.mask)}/{_write_flags(value.flags)}"


def _read_flags(text: str, whole: str) -> TcpFlag:
    flags = TcpFlag(0)
    for word in re.split(r"[, ]", text.upper()):
        if word == "ALL":
            flags |= ALL_TCP_FLAGS
        elif word in TcpFlag.__members__:
            flags |= TcpFlag[word]
        elif word not in ("NONE", ""):
            raise ValueError(
                f"{shown(whole)} names no such TCP flag: {shown(word)}, wanted some of"
                f" {', '.join(TcpFlag.__members__)}, or ALL or NONE"
            )
    return flags


def _write_flags(flags: TcpFlag) -> str:
    if flags == ALL_TCP_FLAGS:
        return "ALL"
    return _joined(flag.name for flag in TcpFlag if flag in flags) or "NONE"


def _joined(names: Iterable[str | None]) -> str:
    return ",".join(name for name in names if name)


def _read_ipv4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IPv4 address such as 10.1.2.3") from None


def _read_ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    # A zone means something on one host only, and nothing in a frame.
    if address is None or address.scope_id is not None:
        raise ValueError(f"{shown(text)} is not an IPv6 address such as fd00::1")
    return address


def _count_ones(mask: bytes, text: str) -> int:
    bits = f"{int.from_bytes(mask, 'big'):0{len(mask) * 8}b}"
    ones = bits.rstrip("0")
    if "0" in ones:
        raise ValueError(f"{shown(text)} is not a mask: a one follows a zero")
    return len(ones)
