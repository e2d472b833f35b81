"""The types of value that multiplexer.toml has, each read by one function.

A reader takes what tomllib made of the text and returns the value, or raises
ValueError with what was found and what was wanted.
"""

import enum
import posixpath
import re
from collections.abc import Collection
from ipaddress import ip_address, ip_interface
from typing import Final, TypeVar

from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress

from ..model import (
    MAX_ETHERTYPE,
    MAX_UID,
    MIN_ETHERTYPE,
    OVERFLOW_UID,
    UNGRANTABLE_ETHERTYPES,
    AddressRange,
)
from .toml_tables import Reader, alternatives, show

MAX_INTERFACE_BYTES: Final = 15  # IFNAMSIZ is 16 with the final NUL

# sun_path holds 108 bytes with the final NUL (unix(7)); the longest socket path
# of a vif is RUN_DIR/vif/<32 digits>/attach.
MAX_RUN_DIR_BYTES: Final = 107 - len("/vif//attach") - 32

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,254}\$?")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")

_E = TypeVar("_E", bound=enum.Enum)


def read_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{show(raw)}, wanted a string")
    return raw


def read_boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"{show(raw)}, wanted true or false")
    return raw


def read_integer(least: int, most: int) -> Reader[int]:
    """Return a reader of integers from *least* to *most*."""

    def read(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
            raise ValueError(f"{show(raw)}, wanted an integer from {least} to {most}")
        return raw

    return read


def read_ethertype(raw: object) -> int:
    """Read an EtherType that a vif may be allowed to send."""
    ethertype = read_integer(MIN_ETHERTYPE, MAX_ETHERTYPE)(raw)
    if ethertype in UNGRANTABLE_ETHERTYPES:
        raise ValueError(f"{ethertype:#06x} is {UNGRANTABLE_ETHERTYPES[ethertype]}")
    return ethertype


def read_choice(choices: type[_E], later: Collection[str] = ()) -> Reader[_E]:
    """Return a reader of the values of an enumeration; *later* are those to come."""

    def read(raw: object) -> _E:
        text = read_text(raw)
        for choice in choices:
            if choice.value == text:
                return choice
        problem = "is not supported by this version" if text in later else "is unknown"
        wanted = alternatives([choice.value for choice in choices])
        raise ValueError(f"{show(text)} {problem}, wanted {wanted}")

    return read


def read_name(raw: object) -> str:
    """Read the name of an uplink, a network or a vif."""
    text = read_text(raw)
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{show(text)} is no name, wanted 1 to 31 of a-z, 0-9 and -, the first not a -"
        )
    return text


def read_directory(raw: object) -> str:
    text = read_text(raw)
    if not text.startswith("/") or posixpath.normpath(text) != text or text in ("/", "//"):
        raise ValueError(f"{show(text)}, wanted an absolute path without . and ..")
    if not text.isprintable():
        raise ValueError(f"{show(text)} has control characters, wanted none")
    return text


def read_run_directory(raw: object) -> str:
    """Read a directory below which the paths of sockets fit their 107 bytes."""
    text = read_directory(raw)
    length = len(text.encode())
    if length > MAX_RUN_DIR_BYTES:
        raise ValueError(
            f"{show(text)} is {length} bytes, wanted at most {MAX_RUN_DIR_BYTES},"
            " since paths of sockets must fit below it"
        )
    return text


def read_user(raw: object) -> str:
    """Read a user name, or a uid in digits."""
    text = read_text(raw)
    if text[:1].isdigit():
        _parse_id(text)
    elif not _USER.fullmatch(text):
        raise ValueError(f"{show(text)}, wanted a user name or a uid in digits")
    return text


def read_service_user(raw: object) -> str:
    """Read the user that a process of ours runs as."""
    text = read_user(raw)
    if text in ("root", "0"):
        raise ValueError(f"{show(text)}, wanted a user without privileges")
    return text


