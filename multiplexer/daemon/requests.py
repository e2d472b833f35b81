"""What each operation of the control socket does, and for whom.

Everybody may ask what runs and which networks and uplinks there are: a user has
to know what a vif can be.  Of vifs a caller sees its own; root and the
administrators that the file names see all, and make and delete them.  Others do
so within their grants.  A vif that the caller may not see does not exist for it.

Where to attach is told to the vif's owner alone, and so not to root either,
which would be refused there.
"""

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import trio

from multiplexer.daemon import authorize, channel
from multiplexer.daemon.alteration import Alteration
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.creation import Creation
from multiplexer.daemon.definitions import Definitions
from multiplexer.daemon.deletion import Deletion
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.fabric import Fabric, limits_info
from multiplexer.daemon.host import Client
from multiplexer.daemon.hostwatch import HostWatch
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.live_vif import Aside, LiveVif
from multiplexer.daemon.named_sets import NamedSets
from multiplexer.daemon.refusals import NOT_SEEN, not_found, note_refused
from multiplexer.daemon.reload import Reload
from multiplexer.daemon.tally import Tally, read_tally
from multiplexer.daemon.vifs import KINDS, Vifs
from multiplexer.host_port import interface_of
from multiplexer.model import (
    Config,
    Network,
    Trust,
    UplinkKind,
    Vif,
    port_of_host,
    port_of_uplink,
)
from multiplexer.observe.trace import PortName, Scene, explain
from multiplexer.policy.nwfilter.binding import in_use, resolve_bound, supplied
from multiplexer.policy.nwfilter.errors import BindError, FilterLoop
from multiplexer.policy.nwfilter.learning import WANTS, Learned
from multiplexer.policy.nwfilter.resolved import ResolvedRule
from multiplexer.policy.nwfilter.tables import Learns
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import VifName


@attrs.frozen
class About:
    """What does not change while control runs.

    *started_ns* is when the daemon was, by CLOCK_MONOTONIC.  *verdicts* are the
    engine's, by number, and *meanings* what each says.
    """

    version: str
    passrights: bool
    started_ns: int
    restarts: channel.Restarts
    verdicts: Sequence[str]
    meanings: Mapping[str, str]


