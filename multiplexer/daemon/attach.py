"""Clients on a vif's own sockets: let in, joined to the engine, let go.

Two checks say who may: the socket belongs to the vif's owner alone, and the
kernel's word on the peer's uid must be the owner's too.  Root passes the first
and not the second, so it does not use what is somebody else's by accident.

A vif has at most one client, which `multiplexer.daemon.joining` takes in and
lets go.  A client that shows the cookie of the one that is there is the same,
back on another connection, and takes its place.
"""

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final

import attrs
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.agreement import Refusal, agree_on_offload, choose_transport
from multiplexer.daemon.broker_client import Inherited
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.descriptors import refuse_fds
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.holder import VifTaken
from multiplexer.daemon.joining import Joined, Joining
from multiplexer.daemon.lending import descriptors_let_in, receive_tap
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.peer import Peer
from multiplexer.daemon.rings import RING, made_rings
from multiplexer.daemon.talk import Silent, Spoken, Talk, bounded, say_last
from pfinet_proto.attach import (
    COOKIE_LEN,
    MAX_MESSAGE_BYTES,
    NO_OFFLOAD,
    VERSION,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Transport,
    Welcome,
)
from pfinet_proto.attach.machine import AttachMachine, Role, State
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.ring import ring_bytes

HANDSHAKE_TIMEOUT_S: Final = 10.0

#: From a client's end until engine and broker have let go of it, on a busy machine.
LEAVING_S: Final = 0.5

#: Asked for; the kernel gives up to net.core.wmem_max.
DATA_BUFFER_BYTES: Final = 4 * 1024 * 1024

WhyNotOwner = Callable[[LiveVif, Peer], Awaitable[str | None]]


@attrs.frozen
class _Client:
    """Who speaks the handshake with us, and what it said."""

    connection: socket.socket
    machine: AttachMachine
    peer: Peer
    hello: Hello

    async def welcome(self, welcome: Welcome, fds: Sequence[int]) -> bool:
        """Say that it has the vif; False if it does not listen."""
        ancillary = channel.rights(fds) if fds else []
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S) as sending:
            await trio.socket.from_stdlib_socket(self.connection).sendmsg(
                [self.machine.send(welcome)], ancillary
            )
        return not sending.cancelled_caught

    def say_last(self, goodbye: Goodbye) -> None:
        say_last(self.connection, self.machine, goodbye)


