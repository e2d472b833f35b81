"""The sockets of one vif: what is spoken on each, and for whom they are.

They are for the vif's owner alone.  A client that an earlier control let in is
resumed, as if it had connected to one of them.
"""

import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import trio

from multiplexer.daemon import authorize
from multiplexer.daemon.attach import AttachService
from multiplexer.daemon.broker_client import Inherited
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.host import Host
from multiplexer.daemon.listening import ConnectionLimits, serve_alone, serve_listener
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.peer import Peer

#: Connections to the sockets of one vif: its client, and some that are being refused.
VIF_LIMITS: Final = (8, 8)


async def serve_vif(
    attach: AttachService,
    doorman: Doorman,
    log: ClientLog,
    live: LiveVif,
    listeners: Mapping[str, socket.socket],
    inherited: Inherited | None,
) -> None:
    """Serve whoever connects to one of *listeners*, by what is spoken there, until cancelled.

    A client that was *inherited* has *live* before anybody is let in.
    """
    services: Mapping[str, Callable[[LiveVif, socket.socket, Peer], Awaitable[None]]] = {
        "attach": attach.serve_attach,
        "stream": partial(attach.serve_bare, "stream"),
        "bess": partial(attach.serve_bare, "bess"),
    }
    limits = ConnectionLimits(*VIF_LIMITS)
    async with trio.open_nursery() as nursery:
        if inherited is not None:
            await nursery.start(_resume, attach, doorman, log, live, inherited)
        for kind, listener in listeners.items():
            serve = partial(services[kind], live)
            nursery.start_soon(
                serve_listener, listener, limits, serve, doorman, log, live.vif.owner_uid
            )


async def _resume(
    attach: AttachService,
    doorman: Doorman,
    log: ClientLog,
    live: LiveVif,
    inherited: Inherited,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    session = inherited.kept.session
    peer = Peer(session.pid, session.uid, session.gid)
    resume = partial(attach.resume, live, inherited, peer, task_status=task_status)
    await serve_alone(resume, peer, doorman, log)


async def why_not_owner(host: Host, live: LiveVif, peer: Peer) -> str | None:
    """Return what *peer* is told if *live* is another's; None if it is its own."""
    caller = await host.caller(peer)
    if authorize.may_use(live.vif, caller):
        return None
    owner = _describe_user(live.vif.owner_uid, live.vif.owner_name)
    return f"vif {live.name} is for {owner} alone, not for {_describe_user(peer.uid, caller.name)}"


def _describe_user(uid: int, name: str | None) -> str:
    return f"uid {uid}" if name is None else f"user {name} (uid {uid})"