class Requests:
    """Answers the requests of every client."""

    def __init__(
        self,
        in_force: InForce,
        about: About,
        vifs: Vifs,
        fabric: Fabric,
        engine: EngineClient,
        creation: Creation,
        alteration: Alteration,
        deletion: Deletion,
        definitions: Definitions,
        named_sets: NamedSets,
        reload: Reload,
        doorman: Doorman,
        host_watch: HostWatch,
        client_log: ClientLog,
    ) -> None:
        self._in_force = in_force
        self._about = about
        self._vifs = vifs
        self._fabric = fabric
        self._engine = engine
        self._creation = creation
        self._alteration = alteration
        self._doorman = doorman
        self._host_watch = host_watch
        self._client_log = client_log
        self._answers: Mapping[type[Any], Callable[[Any, Client], Awaitable[control.Result]]] = {
            control.Status: self._status,
            control.Reload: reload.answer,
            control.NetworkList: fabric.network_list,
            control.NetworkShow: fabric.network_show,
            control.UplinkList: fabric.uplink_list,
            control.UplinkShow: fabric.uplink_show,
            control.VifList: self._vif_list,
            control.VifShow: self._vif_show,
            control.VifCreate: self._vif_create,
            control.VifSet: self._vif_set,
            control.VifBorrow: self._vif_borrow,
            control.VifDelete: deletion.answer,
            control.VifLocate: self._vif_locate,
            control.VifTrace: self._vif_trace,
            control.FilterList: definitions.list,
            control.FilterDefine: definitions.define,
            control.FilterUndefine: definitions.undefine,
            control.FilterDumpxml: definitions.dumpxml,
            control.SetList: named_sets.list,
            control.SetShow: named_sets.show,
            control.SetCreate: named_sets.create,
            control.SetChange: named_sets.change,
            control.SetDelete: named_sets.delete,
        }

    @property
    def _config(self) -> Config:
        return self._in_force.config

    async def answer(self, request: control.Request[Any], client: Client) -> control.Result:
        """Do as *client* asks.

        Raises:
            ControlError: if it may not be, or cannot.
        """
        return await self._answers[type(request)](request, client)

    async def _status(self, _: control.Status, client: Client) -> control.StatusInfo:
        return control.StatusInfo(
            version=self._about.version,
            uptime_s=_seconds_since(self._about.started_ns),
            config=self._config.origin.filename,
            kernel=os.uname().release,
            passrights=self._about.passrights,
            shut_out=self._doorman.n_shut_out,
            networks=len(self._config.networks),
            uplinks=len(self._config.uplinks),
            vifs=len(self._vifs.roster),
            attached=sum(live.holder is not None for live in self._vifs.roster),
            control_restarts=self._about.restarts.control,
            engine_restarts=self._about.restarts.engine,
            host_networks=self._fabric.host_networks(),
            set_aside=len(self._vifs.aside),
        )

    async def _vif_list(self, _: control.VifList, client: Client) -> control.Vifs:
        return control.Vifs(
            await self._vif_infos(
                [live for live in self._vifs.roster if self._may_see(live.vif, client)]
            ),
            tuple(
                self._aside_info(aside, client)
                for _, aside in sorted(self._vifs.aside.items())
                if self._may_see(aside.vif, client)
            ),
        )

    async def _vif_show(self, request: control.VifShow, client: Client) -> control.VifInfo:
        live = self._vifs.roster.get(request.name)
        if live is not None and self._may_see(live.vif, client):
            return (await self._vif_infos([live]))[0]
        aside = self._vifs.aside.get(request.name)
        if aside is not None and self._may_see(aside.vif, client):
            info = self._aside_info(aside, client)
            since = f", since {info.why}" if info.why is not None else ""
            raise ControlError(ErrorCode.CONFLICT, f'vif "{info.name}" is set aside{since}')
        if live is not None:
            self._note_unseen("vif.show", request.name, client)
        raise not_found("vif", request.name)

    async def _vif_create(self, request: control.VifCreate, client: Client) -> control.VifInfo:
        live = await self._creation.create(request, client)
        return (await self._vif_infos([live]))[0]

    async def _vif_set(self, request: control.VifSet, client: Client) -> control.VifInfo:
        live = await self._alteration.alter(request, client)
        return (await self._vif_infos([live]))[0]

    async def _vif_borrow(self, request: control.VifBorrow, client: Client) -> control.VifInfo:
        live = await self._creation.borrow(request, client)
        return (await self._vif_infos([live]))[0]

    async def _vif_locate(self, request: control.VifLocate, client: Client) -> control.Located:
        own = [live for live in self._vifs.roster if authorize.may_use(live.vif, client.caller)]
        if request.name is not None:
            own = [live for live in own if live.name == request.name]
        else:
            own = [live for live in own if not live.vif.ephemeral]
        if not own and request.name is not None:
            if self._vifs.roster.get(request.name) is not None:
                self._note_unseen("vif.locate", request.name, client)
            raise ControlError(
                ErrorCode.NOT_FOUND, f'uid {client.peer.uid} owns no vif "{request.name}"'
            )
        if not own:
            raise ControlError(ErrorCode.NOT_FOUND, f"uid {client.peer.uid} owns no vif")
        if len(own) > 1:
            names = ", ".join(str(live.name) for live in own)
            raise ControlError(
                ErrorCode.CONFLICT,
                f"uid {client.peer.uid} owns more than one vif: name one by --vif, of {names}",
            )
        vif = own[0].vif
        return control.Located(vif.name, f"{self._config.daemon.run_dir}/vif/{vif.id}", KINDS)

    async def _vif_trace(self, request: control.VifTrace, client: Client) -> control.Traces:
        live = self._vifs.roster.get(request.name)
        if live is None or not self._may_see(live.vif, client):
            if live is not None:
                self._note_unseen("vif.trace", request.name, client)
            raise not_found("vif", request.name)
        config, vif = self._config, live.vif
        frames = [bytes.fromhex(frame) for frame in request.frames]
        traced = await self._engine.trace(live.port, frames)
        named = frozenset[int]().union(*(one.ports for one in traced))
        scene = Scene(
            vif,
            config.network(vif.network),
            {port: self._port_name(config, port, client) for port in named},
            await self._rules(config, vif) if any(one.rules for one in traced) else (),
        )
        return control.Traces(
            live.name,
            tuple(
                explain(one, frame, scene, self._about.meanings)
                for one, frame in zip(traced, frames, strict=True)
            ),
        )

    async def _rules(self, config: Config, vif: Vif) -> Sequence[ResolvedRule]:
        """Return the rules of the filter of *vif*; none if it cannot be bound any more."""
        network, filters = config.network(vif.network), self._in_force.library.filters
        learned = self._in_force.learned.get(vif.id, ())
        with contextlib.suppress(BindError, FilterLoop):
            bound = await trio.to_thread.run_sync(resolve_bound, network, vif, filters, learned)
            return bound.rules
        return ()

    def _port_name(self, config: Config, port: int, client: Client) -> PortName:
        for uplink in config.uplinks:
            if uplink.kind is UplinkKind.NIC and port_of_uplink(config, uplink.name) == port:
                return PortName("uplink", uplink.name)
        for network in config.networks:
            if network.host and port_of_host(config, network.name) == port:
                return PortName("host", interface_of(network.name))
        live = self._vifs.roster.at_port(port)
        seen = live is not None and self._may_see(live.vif, client)
        return PortName("vif", str(live.name) if live is not None and seen else None)

    def _may_see(self, vif: Vif, client: Client) -> bool:
        return authorize.may_see(self._config, vif, client.caller)

    def _note_unseen(self, operation: str, name: VifName, client: Client) -> None:
        note_refused(self._client_log, client, operation, NOT_SEEN, name)

    async def _vif_infos(self, vifs: Sequence[LiveVif]) -> tuple[control.VifInfo, ...]:
        # Both as they are now, since they fit each other: a reload may come in between.
        config = self._config
        shown = [(live, live.vif) for live in vifs]
        tally = await self._read_tally(live.port for live in vifs)
        return tuple(
            self._vif_info(live, vif, config.network(vif.network), tally) for live, vif in shown
        )

    def _vif_info(
        self, live: LiveVif, vif: Vif, network: Network, tally: Tally
    ) -> control.VifInfo:
        holder = live.holder
        attached = None
        if holder is not None:
            session = holder.session
            attached = control.Holder(
                session.uid,
                session.pid,
                session.transport,
                session.offload,
                _seconds_since(session.since_ns),
            )
        return control.VifInfo(
            name=vif.name,
            id=vif.id,
            owner_uid=vif.owner_uid,
            owner_name=vif.owner_name,
            network=vif.network,
            mac=vif.mac,
            addresses=vif.addresses,
            prefixes=vif.prefixes,
            source="static" if vif.static else "dynamic",
            limits=limits_info(vif.limits.over(network.limits)),
            trust=_trust_info(vif.trust),
            grant=vif.grant,
            ephemeral=vif.ephemeral,
            attached=attached,
            counters=tally.counters(live.port),
            conflicts=tally.conflicts(live.port),
            host_conflicts=self._host_watch.conflicts(vif),
            claimed=tally.claimed(live.port),
            filter=self._filter_info(live, network, vif),
        )

    def _filter_info(
        self, live: LiveVif, network: Network, vif: Vif
    ) -> control.FilterBindingInfo | None:
        if vif.filter is None:
            return None
        wants = self._vifs.gates.learns.get(live.port, Learns.NOTHING)
        modes = [mode.value for mode, learns in WANTS.items() if wants and wants in learns]
        return control.FilterBindingInfo(
            vif.filter.name,
            dict(vif.filter.parameters),
            {each.name: each.values for each in supplied(network, vif)},
            tuple(map(_learned_info, in_use(vif, self._in_force.learned.get(vif.id, ())))),
            modes[0] if modes else None,
        )

    def _aside_info(self, aside: Aside, client: Client) -> control.AsideInfo:
        vif = aside.vif
        told = authorize.may_administer(self._config, client.caller)
        return control.AsideInfo(
            vif.name,
            vif.owner_uid,
            vif.owner_name,
            vif.network,
            vif.addresses,
            vif.prefixes,
            aside.why if told else None,
        )

    async def _read_tally(self, ports: Iterable[int]) -> Tally:
        return await read_tally(self._engine, ports, self._about.verdicts)


def _seconds_since(monotonic_ns: int) -> int:
    return (time.monotonic_ns() - monotonic_ns) // 1_000_000_000


def _learned_info(learned: Learned) -> control.LearnedInfo:
    end = learned.expires_s
    left_s = None if end is None else max(0, int(end - time.time()))
    return control.LearnedInfo(learned.address, learned.server, left_s)


def _trust_info(trust: Trust) -> control.TrustInfo:
    return control.TrustInfo(
        roles=tuple(sorted(role.value for role in trust.roles)),
        ethertypes=trust.ethertypes,
        link_local=trust.link_local.value if trust.link_local is not None else None,
        trusted_tap=trust.trusted_tap,
    )
