"""The first and the last steps of an attachment, in their order.

    taken       the vif has a holder, and no other client gets it
    attached    the engine has the data descriptor
    kept        the broker has what the next control needs
    welcomed    the client knows

(Who lends a tap is welcomed before, since it makes the tap of what it then knows.)
and back: detached from the engine, forgotten by the broker, the vif free.

So a control that is killed between any two leaves one of these: an attachment
that the engine alone has, whose client was told nothing; or one that the broker
alone has, which is over.  `multiplexer.daemon.legacy` clears both away.
However an attachment ends, it ends in this order, also where the vif is deleted
or the daemon stops: both cancel the task that holds it.
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import attrs

from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.channel import Kept, Session
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.engine_client import Account, Attachment, EngineClient
from multiplexer.daemon.holder import Holder
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.rings import RingEnd

MIB: Final = 1024 * 1024


@attrs.frozen
class Joined:
    """A client that has its vif."""

    holder: Holder
    attachment: Attachment


@attrs.frozen
class Joining:
    """Joins clients to their vifs.

    What clients of one owner do not read takes `queue_mib_per_user` at most.
    """

    engine: EngineClient
    broker: BrokerClient
    doorman: Doorman
    in_force: InForce

    @contextlib.contextmanager
    def taken(self, live: LiveVif, session: Session) -> Iterator[Holder]:
        """Have the vif be this client's until the context ends.

        Raises:
            VifTaken: if the vif has a client.
        """
        holder = Holder(session)
        with live.held_by(holder):
            yield holder

    @contextlib.asynccontextmanager
    async def joined(
        self,
        live: LiveVif,
        holder: Holder,
        data: Sequence[int],
        kept: Sequence[socket.socket],
        ring: RingEnd | None = None,
    ) -> AsyncIterator[Joined]:
        """Have the engine serve *data*, and the broker keep *kept*, until the context ends.

        With *ring* it is the engine's end of that what is served, and kept too.

        Raises:
            RequestFailed: if engine or broker refuse.
        """
        session = holder.session
        queue_bytes = self.in_force.config.daemon.queue_mib_per_user * MIB
        attachment = await self.engine.attach(
            live.port,
            data if ring is None else ring.fds,
            session.transport,
            Account(live.vif.owner_uid, queue_bytes),
            offload=session.offload,
            vnet=bool(session.offload),
        )
        async with self._released(live, attachment, session.uid):
            entry = Kept(live.vif.id, live.port, attachment.generation, session)
            await self.broker.keep(entry, kept, ring)
            yield Joined(holder, attachment)

    @contextlib.asynccontextmanager
    async def resumed(self, live: LiveVif, kept: Kept) -> AsyncIterator[Joined]:
        """Go on with an attachment that engine and broker have, until the context ends."""
        with self.taken(live, kept.session) as holder:
            attachment = self.engine.attachment(kept.port, kept.generation)
            async with self._released(live, attachment, kept.session.uid):
                yield Joined(holder, attachment)

    @contextlib.asynccontextmanager
    async def revived(
        self, live: LiveVif, kept: Kept, connections: Sequence[socket.socket], ring: RingEnd
    ) -> AsyncIterator[Joined]:
        """Go on with rings that another engine has served, until the context ends.

        Raises:
            RequestFailed: if engine or broker refuse; then it is over.
        """
        with self.taken(live, kept.session) as holder:
            # If control dies here the client sees its end, and comes back.
            await self.broker.forget(live.vif.id)
            async with self.joined(live, holder, (), connections, ring) as joined:
                yield joined

    @contextlib.asynccontextmanager
    async def _released(
        self, live: LiveVif, attachment: Attachment, uid: int
    ) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.engine.detach(attachment)
            if attachment.sent_descriptors:
                self.doorman.shut_out(uid)
            await self.broker.forget(live.vif.id)
