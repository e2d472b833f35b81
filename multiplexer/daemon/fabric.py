"""The networks and uplinks as they are now: what the file says, and what was found of it.

They are everybody's to see, since a user has to know what a vif can be.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import attrs

from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.host import Client
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.refusals import not_found
from multiplexer.daemon.roster import Roster
from multiplexer.daemon.tally import Tally, read_tally
from multiplexer.host_port import interface_of, mac_of
from multiplexer.model import (
    Config,
    Limits,
    Network,
    Uplink,
    UplinkKind,
    port_of_host,
    port_of_uplink,
)
from pfinet_proto import control


@attrs.frozen
class Fabric:
    """Answers what is asked of networks and uplinks; *verdicts* are the engine's, by number."""

    in_force: InForce
    roster: Roster
    broker: BrokerClient
    engine: EngineClient
    verdicts: Sequence[str]

    def host_networks(self) -> tuple[str, ...]:
        """Return the names of the networks whose vifs and the host reach each other now."""
        networks = self.in_force.config.networks
        return tuple(network.name for network in networks if self._is_reached(network))

    def _is_reached(self, network: Network) -> bool:
        state = self.broker.host(network.name) if network.host else None
        return state is not None and state.up and bool(state.addresses) and state.error is None

    async def network_list(self, _: control.NetworkList, client: Client) -> control.Networks:
        """Return every network, by name."""
        # As it is now, for the ports and for what is said of them: a reload may come in between.
        config = self.in_force.config
        vifs = Counter(live.vif.network for live in self.roster)
        ports = [port_of_host(config, network.name) for network in config.networks if network.host]
        tally = await self._read_tally(ports)
        return control.Networks(
            tuple(
                self._network_info(config, network, vifs[network.name], tally)
                for network in config.networks
            )
        )

    async def network_show(
        self, request: control.NetworkShow, client: Client
    ) -> control.NetworkInfo:
        """Return the network of *request*; ControlError if there is none."""
        config = self.in_force.config
        try:
            network = config.network(request.name)
        except KeyError:
            raise not_found("network", request.name) from None
        vifs = sum(live.vif.network == network.name for live in self.roster)
        ports = [port_of_host(config, network.name)] if network.host else []
        return self._network_info(config, network, vifs, await self._read_tally(ports))

    def _network_info(
        self, config: Config, network: Network, vifs: int, tally: Tally
    ) -> control.NetworkInfo:
        return control.NetworkInfo(
            name=network.name,
            mode=network.mode.value,
            uplink=network.uplink,
            uplink_port=config.uplink_port_of(network) is not None,
            prefixes=network.prefixes,
            gateways=network.gateways,
            mtu=network.mtu,
            dns=network.dns,
            search=network.search,
            reserved=tuple(map(str, network.reserved)),
            autoconf=network.autoconf,
            link_local=network.link_local.value,
            limits=limits_info(network.limits),
            vifs=vifs,
            host=self._host_info(config, network, tally) if network.host else None,
            filter=None if network.filter is None else network.filter.name,
        )

    def _host_info(self, config: Config, network: Network, tally: Tally) -> control.HostPortInfo:
        port = port_of_host(config, network.name)
        state = self.broker.host(network.name)
        return control.HostPortInfo(
            interface=interface_of(network.name),
            mac=mac_of(network.name),
            present=state is not None and state.present,
            up=state is not None and state.up,
            addresses=tuple(map(ip_address, state.addresses)) if state is not None else (),
            error=state.error if state is not None else None,
            counters=tally.counters(port),
            conflicts=tally.conflicts(port),
        )

    async def uplink_list(self, _: control.UplinkList, client: Client) -> control.Uplinks:
        """Return every uplink, in the order of the file."""
        config = self.in_force.config
        ports = {
            uplink.name: port_of_uplink(config, uplink.name)
            for uplink in config.uplinks
            if uplink.kind is UplinkKind.NIC
        }
        tally = await self._read_tally(ports.values())
        return control.Uplinks(
            tuple(
                self._uplink_info(config, uplink, ports.get(uplink.name), tally)
                for uplink in config.uplinks
            )
        )

    async def uplink_show(self, request: control.UplinkShow, client: Client) -> control.UplinkInfo:
        """Return the uplink of *request*; ControlError if there is none."""
        listed = await self.uplink_list(control.UplinkList(), client)
        for uplink in listed.uplinks:
            if uplink.name == request.name:
                return uplink
        raise not_found("uplink", request.name)

    def _uplink_info(
        self, config: Config, uplink: Uplink, port: int | None, tally: Tally
    ) -> control.UplinkInfo:
        state = self.broker.uplink(uplink.name)
        counters = None if port is None else tally.counters(port)
        return control.UplinkInfo(
            name=uplink.name,
            kind=uplink.kind.value,
            interface=uplink.interface,
            present=state is not None and state.present,
            up=state is not None and state.up,
            mac=state.mac if state is not None else None,
            mtu=state.mtu if state is not None else None,
            external=uplink.external,
            networks=tuple(
                network.name for network in config.networks if network.uplink == uplink.name
            ),
            counters=counters,
            error=state.error if state is not None else None,
        )

    async def _read_tally(self, ports: Iterable[int]) -> Tally:
        return await read_tally(self.engine, ports, self.verdicts)


def limits_info(limits: Limits) -> control.LimitsInfo:
    """Return *limits* as a client is told them."""
    return control.LimitsInfo(**attrs.asdict(limits))
