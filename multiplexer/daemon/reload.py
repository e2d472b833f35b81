"""How a changed file becomes the one in force, while the daemon runs.

The broker reads it, since it is root's.  What it changes is worked out here,
and whether it can be: all that a start would say of it is said, and then
nothing has changed.  Else the broker goes by it, and the vifs, the engine and
all that is answered follow.  What fails on that last way cannot be undone:
then this process ends, and broker and engine start afresh from the new file.
"""

import secrets
import traceback
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import trio

from multiplexer.config import parse_config
from multiplexer.daemon import authorize, channel
from multiplexer.daemon.audit import Log
from multiplexer.daemon.authorize import Refused
from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.creation import ID_BYTES
from multiplexer.daemon.database import StateError
from multiplexer.daemon.filtering import (
    check_static,
    kept_from_file,
    missing_of_file,
    part_stored,
)
from multiplexer.daemon.host import Client, Host
from multiplexer.daemon.in_force import InForce, nic_names
from multiplexer.daemon.live_vif import Aside
from multiplexer.daemon.recollection import forget_learned, keep_ids, keep_macs
from multiplexer.daemon.refusals import check_administrator
from multiplexer.daemon.shortage import Shortage, check_files, explained
from multiplexer.daemon.state import State
from multiplexer.daemon.vifs import Vifs
from multiplexer.difference import difference
from multiplexer.model import Config, ConfigError, Vif, renumbered
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import MacAddress, VifName

BY_SIGNAL: Final = "SIGHUP"


@attrs.frozen
class _Plan:
    """What a file changes: the vifs that there are to be, and those that may not."""

    config: Config
    nic_macs: Mapping[str, MacAddress]
    ids: Mapping[VifName, str]
    vifs: Sequence[Vif]
    refused: Sequence[tuple[Vif, Refused]]
    changes: tuple[str, ...]
    warnings: tuple[str, ...]

    def result(self, *, applied: bool) -> control.Reloaded:
        return control.Reloaded(applied, self.changes, self.warnings)


