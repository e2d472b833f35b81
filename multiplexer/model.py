"""What the daemon knows of uplinks, networks and vifs: frozen values, no I/O.

`multiplexer.config` makes a Config of the administrator's file,
`multiplexer.daemon.authorize` makes Vifs of requests, and `multiplexer.policy`
compiles both to the datapath's tables.  Each value checks on construction what
it can say of itself alone; what takes a look at others is checked by those two.

A Config says which numbers the datapath uses for its networks and uplinks
(`multiplexer.numbering`).  The host's own port in a network stands at the
network's id above FIRST_HOST_PORT.  Vifs come and go, so their ports, between
FIRST_VIF_PORT and that, are dealt out while the daemon runs.
"""

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, TypeVar, cast

import attrs

from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, VifName

from .numbering import Numbering

IPVersion: TypeAlias = Literal[4, 6]

# Sizes of the datapath's tables (datapath/core/table.h, limit.h).
MAX_NETWORKS: Final = 256
MAX_PORTS: Final = 4096
FIRST_VIF_PORT: Final = 64
FIRST_HOST_PORT: Final = MAX_PORTS - MAX_NETWORKS
MAX_VIFS: Final = FIRST_HOST_PORT - FIRST_VIF_PORT
MAX_NIC_UPLINKS: Final = FIRST_VIF_PORT
MAX_BOUND: Final[Mapping[IPVersion, int]] = MappingProxyType({4: 16, 6: 32})
MAX_ETHERTYPES: Final = 8
#: What a grant may give one vif, so that there is room for those that its stack makes.
MAX_ADDRESSES_PER_VIF: Final = 16
MAX_RATE: Final = 8_000_000_000

#: Of memory for what one user's clients do not read: a terabyte is a slip of the pen.
MAX_QUEUE_MIB: Final = 65536

#: Linux has numbers for 8192 processors at most (CONFIG_NR_CPUS).
MAX_CPU: Final = 8191

#: Below it the field of a frame is a length (IEEE 802.3, 3.2.6).
MIN_ETHERTYPE: Final = 0x0600
MAX_ETHERTYPE: Final = 0xFFFF

#: What no vif needs leave to send, or none gets it, each with what it is.
UNGRANTABLE_ETHERTYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x0800: "IPv4, which every vif may send",
        0x0806: "ARP, which every vif may send",
        0x86DD: "IPv6, which every vif may send",
        **dict.fromkeys(
            (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300), "a VLAN tag, which no vif may send"
        ),
    }
)

MIN_MTU: Final = 576  # what every IPv4 host takes (RFC 791, section 3.1)
MIN_IPV6_MTU: Final = 1280  # RFC 8200, section 5
MAX_MTU: Final = 9000

#: The uid that stands for "no such user here" in a user namespace.
OVERFLOW_UID: Final = 65534
MAX_UID: Final = 2**32 - 2  # the last one means "no change" to setuid(2)

NO_MAC: Final = bytes(6)

_ID: Final = re.compile(r"[0-9a-f]{32}")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


