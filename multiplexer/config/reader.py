"""The reader of the file: from its tables, one kind after the other, to a Config.

A network looks back at uplinks, a vif and a grant at networks; `known` has them.
"""

from collections.abc import Iterator
from typing import Final

import attrs

from pfinet_proto.values import VifName

from ..model import (
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
    Config,
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
)
from .filter_binding import read_filter
from .keys import KEYS
from .known import Known
from .prefixes import check_gateways, check_granted, check_reserved
from .toml_tables import Problems, Table, show, suggest
from .values import (
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

# So many fit the welcome message of the attach handshake with much room to spare.
MAX_DNS: Final = 8
MAX_SEARCH: Final = 8

_LATER_MODES: Final = ("vepa", "private", "passthru", "routed", "nat")
_LATER_KINDS: Final = ("tap",)


class ConfigReader:
    """One pass over one file, a function for each kind of table.  Each looks back only."""

    def __init__(self, problems: Problems, file: Table) -> None:
        self.problems = problems
        self.file = file
        self.known = Known()

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
            uplinks=tuple(self.known.uplinks.values()),
            networks=tuple(self.known.networks.values()),
            vifs=tuple(self.known.vifs),
            grants=tuple(self.known.grants),
            warnings=self.problems.warnings,
            origin=origin,
        )

    def named_tables(self, kind: str) -> Iterator[tuple[str, Table]]:
        """Yield each ``[kind.NAME]`` in the order of the file."""
        tables = self.file.table(kind, None)
        for name in tables:
            table = tables.table(name, KEYS[kind])
            if not table.ok(""):
                self.known.wrong[kind].add(name)
                continue
            try:
                read_name(name)
            except ValueError as error:
                table.problem((), str(error))
            yield name, table

    def read_daemon(self, table: Table) -> Daemon:
        """Return what ``[daemon]`` says; what it leaves out is as a Daemon is by default."""
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
        """Take in ``[uplink.NAME]``."""
        kind = table.require("kind", read_choice(UplinkKind, _LATER_KINDS), '"nic" or "none"')
        interface = table.take("interface", read_interface_name, None)
        external = table.take_list("external", read_prefix)
        if kind is UplinkKind.NIC and "interface" not in table:
            table.problem(("interface",), "missing, wanted the name of the NIC")
        if kind is UplinkKind.NONE:
            for key in ("interface", "external"):
                if key in table:
                    table.problem((key,), 'set, but an uplink of kind "none" has none')
        for other in self.known.uplinks.values():
            if interface is not None and other.interface == interface:
                table.problem(
                    ("interface",),
                    f'{show(interface)} is that of uplink "{other.name}", wanted one of its own',
                )
        nics = sum(uplink.kind is UplinkKind.NIC for uplink in self.known.uplinks.values())
        if kind is UplinkKind.NIC and nics == MAX_NIC_UPLINKS:
            table.problem(("kind",), f"one too many, wanted at most {MAX_NIC_UPLINKS} NICs")
        if kind is None or not table.ok():
            self.known.wrong["uplink"].add(name)
        else:
            self.known.uplinks[name] = Uplink(name, kind, interface, external)

    def read_network(self, name: str, table: Table) -> None:
        """Take in ``[network.NAME]``, for which all uplinks must have been read."""
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
        binding = read_filter(table)
        if table.ok("prefixes"):
            self.known.check_prefixes(name, table, prefixes)
        if table.ok("prefixes", "gateways"):
            check_gateways(table, prefixes, gateways)
        if table.ok("prefixes", "reserved"):
            check_reserved(table, prefixes, reserved)
        has_ipv6 = any(prefix.version == 6 for prefix in prefixes)
        if table.ok("prefixes", "mtu") and has_ipv6 and mtu < MIN_IPV6_MTU:
            wanted = f"wanted {MIN_IPV6_MTU} to {MAX_MTU}, since the network has IPv6"
            table.problem(("mtu",), f"{mtu}, {wanted}")
        if uplink is not None and uplink not in {*self.known.uplinks, *self.known.wrong["uplink"]}:
            hint = suggest(uplink, list(self.known.uplinks))
            table.problem(("uplink",), f"no uplink is named {show(uplink)}{hint}")
        if len(self.known.networks) == MAX_NETWORKS:
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
                filter=binding,
            )
            self.known.networks[name] = network
            self.known.check_uplink(table, network)
            self.known.check_host(table, network)
        else:
            self.known.wrong["network"].add(name)

    def read_vif(self, name: str, table: Table) -> None:
        """Take in ``[vif.NAME]``, for which all networks must have been read."""
        owner = table.require("owner", read_user, "a user name or a uid in digits")
        network_name = table.take("network", read_name, None)
        addresses = table.take_list("addresses", read_interface)
        prefixes = table.take_list("prefixes", read_prefix)
        mac = table.take("mac", read_mac, None)
        network = None
        if table.ok("", "network", "addresses", "prefixes", "mac"):
            vif = StaticVif(VifName(name), owner or "", network_name, addresses, prefixes, mac)
            network = self.known.check_binding(table, vif)
        limits = _read_limits(table)
        trust = _read_trust(table)
        binding = read_filter(table)
        if len(self.known.vifs) == MAX_VIFS:
            table.problem((), f"one too many, wanted at most {MAX_VIFS} vifs")
        if network is not None and owner is not None and table.ok():
            self.known.vifs.append(
                attrs.evolve(vif, network=network.name, limits=limits, trust=trust, filter=binding)
            )

    def read_grant(self, name: str, table: Table) -> None:
        """Take in ``[grant.NAME]``, for which all networks must have been read."""
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
        if network_name is not None and network_name not in self.known.wrong["network"]:
            network = self.known.networks.get(network_name)
            if network is None:
                hint = suggest(network_name, list(self.known.networks))
                table.problem(("network",), f"no network is named {show(network_name)}{hint}")
        if network is not None and table.ok("addresses"):
            check_granted(table, network.prefixes, addresses)
        if network is not None and table.ok():
            self.known.grants.append(
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