@attrs.frozen
class Reload:
    """Reloads the file, for an administrator or on a signal."""

    in_force: InForce
    vifs: Vifs
    broker: BrokerClient
    host: Host
    state: State
    log: Log
    client_log: ClientLog

    async def serve_signals(self) -> None:
        """Reload whenever the broker passes on that it was asked to."""
        while True:
            await self.broker.reload_asked.wait()
            self.broker.reload_asked = trio.Event()
            try:
                await self._reload(BY_SIGNAL, dry_run=False)
            except ControlError as error:
                self.log.error(f"reload: {error}")

    async def answer(self, request: control.Reload, client: Client) -> control.Reloaded:
        """Reload as *client* asks for.

        Raises:
            ControlError: if it may not, or it cannot be now.
        """
        check_administrator(self.in_force.config, self.client_log, client, "reload")
        return await self._reload(str(client.peer), dry_run=request.dry_run)

    async def _reload(self, by: str, *, dry_run: bool) -> control.Reloaded:
        async with self.vifs.changing:
            try:
                prepared = await self.broker.prepare_reload()
                with trio.CancelScope(shield=True):  # the broker waits for the end of it
                    reloaded = await self._follow(prepared, dry_run=dry_run)
                    await self.broker.end_reload()
            except (RequestFailed, StateError, OSError) as error:
                raise ControlError(ErrorCode.UNAVAILABLE, explained(error)) from error
        if not dry_run:
            self._note(reloaded, by)
        return reloaded

    async def _follow(
        self, prepared: channel.ReloadPrepared, *, dry_run: bool
    ) -> control.Reloaded:
        try:
            plan = await self._plan(prepared)
            if dry_run:
                return plan.result(applied=False)
            await self.broker.commit_reload()
        except ConfigError as error:
            return control.Reloaded(applied=False, errors=error.problems)
        except BaseException:  # whatever it is, the next reload must find the broker free
            await self.broker.end_reload()
            raise
        try:
            await self._apply(plan)
        except channel.SiblingGone:
            raise
        except Exception as error:  # even a fault of ours: half of the file is no state to be in
            if not isinstance(error, RequestFailed | StateError):
                self.log.error(f"reload:\n{''.join(traceback.format_exception(error))}")
            raise channel.SiblingError(f"cannot apply the new file: {error}") from error
        return plan.result(applied=True)

    async def _plan(self, prepared: channel.ReloadPrepared) -> _Plan:
        """Work out what *prepared* changes.

        Raises:
            ConfigError: with all that is wrong with it.
            StateError: if the database cannot be read.
            OSError: if the system cannot be asked.
        """
        if prepared.errors:
            raise ConfigError(prepared.errors)
        old = self.in_force.config
        config = renumbered(parse_config(prepared.config_text, old.origin.filename), old.numbering)
        seen = {state.uplink: state.mac for state in prepared.uplinks if state.mac is not None}
        known = {**self.state.nic_macs(), **self.in_force.nic_macs(self.broker.nic_macs()), **seen}
        nic_macs = {name: known[name] for name in nic_names(config) if name in known}
        facts = await self.host.facts([vif.owner for vif in config.vifs], nic_macs)
        ids = self._ids(config)
        static = authorize.build_vifs(config, facts, ids)
        check_static(config, self.in_force.library, static)
        stored, refused = authorize.keep_vifs(config, static, self.state.vifs(), facts)
        stored, unfiltered = part_stored(config, self.in_force.library, stored)
        refused = (*refused, *unfiltered)
        try:
            shortage = check_files(config, len(static) + len(stored))
        except Shortage as error:
            raise ConfigError([str(error)]) from None
        return _Plan(
            config,
            nic_macs,
            ids,
            (*static, *stored),
            refused,
            tuple(map(str, difference(old, config))),
            (
                *config.warnings,
                *(() if shortage is None else (shortage,)),
                *missing_of_file(config, self.in_force.library),
                *kept_from_file(old, config, stored),
                *(why_aside(vif, refusal) for vif, refusal in refused),
            ),
        )

    def _ids(self, config: Config) -> Mapping[VifName, str]:
        """Return the id of each of the vifs of *config*: as it is, as it was, or a new one."""
        known = dict(self.state.static_ids())
        # The disk may have had no room for those of vifs that there are.
        known.update({live.name: live.vif.id for live in self.vifs.roster if live.vif.static})
        names = [vif.name for vif in config.vifs]
        return {name: known.get(name) or secrets.token_hex(ID_BYTES) for name in names}

    async def _apply(self, plan: _Plan) -> None:
        keep_ids(self.state, plan.ids, self.log)
        keep_macs(self.state, plan.nic_macs, self.log)
        # Whoever comes back has learned nothing, also after the next start.
        there = {vif.id for vif in self.vifs.roster.bound}
        forget_learned(self.state, self.state.learned().keys() - there, self.log)
        aside = {vif.name: Aside(vif, refusal.message) for vif, refusal in plan.refused}
        await self.vifs.follow(plan.config, plan.vifs, aside)
        self.in_force.recalled = plan.nic_macs
        await self.host.recall_named()

    def _note(self, reloaded: control.Reloaded, by: str) -> None:
        for line in reloaded.errors:
            self.log.error(f"reload: {line}")
        for line in reloaded.warnings:
            self.log.warning(line)
        for line in reloaded.changes:
            self.log.info(f"reload: {line}")
        if reloaded.applied:
            self.log.audit("reloaded", changes=len(reloaded.changes), by=by)
        else:
            self.log.error("reload: nothing has changed")


def why_aside(vif: Vif, refusal: Refused) -> str:
    """Return the line that says what becomes of a vif that may not be any more."""
    return f"vif {vif.name} is set aside: {refusal.message}"
