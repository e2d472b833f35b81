"""What all have in common who make, change and delete vifs on request.

They judge by the file that is in force and by what the system says at that
moment, and hold `Vifs.changing` until what they judged is done.  Whoever asked
is told why it cannot be; where the fault is not the client's, the log says it too.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator

import attrs
import trio

from multiplexer.daemon.audit import Log
from multiplexer.daemon.authorize import HostFacts, Refused
from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.database import StateError
from multiplexer.daemon.filtering import table_of
from multiplexer.daemon.host import Host
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.vifs import Vifs
from multiplexer.model import Config, Vif
from multiplexer.policy.nwfilter.library import Library
from pfinet_proto.control import ControlError, ErrorCode


@attrs.frozen
class Provisioning:
    """The vifs, what they are judged by, and the logs of what becomes of them."""

    in_force: InForce
    vifs: Vifs
    broker: BrokerClient
    host: Host
    log: Log
    client_log: ClientLog

    @property
    def config(self) -> Config:
        return self.in_force.config

    async def facts(self, owners: Iterable[str]) -> HostFacts:
        """Return what judging vifs of *owners* takes."""
        nic_macs = self.in_force.nic_macs(self.broker.nic_macs())
        return await self.host.facts(owners, nic_macs)

    async def check_filter(self, vif: Vif) -> None:
        """Return if *vif* can have its filter.

        Raises:
            Refused: if not.
        """
        if vif.filter is not None:
            library = self.in_force.library
            await trio.to_thread.run_sync(table_of, self.config, library, vif)

    @contextlib.asynccontextmanager
    async def judging_by(self, library: Library, users: frozenset[str]) -> AsyncIterator[None]:
        """Go by *library* once the context ends well.

        *users* are the names of the vifs that may be judged otherwise then.

        Raises:
            Refused: if one could not have its filter any more; then nothing has changed.
            RequestFailed: if the engine does not take it; the same.
        """
        vifs = self.vifs
        # Drafts have no filter at the engine yet, but must be able to have theirs.
        judged = [vif for vif in vifs.roster.bound if str(vif.name) in users]
        tables = await vifs.gates.tables(self.config, library, judged)
        by_id = {vif.id: table for vif, table in zip(judged, tables, strict=True)}
        served = {live.port: by_id[live.vif.id] for live in vifs.roster if live.vif.id in by_id}
        async with vifs.gates.switching(served):
            yield
        self.in_force.library = library

    @contextlib.contextmanager
    def answering(self, failed: str) -> Iterator[None]:
        """Make the client's answer of what goes wrong in the context.

        *failed* is what the log says of it if the fault is a sibling's or the database's.

        Raises:
            ControlError: if something does.
        """
        try:
            yield
        except Refused as refused:
            raise ControlError(ErrorCode(refused.code), refused.message) from refused
        except (RequestFailed, StateError) as error:
            self.log.error(f"{failed}: {error}")
            raise ControlError(ErrorCode.UNAVAILABLE, str(error)) from error


def check_dynamic(config: Config, vif: Vif) -> None:
    """Raise ControlError if *vif* is one of the file, saying where."""
    if vif.static:
        where = config.origin.locate(("vif", str(vif.name)))
        raise ControlError(ErrorCode.CONFLICT, f'vif "{vif.name}" is defined in {where}')
