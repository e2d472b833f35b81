"""Control's side of its channel with the engine."""

from collections.abc import Iterable, Sequence
from functools import partial

import attrs
import trio

from multiplexer.daemon import channel, channel_trio
from multiplexer.daemon.calls import RequestFailed, SiblingCalls
from multiplexer.model import FIRST_VIF_PORT, MAX_PORTS
from multiplexer.observe.trace import Traced

#: Frames traced at once: the engine moves none meanwhile, which takes some 50 us for each.
FRAMES_AT_ONCE = 4

#: Rows asked for at once, so that the reply fits a datagram whatever they count:
#: some 40 numbers of at most 21 characters each, 128 times, in 200 KiB.
COUNTERS_AT_ONCE = 128

#: The same: some 100 characters each.
PORTS_AT_ONCE = 1024

#: The same: some 150 characters each.
SIGHTINGS_AT_ONCE = 64

#: Of a table, in hexadecimal.
FILTER_BYTES_AT_ONCE = 65536


@attrs.define(eq=False)
class Attachment:
    """What the engine has joined to a port, until it ends.

    Whether the client *sent_descriptors* is known for good when it is detached.
    """

    port: int
    generation: int
    ended: trio.Event = attrs.field(factory=trio.Event)
    why: str | None = None
    sent_descriptors: bool = False


@attrs.frozen
class Account:
    """Whose memory it is that an attachment takes, and how much all of theirs may take."""

    uid: int
    most_bytes: int


