"""The vifs that exist: how they come to be, and how they go.

Nothing else changes the daemon's `Roster`, and whoever lets this do so holds `changing`.
A vif is made in an order in which every step can be undone: the engine knows
it, the broker makes its sockets, the database has it, its clients are served.
Before the database has it, it is a draft, which has all that it claims.
It goes the other way round: once the database has forgotten it, it is gone,
whatever happens after.  A change goes the way of making, and each step can be
undone up to the database, which has either all of it or nothing.
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import attrs
import trio

from multiplexer.daemon.audit import Log
from multiplexer.daemon.broker_client import BrokerClient, Inherited
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.database import StateError
from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.gates import Gates
from multiplexer.daemon.host_routes import HostRoutes
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.legacy import Settlement
from multiplexer.daemon.live_vif import STOPPING, Aside, LiveVif, Patience, bind
from multiplexer.daemon.memberships import Memberships
from multiplexer.daemon.roster import Roster
from multiplexer.daemon.shortage import Shortage, check_files
from multiplexer.daemon.state import State
from multiplexer.daemon.vif_rows import VifRows
from multiplexer.model import Config, OwnLimits, Vif
from multiplexer.policy import Staying, compile_vif
from pfinet_proto.attach import Goodbye, GoodbyeCode
from pfinet_proto.values import VifName

#: The ways into a vif, in the order in which the broker is asked for their sockets.
KINDS: Final = ("attach", "stream", "bess")

NO_LIMITS: Final = OwnLimits(0, 0, 0, 0)


@attrs.frozen
class Draft:
    """A vif that is set up, and neither stored nor served yet; *listeners* are by kind."""

    live: LiveVif
    listeners: Mapping[str, socket.socket]


ServeVif = Callable[[LiveVif, Mapping[str, socket.socket], Inherited | None], Awaitable[None]]


class Vifs:
    """All vifs; who only looks has the `roster`.

    *serve* is run for each, with its listening sockets by kind and the attachment
    that an earlier control left it, until it goes.
    """

    def __init__(
        self,
        in_force: InForce,
        state: State,
        broker: BrokerClient,
        engine: EngineClient,
        serve: ServeVif,
        log: Log,
        patience: Patience,
    ) -> None:
        self.changing = trio.Lock()
        self._in_force = in_force
        self._state = state
        self._broker = broker
        self._engine = engine
        self._serve = serve
        self._log = log
        self._patience = patience
        self.roster = Roster()
        self._nursery: trio.Nursery
        self.aside: dict[VifName, Aside] = {}
        self.gates = Gates(engine, in_force)
        self._rows = VifRows(in_force, engine, self.gates)
        self._routes = HostRoutes(broker)
        self._memberships = Memberships(in_force, broker, self.roster)

    @property
    def _config(self) -> Config:
        return self._in_force.config

    async def run(
        self,
        vifs: Iterable[Vif],
        settlement: Settlement,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Bring up *vifs*, then serve them and those that come until cancelled.

        Those that *settlement* has a port for keep it, with its counters.

        Raises:
            RequestFailed: if one of them cannot be.
        """
        ports = settlement.ports
        async with trio.open_nursery() as self._nursery:
            patience_s = self._patience.after_start_s
            in_order = sorted(vifs, key=lambda vif: vif.id not in ports)
            for vif, table in zip(in_order, await self._rows.tables(in_order), strict=True):
                row, port = compile_vif(self._config, vif), ports.get(vif.id)
                live, listeners = await self._set_up(vif, row, port, reached=False)
                await self._rows.recall_filter(live.port, table, is_known=port is not None)
                self._start(live, listeners, patience_s, settlement.resumed.get(vif.id))
            await self._routes.reach(self._config, self.roster.bound)
            await self._memberships.update_all()
            task_status.started()
            await trio.sleep_forever()

    async def draft(self, vif: Vif) -> Draft:
        """Set *vif* up, which was checked against all that are bound; `keep` or `drop` it then.

        Raises:
            RequestFailed: if broker or engine refuse.
        """
        assert self.changing.locked()
        # What we ask for in its name must not be lost to a low limit; the prober bounds it.
        row = compile_vif(self._config, attrs.evolve(vif, limits=NO_LIMITS))
        live, listeners = await self._set_up(vif, row)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(live.steps.aclose)
            await self._memberships.update(self._config.network(vif.network).uplink)
            undo.pop_all()
        return Draft(live, listeners)

    async def keep(self, draft: Draft) -> LiveVif:
        """Store and serve what was drafted.

        Raises:
            RequestFailed: if the engine refuses; it is still a draft then.  If the file
                has changed since, that undid it.
            StateError: if it cannot be kept; it is still a draft then.
        """
        assert self.changing.locked()
        vif, port = draft.live.vif, draft.live.port
        draft.live.check_wanted()
        (table,) = await self._rows.tables([vif])
        await self._rows.replace_draft(port, vif, table)
        await trio.to_thread.run_sync(self._state.add, vif)
        self._start(draft.live, draft.listeners, self._patience.after_making_s)
        return draft.live

    async def drop(self, draft: Draft) -> None:
        """Unmake what was drafted and not kept."""
        with trio.CancelScope(shield=True):
            async with self.changing:
                await draft.live.steps.aclose()

    async def change(self, live: LiveVif, vif: Vif) -> None:
        """Make *vif*, which was checked against all others, of what *live* is.

        A client that is attached goes on with the new binding, unless the owner changes.

        Raises:
            RequestFailed: if broker or engine refuse; it is then as it was.
            StateError: if it cannot be kept; the same.
        """
        assert self.changing.locked()
        async with contextlib.AsyncExitStack() as undo:
            listeners = await self._amend(live, vif, undo)
            await trio.to_thread.run_sync(self._state.update, vif)
            undo.pop_all()
        live.rebind(vif, bind(self._config.network(vif.network), vif))
        live.end_lending()
        if listeners:
            await self._hand_over(live, dict(zip(KINDS, listeners, strict=True)))

    async def _amend(
        self, live: LiveVif, vif: Vif, undo: contextlib.AsyncExitStack
    ) -> list[socket.socket]:
        """Tell engine and broker of the change; return listeners for the owner, if that is new."""
        network = self._config.network(vif.network)
        change = await self._rows.change(live.port, live.vif, vif)
        await self._rows.apply(change, vif)
        undo.push_async_callback(self._rows.undo, change, live.vif)
        now, then = (self._config, live.vif), (self._config, vif)
        undo.push_async_callback(self._routes.change, then, now)
        await self._routes.change(now, then)
        if vif.mac != live.vif.mac:
            undo.push_async_callback(self._memberships.update, network.uplink)
            await self._memberships.update(network.uplink, {live.port: vif})
        if vif.owner_uid == live.vif.owner_uid and vif.owner_name == live.vif.owner_name:
            return []
        undo.push_async_callback(self._reopen_sockets, live.vif)
        listeners = await self._broker.open_vif_sockets(vif.id, vif.owner_uid, KINDS)
        for listener in listeners:
            undo.enter_context(listener)
        return listeners

    async def _reopen_sockets(self, vif: Vif) -> None:
        """Give the sockets of *vif* back to its owner; who serves them has its own copy."""
        for listener in await self._broker.open_vif_sockets(vif.id, vif.owner_uid, KINDS):
            listener.close()

    async def _hand_over(self, live: LiveVif, listeners: Mapping[str, socket.socket]) -> None:
        """Send the former owner's clients away, and serve the new owner's."""
        self.roster.recount_owners()
        live.farewell = Goodbye(
            GoodbyeCode.OWNER_CHANGED, f"vif {live.name} belongs to somebody else now"
        )
        with trio.CancelScope(shield=True):
            live.serving.cancel()
            await live.served.wait()
        live.farewell = STOPPING
        live.serving, live.served = trio.CancelScope(), trio.Event()
        for listener in listeners.values():
            live.steps.enter_context(listener)
        self._nursery.start_soon(self._serve_one, live, listeners, None)

    async def delete(self, live: LiveVif) -> None:
        """Unmake a vif and let its client go; it is free for others when this returns.

        Raises:
            StateError: if it cannot be forgotten; it then stays.
            RequestFailed: if broker or engine could not clear up after it.
        """
        assert self.changing.locked()
        await trio.to_thread.run_sync(self._state.remove, live.vif.id)
        await self._unmake(live, f"vif {live.name} was deleted")

    async def _unmake(self, live: LiveVif, why: str) -> None:
        self.roster.strike(live)
        live.farewell = Goodbye(GoodbyeCode.DELETED, why)
        with trio.CancelScope(shield=True):
            live.serving.cancel()
            await live.served.wait()
            await live.steps.aclose()

    async def delete_aside(self, name: VifName) -> None:
        """Forget a vif that was set aside.

        Raises:
            StateError: if it cannot be forgotten; it then stays.
        """
        await trio.to_thread.run_sync(self._state.remove, self.aside[name].vif.id)
        del self.aside[name]

    async def follow(
        self, config: Config, vifs: Iterable[Vif], aside: Mapping[VifName, Aside]
    ) -> None:
        """Go by *config*, and be *vifs*, which were checked by it; keep those *aside* for later.

        Who stays as it is loses no frame.

        Raises:
            RequestFailed: if broker or engine refuse; then it is half done.
        """
        assert self.changing.locked()
        with self._memberships.held():
            await self._follow(config, {vif.id: vif for vif in vifs}, aside)
        await self._memberships.update_all()

    async def _follow(
        self, config: Config, wanted: dict[str, Vif], aside: Mapping[VifName, Aside]
    ) -> None:
        for live in tuple(self.roster.by_port.values()):
            if live.vif.id not in wanted:
                await self._leave_out(live, aside.get(live.name))
        stays = [(live, wanted.pop(live.vif.id)) for live in self.roster.by_port.values()]
        staying = [Staying(live.port, live.vif, vif) for live, vif in stays]
        await self._rows.follow(config, staying, wanted.values())
        handed = [
            (live, await self._broker.open_vif_sockets(vif.id, vif.owner_uid, KINDS))
            for live, vif in stays
            if vif.owner_uid != live.vif.owner_uid or vif.owner_name != live.vif.owner_name
        ]

        before, self._in_force.config = self._config, config
        self.aside = dict(aside)
        moves = [(live.vif, vif) for live, vif in stays]
        for live, vif in stays:
            live.rebind(vif, bind(config.network(vif.network), vif))
            live.end_lending()

        for old, vif in moves:
            await self._routes.change((before, old), (config, vif))
        for live, listeners in handed:
            await self._hand_over(live, dict(zip(KINDS, listeners, strict=True)))
        comers = list(wanted.values())
        for vif, table in zip(comers, await self._rows.tables(comers), strict=True):
            live, by_kind = await self._set_up(vif, compile_vif(config, vif))
            await self._rows.add_filter(live.port, table)
            self._start(live, by_kind, self._patience.after_making_s)
        for name, number in before.numbering.networks.items():
            if name not in config.numbering.networks:
                await self._engine.clear_network(number)

    async def _leave_out(self, live: LiveVif, aside: Aside | None) -> None:
        """Unmake a vif that the file leaves no room for, or a draft, which is begun again."""
        if not self.roster.serves(live):
            live.is_wanted = False
            await live.steps.aclose()
        elif aside is not None:
            # Not why: that may name another's vif.
            await self._unmake(live, f"vif {live.name} is set aside as the configuration changed")
        else:
            await self._unmake(live, f"vif {live.name} is not in the configuration any more")

    async def _set_up(
        self, vif: Vif, row: bytes, port: int | None = None, *, reached: bool = True
    ) -> tuple[LiveVif, Mapping[str, socket.socket]]:
        """Do for *vif* what can be undone, at *port* or one that is free; *steps* undo it.

        *row* is what the engine is told of it.  It is *reached* by the host, or that
        is left for later.
        """
        network = self._config.network(vif.network)
        if port is None:
            port = self.roster.free_port()
        live = LiveVif(vif, port, bind(network, vif))
        async with contextlib.AsyncExitStack() as steps:
            steps.push_async_callback(self._leave_nic, live)
            steps.push_async_callback(self._end_routes, live)
            self.roster.place(live)
            steps.callback(self.roster.vacate, live.port)
            await self._engine.set_vif(live.port, vif.id, row)
            steps.push_async_callback(self._engine.clear_vif, live.port)
            if reached:
                await self._routes.change(None, (self._config, vif))
            self._check_files()
            listeners = await self._broker.open_vif_sockets(vif.id, vif.owner_uid, KINDS)
            for listener in listeners:
                steps.enter_context(listener)
            steps.push_async_callback(self._broker.close_vif_sockets, vif.id)
            live.steps = steps.pop_all()
        return live, dict(zip(KINDS, listeners, strict=True))

    def _start(
        self,
        live: LiveVif,
        listeners: Mapping[str, socket.socket],
        patience_s: float,
        inherited: Inherited | None = None,
    ) -> None:
        self.roster.enter(live)
        self._nursery.start_soon(self._serve_one, live, listeners, inherited)
        if live.vif.ephemeral:
            self._nursery.start_soon(self._expire, live, patience_s)

    async def _serve_one(
        self,
        live: LiveVif,
        listeners: Mapping[str, socket.socket],
        inherited: Inherited | None,
    ) -> None:
        try:
            with live.serving:
                await self._serve(live, listeners, inherited)
        finally:
            live.served.set()

    async def _expire(self, live: LiveVif, patience_s: float) -> None:
        """Delete an ephemeral vif when nobody has used it for a while."""
        while self.roster.serves(live):
            await live.wait_unused(patience_s, self._patience.after_detach_s)
            patience_s = self._patience.after_detach_s
            async with self.changing:
                if live.holder is None and self.roster.serves(live):
                    try:
                        await self.delete(live)
                    except (RequestFailed, StateError) as error:
                        self._log.error(f"deleting vif {live.name}: {error}")
                    else:
                        self._log.audit("vif-deleted", name=live.name, why="nobody used it")

    def _check_files(self) -> None:
        """Raise RequestFailed if a start would have too few descriptors for the vifs by now."""
        try:
            check_files(self._config, len(self.roster.by_port))
        except Shortage as error:
            raise RequestFailed(str(error)) from None

    async def _leave_nic(self, live: LiveVif) -> None:
        """Let the NIC of the network that *live* is in by now receive for it no more."""
        await self._memberships.update(self._config.network(live.vif.network).uplink)

    async def _end_routes(self, live: LiveVif) -> None:
        """Have the host reach no more what *live* is bound to by now."""
        await self._routes.change((self._config, live.vif), None)
