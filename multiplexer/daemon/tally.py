"""What the engine counted at some ports, as clients are told it.

The engine forwards nothing while it answers, and its answer has room for so
many ports.  So it is asked for those that somebody wants to know of and for no
others, a run of neighbouring ports at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

import attrs

from multiplexer.daemon import channel
from multiplexer.daemon.engine_client import COUNTERS_AT_ONCE, EngineClient
from multiplexer.observe.counters import read_row
from pfinet_proto import control
from pfinet_proto.values import IPAddress


@attrs.frozen
class Tally:
    """What the engine told of some ports, by port; *verdicts* are its, by number."""

    _verdicts: Sequence[str]
    _rows: Mapping[int, Sequence[int]]
    _conflicts: Sequence[channel.Conflict]
    _claimed: Sequence[channel.Claimed]

    def counters(self, port: int) -> control.Counters:
        """Return the counters of *port*, which is one of those that were asked for."""
        return read_row(self._rows[port], self._verdicts)

    def conflicts(self, port: int) -> tuple[control.Conflict, ...]:
        """Return the foreign stations that claimed an address of *port*."""
        return tuple(
            control.Conflict(
                conflict.mac,
                ip_address(conflict.address) if conflict.address is not None else None,
                conflict.count,
            )
            for conflict in self._conflicts
            if conflict.port == port
        )

    def claimed(self, port: int) -> tuple[IPAddress, ...]:
        """Return the link-local addresses that the stack on *port* took by first come."""
        return tuple(ip_address(each.address) for each in self._claimed if each.port == port)


async def read_tally(engine: EngineClient, ports: Iterable[int], verdicts: Sequence[str]) -> Tally:
    """Return what *engine* counted at *ports*."""
    rows: dict[int, Sequence[int]] = {}
    conflicts: list[channel.Conflict] = []
    claimed: list[channel.Claimed] = []
    for run in _runs(ports, COUNTERS_AT_ONCE):
        reply = await engine.read_counters(run.start, len(run))
        rows.update(zip(run, reply.rows, strict=True))
        conflicts.extend(reply.conflicts)
        claimed.extend(reply.claimed)
    return Tally(verdicts, rows, conflicts, claimed)


def _runs(ports: Iterable[int], longest: int) -> Iterable[range]:
    """Return *ports* as ranges without gaps, none longer than *longest*."""
    runs: list[range] = []
    for port in sorted(ports):
        if runs and runs[-1].stop == port and len(runs[-1]) < longest:
            runs[-1] = range(runs[-1].start, port + 1)
        else:
            runs.append(range(port, port + 1))
    return runs
