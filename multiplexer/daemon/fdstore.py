"""What the broker keeps of every attachment, so that control may die.

Of each it has what the next control needs to know, and a duplicate of the
connection that the client came by, so that the client does not see control's
end.  Nothing is ever read from one.

Control stores an attachment after the engine has it, and has it forgotten
after the engine has let go.  So whenever control dies, an attachment that only
the engine has was never complete, and one that only the store has is over.
"""

import socket
from collections.abc import Collection, Iterator, Sequence

import attrs

from multiplexer.daemon import channel


@attrs.frozen
class Stored:
    """One attachment, and our duplicates of its descriptors."""

    kept: channel.Kept
    sockets: tuple[socket.socket, ...]


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

    def keep(self, kept: channel.Kept, sockets: Sequence[socket.socket]) -> None:
        """Keep an attachment; *sockets* are the store's from here on."""
        assert kept.vif_id not in self._by_vif
        self._by_vif[kept.vif_id] = Stored(kept, tuple(sockets))

    def forget(self, vif_id: str) -> tuple[socket.socket, ...]:
        """Forget a vif, and return what was kept for it, for the caller to close."""
        stored = self._by_vif.pop(vif_id, None)
        return () if stored is None else stored.sockets

    def take_all(self) -> list[Stored]:
        """Forget every attachment, and return it for the caller to close."""
        taken = [*self]
        self._by_vif.clear()
        return taken
