"""Who holds a vif: one client at most, until nothing is left of it anywhere."""

import hmac

import attrs
import trio

from multiplexer.daemon.channel import Session
from pfinet_proto.attach import Goodbye


class VifTaken(Exception):
    """Another client is attached to the vif."""


@attrs.define(eq=False)
class Holder:
    """A client that has a vif, from before it is attached until after it is detached.

    Cancelling *staying* lets it go, with *farewell* if that is set; *gone* is
    set when the vif is free.
    """

    session: Session
    farewell: Goodbye | None = None
    staying: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    gone: trio.Event = attrs.field(factory=trio.Event)

    def is_of(self, uid: int, cookie: bytes | None) -> bool:
        """Whether *uid* shows the cookie that this client was given."""
        ours = self.session.cookie
        if ours is None or cookie is None or uid != self.session.uid:
            return False
        return hmac.compare_digest(ours, cookie)

    def send_away(self, farewell: Goodbye) -> None:
        """Let it go, saying *farewell*."""
        self.farewell = farewell
        self.staying.cancel()
