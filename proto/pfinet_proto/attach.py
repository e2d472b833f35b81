"""The handshake of the `attach` socket: who is there, and what the vif is.

One SEQPACKET datagram is one message: a header of magic, type and a reserved
field, then fields of tag, length and value.  A reader skips a tag that it
does not know; a tag that it knows must have the right length and appear at
most once, unless it is a list.  Of a type that it does not know it reads the
header alone.  SPEC.md, section 3, has the byte tables.

The client speaks first (`Hello`).  The daemon answers `Welcome`, with the data
descriptors beside it, or `Refused`.  Only where data run over the client's own
tap it speaks again, and hands that over (`Tap`).  The socket then stays open: a
changed binding arrives as `Update`, the end as `Goodbye`, and closing it
detaches.
"""

import enum
import re
from collections.abc import Callable, Iterable, Mapping
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

from pfinet_proto.errors import BadMessage, LocalProtocolError
from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, VifName

MAGIC = b"PFIN"

#: The one version there is.
VERSION = 1

#: A datagram with every list at its longest is far below this.
MAX_MESSAGE_BYTES = 16384

COOKIE_LEN = 16
MAX_CLIENT_BYTES = 64
MAX_TEXT_BYTES = 512
MAX_NETWORK_BYTES = 64
MAX_TRANSPORTS = 16
MAX_ADDRESSES = 64
MAX_PREFIXES = 64
MAX_GATEWAYS = 8
MAX_DNS = 8
MAX_SEARCH = 16

#: What Ethernet networks here may have (multiplexer.toml, `mtu`).
MIN_MTU, MAX_MTU = 576, 9000

#: What goes into a resolv.conf: a host name, RFC 1123, section 2.1, with `_` tolerated.
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


class Offload(enum.IntFlag, boundary=enum.FlagBoundary.CONFORM):
    """What a side can do with a virtio_net_hdr; unknown bits are dropped."""

    CSUM = 0x1
    TSO4 = 0x2
    TSO6 = 0x4
    ECN = 0x8
    USO = 0x10

    @classmethod
    def of_linux(cls, release: str) -> "Offload":
        """Return what a kernel of *release*, as uname(2) has it, does behind a tap or a NIC.

        Cutting UDP is left to others since Linux 6.2 (include/uapi/linux/if_tun.h, TUN_F_USO4);
        so a release that is no number is taken as older.
        """
        every = cls.CSUM | cls.TSO4 | cls.TSO6 | cls.ECN
        found = re.match(r"(\d+)\.(\d+)", release)
        if found is not None and (int(found[1]), int(found[2])) >= (6, 2):
            every |= cls.USO
        return every


NO_OFFLOAD = Offload(0)


class Transport(enum.IntEnum):
    """How frames travel once attached."""

    STREAM = 1
    RING = 2
    TAP = 3


#: How many descriptors come with a `Welcome`.
DATA_FDS: Mapping[Transport, int] = {Transport.STREAM: 1, Transport.RING: 2, Transport.TAP: 0}
#: How many come with a `Tap`.
TAP_FDS = 1


class RefusedCode(enum.IntEnum):
    """Why there is no attachment."""

    OTHER = 0
    VERSION = 1
    TAKEN = 2
    NOT_OWNER = 3
    NO_TRANSPORT = 4
    NOT_READY = 5
    GONE = 6
    LIMIT = 7
    MALFORMED = 8

    @classmethod
    def _missing_(cls, value: object) -> "RefusedCode":
        return cls.OTHER


class GoodbyeCode(enum.IntEnum):
    """Why the attachment ends."""

    OTHER = 0
    DELETED = 1
    OWNER_CHANGED = 2
    SHUTTING_DOWN = 3
    TAKEN_OVER = 4
    BAD_STREAM = 5

    @classmethod
    def _missing_(cls, value: object) -> "GoodbyeCode":
        return cls.OTHER


Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _text(max_bytes: int) -> Check:
    """Printable text of bounded length: it ends up in logs and on terminals."""

    def check(_instance: object, attribute: "attrs.Attribute[str]", value: str) -> None:
        if not value.isprintable():
            raise ValueError(f"{attribute.name} {value!r} is not printable")
        if len(value.encode()) > max_bytes:
            raise ValueError(
                f"{attribute.name} is {len(value.encode())} bytes, not at most {max_bytes}"
            )

    return check