class ConfigError(Exception):
    """The configuration file is wrong.

    Each of *problems* is one line of text, ``file:line: table.key: message``.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UplinkKind(enum.Enum):
    """Where an uplink leads."""

    NIC = "nic"
    NONE = "none"


class Mode(enum.Enum):
    """How a network forwards."""

    SWITCH = "switch"
    HUB = "hub"


@attrs.frozen
class Uplink:
    """Where networks meet the outside.

    *interface* is None if, and only if, *kind* is NONE.  *external* are the
    prefixes of the network on the wire.
    """

    name: str
    kind: UplinkKind
    interface: str | None = None
    external: tuple[IPNetwork, ...] = ()

    def __attrs_post_init__(self) -> None:
        if (self.kind is UplinkKind.NIC) != (self.interface is not None):
            raise ValueError(
                f"uplink {self.name!r} of kind {self.kind.value} has interface {self.interface!r}"
            )


def _check_rate(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if not 0 <= value <= MAX_RATE:
        raise ValueError(f"{field.name} is {value}, wanted 0 to {MAX_RATE}")


@attrs.frozen
class Limits:
    """What a vif may send, each per second; 0 means no limit.

    *broadcast_per_s* counts its broadcast and multicast frames, *copies_per_s*
    what the datapath makes of them.
    """

    frames_per_s: int = attrs.field(default=0, validator=_check_rate)
    bytes_per_s: int = attrs.field(default=0, validator=_check_rate)
    broadcast_per_s: int = attrs.field(default=500, validator=_check_rate)
    copies_per_s: int = attrs.field(default=50_000, validator=_check_rate)


def _check_own_rate(
    instance: object, field: "attrs.Attribute[int | None]", value: int | None
) -> None:
    if value is not None:
        _check_rate(instance, cast("attrs.Attribute[int]", field), value)


@attrs.frozen
class OwnLimits:
    """The limits that one vif has of its own; None is what its network says."""

    frames_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)
    bytes_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)
    broadcast_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)
    copies_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)

    def over(self, network: Limits) -> Limits:
        """Return what holds for a vif with these limits in a network with those."""
        own = {name: rate for name, rate in attrs.asdict(self).items() if rate is not None}
        return attrs.evolve(network, **own)


class Role(enum.Enum):
    """What only one that others rely on may send."""

    ROUTER = "router"
    DHCP_SERVER = "dhcp-server"


class LinkLocal(enum.Enum):
    """Which link-local addresses a vif may use."""

    EUI64 = "eui64"
    FIRST_COME = "first-come"


def _check_ethertypes(_: object, field: object, value: tuple[int, ...]) -> None:
    if len(value) > MAX_ETHERTYPES:
        raise ValueError(f"{len(value)} EtherTypes, wanted at most {MAX_ETHERTYPES}")
    for ethertype in value:
        if not MIN_ETHERTYPE <= ethertype <= MAX_ETHERTYPE:
            raise ValueError(
                f"EtherType is {ethertype:#06x},"
                f" wanted {MIN_ETHERTYPE:#06x} to {MAX_ETHERTYPE:#06x}"
            )


@attrs.frozen
class Trust:
    """What an administrator lets one vif do that others may not.

    *ethertypes* are those that it may send beside IPv4, ARP and IPv6; with
    *trusted_tap* the engine itself reads and writes its client's tap.
    *link_local* None is what its network says.
    """

    roles: frozenset[Role] = frozenset()
    ethertypes: tuple[int, ...] = attrs.field(default=(), validator=_check_ethertypes)
    link_local: LinkLocal | None = None
    trusted_tap: bool = False


@attrs.frozen
class FilterBinding:
    """The network filter that a vif is bound to, by *name*.

    *parameters* are what its variables stand for there, each with one value or more,
    sorted by name; what the vif itself is bound to need not be among them.
    """

    name: str
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, name: str, parameters: Mapping[str, Iterable[str]]) -> "FilterBinding":
        """Return the binding to filter *name*, with *parameters* in any order."""
        return cls(name, tuple((each, tuple(parameters[each])) for each in sorted(parameters)))

    @property
    def assignments(self) -> tuple[str, ...]:
        """Each parameter with each of its values, as ``NAME=VALUE``."""
        return tuple(f"{name}={value}" for name, values in self.parameters for value in values)

    def __str__(self) -> str:
        return " ".join((self.name, *self.assignments))


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


@attrs.frozen
class Network:
    """One broadcast domain: its prefixes, at most one of each family, and what its vifs are told.

    *mtu* is in bytes of the IP packet.  Nobody gets an address in *reserved*.
    *autoconf* also binds the address that a stack makes of the IPv6 prefix and
    its MAC by itself (RFC 4862).  *limits* and *link_local* are those of vifs with
    none of their own.  With *host* the machine itself is in it, by a port of its own.
    """

    name: str
    mode: Mode
    uplink: str | None
    prefixes: tuple[IPNetwork, ...]
    gateways: tuple[IPAddress, ...] = ()
    mtu: int = 1500
    dns: tuple[IPAddress, ...] = ()
    search: tuple[str, ...] = ()
    reserved: tuple[AddressRange, ...] = ()
    autoconf: bool = True
    limits: Limits = Limits()
    link_local: LinkLocal = LinkLocal.EUI64
    host: bool = False

    def __attrs_post_init__(self) -> None:
        for what, values in (("prefix", self.prefixes), ("gateway", self.gateways)):
            versions = [value.version for value in values]
            if len(versions) != len(set(versions)):
                raise ValueError(f"network {self.name!r} has more than one {what} of one family")
        lowest = MIN_IPV6_MTU if self.prefix(6) else MIN_MTU
        if not lowest <= self.mtu <= MAX_MTU:
            raise ValueError(f"mtu is {self.mtu}, wanted {lowest} to {MAX_MTU}")

    def prefix(self, version: IPVersion) -> IPNetwork | None:
        """Return the network's prefix of one family."""
        return next((prefix for prefix in self.prefixes if prefix.version == version), None)

    def covers(self, prefix: IPNetwork) -> bool:
        """Whether all addresses of *prefix* are the network's."""
        return any(is_inside(prefix, own) for own in self.prefixes)


