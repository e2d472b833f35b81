"""What the broker keeps of every attachment, so that control may die, and the engine too.

Of each it has what the next control needs to know, and a duplicate of the
connection that the client came by, so that the client does not see control's
end.  Of rings it has the engine's end as well, and so another engine can go on
with them.  Nothing is ever read from one.

Control stores an attachment after the engine has it, and has it forgotten
after the engine has let go.  So whenever control dies, an attachment that only
the engine has was never complete, and one that only the store has is over, unless
it is *adrift*: a ring whose engine has died.
"""

import socket
from collections.abc import Collection, Iterator, Sequence

import attrs

from multiplexer.daemon import channel
from multiplexer.daemon.child import Descriptor
from multiplexer.daemon.rings import RingEnd


@attrs.frozen
class Stored:
    """One attachment, and our duplicates of its descriptors."""

    kept: channel.Kept
    sockets: tuple[socket.socket, ...]
    ring: RingEnd | None = None
    adrift: bool = False

    @property
    def bequest(self) -> tuple[Descriptor, ...]:
        """What the next control is given of the descriptors."""
        if self.ring is None or not self.adrift:
            return self.sockets
        return (*self.sockets, self.ring.kicks, self.ring.memory)

    def let_go(self) -> tuple[socket.socket, ...]:
        """Close the memory, if there is one, and return the sockets for the caller to close."""
        if self.ring is None:
            return self.sockets
        self.ring.memory.close()
        return (*self.sockets, self.ring.kicks)


def told_apart(
    fds: Sequence[int], *, has_ring: bool
) -> tuple[tuple[socket.socket, ...], RingEnd | None]:
    """Return *fds* as the sockets and the end of a ring that they are, which then own them.

    Raises:
        NoRing, OSError: if they are not; all are then closed.
    """
    if not has_ring:
        return tuple(channel.as_sockets(fds)), None
    cut = max(len(fds) - channel.RING_FDS, 0)
    try:
        ring = RingEnd.taken(fds[cut:])
    except ValueError:
        channel.close_all(fds[:cut])
        raise
    try:
        return tuple(channel.as_sockets(fds[:cut])), ring
    except OSError:
        ring.close()
        raise


class FdStore:
    """The attachments that there are, by vif; a vif has one at most."""

    def __init__(self) -> None:
        self._by_vif: dict[str, Stored] = {}

    def __len__(self) -> int:
        return len(self._by_vif)

    def __iter__(self) -> Iterator[Stored]:
        return iter(self._by_vif.values())

    @property
    def vif_ids(self) -> Collection[str]:
        return self._by_vif.keys()

    def keep(self, stored: Stored) -> None:
        """Keep an attachment, whose descriptors are the store's from here on."""
        assert stored.kept.vif_id not in self._by_vif
        self._by_vif[stored.kept.vif_id] = stored

    def forget(self, vif_id: str) -> tuple[socket.socket, ...]:
        """Forget a vif, and return what was kept for it, for the caller to close."""
        stored = self._by_vif.pop(vif_id, None)
        return () if stored is None else stored.let_go()

    def cast_off(self) -> list[socket.socket]:
        """Note that the engine has died: forget what died with it, for the caller to close."""
        over: list[socket.socket] = []
        for vif_id, stored in [*self._by_vif.items()]:
            if stored.ring is None:
                over += self.forget(vif_id)
            else:
                self._by_vif[vif_id] = attrs.evolve(stored, adrift=True)
        return over

    def take_all(self) -> list[socket.socket]:
        """Forget every attachment, and return its sockets for the caller to close."""
        return [sock for vif_id in [*self._by_vif] for sock in self.forget(vif_id)]
