"""The filters of vifs, as the engine has them: tables that take over together.

A table is compiled before anything is done, so that what cannot be is refused
with nothing changed.  Then the engine gets all of them ready, whatever else has
to be done is done, and they take over at once; if anything fails on that way, the
engine forgets what it got ready, and each vif has the filter that it had.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Final

import attrs
import trio

from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.filtering import table_of
from multiplexer.daemon.in_force import InForce
from multiplexer.model import Config, Vif
from multiplexer.policy.nwfilter.learning import Learned
from multiplexer.policy.nwfilter.library import Library
from multiplexer.policy.nwfilter.tables import Learns, learns_of

#: The table of a vif without a filter.
NO_FILTER: Final = b""


@attrs.frozen
class Gates:
    """What the engine judges the frames of vifs by.  One change after the other.

    *learns* is what the filter in force at a port wants to know of its vif's address.
    """

    engine: EngineClient
    in_force: InForce
    learns: dict[int, Learns] = attrs.field(factory=dict)

    async def tables(
        self,
        config: Config,
        library: Library,
        vifs: Collection[Vif],
        learned: Mapping[str, tuple[Learned, ...]] | None = None,
    ) -> Sequence[bytes]:
        """Return the table of each of *vifs*, with what was *learned* of its address.

        That is by the id of the vif, and what is in force if it is not given.

        Raises:
            Refused: if one cannot have its filter.
        """
        if all(vif.filter is None for vif in vifs):
            return [NO_FILTER for _ in vifs]
        by_id = self.in_force.learned if learned is None else learned
        known = [by_id.get(vif.id, ()) for vif in vifs]
        # It may be thousands of rules for each of a thousand vifs.
        return await trio.to_thread.run_sync(
            lambda: [
                table_of(config, library, vif, each) or NO_FILTER
                for vif, each in zip(vifs, known, strict=True)
            ]
        )

    @contextlib.asynccontextmanager
    async def switching(self, tables: Mapping[int, bytes]) -> AsyncIterator[None]:
        """Get *tables*, by port, ready, and let them take over when the context ends well.

        Raises:
            RequestFailed: if the engine does not take one; then none takes over.
        """
        if not tables:
            yield
            return
        try:
            for port, table in tables.items():
                await self.engine.prepare_filter(port, table)
            yield
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.engine.abandon_filters()
            raise
        await self.engine.commit_filters()
        self.learns.update({port: learns_of(table) for port, table in tables.items()})

    async def switch(self, tables: Mapping[int, bytes]) -> None:
        """Let *tables*, by port, take over at once.

        Raises:
            RequestFailed: if the engine does not take one; then none takes over.
        """
        async with self.switching(tables):
            pass


def differing(
    ports: Sequence[int], before: Sequence[bytes], after: Sequence[bytes]
) -> Mapping[int, bytes]:
    """Return the tables *after*, by port, that are not those *before*."""
    return {
        port: then for port, now, then in zip(ports, before, after, strict=True) if now != then
    }
