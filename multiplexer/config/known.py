"""What the file has said so far, and whether one more table agrees with it."""

from pfinet_proto.values import IPNetwork

from ..binding import Fault, binding_faults, choose_network, unusable_reason
from ..host_port import interface_of
from ..ledger import Ledger
from ..model import Grant, Network, StaticVif, Uplink, UplinkKind, has_uplink_port
from .prefixes import check_one_of_each_family
from .toml_tables import Table, show, suggest


class Known:
    """The tables that were right, and the names of those that were *wrong*.

    A wrong one is there, and says no more: nobody is blamed for naming it.
    """

    def __init__(self) -> None:
        self.uplinks: dict[str, Uplink] = {}
        self.networks: dict[str, Network] = {}
        self.vifs: list[StaticVif] = []
        self.grants: list[Grant] = []
        self.wrong: dict[str, set[str]] = {
            kind: set() for kind in ("uplink", "network", "vif", "grant")
        }
        self._prefixes: list[tuple[IPNetwork, str]] = []
        self._bridged: dict[str, str] = {}
        self._ledger = Ledger()

    def check_prefixes(self, name: str, table: Table, prefixes: tuple[IPNetwork, ...]) -> None:
        """Judge *prefixes* of network *name*, which no other may overlap, and keep them."""
        if not prefixes:
            table.problem(("prefixes",), "missing, wanted an IPv4 prefix, an IPv6 prefix or both")
        check_one_of_each_family(table, "prefixes", prefixes)
        for index, prefix in enumerate(prefixes):
            what = unusable_reason(prefix)
            if what is not None:
                table.problem(("prefixes", index), f"{prefix} has an address that is {what}")
            for other, network in self._prefixes:
                if other.overlaps(prefix):
                    problem = f'{prefix} overlaps {other} of network "{network}"'
                    table.problem(("prefixes", index), problem)
        self._prefixes += [(prefix, name) for prefix in prefixes]

    def check_uplink(self, table: Table, network: Network) -> None:
        """Warn of a network that its uplink cannot serve; one NIC is bridged to one alone."""
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
        other = self._bridged.setdefault(uplink.name, network.name)
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
        """Return the network that *vif* is in, if that is known, and keep what *vif* claims."""
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
        for fault in self._ledger.faults(network, vif, vif.mac):
            table.fault(fault)
        self._ledger.enter(network, vif, vif.mac)
        return network
