"""Requests to a sibling process, each waiting for its own answer.

Any number of tasks may wait at once.  A call is never left half way: it waits
for its answer even where the caller is cancelled, because the sibling does
what it was asked in any case, and only who knows the outcome can undo it.
Siblings answer at once or die, and when the channel ends every call does.
"""

import itertools
from collections.abc import Callable, Sequence

import attrs
import trio

from multiplexer.daemon import channel, channel_trio

Answer = (
    channel.Done
    | channel.ReloadPrepared
    | channel.Ack
    | channel.CountersReply
    | channel.PortsReply
    | channel.SightingsReply
    | channel.TraceReply
)


class RequestFailed(Exception):
    """The sibling understood the request and could not, or would not, do it."""


@attrs.define(eq=False)
class _Call:
    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Answer | None = None
    fds: list[int] = attrs.field(factory=list)


class SiblingCalls:
    """The open requests on one channel.

    Whoever reads the channel hands each answer to `answer`, and calls `close`
    when there will be no more.
    """

    def __init__(self, sock: trio.socket.SocketType, sibling: str) -> None:
        self._sock = sock
        self._sibling = sibling
        self._numbers = itertools.count(1)
        self._open: dict[int, _Call] = {}
        self._sending = trio.Lock()
        self._closed = False

    async def call(
        self, make: Callable[[int], channel.Message], fds: Sequence[int] = ()
    ) -> tuple[Answer, list[int]]:
        """Send what *make* makes of a fresh number; return the answer and its descriptors.

        The caller keeps *fds*, and owns what is returned.

        Raises:
            RequestFailed: if the answer is an error.
            SiblingGone: if the sibling is, before or after it did as asked.
        """
        number = next(self._numbers)
        call = self._open[number] = _Call()
        try:
            with trio.CancelScope(shield=True):
                await self.tell(make(number), fds)
                await call.answered.wait()
        finally:
            self._open.pop(number, None)
        if call.answer is None:
            raise channel.SiblingGone(f"the {self._sibling} is gone")
        error = getattr(call.answer, "error", None)
        if error is not None:
            channel.close_all(call.fds)
            raise RequestFailed(f"{self._sibling}: {error}")
        return call.answer, call.fds

    async def tell(self, message: channel.Message, fds: Sequence[int] = ()) -> None:
        """Send a message that has no answer.

        Raises:
            SiblingGone: if nobody is there to read it.
        """
        async with self._sending:
            if self._closed:
                raise channel.SiblingGone(f"the {self._sibling} is gone")
            await channel_trio.send(self._sock, message, fds)

    def answer(self, answer: Answer, fds: Sequence[int] = ()) -> None:
        """Give *answer* to the call that it belongs to.

        Raises:
            SiblingError: if there is none.
        """
        call = self._open.pop(answer.request, None)
        if call is None:
            channel.close_all(fds)
            raise channel.SiblingError(f"{self._sibling} answers {answer.request}, never asked")
        call.answer = answer
        call.fds = list(fds)
        call.answered.set()

    def close(self) -> None:
        """Let every open call, and each later one, end with SiblingGone."""
        self._closed = True
        for call in self._open.values():
            call.answered.set()
