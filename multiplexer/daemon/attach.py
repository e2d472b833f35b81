"""Clients on a vif's own sockets: let in, joined to the engine, let go.

Two checks say who may: the socket belongs to the vif's owner alone, and the
kernel's word on the peer's uid must be the owner's too.  Root passes the first
and not the second, so it does not use what is somebody else's by accident.

A vif has at most one client.  It is taken before the engine hears of the
client and is free again when the engine has confirmed that it holds nothing of
it.  However an attachment ends, it ends in that order, also where the vif is
deleted or the daemon stops: both cancel the task that holds the attachment.
"""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import attrs
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.engine_client import Account, Attachment, EngineClient
from multiplexer.daemon.peer import Peer
from multiplexer.daemon.rundir import refuse_fds
from multiplexer.daemon.vifs import Holder, LiveVif, VifTaken
from pfinet_proto.attach import (
    COOKIE_LEN,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    NO_OFFLOAD,
    VERSION,
    Binding,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Transport,
    Update,
    Welcome,
)
from pfinet_proto.attach_machine import AttachMachine, Role, State
from pfinet_proto.errors import BadMessage, RemoteProtocolError

HANDSHAKE_TIMEOUT_S: Final = 10.0

#: After the handshake a client has nothing to say, so what it says is read this
#: slowly: its own queue fills, and it waits.
PACE_S: Final = 0.1

#: Asked for; the kernel gives up to net.core.wmem_max.
DATA_BUFFER_BYTES: Final = 4 * 1024 * 1024

#: What the engine can do for the frames of an attachment.
OFFLOADS: Final = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN

WhyNotOwner = Callable[[LiveVif, Peer], Awaitable[str | None]]


class _Refusal(Exception):
    """This client does not get the vif; the text is for the person."""

    def __init__(self, code: RefusedCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@attrs.frozen
class AttachService:
    """Serves the clients of every vif.

    *why_not_owner* tells why a peer may not use a vif; None: it may.  What clients
    of one owner do not read takes *queue_bytes* at most.
    """

    engine: EngineClient
    log: ClientLog
    why_not_owner: WhyNotOwner
    queue_bytes: int

    async def serve_bare(
        self, transport: str, live: LiveVif, connection: socket.socket, peer: Peer
    ) -> None:
        """Give a connection of a socket without a handshake to the engine; wait for its end.

        The socket has the name of the *transport* that is spoken on it.  A client
        that is refused sees its connection closed, and no more.
        """
        try:
            await self._check_owner(live, peer)
            async with self._joined(live, connection, peer, transport) as attachment:
                connection.close()
                self.log.audit("attached", peer, vif=live.name, kind=transport)
                try:
                    await attachment.ended.wait()
                finally:
                    why = attachment.why or live.farewell.text
                    self.log.audit("detached", peer, vif=live.name, why=why)
        except _Refusal as refusal:
            self._audit_refusal(live, transport, peer, refusal)

    async def serve_attach(self, live: LiveVif, connection: socket.socket, peer: Peer) -> None:
        """Speak the handshake on a connection of the `attach` socket, and hold the attachment.

        Raises:
            BadMessage: if the client sends what is no message.
            RemoteProtocolError: if it sends one out of turn.
        """
        machine = AttachMachine(Role.DAEMON)
        try:
            await self._check_owner(live, peer)
            hello = await _receive_hello(connection, machine)
            if hello is not None:
                await self._serve_hello(live, connection, machine, peer, hello)
        except _Refusal as refusal:
            self._audit_refusal(live, "attach", peer, refusal)
            _say_last(connection, machine, Refused(refusal.code, _bounded(str(refusal))))
        except (BadMessage, RemoteProtocolError) as error:
            if machine.state is State.GREETING:
                refused = Refused(RefusedCode.MALFORMED, _bounded(str(error)))
                _say_last(connection, machine, refused)
            raise

    async def _serve_hello(
        self,
        live: LiveVif,
        connection: socket.socket,
        machine: AttachMachine,
        peer: Peer,
        hello: Hello,
    ) -> None:
        offload = _agree(hello)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            refuse_fds(ours)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, DATA_BUFFER_BYTES)
            async with self._joined(live, ours, peer, "stream", offload) as attachment:
                ours.close()
                welcome = Welcome(
                    VERSION, Transport.STREAM, offload, os.urandom(COOKIE_LEN), live.binding
                )
                with trio.move_on_after(HANDSHAKE_TIMEOUT_S) as sending:
                    await _client(connection).sendmsg(
                        [machine.send(welcome)], channel.rights([theirs.fileno()])
                    )
                if sending.cancelled_caught:
                    return
                theirs.close()
                self.log.audit(
                    "attached",
                    peer,
                    vif=live.name,
                    kind="attach",
                    offload=int(offload),
                    client=hello.client or None,
                )
                why = "given up"
                try:
                    why = await _hold(live, connection, machine, attachment, welcome.binding)
                except* trio.Cancelled:
                    why = live.farewell.text
                    _say_last(connection, machine, live.farewell)
                    raise
                finally:
                    self.log.audit("detached", peer, vif=live.name, why=why)

    async def _check_owner(self, live: LiveVif, peer: Peer) -> None:
        why = await self.why_not_owner(live, peer)
        if why is not None:
            raise _Refusal(RefusedCode.NOT_OWNER, why)

    @contextlib.asynccontextmanager
    async def _joined(
        self,
        live: LiveVif,
        data: socket.socket,
        peer: Peer,
        transport: str,
        offload: Offload = NO_OFFLOAD,
    ) -> AsyncIterator[Attachment]:
        """Take the vif and have the engine serve *data*, until the end of the context."""
        data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, DATA_BUFFER_BYTES)
        holder = Holder(peer.uid, peer.pid, transport, int(offload), trio.current_time())
        try:
            with live.held_by(holder):
                attachment = await self.engine.attach(
                    live.port,
                    data.fileno(),
                    transport,
                    Account(live.vif.owner_uid, self.queue_bytes),
                    offload=int(offload),
                    vnet=bool(offload),
                )
                try:
                    yield attachment
                finally:
                    await self.engine.detach(attachment)
        except VifTaken as taken:
            raise _Refusal(RefusedCode.TAKEN, str(taken)) from taken
        except RequestFailed as failure:
            raise _Refusal(RefusedCode.NOT_READY, str(failure)) from failure

    def _audit_refusal(self, live: LiveVif, kind: str, peer: Peer, refusal: _Refusal) -> None:
        self.log.audit("refused", peer, vif=live.name, kind=kind, why=refusal)


