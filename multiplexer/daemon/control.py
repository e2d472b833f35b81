"""The control process: talks to clients and administrators, and knows every vif.

It starts without privileges, and gets what takes them from the broker, which
checks each request.  It never sees a frame: it tells the engine what each vif
may send, and hands it the clients' sockets.

All that is served is one tree of tasks.  A stop cancels it from the leaves, so
each client hears a goodbye and is detached; the two tasks that read the
siblings' channels end last, since detaching needs their answers.
"""

import contextlib
import gc
import importlib.metadata
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from multiplexer.config import parse_config
from multiplexer.daemon import authorize, channel
from multiplexer.daemon.alteration import Alteration
from multiplexer.daemon.attach import AttachService
from multiplexer.daemon.audit import Log, open_log
from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.control_socket import CONTROL_LIMITS, TOO_MANY, ControlService
from multiplexer.daemon.creation import ID_BYTES, Creation
from multiplexer.daemon.database import StateError
from multiplexer.daemon.definitions import Definitions, library_of
from multiplexer.daemon.deletion import Deletion
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.fabric import Fabric
from multiplexer.daemon.filtering import check_static, missing_of_file, part_stored
from multiplexer.daemon.host import THIS_SYSTEM, Host, System
from multiplexer.daemon.hostwatch import HostWatch
from multiplexer.daemon.in_force import InForce, nic_names
from multiplexer.daemon.joining import Joining
from multiplexer.daemon.learning import Learning
from multiplexer.daemon.legacy import Settlement, clear_away, settle
from multiplexer.daemon.listening import ConnectionLimits, serve_listener
from multiplexer.daemon.live_vif import USUAL_PATIENCE, Aside, Patience
from multiplexer.daemon.named_sets import NamedSets
from multiplexer.daemon.probing import Prober
from multiplexer.daemon.provisioning import Provisioning
from multiplexer.daemon.recollection import keep_ids, keep_macs
from multiplexer.daemon.reload import Reload, why_aside
from multiplexer.daemon.requests import About, Requests
from multiplexer.daemon.shortage import Shortage, check_files, explained
from multiplexer.daemon.state import State
from multiplexer.daemon.vif_sockets import serve_vif, why_not_owner
from multiplexer.daemon.vifs import Vifs
from multiplexer.datapath.verdicts import MEANINGS, VERDICTS
from multiplexer.model import Config, ConfigError, Numbering
from multiplexer.policy import compile_network
from pfinet_proto.values import MacAddress, VifName

DATABASE: Final = "state.db"

#: Objects between two looks for garbage.  Nearly all that is here stays, and with a
#: thousand vifs Python's own 700 took a fifth of all time.
COLLECT_EACH: Final = 20_000


def _installed_version() -> str:
    try:
        return importlib.metadata.version("multiplexer")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


#: Read at import, because later the unprivileged process may not be able to.
PROGRAM_VERSION: Final = _installed_version()


@attrs.frozen
class ControlBoot:
    """What the control process starts with: its two channels, and the socket for everybody."""

    broker: socket.socket
    engine: socket.socket
    listener: socket.socket


