"""Who claims what already, so that no two vifs claim the same.

Claims are looked up as the datapath does it: by one exact look-up for each
prefix length in use.  So a file of some thousand vifs is checked in no time.
"""

from collections.abc import Collection, Iterator
from ipaddress import ip_network
from typing import Final

import attrs

from pfinet_proto.values import IPNetwork, MacAddress, VifName

from .binding import Claim, Fault, Wanted, claims, overlap
from .model import Network

_ANOTHERS: Final = "is taken by another vif"


@attrs.frozen
class _Entry:
    """*claim* of the vif *holder*."""

    claim: Claim
    holder: VifName
    mac: MacAddress | None


class Ledger:
    """The names, MACs and claims of the vifs that were entered."""

    def __init__(self) -> None:
        self._names: set[VifName] = set()
        self._macs: dict[MacAddress, VifName] = {}
        # By network and prefix: link-local addresses are others in each network.
        self._entries: dict[tuple[str, IPNetwork], _Entry] = {}
        self._lengths: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self._names)

    def enter(self, network: Network, wanted: Wanted, mac: MacAddress | None) -> None:
        """Note what a vif claims; what is not its own by faults() stays another's."""
        self._names.add(wanted.name)
        if mac is not None:
            self._macs.setdefault(mac, wanted.name)
        for claim in claims(network, wanted, mac):
            entry = _Entry(claim, wanted.name, mac)
            self._entries.setdefault((network.name, claim.prefix), entry)
            self._lengths.add((claim.prefix.version, claim.prefix.prefixlen))

    def claimed(self, network: Network) -> Iterator[IPNetwork]:
        """Yield all that is claimed in *network*."""
        for name, prefix in self._entries:
            if name == network.name:
                yield prefix

    def faults(
        self,
        network: Network,
        wanted: Wanted,
        mac: MacAddress | None,
        *,
        hidden: Collection[VifName] = (),
    ) -> Iterator[Fault]:
        """Yield what *wanted* cannot have because another vif has it.

        Of those that are *hidden* from who is told, neither name nor MAC is said.
        """
        if wanted.name in self._names:
            yield Fault("conflict", f'there is a vif "{wanted.name}" already', "name")
        if mac is not None and mac in self._macs:
            holder = self._macs[mac]
            whose = _ANOTHERS if holder in hidden else f'is that of vif "{holder}"'
            yield Fault("conflict", f"MAC {mac} {whose}", "mac")
        for claim in claims(network, wanted, mac):
            for entry in self._overlapping(network, claim):
                # Two derived addresses are the same only if the MACs are.
                if not (claim.is_derived and entry.claim.is_derived):
                    hides = entry.holder in hidden
                    whose = _ANOTHERS if hides else _describe(claim, entry)
                    yield claim.fault("conflict", whose)

    def _overlapping(self, network: Network, claim: Claim) -> Iterator[_Entry]:
        prefix = claim.prefix
        for version, length in sorted(self._lengths):
            if version == prefix.version and length <= prefix.prefixlen:
                wider = ip_network((prefix.network_address, length), strict=False)
                entry = self._entries.get((network.name, wider))
                if entry is not None:
                    yield entry
        if prefix.num_addresses > 1:
            for (name, narrower), entry in self._entries.items():
                if (
                    name == network.name
                    and narrower.prefixlen > prefix.prefixlen
                    and overlap(narrower, prefix)
                ):
                    yield entry


def _describe(claim: Claim, entry: _Entry) -> str:
    if claim.prefix != entry.claim.prefix:
        return f'overlaps {entry.claim} of vif "{entry.holder}"'
    if entry.claim.is_derived:
        return f'is that which stacks of vif "{entry.holder}" make of its MAC {entry.mac}'
    return f'is that of vif "{entry.holder}"'
