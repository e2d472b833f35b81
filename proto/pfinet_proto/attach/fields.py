"""The fields that messages are made of: tags, how the value of each is written, a binding.

A reader skips a tag that it does not know; a tag that it knows must have the right
length and appear at most once, unless it is a list.
"""

import enum
from collections.abc import Iterable, Mapping
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from typing import Any

import attrs
import construct as c

from pfinet_proto.errors import BadMessage
from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, VifName

from .messages import COOKIE_LEN, Binding


class Tag(enum.IntEnum):
    """What a field says; the numbers are for ever."""

    VERSION_RANGE = 1
    VERSION = 2
    OFFLOAD = 3
    TRANSPORTS = 4
    TRANSPORT = 5
    COOKIE = 6
    CLIENT = 7
    CODE = 8
    TEXT = 9
    VIF = 16
    NETWORK = 17
    MAC = 18
    MTU = 19
    ADDRESS = 20
    PREFIX = 21
    GATEWAY = 22
    DNS = 23
    SEARCH = 24


_ADDRESS_LAYOUT = c.Struct(
    "family" / c.Int8ub,
    "packed" / c.Switch(c.this.family, {4: c.Bytes(4), 6: c.Bytes(16)}, default=c.Error),
)


@attrs.frozen
class Form:
    """How the value of a field is written, and what is *wanted* where one does not fit."""

    layout: "c.Construct[Any, Any]"
    wanted: str


_NUMBER = Form(c.Int16ub, "2 bytes")
_STRING = Form(c.GreedyString("utf-8"), "UTF-8")
_ADDRESS = Form(_ADDRESS_LAYOUT, "a family, 4 or 6, and an address of it")
_ADDRESS_AND_LENGTH = Form(
    c.Struct("address" / _ADDRESS_LAYOUT, "plen" / c.Int8ub),
    "a family, 4 or 6, an address of it and a length",
)

FORMS: Mapping[Tag, Form] = {
    Tag.VERSION_RANGE: Form(c.Int16ub[2], "4 bytes"),
    Tag.VERSION: _NUMBER,
    Tag.OFFLOAD: Form(c.Int32ub, "4 bytes"),
    Tag.TRANSPORTS: Form(c.GreedyRange(c.Int16ub), "2 bytes for each"),
    Tag.TRANSPORT: _NUMBER,
    Tag.COOKIE: Form(c.Bytes(COOKIE_LEN), f"{COOKIE_LEN} bytes"),
    Tag.CLIENT: _STRING,
    Tag.CODE: _NUMBER,
    Tag.TEXT: _STRING,
    Tag.VIF: _STRING,
    Tag.NETWORK: _STRING,
    Tag.MAC: Form(c.Bytes(6), "6 bytes"),
    Tag.MTU: _NUMBER,
    Tag.ADDRESS: _ADDRESS_AND_LENGTH,
    Tag.PREFIX: _ADDRESS_AND_LENGTH,
    Tag.GATEWAY: _ADDRESS,
    Tag.DNS: _ADDRESS,
    Tag.SEARCH: _STRING,
}

#: Tags that may appear any number of times within the bounds of `Binding`.
_LISTS = frozenset({Tag.ADDRESS, Tag.PREFIX, Tag.GATEWAY, Tag.DNS, Tag.SEARCH})


class Fields:
    """The known fields of one message, by their tags.

    Raises:
        BadMessage: if one does not fit, or appears twice and is no list.
    """

    def __init__(self, fields: Iterable[tuple[int, bytes]]) -> None:
        self._values: dict[Tag, list[Any]] = {}
        for number, value in fields:
            try:
                tag = Tag(number)
            except ValueError:
                continue
            whole = c.FocusedSeq("value", "value" / FORMS[tag].layout, c.Terminated)
            try:
                parsed = whole.parse(value)
            except c.ConstructError:
                raise BadMessage(
                    f"field {tag.name} of {len(value)} bytes does not fit,"
                    f" wanted {FORMS[tag].wanted}"
                ) from None
            self._values.setdefault(tag, []).append(parsed)
            if len(self._values[tag]) > 1 and tag not in _LISTS:
                raise BadMessage(f"field {tag.name} appears twice")

    def all(self, tag: Tag) -> list[Any]:
        """Return every value of a list."""
        return self._values.get(tag, [])

    def get(self, tag: Tag, default: Any) -> Any:
        """Return the value of *tag*, or *default* where there is none."""
        values = self.all(tag)
        return values[0] if values else default

    def __getitem__(self, tag: Tag) -> Any:
        """Return the value of *tag*; BadMessage if there is none."""
        values = self.all(tag)
        if not values:
            raise BadMessage(f"field {tag.name} is missing")
        return values[0]


def field(tag: Tag, value: Any) -> dict[str, Any]:
    """Return one field, for the codec to build."""
    return {"tag": tag, "value": FORMS[tag].layout.build(value)}


def _address(address: IPAddress) -> dict[str, Any]:
    return {"family": address.version, "packed": address.packed}


def _interface_of(parsed: Any) -> IPInterface:
    pair = (parsed.address.packed, parsed.plen)
    return IPv4Interface(pair) if parsed.address.family == 4 else IPv6Interface(pair)


def _network_of(parsed: Any) -> IPNetwork:
    pair = (parsed.address.packed, parsed.plen)
    return IPv4Network(pair) if parsed.address.family == 4 else IPv6Network(pair)


def binding_fields(binding: Binding) -> list[dict[str, Any]]:
    """Return the fields that tell of *binding*."""
    return [
        field(Tag.VIF, str(binding.vif)),
        field(Tag.NETWORK, binding.network),
        field(Tag.MAC, binding.mac.packed),
        field(Tag.MTU, binding.mtu),
        *(
            field(Tag.ADDRESS, {"address": _address(a.ip), "plen": a.network.prefixlen})
            for a in binding.addresses
        ),
        *(
            field(Tag.PREFIX, {"address": _address(p.network_address), "plen": p.prefixlen})
            for p in binding.prefixes
        ),
        *(field(Tag.GATEWAY, _address(gateway)) for gateway in binding.gateways),
        *(field(Tag.DNS, _address(server)) for server in binding.dns),
        *(field(Tag.SEARCH, domain) for domain in binding.search),
    ]


def read_binding(fields: Fields) -> Binding:
    """Return the binding that *fields* tell of.

    Raises:
        BadMessage: if one that it needs is missing.
        ValueError: if one is out of range.
    """
    return Binding(
        vif=VifName.parse(fields[Tag.VIF]),
        network=fields[Tag.NETWORK],
        mac=MacAddress(fields[Tag.MAC]),
        mtu=fields[Tag.MTU],
        addresses=tuple(map(_interface_of, fields.all(Tag.ADDRESS))),
        prefixes=tuple(map(_network_of, fields.all(Tag.PREFIX))),
        gateways=tuple(ip_address(found.packed) for found in fields.all(Tag.GATEWAY)),
        dns=tuple(ip_address(found.packed) for found in fields.all(Tag.DNS)),
        search=tuple(fields.all(Tag.SEARCH)),
    )