@attrs.frozen
class Vif:
    """A virtual interface: whose it is, where, and what it may claim.

    *id* is 32 hexadecimal digits, random, and kept for the vif's whole life.
    *owner_name* is None where the owner was given by number.  The length of
    each of *addresses* is that of its network's prefix.  An *ephemeral* vif goes
    when its client does.  *grant* names the grant by which a user made it.
    *filter* judges its frames beside what it is bound to.
    """

    id: str
    name: VifName
    owner_uid: int
    owner_name: str | None
    network: str
    mac: MacAddress
    addresses: tuple[IPInterface, ...] = ()
    prefixes: tuple[IPNetwork, ...] = ()
    limits: OwnLimits = OwnLimits()
    trust: Trust = Trust()
    static: bool = False
    ephemeral: bool = False
    grant: str | None = None
    filter: FilterBinding | None = None

    def __attrs_post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"vif id is {self.id!r}, wanted 32 hexadecimal digits")
        if not 0 <= self.owner_uid <= MAX_UID:
            raise ValueError(f"owner's uid is {self.owner_uid}, wanted 0 to {MAX_UID}")


@attrs.frozen
class StaticVif:
    """A vif as the file names it.

    *owner* is a user name, or a uid in digits.  Without *network* it is the one
    that the addresses lie in, without *mac* the stable one.
    """

    name: VifName
    owner: str
    network: str | None = None
    addresses: tuple[IPInterface, ...] = ()
    prefixes: tuple[IPNetwork, ...] = ()
    mac: MacAddress | None = None
    limits: OwnLimits = OwnLimits()
    trust: Trust = Trust()
    filter: FilterBinding | None = None


@attrs.frozen
class Grant:
    """The administrator's word that users may make vifs for themselves.

    *to* names them: user names, uids in digits, and groups led by ``@``.  Each of
    them may have *vifs* vifs by it at once, in *network*, bound to what lies in
    *addresses*: to *addresses_per_vif* of them each, or of whole prefixes as well if
    *prefixes*.  *limits* are the most that such a vif may have, and what it has if
    it asks for none; None is what the network says.  *filter* is the one that each of
    them is bound to.
    """

    name: str
    to: tuple[str, ...]
    network: str
    addresses: tuple[AddressRange, ...]
    vifs: int = 1
    limits: OwnLimits = OwnLimits()
    prefixes: bool = False
    addresses_per_vif: int = 4
    filter: FilterBinding | None = None


@attrs.frozen
class Daemon:
    """Paths, accounts and who may administer.

    *admins* are user names, uids in digits, and groups led by ``@``.  Owners of
    vifs that are not in the file have their uid in one of *owner_uids*.  What the
    clients of one owner leave unread takes *queue_mib_per_user* of memory at most.
    The engine stays on the processor *cpu*, unless that is None.
    """

    run_dir: str = "/run/multiplexer"
    state_dir: str = "/var/lib/multiplexer"
    control_user: str = "multiplexer-control"
    engine_user: str = "multiplexer-engine"
    admins: tuple[str, ...] = ()
    owner_uids: tuple[range, ...] = (range(1000, 60000),)
    queue_mib_per_user: int = 64
    cpu: int | None = None