def _client(connection: socket.socket) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(connection)


async def _receive_hello(connection: socket.socket, machine: AttachMachine) -> Hello | None:
    """Return the client's first message; None if it leaves or takes too long."""
    with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
        data = await _client(connection).recv(MAX_MESSAGE_BYTES + 1)
        if not data:
            return None
        hello = machine.receive_untrusted(data)
        assert isinstance(hello, Hello)  # the machine allows no other
        return hello
    return None


def _agree(hello: Hello) -> Offload:
    """Return the offloads of the attachment that *hello* asks for."""
    if not hello.version_min <= VERSION <= hello.version_max:
        raise _Refusal(
            RefusedCode.VERSION,
            f"version {VERSION} is spoken here, not {hello.version_min} to {hello.version_max}",
        )
    if Transport.STREAM not in hello.transports:
        raise _Refusal(RefusedCode.NO_TRANSPORT, "only the transport stream is spoken here")
    offload = hello.offload & OFFLOADS
    # A segment's checksum is computed by whoever cuts it (virtio 1.2, 5.1.3.1).
    return offload if Offload.CSUM in offload else NO_OFFLOAD


async def _hold(
    live: LiveVif,
    connection: socket.socket,
    machine: AttachMachine,
    attachment: Attachment,
    told: Binding,
) -> str:
    """Wait until the client or the engine ends the attachment, and return why it did.

    Meanwhile the client, which knows the binding *told*, is told of each other one.

    Raises:
        BadMessage: if the client sends what is no message.
        RemoteProtocolError: if it sends one out of turn.
    """
    why = "closed by the client"
    async with trio.open_nursery() as nursery:

        async def watch_engine() -> None:
            nonlocal why
            await attachment.ended.wait()
            why = attachment.why or why
            _say_last(connection, machine, Goodbye(GoodbyeCode.BAD_STREAM, _bounded(why)))
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch_engine)
        nursery.start_soon(tell_updates, live, connection, machine, told)
        while data := await _client(connection).recv(MAX_MESSAGE_BYTES + 1):
            machine.receive_untrusted(data)
            await trio.sleep(PACE_S)
        nursery.cancel_scope.cancel()
    return why


async def tell_updates(
    live: LiveVif, connection: socket.socket, machine: AttachMachine, told: Binding
) -> None:
    """Tell the client of each new binding; who is slow to read gets the last one only."""
    while True:
        changed = live.rebound
        if live.binding != told:
            told = live.binding
            await _client(connection).send(machine.send(Update(told)))
        await changed.wait()


def _say_last(
    connection: socket.socket, machine: AttachMachine, message: Refused | Goodbye
) -> None:
    """Send the message that ends the handshake, if the client has room for it."""
    if machine.state is State.CLOSED:
        return
    with contextlib.suppress(OSError):
        connection.send(machine.send(message), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _bounded(text: str) -> str:
    """Return *text* as ASCII that is printable and not too long for a message."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable.encode("ascii", "replace")[:MAX_TEXT_BYTES].decode("ascii")
