"""The control socket: the requests of everybody, and their replies.

A client is served for as long as it sends whole requests and reads the replies,
each in some time.  The requests of one uid take turns, on however many
connections they come, so a user who asks much makes nobody else wait.
"""

import socket
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio

from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.host import Client, Host
from multiplexer.daemon.peer import Peer
from pfinet_proto.control import (
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

    def __init__(self, answer: Answer, host: Host, doorman: Doorman) -> None:
        self._answer_request = answer
        self._host = host
        self._doorman = doorman
        self._turns: weakref.WeakValueDictionary[int, trio.Lock] = weakref.WeakValueDictionary()

    async def serve(self, connection: socket.socket, peer: Peer) -> None:
        """Answer the requests on one connection until it ends.

        Raises:
            BadMessage: if the client sends what is no request.
            SentDescriptors: if it sends a descriptor.
            OSError: if it goes away, or BrokenResourceError.
        """
        turn = self._turns.setdefault(peer.uid, trio.Lock())
        client: Client | None = None
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
        decoder = FrameDecoder(MAX_REQUEST_BYTES)
        waiting: deque[bytes] = deque()
        receive = partial(self._doorman.receive, connection, RECEIVE_BYTES)
        while await _receive(receive, decoder, waiting):
            async with trio.open_nursery() as sending, turn:
                if client is None:  # who only connects is not worth a name service's time
                    client = Client(peer, await self._host.caller(peer))
                started_s = time.thread_time()
                reply = await self._answer(waiting.popleft(), client)
                sending.start_soon(_send, stream, reply)
                # As long as we worked, so that one uid has at most half of our time;
                # what it waited for, such as an answer from the wire, cost nobody.
                await trio.sleep(max(PACE_S, time.thread_time() - started_s))

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


async def _receive(
    receive: Callable[[], Awaitable[bytes]], decoder: FrameDecoder, waiting: deque[bytes]
) -> bool:
    """Read until a request is *waiting*; False if the client ends or takes too long."""
    with trio.move_on_after(REQUEST_TIMEOUT_S):
        while not waiting:
            data = await receive()
            if not data:
                return False
            waiting.extend(decoder.feed(data))
        return True
    return False
