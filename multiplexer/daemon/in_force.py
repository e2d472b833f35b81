"""What the daemon goes by at the moment."""

from collections.abc import Mapping

import attrs

from multiplexer.model import Config, UplinkKind
from multiplexer.policy.nwfilter.learning import Learned
from multiplexer.policy.nwfilter.library import Library
from pfinet_proto.values import MacAddress


@attrs.define(eq=False)
class InForce:
    """The file that is in force, which a reload replaces while the daemon runs.

    *recalled* has MACs of an earlier run, for NICs that were not seen since; *library*
    has the network filters, *learned* what was seen of addresses that they ask for, by
    the id of the vif.
    """

    config: Config
    recalled: Mapping[str, MacAddress] = attrs.field(factory=dict)
    library: Library = attrs.field(factory=lambda: Library({}))
    learned: dict[str, tuple[Learned, ...]] = attrs.field(factory=dict)

    def nic_macs(self, seen: Mapping[str, MacAddress]) -> Mapping[str, MacAddress]:
        """Return the MAC of each NIC of the file, by its uplink, as last *seen* or recalled."""
        known = {**self.recalled, **seen}
        return {name: known[name] for name in nic_names(self.config) if name in known}


def nic_names(config: Config) -> tuple[str, ...]:
    """Return the names of the uplinks of kind nic."""
    return tuple(up.name for up in config.uplinks if up.kind is UplinkKind.NIC)
