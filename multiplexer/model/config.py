"""The administrator's file as a value: what it says, where each key stood, which numbers it has.

The datapath knows networks and uplinks by the numbers of `numbering`.  The host's own
port in a network stands at the network's id above FIRST_HOST_PORT.  Vifs come and go,
so their ports, between FIRST_VIF_PORT and that, are dealt out while the daemon runs.
"""

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import attrs

from pfinet_proto.values import IPInterface, IPNetwork, MacAddress, VifName

from .addresses import AddressRange
from .filter_binding import FilterBinding
from .limits import OwnLimits
from .network import Network, Uplink, UplinkKind, has_uplink_port
from .numbering import Numbering
from .sizes import FIRST_HOST_PORT, MAX_NETWORKS, MAX_NIC_UPLINKS
from .vif import Trust

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


class ConfigError(Exception):
    """The configuration file is wrong.

    Each of *problems* is one line of text, ``file:line: table.key: message``.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


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
    limits: OwnLimits = attrs.field(factory=OwnLimits)
    trust: Trust = attrs.field(factory=Trust)
    filter: FilterBinding | None = None


@attrs.frozen
class Grant:
    """The administrator's word that users may make vifs for themselves.

    *to* names them: user names, uids in digits, and groups led by ``@``.  Each of
    them may have *vifs* vifs by it at once, in *network*, bound to what lies in
    *addresses*: to *addresses_per_vif* of them each, or of whole prefixes as well if
    *prefixes*.  *limits* are the most that such a vif may have, and what it has if
    it asks for none; None is what the network says.  *filter* is the one that each of
    them is bound to, None that of the network.
    """

    name: str
    to: tuple[str, ...]
    network: str
    addresses: tuple[AddressRange, ...]
    vifs: int = 1
    limits: OwnLimits = attrs.field(factory=OwnLimits)
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