@attrs.frozen
class Origin:
    """Where in the file each key of a Config stands."""

    filename: str = "multiplexer.toml"
    lines: Mapping[tuple[str | int, ...], int] = MappingProxyType({})

    def line(self, path: tuple[str | int, ...]) -> int:
        """Return the line of *path*, or of what is nearest above it."""
        above = (path[:length] for length in range(len(path), 0, -1))
        return next((self.lines[key] for key in above if key in self.lines), 1)

    def locate(self, path: tuple[str | int, ...]) -> str:
        """Return ``file:line: table.key``; which element of an array, the line says."""
        key = ".".join(
            part if _BARE_KEY.fullmatch(part) else json.dumps(part)
            for part in path
            if isinstance(part, str)
        )
        return f"{self.filename}:{self.line(path)}: {key}"


@attrs.frozen
class Config:
    """The whole file, checked.

    *warnings* are legal, and probably not what the administrator meant; each
    reads as a line of ConfigError.  *numbering* is that of a start, but for a file
    that is read while the daemon runs: `renumbered`.
    """

    daemon: Daemon = Daemon()
    uplinks: tuple[Uplink, ...] = ()
    networks: tuple[Network, ...] = ()
    vifs: tuple[StaticVif, ...] = ()
    grants: tuple[Grant, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: Origin = attrs.field(default=Origin(), eq=False, repr=False)
    numbering: Numbering = attrs.field(
        default=attrs.Factory(lambda self: _first_numbering(self), takes_self=True),
        eq=False,
        repr=False,
    )

    def uplink(self, name: str) -> Uplink:
        """Return the uplink of that name; KeyError if there is none."""
        return _by_name(self.uplinks, name)

    def network(self, name: str) -> Network:
        """Return the network of that name; KeyError if there is none."""
        return _by_name(self.networks, name)

    def uplink_port_of(self, network: Network) -> int | None:
        """Return the datapath's port of the uplink that *network* is bridged to."""
        if network.uplink is None or not has_uplink_port(network, self.uplink(network.uplink)):
            return None
        return port_of_uplink(self, network.uplink)


_Named = TypeVar("_Named", Uplink, Network)


def _by_name(values: Iterable[_Named], name: str) -> _Named:
    for value in values:
        if value.name == name:
            return value
    raise KeyError(name)


def has_uplink_port(network: Network, uplink: Uplink) -> bool:
    """Whether frames go between *network* and the wire of *uplink*.

    They do only where all its prefixes are on the wire's external network.
    """
    return uplink.kind is UplinkKind.NIC and all(
        any(is_inside(prefix, external) for external in uplink.external)
        for prefix in network.prefixes
    )


def _first_numbering(config: Config) -> Numbering:
    return Numbering.first(
        (network.name for network in config.networks),
        (uplink.name for uplink in config.uplinks if uplink.kind is UplinkKind.NIC),
    )


def renumbered(config: Config, before: Numbering) -> Config:
    """Return *config* with the numbers of *before* for what was there already.

    Raises:
        NumbersExhausted: if what goes and what comes are too many at once.
    """
    numbering = before.following(_first_numbering(config), MAX_NETWORKS, MAX_NIC_UPLINKS)
    return attrs.evolve(config, numbering=numbering)


def port_of_uplink(config: Config, name: str) -> int:
    """Return the datapath's port of a nic uplink; KeyError if there is none of that name."""
    return config.numbering.nics[name]


def id_of_network(config: Config, name: str) -> int:
    """Return the datapath's id of a network; KeyError if there is none of that name."""
    return config.numbering.networks[name]


def port_of_host(config: Config, name: str) -> int:
    """Return the datapath's port of the host in a network; KeyError if there is none such."""
    return FIRST_HOST_PORT + id_of_network(config, name)


def stable_mac(nic_mac: MacAddress | None, of: VifName | str) -> MacAddress:
    """Return the MAC of a vif that was given none, made *of* its name or its id.

    It is locally administered, the same on each start, and another on each host:
    52:54 and a hash of the MAC of the network's NIC, if it has one, and *of*.
    """
    packed = nic_mac.packed if nic_mac is not None else NO_MAC
    digest = hashlib.sha256(packed + str(of).encode()).digest()
    return MacAddress(b"\x52\x54" + digest[:4])


def is_inside(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether *outer* has every address of *inner*; families never mix."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
