"""Which vifs there are: those that are served, by name, and all that the engine has, by port.

Who reads here need not know how vifs come and go; `multiplexer.daemon.vifs` alone writes.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.model import FIRST_HOST_PORT, FIRST_VIF_PORT, MAX_VIFS, Vif
from pfinet_proto.values import VifName


class Roster:
    """All vifs.  Its length and its elements, in the order of their names, are what is served."""

    def __init__(self) -> None:
        self._by_name: dict[VifName, LiveVif] = {}
        #: Some of these are just being made, or just going.
        self._by_port: dict[int, LiveVif] = {}
        #: The same as those by name, in their order; kept, since every list is of it.
        self._sorted: list[LiveVif] = []
        self._owners: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[LiveVif]:
        """Iterate over the vifs by name, whatever changes meanwhile."""
        return iter(tuple(self._sorted))

    @property
    def bound(self) -> tuple[Vif, ...]:
        """All that have what they claim: drafts too, which the others do not show."""
        return tuple(live.vif for live in self._by_port.values())

    @property
    def by_port(self) -> Mapping[int, LiveVif]:
        """All that the engine may know of."""
        return MappingProxyType(self._by_port)

    def has_owner(self, uid: int) -> bool:
        """Return whether *uid* owns any of those that are served."""
        return self._owners[uid] > 0

    def get(self, name: VifName) -> LiveVif | None:
        """Return the vif of that name."""
        return self._by_name.get(name)

    def at_port(self, port: int) -> LiveVif | None:
        """Return the vif that has *port* in the datapath."""
        return self._by_port.get(port)

    def serves(self, live: LiveVif) -> bool:
        """Return whether *live* is there, and no draft."""
        return self._by_name.get(live.name) is live

    def free_port(self) -> int:
        """Return the lowest port that no vif has.

        Raises:
            RequestFailed: if every one is taken.
        """
        for port in range(FIRST_VIF_PORT, FIRST_HOST_PORT):
            if port not in self._by_port:
                return port
        raise RequestFailed(f"there are {MAX_VIFS} vifs, and can be no more")

    def place(self, live: LiveVif) -> None:
        """Let *live* have its port."""
        self._by_port[live.port] = live

    def vacate(self, port: int) -> None:
        """Let *port* be free."""
        del self._by_port[port]

    def enter(self, live: LiveVif) -> None:
        """Let *live*, which has its port, be among those that are served."""
        self._by_name[live.name] = live
        bisect.insort(self._sorted, live, key=lambda each: each.name)
        self._owners[live.vif.owner_uid] += 1

    def strike(self, live: LiveVif) -> None:
        """Let *live* be served no more; its port it has until that is free again."""
        del self._by_name[live.name]
        self._sorted.remove(live)
        self._owners[live.vif.owner_uid] -= 1

    def recount_owners(self) -> None:
        """Go by who owns the vifs now."""
        self._owners = Counter(live.vif.owner_uid for live in self._sorted)