@attrs.frozen
class AttachService:
    """Serves the clients of every vif.

    *why_not_owner* tells why a peer may not use a vif; None: it may.  Taps are taken
    (*takes_taps*) only where no other descriptor gets in.
    """

    joining: Joining
    doorman: Doorman
    log: ClientLog
    why_not_owner: WhyNotOwner
    takes_taps: bool

    async def serve_bare(
        self, transport: str, live: LiveVif, connection: socket.socket, peer: Peer
    ) -> None:
        """Give a connection of a socket without a handshake to the engine; wait for its end.

        The socket has the name of the *transport* that is spoken on it.  A client
        that is refused sees its connection closed, and no more.
        """
        try:
            await self._check_owner(live, peer)
            await _let_leave(live)
            session = _session(transport, transport, peer)
            async with self._joined(live, session, connection, []) as joined:
                connection.close()
                self.log.audit("attached", peer, vif=live.name, kind=transport)
                await self._stay(live, joined, peer, Silent(joined.attachment))
        except Refusal as refusal:
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
            hello = await self._receive_hello(connection, machine)
            if hello is not None:
                await self._serve_hello(live, _Client(connection, machine, peer, hello))
        except Refusal as refusal:
            self._audit_refusal(live, "attach", peer, refusal)
            say_last(connection, machine, Refused(refusal.code, bounded(str(refusal))))
        except (BadMessage, RemoteProtocolError) as error:
            if machine.state is State.GREETING:
                refused = Refused(RefusedCode.MALFORMED, bounded(str(error)))
                say_last(connection, machine, refused)
            raise

    async def resume(
        self,
        live: LiveVif,
        inherited: Inherited,
        peer: Peer,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hold an attachment of an earlier control, as if there had been none before us.

        Raises:
            BadMessage: if the client sends what is no message.
            RemoteProtocolError: if it sends one out of turn.
        """
        async with contextlib.AsyncExitStack() as held:
            for connection in inherited.sockets:
                held.enter_context(self.doorman.holding(connection))
            try:
                joined = await self._resumed(live, inherited, held)
            except RequestFailed as failure:  # only of rings: their client comes back
                self.log.audit("detached", peer, vif=live.name, why=failure)
                return
            finally:
                task_status.started()
            live.end_lending()  # control died when its tap was trusted no more
            talk: Talk = Silent(joined.attachment)
            for connection in inherited.sockets:
                machine = AttachMachine.attached(Role.DAEMON)
                talk = Spoken(live, joined.attachment, connection, machine, None, self.doorman)
            why = await self.why_not_owner(live, peer)
            if why is None:
                await self._stay(live, joined, peer, talk)
            else:  # control died when it was just given to somebody else
                talk.say_last(Goodbye(GoodbyeCode.OWNER_CHANGED, bounded(why)))
                self.log.audit("detached", peer, vif=live.name, why=why)

    async def _resumed(
        self, live: LiveVif, inherited: Inherited, held: contextlib.AsyncExitStack
    ) -> Joined:
        """Go on with an attachment until *held* is closed; with another engine, if it must be.

        Raises:
            RequestFailed: if that refuses.
        """
        ring = inherited.ring
        if ring is None:
            return await held.enter_async_context(self.joining.resumed(live, inherited.kept))
        held.callback(ring.memory.close)
        held.enter_context(self.doorman.holding(ring.kicks))
        joined = await held.enter_async_context(
            self.joining.revived(live, inherited.kept, inherited.sockets, ring)
        )
        ring.close()
        return joined

    async def _serve_hello(self, live: LiveVif, client: _Client) -> None:
        hello = client.hello
        offload = agree_on_offload(hello)
        self._choose_transport(live, hello)  # else it takes nothing over
        await self._take_over(live, client.peer, hello)
        await _let_leave(live)
        transport = self._choose_transport(live, hello)
        cookie = os.urandom(COOKIE_LEN)
        session = _session("attach", transport.name.lower(), client.peer, offload, cookie)
        welcome = Welcome(VERSION, transport, offload, cookie, live.binding)
        if transport is Transport.TAP:
            await self._serve_tap(live, client, session, welcome)
        elif transport is Transport.STREAM:
            await self._serve_stream(live, client, session, welcome)
        elif not await self._serve_ring(live, client, session, welcome):
            if Transport.STREAM not in hello.transports:
                raise Refusal(RefusedCode.NOT_READY, "there is no memory left for rings")
            session = attrs.evolve(session, transport=Transport.STREAM.name.lower())
            welcome = attrs.evolve(welcome, transport=Transport.STREAM)
            await self._serve_stream(live, client, session, welcome)

    async def _serve_ring(
        self, live: LiveVif, client: _Client, session: channel.Session, welcome: Welcome
    ) -> bool:
        """Give the client one end of rings, and the engine the other.

        Returns False, with nothing said, if there is no memory for them.
        """
        async with contextlib.AsyncExitStack() as until_end:
            try:
                made = made_rings(ring_bytes(welcome.offload))
                ours, theirs = until_end.enter_context(made)
            except OSError:
                return False
            self.doorman.prepare(ours.kicks)
            with _refusing_taken():
                holder = until_end.enter_context(self.joining.taken(live, session))
            try:
                joined = await until_end.enter_async_context(
                    self.joining.joined(live, holder, (), [client.connection], ours)
                )
            except RequestFailed:
                return False
            ours.kicks.close()
            if await client.welcome(welcome, theirs.fds):
                theirs.close()
                await self._stay_welcome(live, joined, client, welcome)
            return True

    async def _serve_stream(
        self, live: LiveVif, client: _Client, session: channel.Session, welcome: Welcome
    ) -> None:
        """Give the client one end of a stream, and the engine the other."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            refuse_fds(ours)
            self.doorman.prepare(ours)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, DATA_BUFFER_BYTES)
            async with self._joined(live, session, ours, [client.connection]) as joined:
                ours.close()
                if await client.welcome(welcome, [theirs.fileno()]):
                    theirs.close()
                    await self._stay_welcome(live, joined, client, welcome)

    async def _serve_tap(
        self, live: LiveVif, client: _Client, session: channel.Session, welcome: Welcome
    ) -> None:
        """Let the client make its tap, and the engine have it.

        Raises:
            BadMessage, RemoteProtocolError: as `receive_tap`.
        """
        with self._refusing(), self.joining.taken(live, session) as holder:
            with descriptors_let_in(client.connection):
                if not await client.welcome(welcome, []):
                    return
                tap = await self._receive_tap(client, vnet=bool(welcome.offload))
            if tap is None:
                return
            lent = [tap]
            try:
                if holder.farewell is not None:  # trusted no more, while the tap was due
                    client.say_last(holder.farewell)
                    return
                async with self.joining.joined(live, holder, [tap], [client.connection]) as joined:
                    channel.close_all(lent)  # the engine has its own
                    lent.clear()
                    await self._stay_welcome(live, joined, client, welcome)
            except RequestFailed as failure:
                client.say_last(Goodbye(GoodbyeCode.OTHER, bounded(str(failure))))
            finally:
                channel.close_all(lent)

    async def _receive_tap(self, client: _Client, *, vnet: bool) -> int | None:
        try:
            return await receive_tap(client.connection, client.machine, self.doorman, vnet=vnet)
        except RemoteProtocolError as error:
            client.say_last(Goodbye(GoodbyeCode.BAD_STREAM, bounded(str(error))))
            raise

    async def _stay_welcome(
        self, live: LiveVif, joined: Joined, client: _Client, welcome: Welcome
    ) -> None:
        self.log.audit(
            "attached",
            client.peer,
            vif=live.name,
            kind="attach",
            offload=int(welcome.offload),
            client=client.hello.client or None,
            transport=joined.holder.session.transport,
        )
        talk = Spoken(
            live,
            joined.attachment,
            client.connection,
            client.machine,
            welcome.binding,
            self.doorman,
        )
        await self._stay(live, joined, client.peer, talk)

    async def _take_over(self, live: LiveVif, peer: Peer, hello: Hello) -> None:
        """Let the holder of the vif go, if *hello* shows its cookie, and wait until it is gone."""
        holder = live.holder
        if holder is None or not holder.is_of(peer.uid, hello.cookie):
            return
        text = f"vif {live.name} is taken over by pid {peer.pid}"
        holder.send_away(Goodbye(GoodbyeCode.TAKEN_OVER, text))
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
            await holder.gone.wait()

    async def _stay(self, live: LiveVif, joined: Joined, peer: Peer, talk: Talk) -> None:
        """Wait until the attachment ends, and note why it did."""
        why = "given up"
        try:
            with joined.holder.staying:
                try:
                    why = await talk.wait_end()
                except* trio.Cancelled:
                    farewell = joined.holder.farewell or live.farewell
                    why = farewell.text
                    if not self._outlives_engine(joined):
                        talk.say_last(farewell)
                    raise
        finally:
            self.log.audit("detached", peer, vif=live.name, why=why)

    def _outlives_engine(self, joined: Joined) -> bool:
        """Whether we end for the engine has died, and our successor goes on with it."""
        return self.joining.engine.is_gone and joined.holder.session.transport == RING

    async def _check_owner(self, live: LiveVif, peer: Peer) -> None:
        why = await self.why_not_owner(live, peer)
        if why is not None:
            raise Refusal(RefusedCode.NOT_OWNER, why)

    @contextlib.asynccontextmanager
    async def _joined(
        self,
        live: LiveVif,
        session: channel.Session,
        data: socket.socket,
        kept: Sequence[socket.socket],
    ) -> AsyncIterator[Joined]:
        data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, DATA_BUFFER_BYTES)
        with self._refusing(), self.joining.taken(live, session) as holder:
            async with self.joining.joined(live, holder, [data.fileno()], kept) as joined:
                yield joined

    @staticmethod
    @contextlib.contextmanager
    def _refusing() -> Iterator[None]:
        """Turn what is in the way of joining into words for the client."""
        try:
            with _refusing_taken():
                yield
        except RequestFailed as failure:
            raise Refusal(RefusedCode.NOT_READY, str(failure)) from failure

    async def _receive_hello(
        self, connection: socket.socket, machine: AttachMachine
    ) -> Hello | None:
        """Return the client's first message; None if it leaves or takes too long."""
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
            data = await self.doorman.receive(connection, MAX_MESSAGE_BYTES + 1)
            if not data:
                return None
            hello = machine.receive_untrusted(data)
            assert isinstance(hello, Hello)  # the machine allows no other
            return hello
        return None

    def _choose_transport(self, live: LiveVif, hello: Hello) -> Transport:
        lends_tap = self.takes_taps and live.vif.trust.trusted_tap
        return choose_transport(hello, lends_tap=lends_tap)

    def _audit_refusal(self, live: LiveVif, kind: str, peer: Peer, refusal: Refusal) -> None:
        self.log.audit("refused", peer, vif=live.name, kind=kind, why=refusal)


async def _let_leave(live: LiveVif) -> None:
    """Wait a moment for the holder of the vif, which may just have left without being heard.

    Else who starts a program right behind another would be told of one that is gone.
    """
    holder = live.holder
    if holder is not None:
        with trio.move_on_after(LEAVING_S):
            await holder.gone.wait()


@contextlib.contextmanager
def _refusing_taken() -> Iterator[None]:
    try:
        yield
    except VifTaken as taken:
        raise Refusal(RefusedCode.TAKEN, str(taken)) from taken


def _session(
    way: str,
    transport: str,
    peer: Peer,
    offload: Offload = NO_OFFLOAD,
    cookie: bytes | None = None,
) -> channel.Session:
    return channel.Session(
        way=way,
        transport=transport,
        offload=int(offload),
        uid=peer.uid,
        gid=peer.gid,
        pid=peer.pid,
        since_ns=time.monotonic_ns(),
        cookie=cookie,
    )
