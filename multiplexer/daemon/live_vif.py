"""One vif, with what of it changes while the daemon runs."""

import contextlib
from collections.abc import Iterator
from typing import Final

import attrs
import trio

from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.holder import Holder, VifTaken
from multiplexer.model import Network, Vif
from pfinet_proto.attach import Binding, Goodbye, GoodbyeCode
from pfinet_proto.values import VifName

STOPPING: Final = Goodbye(GoodbyeCode.SHUTTING_DOWN, "the daemon stops")


@attrs.define(eq=False)
class LiveVif:
    """A vif, and what of it changes while the daemon runs.

    *is_wanted* is false for a draft that a reload undid, whose port may be another's by
    now.  *holder_changed* is set, and made anew, when somebody takes the vif or lets go of
    it.  *farewell* is what its client hears when it or the daemon ends.  Cancelling
    *serving* sends the clients away, and *served* is set when they are gone;
    *steps* then undo all that was done to make it.  *rebound* is set, and made
    anew, when *binding* changes.
    """

    vif: Vif
    port: int
    binding: Binding
    holder: Holder | None = None
    is_wanted: bool = True
    farewell: Goodbye = STOPPING
    holder_changed: trio.Event = attrs.field(factory=trio.Event)
    serving: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    served: trio.Event = attrs.field(factory=trio.Event)
    rebound: trio.Event = attrs.field(factory=trio.Event)
    steps: contextlib.AsyncExitStack = attrs.field(factory=contextlib.AsyncExitStack)

    @property
    def name(self) -> VifName:
        return self.vif.name

    def check_wanted(self) -> None:
        """Raise RequestFailed if it was a draft when the file changed."""
        if not self.is_wanted:
            raise RequestFailed("the configuration has just changed, try again")

    def rebind(self, vif: Vif, binding: Binding) -> None:
        """Be *vif* from now on, and let its client know what that changes for its stack."""
        self.vif = vif
        if binding != self.binding:
            self.binding = binding
            self.rebound.set()
            self.rebound = trio.Event()

    def end_lending(self) -> None:
        """Send away a client whose tap we have and may have no more; it comes back without."""
        holder = self.holder
        if holder and holder.session.transport == "tap" and not self.vif.trust.trusted_tap:
            text = f"the tap of vif {self.name} is not trusted any more"
            holder.send_away(Goodbye(GoodbyeCode.OTHER, text))

    @contextlib.contextmanager
    def held_by(self, holder: Holder) -> Iterator[None]:
        """Be taken by *holder* while the context lasts.

        Raises:
            VifTaken: if somebody else is there.
        """
        if self.holder is not None:
            raise VifTaken(
                f"vif {self.name} is taken by uid {self.holder.session.uid},"
                f" pid {self.holder.session.pid}"
            )
        self._set_holder(holder)
        try:
            yield
        finally:
            self._set_holder(None)
            holder.gone.set()

    def _set_holder(self, holder: Holder | None) -> None:
        self.holder = holder
        self.holder_changed.set()
        self.holder_changed = trio.Event()

    async def wait_unused(self, first_s: float, then_s: float) -> None:
        """Return when nobody has held it for *first_s*, or *then_s* once somebody had."""
        patience_s = first_s
        while True:
            with trio.move_on_after(patience_s) as waiting:
                while self.holder is None:
                    await self.holder_changed.wait()
            if waiting.cancelled_caught:
                return
            while self.holder is not None:
                await self.holder_changed.wait()
            patience_s = then_s


@attrs.frozen
class Patience:
    """How long an ephemeral vif waits for a client before it is deleted.

    After a start of the daemon all clients have to find their way back; after the
    others it is one client, which also may lose the daemon for a moment.
    """

    after_start_s: float = 60.0
    after_making_s: float = 10.0
    after_detach_s: float = 5.0


USUAL_PATIENCE: Final = Patience()


@attrs.frozen
class Aside:
    """A vif of an earlier run that may not be any more: kept, but nobody has it."""

    vif: Vif
    why: str


def bind(network: Network, vif: Vif) -> Binding:
    """Return what the stack on *vif* is told."""
    return Binding(
        vif=vif.name,
        network=network.name,
        mac=vif.mac,
        mtu=network.mtu,
        addresses=vif.addresses,
        prefixes=vif.prefixes,
        gateways=network.gateways,
        dns=network.dns,
        search=network.search,
    )
