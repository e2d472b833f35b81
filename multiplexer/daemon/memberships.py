"""What NICs receive for vifs: the MACs of those that are bridged to each.

The broker sets them; here it is worked out which, whenever a vif comes, goes or changes.
"""

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import attrs

from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.roster import Roster
from multiplexer.model import Vif
from multiplexer.policy import memberships


@attrs.define
class Memberships:
    """The NICs' memberships, by the vifs of *roster* and the file in force."""

    in_force: InForce
    broker: BrokerClient
    roster: Roster
    _is_held: bool = attrs.field(default=False, init=False)

    async def update(
        self, uplink: str | None, instead: Mapping[int, Vif] = MappingProxyType({})
    ) -> None:
        """Let the NIC of *uplink*, if it is one, receive for the vifs that are bridged to it.

        *instead* are vifs that are about to be at these ports.

        Raises:
            RequestFailed: if the broker refuses.
        """
        if self._is_held:
            return
        vifs = [instead.get(port, live.vif) for port, live in self.roster.by_port.items()]
        macs = memberships(self.in_force.config, vifs)
        if uplink is not None and uplink in macs:
            await self.broker.set_memberships(uplink, macs[uplink])

    async def update_all(self) -> None:
        """Tell every NIC.

        Raises:
            RequestFailed: if the broker refuses.
        """
        for uplink in self.in_force.config.uplinks:
            await self.update(uplink.name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Tell no NIC of what changes in this context: all are told after it, once."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
