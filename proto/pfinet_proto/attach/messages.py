"""What is said on the `attach` socket: a value for each message, checked as it is made.

Nothing here knows how a message is written; `codec` does, and `machine` knows who may
say it when.
"""

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, VifName

#: The one version there is.
VERSION = 1

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
MIN_MTU = 576  # what every IPv4 host takes (RFC 791, section 3.1)
MAX_MTU = 9000

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