def read_admin(raw: object) -> str:
    """Read a user name, a uid in digits, or a group name or gid led by ``@``."""
    text = read_text(raw)
    try:
        read_user(text.removeprefix("@"))
    except ValueError:
        raise ValueError(
            f"{show(text)}, wanted a user name, a uid in digits, or @ and a group"
        ) from None
    return text


def read_uid_range(raw: object) -> range:
    """Read ``FIRST-LAST``, or one uid; all in digits."""
    text = read_text(raw)
    first, dash, last = text.partition("-")
    try:
        uids = range(_parse_id(first), _parse_id(last if dash else first) + 1)
    except ValueError:
        uids = range(0)
    if not uids:
        raise ValueError(f'{show(text)}, wanted uids such as "1000-59999"')
    if OVERFLOW_UID in uids:
        raise ValueError(f"{show(text)} has uid {OVERFLOW_UID}, which is nobody's own")
    return uids


def read_interface_name(raw: object) -> str:
    """Read what Linux takes as the name of an interface."""
    text = read_text(raw)
    length = len(text.encode())
    if length > MAX_INTERFACE_BYTES:
        raise ValueError(f"{show(text)} is {length} bytes, wanted at most {MAX_INTERFACE_BYTES}")
    if text in ("", ".", "..") or not text.isprintable() or set(text) & set("/: "):
        raise ValueError(f"{show(text)}, wanted the name of an interface")
    return text


def read_mac(raw: object) -> MacAddress:
    return MacAddress.parse(read_text(raw))


def read_address(raw: object) -> IPAddress:
    text = read_text(raw)
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{show(text)}, wanted an address without a length") from None
    _refuse_scope(text)
    return address


def read_prefix(raw: object) -> IPNetwork:
    """Read ADDRESS/LENGTH where all bits behind the length are zero."""
    text = read_text(raw)
    interface = _parse_interface(text, 'a prefix such as "10.0.1.0/24" or "fd00:1::/64"')
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{show(text)} has host bits set, wanted {show(str(interface.network))}")
    return interface.network


def read_interface(raw: object) -> IPInterface:
    """Read the address of a vif with the length of its network's prefix."""
    return _parse_interface(
        read_text(raw), 'an address with a length such as "10.0.1.5/24" or "fd00:1::5/64"'
    )


def read_range(raw: object) -> AddressRange:
    """Read ``FIRST-LAST``, a prefix, or one address."""
    text = read_text(raw)
    wanted = 'addresses such as "10.0.1.1-10.0.1.9", "10.0.1.0/28" or "10.0.1.1"'
    if "/" in text:
        prefix = read_prefix(text)
        return AddressRange(prefix.network_address, prefix.broadcast_address)
    first, dash, last = text.partition("-")
    try:
        start = ip_address(first.strip())
        end = ip_address(last.strip()) if dash else start
    except ValueError:
        raise ValueError(f"{show(text)}, wanted {wanted}") from None
    _refuse_scope(text)
    if start.version != end.version or int(start) > int(end):
        raise ValueError(f"{show(text)} is no range, wanted {wanted}")
    return AddressRange(start, end)


def read_domain(raw: object) -> str:
    text = read_text(raw)
    if not _DOMAIN.fullmatch(text):
        raise ValueError(f"{show(text)}, wanted a domain name")
    return text


def _parse_id(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_UID:
        raise ValueError(f"{show(text)}, wanted a number from 0 to {MAX_UID}")
    return int(text)


def _parse_interface(text: str, wanted: str) -> IPInterface:
    address, slash, length = text.partition("/")
    # ipaddress would take a netmask too, and no length at all.
    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(f"{show(text)}, wanted {wanted}") from None
    if slash and not _NUMBER.fullmatch(length):
        raise ValueError(f"{show(text)}, wanted {wanted}")
    _refuse_scope(address)
    if not slash:
        raise ValueError(f"{show(text)} has no length, wanted {wanted}")
    return interface


def _refuse_scope(text: str) -> None:
    if "%" in text:
        raise ValueError(f"{show(text)} has a scope, wanted none")