class Control:
    """The process between its start and its end."""

    def __init__(
        self,
        boot: ControlBoot,
        log: Log,
        system: System = THIS_SYSTEM,
        patience: Patience = USUAL_PATIENCE,
    ) -> None:
        self._boot = boot
        self._log = log
        self._client_log = ClientLog(log)
        self._system = system
        self._patience = patience
        self._broker = BrokerClient(trio.socket.from_stdlib_socket(boot.broker))
        self._engine = EngineClient(trio.socket.from_stdlib_socket(boot.engine))
        self._serving = trio.CancelScope()

    def stop(self) -> None:
        """Let every client go, and `run` return."""
        self._serving.cancel()

    async def run(self) -> None:
        """Start, and serve until `stop`.

        Raises:
            SiblingGone: if broker or engine is.
            SiblingError: if one of them sends what it must not.
            StateError: if the database cannot be used.
            ConfigError: if the vifs of the file cannot be.
            Shortage: if there are too few descriptors for the vifs.
            RequestFailed: if broker or engine cannot do what the start takes.
        """
        start = await self._broker.receive_start()
        config = numbered(parse_config(start.config_text, start.filename), start)
        with contextlib.closing(State.open(Path(config.daemon.state_dir) / DATABASE)) as state:
            async with trio.open_nursery() as readers:
                readers.start_soon(self._broker.run)
                readers.start_soon(self._engine.run)
                with self._serving:
                    await self._serve(config, state, start)
                readers.cancel_scope.cancel()

    async def _serve(self, config: Config, state: State, start: channel.Start) -> None:
        in_force = InForce(config, library=library_of(state.filters(), state.sets()))
        host = Host(in_force, self._system)
        in_force.recalled = nic_macs = await self._recall_nic_macs(config, state)
        doorman = Doorman(wary=not start.features.passrights)
        attach = AttachService(
            Joining(self._engine, self._broker, doorman, in_force),
            doorman,
            self._client_log,
            partial(why_not_owner, host),
            start.features.passrights,
        )
        vifs = Vifs(
            in_force,
            state,
            self._broker,
            self._engine,
            partial(serve_vif, attach, doorman, self._client_log),
            self._log,
            self._patience,
        )
        about = About(
            PROGRAM_VERSION,
            start.features.passrights,
            start.started_ns,
            start.restarts,
            VERDICTS,
            dict(zip(VERDICTS, MEANINGS, strict=True)),
        )
        host_watch = HostWatch(in_force, host, vifs.roster, self._log)
        reload = Reload(in_force, vifs, self._broker, host, state, self._log, self._client_log)
        provisioning = Provisioning(
            in_force, vifs, self._broker, host, self._log, self._client_log
        )
        requests = Requests(
            in_force,
            about,
            vifs,
            Fabric(in_force, vifs.roster, self._broker, self._engine, about.verdicts),
            self._engine,
            Creation(provisioning, Prober(in_force, self._broker, self._engine)),
            Alteration(provisioning),
            Deletion(provisioning),
            Definitions(provisioning, state),
            NamedSets(provisioning, state),
            reload,
            doorman,
            host_watch,
            self._client_log,
        )
        service = ControlService(requests.answer, in_force, host, doorman)

        owners = [vif.owner for vif in config.vifs]
        facts = await host.facts(owners, nic_macs)
        static = authorize.build_vifs(config, facts, _static_ids(config, state, self._log))
        check_static(config, in_force.library, static)
        stored, refused = authorize.keep_vifs(config, static, state.vifs(), facts)
        stored, unfiltered = part_stored(config, in_force.library, stored)
        refused = (*refused, *unfiltered)
        for vif, refusal in refused:
            vifs.aside[vif.name] = Aside(vif, refusal.message)
            self._log.warning(why_aside(vif, refusal))
        for line in missing_of_file(config, in_force.library):
            self._log.warning(line)
        for network in config.networks:
            await self._engine.set_network(compile_network(config, network))
        every = [*static, *stored]
        if (warning := check_files(config, len(every))) is not None:
            self._log.warning(warning)
        learning = Learning(in_force, vifs, self._engine, state, self._log, self._patience)
        learning.recall({vif.id for vif in every})
        settlement = await self._settle({vif.id for vif in every}, start.inherited, doorman)
        with contextlib.closing(doorman):
            async with trio.open_nursery() as nursery:
                await nursery.start(vifs.run, every, settlement)
                nursery.start_soon(host_watch.run)
                nursery.start_soon(learning.run)
                await host.recall_named()
                self._client_log.is_known = lambda peer: (
                    peer.uid == 0 or vifs.roster.has_owner(peer.uid) or host.is_named(peer)
                )
                limits = ConnectionLimits(*CONTROL_LIMITS, self._client_log.is_known, TOO_MANY)
                nursery.start_soon(doorman.run)
                nursery.start_soon(
                    serve_listener,
                    self._boot.listener,
                    limits,
                    service.serve,
                    doorman,
                    self._client_log,
                )
                nursery.start_soon(reload.serve_signals)
                await self._broker.ready()

    async def _settle(
        self, vif_ids: Collection[str], inherited: int, doorman: Doorman
    ) -> Settlement:
        """Clear away what an earlier control did not complete, and return what goes on."""
        ports = await self._engine.read_ports()
        settlement = settle(vif_ids, ports, await self._broker.wait_inherited(inherited))
        await clear_away(settlement, self._broker, self._engine, doorman)
        if ports or settlement.resumed:
            over = len(settlement.lost) + len(settlement.orphaned)
            self._log.info(f"took over {len(settlement.resumed)} attachments, {over} have ended")
        return settlement

    async def _recall_nic_macs(self, config: Config, state: State) -> Mapping[str, MacAddress]:
        """Return the MAC of each nic uplink, of an earlier run where its NIC was not seen yet."""
        nics = nic_names(config)
        await self._broker.wait_uplinks(nics)
        known = state.nic_macs()
        seen = self._broker.nic_macs()
        keep_macs(state, seen, self._log)
        return {name: mac for name, mac in {**known, **seen}.items() if name in nics}


def numbered(config: Config, start: channel.Start) -> Config:
    """Return *config* with the numbers that *start* says."""
    numbering = Numbering(
        {each.name: each.number for each in start.networks},
        {each.name: each.number for each in start.nics},
    )
    return attrs.evolve(config, numbering=numbering)


def _static_ids(config: Config, state: State, log: Log) -> Mapping[VifName, str]:
    """Return the id of each of the file's vifs, as it was, or a new one."""
    known = state.static_ids()
    names = [vif.name for vif in config.vifs]
    ids = {name: known.get(name) or secrets.token_hex(ID_BYTES) for name in names}
    keep_ids(state, ids, log)
    return ids


async def _run(boot: ControlBoot, log: Log) -> None:
    control = Control(boot, log)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, control)
            await control.run()
            nursery.cancel_scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], control: Control) -> None:
    async for _ in signals:
        control.stop()


def main(boot: ControlBoot) -> None:
    """Run the control process until it is no longer wanted.

    Raises:
        SystemExit: if it cannot start, or a sibling broke their protocol; the log says why.
    """
    log = open_log("control")
    gc.set_threshold(COLLECT_EACH)
    failed = False
    try:
        trio.run(_run, boot, log)
    except* channel.SiblingGone:
        pass  # the broker is stopping us, or starts us again with the sibling that died
    except* (
        ConfigError,
        Shortage,
        StateError,
        RequestFailed,
        channel.SiblingError,
        OSError,
    ) as errors:
        for line in sorted(_lines(errors)):
            log.error(line)
        failed = True
    if failed:
        raise SystemExit(1)


def _lines(error: Exception) -> set[str]:
    """Return what the exceptions of a group say, each line once."""
    if isinstance(error, ExceptionGroup):
        return {line for inner in error.exceptions for line in _lines(inner)}
    return set(explained(error).splitlines())
