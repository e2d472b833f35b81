"""What the engine knows of each vif: its row, and the table of its filter.

Both say what a vif may send, so they change together: while the tables are ready and
none is in force the rows are written, and then all take over.  What the engine has is
known, since nobody else writes it; a table that stays as it is is not sent again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.gates import NO_FILTER, Gates, differing
from multiplexer.daemon.in_force import InForce
from multiplexer.model import Config, Vif
from multiplexer.policy import Staying, compile_vif, network_rows, vif_steps


@attrs.frozen
class Change:
    """From what a vif at *port* is judged by to what it will be: *there* and *back*."""

    port: int
    there: Mapping[int, bytes]
    back: Mapping[int, bytes]


@attrs.frozen
class VifRows:
    """The engine's rows and tables of all vifs, by what is in force.

    Methods raise RequestFailed if the engine refuses, and Refused if a vif cannot have
    its filter; nothing has changed then, but where it is said.
    """

    in_force: InForce
    engine: EngineClient
    gates: Gates

    async def tables(self, vifs: Collection[Vif]) -> Sequence[bytes]:
        """Return the table of each of *vifs*."""
        return await self.gates.tables(self.in_force.config, self.in_force.library, vifs)

    async def recall_filter(self, port: int, table: bytes, *, is_known: bool) -> None:
        """Let *table* judge at *port*, which an earlier control may have given the engine."""
        # What it let take over may not be what it stored.
        if table != NO_FILTER or is_known:
            await self.gates.switch({port: table})

    async def add_filter(self, port: int, table: bytes) -> None:
        """Let *table* judge at *port*, where there is none."""
        await self.gates.switch(differing([port], [NO_FILTER], [table]))

    async def replace_draft(self, port: int, vif: Vif, table: bytes) -> None:
        """Make the vif of a draft, which had no filter.  It may be half done where it fails."""
        # What was counted and noted of the draft is not its client's.
        await self.engine.clear_vif(port)
        await self.engine.set_vif(port, vif.id, compile_vif(self.in_force.config, vif))
        # Not before: a filter need not let out what the wire is asked in its name.
        await self.add_filter(port, table)

    async def change(self, port: int, now: Vif, then: Vif) -> Change:
        """Return what makes of *now* at *port* what *then* is judged by."""
        before, after = await self.tables([now, then])
        return Change(
            port, differing([port], [before], [after]), differing([port], [after], [before])
        )

    async def apply(self, change: Change, vif: Vif) -> None:
        """Let the vif of *change* be *vif*."""
        await self._set(change.port, vif, change.there)

    async def undo(self, change: Change, vif: Vif) -> None:
        """Let the vif of *change* be *vif*, as it was before."""
        await self._set(change.port, vif, change.back)

    async def _set(self, port: int, vif: Vif, tables: Mapping[int, bytes]) -> None:
        async with self.gates.switching(tables):
            await self.engine.set_vif(port, vif.id, compile_vif(self.in_force.config, vif))

    async def follow(
        self, config: Config, staying: Sequence[Staying], comers: Iterable[Vif]
    ) -> None:
        """Give the engine the networks of *config*, and the vifs of now as they will be.

        It may be half done where it fails.
        """
        library = self.in_force.library
        before = await self.tables([each.before for each in staying])
        after = await self.gates.tables(config, library, [each.after for each in staying])
        ports = [each.port for each in staying]
        async with self.gates.switching(differing(ports, before, after)):
            for row in network_rows(self.in_force.config, config):
                await self.engine.set_network(row)
            for step in vif_steps(self.in_force.config, config, staying, comers):
                await self.engine.set_vif(step.port, step.vif_id, step.row)
