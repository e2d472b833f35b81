"""How the host reaches vifs: a route for each prefix that one is bound to, where the host is in.

Routes are the broker's to make; here it is worked out which come and go when a vif,
or the file that it is judged by, changes.
"""

from collections.abc import Iterable
from typing import Final

import attrs

from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.host_port import routes_to
from multiplexer.model import Config, Vif
from pfinet_proto.values import IPNetwork

#: Of some 45 characters each, so that a request fits a datagram.
ROUTES_AT_ONCE: Final = 2000

#: A vif, and the file that it is judged by.
Placed = tuple[Config, Vif]


@attrs.frozen
class HostRoutes:
    """The host's routes to vifs."""

    broker: BrokerClient

    async def change(self, before: Placed | None, after: Placed | None) -> None:
        """Let the host reach a vif *after* where it reached it *before*, if it is with them.

        Raises:
            RequestFailed: if the broker refuses.
        """
        old, new = _routes(before), _routes(after)
        for network in old.keys() | new.keys():
            had, has = old.get(network, set()), new.get(network, set())
            if has != had:
                await self.broker.change_host_routes(network, add=has - had, drop=had - has)

    async def reach(self, config: Config, vifs: Iterable[Vif]) -> None:
        """Let the host reach each of *vifs*, many with one request.

        Raises:
            RequestFailed: if the broker refuses.
        """
        prefixes: dict[str, list[IPNetwork]] = {}
        for vif in vifs:
            for network, routes in _routes((config, vif)).items():
                prefixes.setdefault(network, []).extend(routes)
        for network, every in prefixes.items():
            for start in range(0, len(every), ROUTES_AT_ONCE):
                some = every[start : start + ROUTES_AT_ONCE]
                await self.broker.change_host_routes(network, add=some)


def _routes(placed: Placed | None) -> dict[str, set[IPNetwork]]:
    """Return the prefixes by which the host reaches a vif, by network, if it is there."""
    if placed is None:
        return {}
    config, vif = placed
    network = config.network(vif.network)
    return {network.name: set(routes_to(network, vif))} if network.host else {}
