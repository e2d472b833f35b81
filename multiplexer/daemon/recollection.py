"""What is remembered of vifs and NICs from one start to the next, and forgotten.

It keeps their paths and MACs as they were.  A disk without room for it is no
reason to do without the vifs: then it holds until the next start, the log says so,
and whoever comes by here later tries again.
"""

from collections.abc import Iterable, Mapping

from multiplexer.daemon.audit import Log
from multiplexer.daemon.database import StateError
from multiplexer.daemon.state import State
from pfinet_proto.values import MacAddress, VifName


def keep_ids(state: State, ids: Mapping[VifName, str], log: Log) -> None:
    """Remember the *ids* of the file's vifs."""
    known = state.static_ids()
    for name, vif_id in ids.items():
        if known.get(name) != vif_id:
            try:
                state.keep_static_id(name, vif_id)
            except StateError as error:
                log.warning(
                    f"the id of vif {name} is not kept, and the next start gives its sockets"
                    f" other paths: {error}"
                )


def keep_macs(state: State, macs: Mapping[str, MacAddress], log: Log) -> None:
    """Remember the *macs* of NICs, by their uplinks."""
    known = state.nic_macs()
    for uplink, mac in macs.items():
        if known.get(uplink) != mac:
            try:
                state.keep_nic_mac(uplink, mac)
            except StateError as error:  # it is for a start without that NIC only
                log.warning(f"the MAC of uplink {uplink} is not kept: {error}")


def forget_learned(state: State, vif_ids: Iterable[str], log: Log) -> None:
    """Forget what was learned of the addresses of these vifs."""
    for vif_id in vif_ids:
        try:
            state.keep_learned(vif_id, ())
        except StateError as error:  # a later start or reload forgets it
            log.warning(f"what was learned is not forgotten: {error}")
