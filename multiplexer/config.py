"""multiplexer.toml: text in, a Config or every error of it out.

Reading goes from text to tables (tomllib), from tables to values (one function
for each type of value), and from values to a Config (whatever takes a look at
more than one key).  Each kind of table looks back only: networks at uplinks,
vifs and grants at networks.

An error does not end it.  What depends on a wrong value is left out and all
else is still checked, so that one run of ``multiplexerd --check`` finds all
that there is to find.  Only the text is judged: whether a user or an interface
exists is not known here.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from pfinet_proto.values import IPAddress, IPNetwork, VifName

from .binding import Fault, binding_faults, choose_network, edge_addresses, unusable_reason
from .config_filter import read_filter
from .config_values import (
    read_address,
    read_admin,
    read_boolean,
    read_choice,
    read_directory,
    read_domain,
    read_ethertype,
    read_integer,
    read_interface,
    read_interface_name,
    read_mac,
    read_name,
    read_prefix,
    read_range,
    read_run_directory,
    read_service_user,
    read_uid_range,
    read_user,
)
from .host_port import interface_of
from .ledger import Ledger
from .model import (
    MAX_ADDRESSES_PER_VIF,
    MAX_CPU,
    MAX_ETHERTYPES,
    MAX_MTU,
    MAX_NETWORKS,
    MAX_NIC_UPLINKS,
    MAX_QUEUE_MIB,
    MAX_RATE,
    MAX_VIFS,
    MIN_IPV6_MTU,
    MIN_MTU,
    AddressRange,
    Config,
    ConfigError,
    Daemon,
    Grant,
    Limits,
    LinkLocal,
    Mode,
    Network,
    Origin,
    OwnLimits,
    Role,
    StaticVif,
    Trust,
    Uplink,
    UplinkKind,
    has_uplink_port,
)
from .toml_lines import find_lines
from .toml_tables import Problems, Table, show, suggest

#: Every key there is, by the kind of table that it stands in; "" is the file itself.
KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "": ("daemon", "uplink", "network", "vif", "grant"),
        "daemon": (
            "run_dir",
            "state_dir",
            "control_user",
            "engine_user",
            "admins",
            "owner_uids",
            "queue_mib_per_user",
            "cpu",
        ),
        "uplink": ("kind", "interface", "external"),
        "network": (
            "mode",
            "uplink",
            "prefixes",
            "gateways",
            "mtu",
            "dns",
            "search",
            "reserved",
            "autoconf",
            "link-local",
            "host",
            "limits",
        ),
        "vif": (
            "owner",
            "network",
            "addresses",
            "prefixes",
            "mac",
            "limits",
            "roles",
            "ethertypes",
            "link-local",
            "trusted_tap",
            "filter",
            "parameters",
        ),
        "grant": (
            "to",
            "network",
            "addresses",
            "prefixes",
            "addresses_per_vif",
            "vifs",
            "limits",
            "filter",
            "parameters",
        ),
        "limits": ("frames_per_s", "bytes_per_s", "broadcast_per_s", "copies_per_s"),
    }
)

# So many fit the welcome message of the attach handshake with much room to spare.
MAX_DNS: Final = 8
MAX_SEARCH: Final = 8

_LATER_MODES: Final = ("vepa", "private", "passthru", "routed", "nat")
_LATER_KINDS: Final = ("tap",)

_TOML_PLACE: Final = re.compile(
    r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL
)


def parse_config(text: str, filename: str) -> Config:
    """Return the configuration that *text* is; *filename* appears in messages only.

    Raises:
        ConfigError: with all that is wrong, in the order of the lines.
    """
    try:
        tree = tomllib.loads(text)
        origin = Origin(filename, find_lines(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_describe_syntax_error(error, text, filename)]) from None
    except ValueError:
        # tomllib lets this through: Python reads no integer of more than 4300 digits.
        endless = re.search(r"[0-9_]{4301}", text)
        line = text.count("\n", 0, endless.start()) + 1 if endless else 1
        raise ConfigError([f"{filename}:{line}: an integer of more than 4300 digits"]) from None
    except RecursionError:
        raise ConfigError([f"{filename}:1: arrays are nested too deeply"]) from None
    problems = Problems(origin)
    config = _ConfigReader(problems, Table(problems, (), tree, KEYS[""])).read(origin)
    problems.raise_if_any()
    return config


def _describe_syntax_error(error: tomllib.TOMLDecodeError, text: str, filename: str) -> str:
    match = _TOML_PLACE.fullmatch(str(error))
    if match is None:
        return f"{filename}:1: not TOML: {error}"
    message, line, column = match.groups()
    if line is None:
        return f"{filename}:{len(text.splitlines()) or 1}: not TOML: {message} at the end"
    return f"{filename}:{line}: not TOML: {message} in column {column}"


class _ConfigReader:
    """One pass over one file."""

    def __init__(self, problems: Problems, file: Table) -> None:
        self.problems = problems
        self.file = file
        self.uplinks: dict[str, Uplink] = {}
        self.networks: dict[str, Network] = {}
        self.vifs: list[StaticVif] = []
        self.grants: list[Grant] = []
        # Tables with something wrong: they are there, and say no more.
        self.wrong: dict[str, set[str]] = {
            kind: set() for kind in ("uplink", "network", "vif", "grant")
        }
        self.prefixes: list[tuple[IPNetwork, str]] = []
        self.bridged: dict[str, str] = {}
        self.ledger = Ledger()

    def read(self, origin: Origin) -> Config:
        """Return what was read; it is worth something only if there were no problems."""
        daemon = self.read_daemon(self.file.table("daemon", KEYS["daemon"]))
        for name, table in self.named_tables("uplink"):
            self.read_uplink(name, table)
        for name, table in self.named_tables("network"):
            self.read_network(name, table)
        for name, table in self.named_tables("vif"):
            self.read_vif(name, table)
        for name, table in self.named_tables("grant"):
            self.read_grant(name, table)
        return Config(
            daemon=daemon,
            uplinks=tuple(self.uplinks.values()),
            networks=tuple(self.networks.values()),
            vifs=tuple(self.vifs),
            grants=tuple(self.grants),
            warnings=self.problems.warnings,
            origin=origin,
        )

    def named_tables(self, kind: str) -> Iterator[tuple[str, Table]]:
        """Yield each ``[kind.NAME]`` in the order of the file."""
        tables = self.file.table(kind, None)
        for name in tables:
            table = tables.table(name, KEYS[kind])
            if not table.ok(""):
                self.wrong[kind].add(name)
                continue
            try:
                read_name(name)
            except ValueError as error:
                table.problem((), str(error))
            yield name, table

    # ---- one function for each kind of table ----

    def read_daemon(self, table: Table) -> Daemon:
        default = Daemon()
        daemon = Daemon(
            run_dir=table.take("run_dir", read_run_directory, default.run_dir),
            state_dir=table.take("state_dir", read_directory, default.state_dir),
            control_user=table.take("control_user", read_service_user, default.control_user),
            engine_user=table.take("engine_user", read_service_user, default.engine_user),
            admins=table.take_list("admins", read_admin),
            owner_uids=table.take_list("owner_uids", read_uid_range, default.owner_uids),
            queue_mib_per_user=table.take(
                "queue_mib_per_user", read_integer(1, MAX_QUEUE_MIB), default.queue_mib_per_user
            ),
            cpu=table.take("cpu", read_integer(0, MAX_CPU), None),
        )
        if table.ok("control_user", "engine_user") and daemon.control_user == daemon.engine_user:
            table.problem(
                ("engine_user",),
                f"{show(daemon.engine_user)} is control_user too, wanted two users",
            )
        if table.ok("run_dir", "state_dir") and daemon.run_dir == daemon.state_dir:
            table.problem(
                ("state_dir",), f"{show(daemon.state_dir)} is run_dir too, wanted two directories"
            )
        return daemon

    def read_uplink(self, name: str, table: Table) -> None:
        kind = table.require("kind", read_choice(UplinkKind, _LATER_KINDS), '"nic" or "none"')
        interface = table.take("interface", read_interface_name, None)
        external = table.take_list("external", read_prefix)
        if kind is UplinkKind.NIC and "interface" not in table:
            table.problem(("interface",), "missing, wanted the name of the NIC")
        if kind is UplinkKind.NONE:
            for key in ("interface", "external"):
                if key in table:
                    table.problem((key,), 'set, but an uplink of kind "none" has none')
        for other in self.uplinks.values():
            if interface is not None and other.interface == interface:
                table.problem(
                    ("interface",),
                    f'{show(interface)} is that of uplink "{other.name}", wanted one of its own',
                )
        nics = sum(uplink.kind is UplinkKind.NIC for uplink in self.uplinks.values())
        if kind is UplinkKind.NIC and nics == MAX_NIC_UPLINKS:
            table.problem(("kind",), f"one too many, wanted at most {MAX_NIC_UPLINKS} NICs")
        if kind is None or not table.ok():
            self.wrong["uplink"].add(name)
        else:
            self.uplinks[name] = Uplink(name, kind, interface, external)

    def read_network(self, name: str, table: Table) -> None:
        mode = table.take("mode", read_choice(Mode, _LATER_MODES), Mode.SWITCH)
        uplink = table.take("uplink", read_name, None)
        prefixes = table.take_list("prefixes", read_prefix)
        gateways = table.take_list("gateways", read_address)
        mtu = table.take("mtu", read_integer(MIN_MTU, MAX_MTU), 1500)
        dns = table.take_list("dns", read_address, most=MAX_DNS)
        search = table.take_list("search", read_domain, most=MAX_SEARCH)
        reserved = table.take_list("reserved", read_range)
        autoconf = table.take("autoconf", read_boolean, True)
        link_local = table.take("link-local", read_choice(LinkLocal), LinkLocal.EUI64)
        host = table.take("host", read_boolean, False)
        limits = _read_limits(table).over(Limits())
        if table.ok("prefixes"):
            self.check_prefixes(name, table, prefixes)
        if table.ok("prefixes", "gateways"):
            _check_gateways(table, prefixes, gateways)
        if table.ok("prefixes", "reserved"):
            _check_reserved(table, prefixes, reserved)
        has_ipv6 = any(prefix.version == 6 for prefix in prefixes)
        if table.ok("prefixes", "mtu") and has_ipv6 and mtu < MIN_IPV6_MTU:
            wanted = f"wanted {MIN_IPV6_MTU} to {MAX_MTU}, since the network has IPv6"
            table.problem(("mtu",), f"{mtu}, {wanted}")
        if uplink is not None and uplink not in {*self.uplinks, *self.wrong["uplink"]}:
            hint = suggest(uplink, list(self.uplinks))
            table.problem(("uplink",), f"no uplink is named {show(uplink)}{hint}")
        if len(self.networks) == MAX_NETWORKS:
            table.problem((), f"one too many, wanted at most {MAX_NETWORKS} networks")
        if table.ok():
            network = Network(
                name=name,
                mode=mode,
                uplink=uplink,
                prefixes=prefixes,
                gateways=gateways,
                mtu=mtu,
                dns=dns,
                search=search,
                reserved=reserved,
                autoconf=autoconf,
                limits=limits,
                link_local=link_local,
                host=host,
            )
            self.networks[name] = network
            self.check_uplink(table, network)
            self.check_host(table, network)
        else:
            self.wrong["network"].add(name)

    def read_vif(self, name: str, table: Table) -> None:
        owner = table.require("owner", read_user, "a user name or a uid in digits")
        network_name = table.take("network", read_name, None)
        addresses = table.take_list("addresses", read_interface)
        prefixes = table.take_list("prefixes", read_prefix)
        mac = table.take("mac", read_mac, None)
        network = None
        if table.ok("", "network", "addresses", "prefixes", "mac"):
            vif = StaticVif(VifName(name), owner or "", network_name, addresses, prefixes, mac)
            network = self.check_binding(table, vif)
        limits = _read_limits(table)
        trust = _read_trust(table)
        binding = read_filter(table)
        if len(self.vifs) == MAX_VIFS:
            table.problem((), f"one too many, wanted at most {MAX_VIFS} vifs")
        if network is not None and owner is not None and table.ok():
            self.vifs.append(
                StaticVif(
                    VifName(name),
                    owner,
                    network.name,
                    addresses,
                    prefixes,
                    mac,
                    limits,
                    trust,
                    binding,
                )
            )

    def read_grant(self, name: str, table: Table) -> None:
        to = table.take_list("to", read_admin)
        network_name = table.require("network", read_name, "the name of a network")
        addresses = table.take_list("addresses", read_range)
        prefixes = table.take("prefixes", read_boolean, False)
        most = read_integer(1, MAX_ADDRESSES_PER_VIF)
        addresses_per_vif = table.take("addresses_per_vif", most, 4)
        vifs = table.take("vifs", read_integer(1, MAX_VIFS), 1)
        limits = _read_limits(table)
        binding = read_filter(table)
        if not to and table.ok("to"):
            table.problem(("to",), "missing, wanted users, uids or @ and groups")
        if not addresses and table.ok("addresses"):
            table.problem(("addresses",), "missing, wanted addresses of the network")
        network = None
        if network_name is not None and network_name not in self.wrong["network"]:
            network = self.networks.get(network_name)
            if network is None:
                hint = suggest(network_name, list(self.networks))
                table.problem(("network",), f"no network is named {show(network_name)}{hint}")
        if network is not None and table.ok("addresses"):
            _check_granted(table, network.prefixes, addresses)
        if network is not None and table.ok():
            self.grants.append(
                Grant(
                    name,
                    to,
                    network.name,
                    addresses,
                    vifs,
                    limits,
                    prefixes,
                    addresses_per_vif,
                    binding,
                )
            )

    # ---- what takes a look at other tables ----

    def check_prefixes(self, name: str, table: Table, prefixes: tuple[IPNetwork, ...]) -> None:
        if not prefixes:
            table.problem(("prefixes",), "missing, wanted an IPv4 prefix, an IPv6 prefix or both")
        _check_one_of_each_family(table, "prefixes", prefixes)
        for index, prefix in enumerate(prefixes):
            what = unusable_reason(prefix)
            if what is not None:
                table.problem(("prefixes", index), f"{prefix} has an address that is {what}")
            for other, network in self.prefixes:
                if other.overlaps(prefix):
                    problem = f'{prefix} overlaps {other} of network "{network}"'
                    table.problem(("prefixes", index), problem)
        self.prefixes += [(prefix, name) for prefix in prefixes]

    def check_uplink(self, table: Table, network: Network) -> None:
        uplink = self.uplinks.get(network.uplink or "")
        if uplink is None or uplink.kind is UplinkKind.NONE:
            return
        if not has_uplink_port(network, uplink):
            external = " and ".join(map(str, uplink.external)) or "which is not set"
            table.warn(
                ("prefixes",),
                f'not all in the external network of uplink "{uplink.name}" ({external}),'
                " so the network is isolated",
            )
            return
        other = self.bridged.setdefault(uplink.name, network.name)
        if other != network.name:
            table.problem(
                ("uplink",),
                f'{show(uplink.name)} is bridged to network "{other}", wanted one of its own',
            )

    def check_host(self, table: Table, network: Network) -> None:
        """Say so if the tap of *network* would have the name of another interface of ours."""
        if not network.host:
            return
        name = interface_of(network.name)
        others = [
            *(
                f'uplink "{uplink.name}"'
                for uplink in self.uplinks.values()
                if uplink.interface == name
            ),
            *(
                f'network "{other.name}"'
                for other in self.networks.values()
                if other.host and other != network and interface_of(other.name) == name
            ),
        ]
        for other in others:
            table.problem(("host",), f"its interface {show(name)} would be that of {other} too")

    def check_binding(self, table: Table, vif: StaticVif) -> Network | None:
        """Return the network that *vif* is in, if that is known."""
        if vif.network in self.wrong["network"]:
            return None
        networks = tuple(self.networks.values())
        network = choose_network(networks, vif)
        if isinstance(network, Fault):
            # An address outside every good network may well be in a wrong one.
            if vif.network is not None:
                hint = suggest(vif.network, list(self.networks))
                table.problem(("network",), f"no network is named {show(vif.network)}{hint}")
            elif not self.wrong["network"]:
                table.fault(network)
            return None
        for fault in binding_faults(networks, network, vif, vif.mac):
            table.fault(fault)
        for fault in self.ledger.faults(network, vif, vif.mac):
            table.fault(fault)
        self.ledger.enter(network, vif, vif.mac)
        return network


def _read_limits(table: Table) -> OwnLimits:
    """Return the limits that *table* has; None is what they leave out."""
    limits = table.table("limits", KEYS["limits"])
    rate = read_integer(0, MAX_RATE)
    return OwnLimits(**{name: limits.take(name, rate, None) for name in KEYS["limits"]})


def _read_trust(table: Table) -> Trust:
    """Return what *table* lets its vif do that others may not."""
    ethertypes = table.take_list("ethertypes", read_ethertype, most=MAX_ETHERTYPES)
    return Trust(
        roles=frozenset(table.take_list("roles", read_choice(Role))),
        ethertypes=ethertypes[:MAX_ETHERTYPES],
        link_local=table.take("link-local", read_choice(LinkLocal), None),
        trusted_tap=table.take("trusted_tap", read_boolean, False),
    )


def _check_one_of_each_family(
    table: Table, key: str, values: tuple[IPNetwork, ...] | tuple[IPAddress, ...]
) -> None:
    versions = [value.version for value in values]
    for index, value in enumerate(values):
        if value.version in versions[:index]:
            table.problem(
                (key, index), f"{value} is a second one of IPv{value.version}, wanted one"
            )


def _check_gateways(
    table: Table, prefixes: tuple[IPNetwork, ...], gateways: tuple[IPAddress, ...]
) -> None:
    _check_one_of_each_family(table, "gateways", gateways)
    for index, gateway in enumerate(gateways):
        prefix = next((prefix for prefix in prefixes if gateway in prefix), None)
        problem = None
        if prefix is None:
            problem = f"is outside the network, wanted it in {_list(prefixes)}"
        elif gateway in edge_addresses(prefix):
            problem = f"is {edge_addresses(prefix)[gateway]}"
        if problem is not None:
            table.problem(("gateways", index), f"{gateway} {problem}")


def _check_reserved(
    table: Table, prefixes: tuple[IPNetwork, ...], reserved: tuple[AddressRange, ...]
) -> None:
    for index, range_ in enumerate(reserved):
        if not any(range_.overlaps(prefix) for prefix in prefixes):
            problem = f"{range_} is outside the network, wanted it in {_list(prefixes)}"
            table.problem(("reserved", index), problem)


def _check_granted(
    table: Table, prefixes: tuple[IPNetwork, ...], addresses: tuple[AddressRange, ...]
) -> None:
    for index, range_ in enumerate(addresses):
        if not any(range_.first in prefix and range_.last in prefix for prefix in prefixes):
            problem = f"{range_} is not all in the network, wanted it in {_list(prefixes)}"
            table.problem(("addresses", index), problem)


def _list(prefixes: tuple[IPNetwork, ...]) -> str:
    return " or ".join(map(str, prefixes))
