"""What an earlier control left behind: what of it goes on, and what is cleared away.

The engine knows its ports, the broker what it keeps, the database the vifs.
Where the three agree nothing is touched, and no client notices; where they do
not, control was killed between two steps, and the steps are undone.  Each step
of that is harmless if it is done twice, so this may be killed as well.

If the engine has died as well there is nothing to agree with, and rings go on with
another.
"""

import contextlib
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from multiplexer.daemon import channel
from multiplexer.daemon.broker_client import BrokerClient, Inherited
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.engine_client import EngineClient
from pfinet_proto.attach import Goodbye, GoodbyeCode, encode

VIF_GONE = Goodbye(GoodbyeCode.DELETED, "the vif is no more")


@attrs.frozen
class Settlement:
    """What becomes of the ports and attachments that an earlier control left.

    *ports* and *resumed* are by vif id, and go on.  *cleared* are ports of vifs
    that are no more, *undone* ports with attachments that were never complete
    and their generations.  Of the attachments that are over, those of *lost*
    the engine has not any more, and those of *orphaned* have no vif.
    """

    ports: Mapping[str, int]
    resumed: Mapping[str, Inherited]
    cleared: Sequence[int]
    undone: Sequence[tuple[int, int]]
    lost: Sequence[Inherited]
    orphaned: Sequence[Inherited]


def settle(
    vif_ids: Collection[str], ports: Iterable[channel.Port], inherited: Iterable[Inherited]
) -> Settlement:
    """Compare the vifs that there are with what engine and broker have."""
    kept_ports: dict[str, int] = {}
    cleared = []
    attached: dict[tuple[str, int], int] = {}
    for port in ports:
        if port.vif_id not in vif_ids or port.vif_id in kept_ports:
            cleared.append(port.number)
            continue
        kept_ports[port.vif_id] = port.number
        if port.generation is not None:
            attached[port.vif_id, port.number] = port.generation
    resumed: dict[str, Inherited] = {}
    lost = []
    orphaned = []
    for each in inherited:
        kept = each.kept
        if kept.vif_id not in vif_ids:
            orphaned.append(each)
        elif each.ring or attached.get((kept.vif_id, kept.port)) == kept.generation:
            resumed[kept.vif_id] = each
        else:
            lost.append(each)
    undone = [
        (number, generation)
        for (vif_id, number), generation in attached.items()
        if vif_id not in resumed or resumed[vif_id].ring is not None
    ]
    return Settlement(kept_ports, resumed, cleared, undone, lost, orphaned)


async def clear_away(
    settlement: Settlement, broker: BrokerClient, engine: EngineClient, doorman: Doorman
) -> None:
    """Undo what an earlier control did not complete.

    A client whose attachment is over only sees the end of its connection: it
    may have been killed for its stream, or never have been welcomed.

    Raises:
        RequestFailed: if engine or broker cannot.
    """
    for port in settlement.cleared:
        await engine.clear_vif(port)
    for port, generation in settlement.undone:
        await engine.detach(engine.attachment(port, generation))
    for each in settlement.orphaned:
        _say(each.sockets, VIF_GONE)
    for each in (*settlement.lost, *settlement.orphaned):
        await broker.forget(each.kept.vif_id)
        for sock in each.sockets:
            doorman.let_go(sock)
        if each.ring is not None:
            each.ring.memory.close()
            doorman.let_go(each.ring.kicks)


def _say(sockets: Iterable[socket.socket], farewell: Goodbye) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.send(encode(farewell), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