def _at_most(wanted: int) -> Check:
    def check(_instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if len(value) > wanted:
            raise ValueError(f"{len(value)} {attribute.name}, not at most {wanted}")

    return check


def _between(low: int, high: int) -> Check:
    def check(_instance: object, attribute: "attrs.Attribute[int]", value: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} is {value}, not {low} to {high}")

    return check


def _cookie(_instance: object, attribute: "attrs.Attribute[bytes]", value: bytes) -> None:
    if len(value) != COOKIE_LEN:
        raise ValueError(f"{attribute.name} is {len(value)} bytes, not {COOKIE_LEN}")


def _domains(_instance: object, attribute: "attrs.Attribute[Any]", value: tuple[str, ...]) -> None:
    for domain in value:
        if not _DOMAIN.fullmatch(domain):
            raise ValueError(f"{attribute.name} {domain!r} is not a domain name")


@attrs.frozen
class Binding:
    """What a vif is: the addresses it may use, and what its stack needs to know."""

    vif: VifName
    network: str = attrs.field(validator=_text(MAX_NETWORK_BYTES))
    mac: MacAddress
    mtu: int = attrs.field(validator=_between(MIN_MTU, MAX_MTU))
    addresses: tuple[IPInterface, ...] = attrs.field(default=(), validator=_at_most(MAX_ADDRESSES))
    prefixes: tuple[IPNetwork, ...] = attrs.field(default=(), validator=_at_most(MAX_PREFIXES))
    gateways: tuple[IPAddress, ...] = attrs.field(default=(), validator=_at_most(MAX_GATEWAYS))
    dns: tuple[IPAddress, ...] = attrs.field(default=(), validator=_at_most(MAX_DNS))
    search: tuple[str, ...] = attrs.field(default=(), validator=[_at_most(MAX_SEARCH), _domains])


@attrs.frozen
class Hello:
    """The client's first message.

    *cookie* is that of an earlier `Welcome`, to take over what it attached.
    *client* is for the log: a program's name and version.
    """

    version_min: int = attrs.field(default=VERSION, validator=_between(0, 0xFFFF))
    version_max: int = attrs.field(default=VERSION, validator=_between(0, 0xFFFF))
    offload: Offload = NO_OFFLOAD
    transports: tuple[Transport, ...] = attrs.field(
        default=(Transport.STREAM,), validator=_at_most(MAX_TRANSPORTS)
    )
    cookie: bytes | None = attrs.field(default=None, validator=attrs.validators.optional(_cookie))
    client: str = attrs.field(default="", validator=_text(MAX_CLIENT_BYTES))

    def __attrs_post_init__(self) -> None:
        if self.version_min > self.version_max:
            raise ValueError(f"version_min {self.version_min} is above {self.version_max}")


@attrs.frozen
class Welcome:
    """The vif is the client's; *binding* says what it is.

    *transport* and *offload* are what the daemon chose of what was offered.
    `DATA_FDS` tells how many descriptors come with this message.
    """

    version: int = attrs.field(validator=_between(0, 0xFFFF))
    transport: Transport
    offload: Offload
    cookie: bytes = attrs.field(validator=_cookie)
    binding: Binding


@attrs.frozen
class Refused:
    """There is no attachment; *text* is for the person."""

    code: RefusedCode
    text: str = attrs.field(default="", validator=_text(MAX_TEXT_BYTES))


@attrs.frozen
class Update:
    """The binding has changed to this."""

    binding: Binding


@attrs.frozen
class Goodbye:
    """The attachment is over; *text* is for the person."""

    code: GoodbyeCode
    text: str = attrs.field(default="", validator=_text(MAX_TEXT_BYTES))


@attrs.frozen
class Tap:
    """The client's tap, which is the descriptor that comes with this; the data run over it."""


@attrs.frozen
class Unrecognized:
    """A message of a type that this release does not know."""

    number: int


Message = Hello | Welcome | Refused | Update | Goodbye | Tap | Unrecognized

# The fields.


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


_ENVELOPE = c.Struct(
    "magic" / c.Const(MAGIC),
    "type" / c.Int16ub,
    "reserved" / c.Default(c.Int16ub, 0),
    "body" / c.GreedyBytes,
)
_BODY = c.Struct(
    "fields"
    / c.GreedyRange(
        c.Struct("tag" / c.Int16ub, "value" / c.Prefixed(c.Int16ub, c.GreedyBytes)),
    ),
    "end" / c.Terminated,
)

_STRING = c.GreedyString("utf-8")
_ADDRESS = c.Struct(
    "family" / c.Int8ub,
    "packed" / c.Switch(c.this.family, {4: c.Bytes(4), 6: c.Bytes(16)}, default=c.Error),
)
_ADDRESS_AND_LENGTH = c.Struct(
    "address" / _ADDRESS,
    "plen" / c.Int8ub,
)

_FORMS: Mapping[Tag, "c.Construct[Any, Any]"] = {
    Tag.VERSION_RANGE: c.Int16ub[2],
    Tag.VERSION: c.Int16ub,
    Tag.OFFLOAD: c.Int32ub,
    Tag.TRANSPORTS: c.GreedyRange(c.Int16ub),
    Tag.TRANSPORT: c.Int16ub,
    Tag.COOKIE: c.Bytes(COOKIE_LEN),
    Tag.CLIENT: _STRING,
    Tag.CODE: c.Int16ub,
    Tag.TEXT: _STRING,
    Tag.VIF: _STRING,
    Tag.NETWORK: _STRING,
    Tag.MAC: c.Bytes(6),
    Tag.MTU: c.Int16ub,
    Tag.ADDRESS: _ADDRESS_AND_LENGTH,
    Tag.PREFIX: _ADDRESS_AND_LENGTH,
    Tag.GATEWAY: _ADDRESS,
    Tag.DNS: _ADDRESS,
    Tag.SEARCH: _STRING,
}

#: Tags that may appear any number of times within the bounds of `Binding`.
_LISTS = frozenset({Tag.ADDRESS, Tag.PREFIX, Tag.GATEWAY, Tag.DNS, Tag.SEARCH})


class _Fields:
    """The known fields of one message, each taken out once."""

    def __init__(self, fields: Iterable[tuple[int, bytes]]) -> None:
        self._values: dict[Tag, list[Any]] = {}
        for number, value in fields:
            try:
                tag = Tag(number)
            except ValueError:
                continue
            form = c.FocusedSeq("value", "value" / _FORMS[tag], c.Terminated)
            try:
                parsed = form.parse(value)
            except c.ConstructError:
                raise BadMessage(f"field {tag.name} of {len(value)} bytes does not fit") from None
            self._values.setdefault(tag, []).append(parsed)
            if len(self._values[tag]) > 1 and tag not in _LISTS:
                raise BadMessage(f"field {tag.name} appears twice")

    def all(self, tag: Tag) -> list[Any]:
        return self._values.get(tag, [])

    def get(self, tag: Tag, default: Any) -> Any:
        values = self.all(tag)
        return values[0] if values else default

    def __getitem__(self, tag: Tag) -> Any:
        values = self.all(tag)
        if not values:
            raise BadMessage(f"field {tag.name} is missing")
        return values[0]


def _field(tag: Tag, value: Any) -> dict[str, Any]:
    return {"tag": tag, "value": _FORMS[tag].build(value)}


def _address(address: IPAddress) -> dict[str, Any]:
    return {"family": address.version, "packed": address.packed}


def _interface_of(parsed: Any) -> IPInterface:
    pair = (parsed.address.packed, parsed.plen)
    return IPv4Interface(pair) if parsed.address.family == 4 else IPv6Interface(pair)


def _network_of(parsed: Any) -> IPNetwork:
    pair = (parsed.address.packed, parsed.plen)
    return IPv4Network(pair) if parsed.address.family == 4 else IPv6Network(pair)


def _binding_fields(binding: Binding) -> list[dict[str, Any]]:
    return [
        _field(Tag.VIF, str(binding.vif)),
        _field(Tag.NETWORK, binding.network),
        _field(Tag.MAC, binding.mac.packed),
        _field(Tag.MTU, binding.mtu),
        *(
            _field(Tag.ADDRESS, {"address": _address(a.ip), "plen": a.network.prefixlen})
            for a in binding.addresses
        ),
        *(
            _field(Tag.PREFIX, {"address": _address(p.network_address), "plen": p.prefixlen})
            for p in binding.prefixes
        ),
        *(_field(Tag.GATEWAY, _address(gateway)) for gateway in binding.gateways),
        *(_field(Tag.DNS, _address(server)) for server in binding.dns),
        *(_field(Tag.SEARCH, domain) for domain in binding.search),
    ]


def _read_binding(fields: _Fields) -> Binding:
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


# The messages.


def _hello_fields(message: Hello) -> list[dict[str, Any]]:
    fields = [
        _field(Tag.VERSION_RANGE, [message.version_min, message.version_max]),
        _field(Tag.OFFLOAD, message.offload),
        _field(Tag.TRANSPORTS, message.transports),
    ]
    if message.cookie is not None:
        fields.append(_field(Tag.COOKIE, message.cookie))
    if message.client:
        fields.append(_field(Tag.CLIENT, message.client))
    return fields


def _read_hello(fields: _Fields) -> Hello:
    version_min, version_max = fields[Tag.VERSION_RANGE]
    offered = fields[Tag.TRANSPORTS]
    if len(offered) > MAX_TRANSPORTS:
        raise BadMessage(f"{len(offered)} transports, not at most {MAX_TRANSPORTS}")
    return Hello(
        version_min=version_min,
        version_max=version_max,
        offload=Offload(fields.get(Tag.OFFLOAD, 0)),
        transports=tuple(Transport(number) for number in offered if number in set(Transport)),
        cookie=fields.get(Tag.COOKIE, None),
        client=fields.get(Tag.CLIENT, ""),
    )


def _welcome_fields(message: Welcome) -> list[dict[str, Any]]:
    return [
        _field(Tag.VERSION, message.version),
        _field(Tag.TRANSPORT, message.transport),
        _field(Tag.OFFLOAD, message.offload),
        _field(Tag.COOKIE, message.cookie),
        *_binding_fields(message.binding),
    ]


def _read_welcome(fields: _Fields) -> Welcome:
    return Welcome(
        version=fields[Tag.VERSION],
        transport=Transport(fields[Tag.TRANSPORT]),
        offload=Offload(fields[Tag.OFFLOAD]),
        cookie=fields[Tag.COOKIE],
        binding=_read_binding(fields),
    )


def _reason_fields(message: Refused | Goodbye) -> list[dict[str, Any]]:
    return [_field(Tag.CODE, message.code), _field(Tag.TEXT, message.text)]


def _read_refused(fields: _Fields) -> Refused:
    return Refused(RefusedCode(fields[Tag.CODE]), fields.get(Tag.TEXT, ""))


def _read_goodbye(fields: _Fields) -> Goodbye:
    return Goodbye(GoodbyeCode(fields[Tag.CODE]), fields.get(Tag.TEXT, ""))


def _update_fields(message: Update) -> list[dict[str, Any]]:
    return _binding_fields(message.binding)


def _read_update(fields: _Fields) -> Update:
    return Update(_read_binding(fields))


def _tap_fields(message: Tap) -> list[dict[str, Any]]:
    return []


def _read_tap(fields: _Fields) -> Tap:
    return Tap()


@attrs.frozen
class _Kind:
    number: int
    write: Callable[[Any], list[dict[str, Any]]]
    read: Callable[[_Fields], Message]


_KINDS: Mapping[type[Any], _Kind] = {
    Hello: _Kind(1, _hello_fields, _read_hello),
    Welcome: _Kind(2, _welcome_fields, _read_welcome),
    Refused: _Kind(3, _reason_fields, _read_refused),
    Update: _Kind(4, _update_fields, _read_update),
    Goodbye: _Kind(5, _reason_fields, _read_goodbye),
    Tap: _Kind(6, _tap_fields, _read_tap),
}
_BY_NUMBER = {kind.number: kind for kind in _KINDS.values()}


def encode(message: Message) -> bytes:
    """Return the datagram of *message*.

    Raises:
        LocalProtocolError: if it is `Unrecognized`, which nobody can write.
    """
    kind = _KINDS.get(type(message))
    if kind is None:
        raise LocalProtocolError(f"{type(message).__name__} cannot be encoded")
    body = _BODY.build({"fields": kind.write(message)})
    return _ENVELOPE.build({"type": kind.number, "body": body})


def decode_untrusted(data: bytes) -> Message:
    """Return the message that the datagram *data* is.

    The descriptors beside it are the caller's to count.

    Raises:
        BadMessage: if it is too long, has another magic, ends inside a field,
            or if a field that it knows is missing, surplus or out of range.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"message of {len(data)} bytes, not at most {MAX_MESSAGE_BYTES}")
    try:
        envelope = _ENVELOPE.parse(data)
    except c.ConstructError:
        raise BadMessage(f"{data[:8]!r} does not begin a message") from None
    kind = _BY_NUMBER.get(envelope.type)
    if kind is None:
        return Unrecognized(envelope.type)
    try:
        body = _BODY.parse(envelope.body)
    except c.ConstructError:
        raise BadMessage("message ends inside a field") from None
    try:
        return kind.read(_Fields((field.tag, field.value) for field in body.fields))
    except ValueError as exc:
        raise BadMessage(str(exc)) from None