class EngineClient:
    """What control asks of the engine, and what the engine says by itself."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._calls = SiblingCalls(sock, "engine")
        #: Whether it has died; what it had done for rings another may go on with.
        self.is_gone = False
        self._last_generation = 0
        self._attachments: dict[tuple[int, int], Attachment] = {}
        self._sighted = trio.Event()

    async def run(self) -> None:
        """Read the channel until it ends.

        Raises:
            SiblingGone: if the engine is.
            SiblingError: if it sends what it must not.
        """
        try:
            while True:
                message, _ = await channel_trio.receive(self._sock)
                match message:
                    case (
                        channel.Ack()
                        | channel.CountersReply()
                        | channel.SightingsReply()
                        | channel.TraceReply()
                    ):
                        self._calls.answer(message)
                    case channel.PortsReply():
                        self._note_attached(message.ports)
                        self._calls.answer(message)
                    case channel.Detached():
                        self._note_end(message)
                    case channel.Sighted():
                        self._sighted.set()
                    case _:
                        raise channel.SiblingError(f"engine sends {type(message).__name__}")
        except channel.SiblingGone:
            self.is_gone = True
            raise
        finally:
            self._calls.close()

    def _note_attached(self, ports: Iterable[channel.Port]) -> None:
        # At once: the next message may say that one of them has ended.
        for port in ports:
            if port.generation is not None:
                key = (port.number, port.generation)
                self._attachments.setdefault(key, Attachment(*key))
                self._last_generation = max(self._last_generation, port.generation)

    def _note_end(self, message: channel.Detached) -> None:
        attachment = self._attachments.get((message.port, message.generation))
        if attachment is not None:  # else our Ack has been there
            attachment.why = message.why
            attachment.sent_descriptors = message.sent_descriptors
            attachment.ended.set()

    async def set_network(self, row: bytes) -> None:
        """Write a row of `multiplexer.policy.forwarding`.

        Raises:
            RequestFailed: if the engine does not take it; so do the others.
        """
        await self._calls.call(lambda number: channel.SetNetwork(number, row))

    async def clear_network(self, network: int) -> None:
        """Forget a network that no vif is in."""
        await self._calls.call(lambda number: channel.ClearNetwork(number, network))

    async def set_vif(self, port: int, vif_id: str, row: bytes) -> None:
        """Write a row of `multiplexer.policy.ingress`."""
        await self._calls.call(lambda number: channel.SetVif(number, port, vif_id, row))

    async def clear_vif(self, port: int) -> None:
        """Forget the vif of *port* with its counters."""
        await self._calls.call(lambda number: channel.ClearVif(number, port))

    async def prepare_filter(self, port: int, table: bytes) -> None:
        """Have the next filter of the vif at *port* ready, none if *table* is empty.

        *table* is of `multiplexer.policy.nwfilter.compile`.
        """
        length = len(table)
        for offset in range(0, max(length, 1), FILTER_BYTES_AT_ONCE):
            part = table[offset : offset + FILTER_BYTES_AT_ONCE]
            await self._calls.call(
                partial(channel.PrepareFilter, port=port, offset=offset, length=length, data=part)
            )

    async def commit_filters(self) -> None:
        """Let all filters that are ready take over at once."""
        await self._calls.call(channel.CommitFilters)

    async def abandon_filters(self) -> None:
        """Forget the filters that are ready."""
        await self._calls.call(channel.AbandonFilters)

    async def inject(self, port: int, frames: Sequence[bytes], *, to_wire: bool = False) -> None:
        """Deliver *frames* as if the stack of the vif at *port* had sent them.

        With *to_wire*, no other vif gets what would go to all.
        """
        await self._calls.call(lambda number: channel.Inject(number, port, tuple(frames), to_wire))

    async def attach(
        self,
        port: int,
        fds: Sequence[int],
        transport: str,
        account: Account,
        *,
        offload: int = 0,
        vnet: bool = False,
    ) -> Attachment:
        """Join *fds*, by which *transport* is spoken, to *port*; the caller closes its own."""
        self._last_generation += 1
        attachment = Attachment(port, self._last_generation)
        self._attachments[port, attachment.generation] = attachment
        try:
            await self._calls.call(
                lambda number: channel.Attach(
                    number,
                    port,
                    attachment.generation,
                    transport,
                    offload,
                    vnet,
                    account.uid,
                    account.most_bytes,
                ),
                fds,
            )
        except BaseException:
            self._attachments.pop((port, attachment.generation), None)
            raise
        return attachment

    async def detach(self, attachment: Attachment) -> None:
        """End *attachment*, also where it has ended: then nothing of it is left."""
        port, generation = attachment.port, attachment.generation
        try:
            await self._calls.call(lambda number: channel.Detach(number, port, generation))
        except RequestFailed as failure:
            # What the engine may still hold of the client must not be given to another.
            raise channel.SiblingError(f"cannot detach from port {port}: {failure}") from failure
        finally:
            self._attachments.pop((port, generation), None)

    async def read_ports(self) -> list[channel.Port]:
        """Return the ports that are a vif's; what is attached to one is an `attachment` now.

        Before the first `attach`, which then continues the numbers of those.
        """
        ports: list[channel.Port] = []
        for first in range(FIRST_VIF_PORT, MAX_PORTS, PORTS_AT_ONCE):
            count = min(PORTS_AT_ONCE, MAX_PORTS - first)
            answer, _ = await self._calls.call(
                partial(channel.ReadPorts, first=first, count=count)
            )
            if not isinstance(answer, channel.PortsReply):
                raise channel.SiblingError(f"engine answers ReadPorts with {answer!r:.80}")
            ports += answer.ports
        return ports

    def attachment(self, port: int, generation: int) -> Attachment:
        """Return an attachment that the engine has told of; KeyError if it never has."""
        return self._attachments[port, generation]

    async def read_counters(self, first: int, count: int) -> channel.CountersReply:
        """Return the counters of *count* ports, COUNTERS_AT_ONCE at most, from *first* on."""
        answer, _ = await self._calls.call(
            lambda number: channel.ReadCounters(number, first, count)
        )
        if not isinstance(answer, channel.CountersReply) or len(answer.rows) != count:
            raise channel.SiblingError(f"engine answers ReadCounters with {answer!r:.80}")
        return answer

    async def wait_sightings(self) -> Sequence[channel.Sighting]:
        """Return what was seen of vifs' addresses, once something is; not all of it at once."""
        await self._sighted.wait()
        self._sighted = trio.Event()
        answer, _ = await self._calls.call(
            lambda number: channel.ReadSightings(number, SIGHTINGS_AT_ONCE)
        )
        if not isinstance(answer, channel.SightingsReply):
            raise channel.SiblingError(f"engine answers ReadSightings with {answer!r:.80}")
        return answer.sightings

    async def trace(self, port: int, frames: Sequence[bytes]) -> list[Traced]:
        """Return what would become of *frames* if the vif of *port* sent them."""
        traced: list[Traced] = []
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            some = tuple(frames[first : first + FRAMES_AT_ONCE])
            answer, _ = await self._calls.call(partial(channel.Trace, port=port, frames=some))
            if not isinstance(answer, channel.TraceReply) or len(answer.traced) != len(some):
                raise channel.SiblingError(f"engine answers Trace with {answer!r:.80}")
            traced.extend(answer.traced)
        return traced
