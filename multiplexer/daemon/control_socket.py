"""The control socket: the requests of everybody, and their replies.

A client is served for as long as it sends whole requests and reads the replies,
each in some time.  The requests of one uid take turns, on however many
connections they come, so a user who asks much makes nobody else wait.  Only
administrators may send long ones.
"""

import socket
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs
import trio

from multiplexer.daemon import authorize
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.host import Client, Host
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.peer import Peer
from pfinet_proto.control import (
    MAX_LONG_REQUEST_BYTES,
    MAX_REQUEST_BYTES,
    NO_REQUEST,
    ControlError,
    ErrorCode,
    FrameDecoder,
    Reply,
    Request,
    Result,
    decode_request_untrusted,
    encode_reply,
)
from pfinet_proto.errors import BadMessage

#: Connections to the control socket.
CONTROL_LIMITS: Final = (64, 1024)
#: What a connection above them gets.
TOO_MANY: Final = encode_reply(
    Reply(NO_REQUEST, ControlError(ErrorCode.UNAVAILABLE, "too many connections"))
)

#: From the end of one request to the end of the next.
REQUEST_TIMEOUT_S: Final = 60.0
SEND_TIMEOUT_S: Final = 10.0
RECEIVE_BYTES: Final = 16384

#: Between two requests of one uid, however many connections it has.
PACE_S: Final = 0.002

Answer = Callable[[Request[Any], Client], Awaitable[Result]]


class ControlService:
    """Serves the connections of the control socket."""

    def __init__(self, answer: Answer, in_force: InForce, host: Host, doorman: Doorman) -> None:
        self._answer_request = answer
        self._in_force = in_force
        self._host = host
        self._doorman = doorman
        self._turns: weakref.WeakValueDictionary[int, trio.Lock] = weakref.WeakValueDictionary()

    async def serve(self, connection: socket.socket, peer: Peer) -> None:
        """Answer the requests on one connection until it ends.

        Raises:
            BadMessage: if the client sends what is no request, or one that is too long.
            SentDescriptors: if it sends a descriptor.
            OSError: if it goes away, or BrokenResourceError.
        """
        turn = self._turns.setdefault(peer.uid, trio.Lock())
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
        caller = _Caller(peer, self._host)
        requests = _Requests(
            partial(self._doorman.receive, connection, RECEIVE_BYTES),
            partial(self._may_be_long, caller),
        )
        while await requests.wait():
            async with trio.open_nursery() as sending, turn:
                client = await caller.client()
                started_s = time.thread_time()
                reply = await self._answer(requests.waiting.popleft(), client)
                sending.start_soon(_send, stream, reply)
                # As long as we worked, so that one uid has at most half of our time;
                # what it waited for, such as an answer from the wire, cost nobody.
                await trio.sleep(max(PACE_S, time.thread_time() - started_s))

    async def _may_be_long(self, caller: "_Caller") -> bool:
        client = await caller.client()
        return authorize.may_administer(self._in_force.config, client.caller)

    async def _answer(self, body: bytes, client: Client) -> bytes:
        call = decode_request_untrusted(body)
        if isinstance(call.request, ControlError):
            return encode_reply(Reply(call.id, call.request))
        try:
            result = await self._answer_request(call.request, client)
        except ControlError as error:
            return encode_reply(Reply(call.id, error))
        return encode_reply(Reply(call.id, result))


async def _send(stream: trio.SocketStream, reply: bytes) -> None:
    """Send *reply*; BrokenResourceError if the client does not take it for too long."""
    with trio.move_on_after(SEND_TIMEOUT_S) as sending:
        await stream.send_all(reply)
    if sending.cancelled_caught:
        raise trio.BrokenResourceError("the client does not read")


@attrs.define(eq=False)
class _Caller:
    """Who is at the other end, which is asked for when it matters."""

    peer: Peer
    host: Host
    _client: Client | None = None

    async def client(self) -> Client:
        if self._client is None:  # who only connects is not worth a name service's time
            self._client = Client(self.peer, await self.host.caller(self.peer))
        return self._client


@attrs.define(eq=False)
class _Requests:
    """What a client sends, as requests; those that are whole are *waiting*."""

    receive: Callable[[], Awaitable[bytes]]
    may_be_long: Callable[[], Awaitable[bool]]
    waiting: deque[bytes] = attrs.field(factory=deque)
    decoder: FrameDecoder = attrs.field(factory=lambda: FrameDecoder(MAX_LONG_REQUEST_BYTES))

    async def wait(self) -> bool:
        """Read until a request is waiting; False if the client ends or takes too long."""
        with trio.move_on_after(REQUEST_TIMEOUT_S):
            while not self.waiting:
                data = await self.receive()
                if not data:
                    return False
                self.waiting.extend(self.decoder.feed(data))
                await self._check_length()
            return True
        return False

    async def _check_length(self) -> None:
        # One that came whole at once was short enough.
        length = self.decoder.announced_bytes
        if length > MAX_REQUEST_BYTES and not await self.may_be_long():
            raise BadMessage(f"record of {length} bytes, not 1 to {MAX_REQUEST_BYTES}")
