"""A vif as a trio resource: frames out, frames in.

    async with open_vif("lab") as vif:
        await vif.send_frames([frame])
        for frame in await vif.receive_frames():
            ...

Errors follow trio: ClosedResourceError if the caller closed it,
BrokenResourceError if the daemon ended it or broke the protocol,
BusyResourceError if two tasks do the same thing at once.  Sending, receiving
and waiting for updates may go on in three tasks.
"""

import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio

from pfinet_client.attachment import Attachment, VifRefused, connect_attach
from pfinet_client.locate import TIMEOUT_S, locate_vif
from pfinet_proto.attach import NO_OFFLOAD, Binding, Goodbye, Hello, Offload, Transport, Update
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.stream import StreamDecoder, encode_frame
from pfinet_proto.values import VifName

__all__ = ["Attachment", "Vif", "VifRefused", "connect_attach", "open_vif"]

#: What one read takes at most; the daemon's own reads are as long.
_READ_BYTES = 256 * 1024

#: The engine ends the data stream before control can say why.
_FAREWELL_TIMEOUT_S = 1.0

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

T = TypeVar("T")


class _Use:
    """Lets one task at a time do one thing."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._what}")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


class Vif(trio.abc.AsyncResource):
    """A vif that this program is attached to; `open_vif` makes one."""

    def __init__(self, attachment: Attachment) -> None:
        """Take over *attachment*."""
        self._attachment = attachment
        self._binding = attachment.welcome.binding
        self._vnet = attachment.welcome.offload != NO_OFFLOAD
        self._decoder = StreamDecoder(vnet=self._vnet)
        self._received: deque[bytes] = deque()
        self._unsent = b""
        self._broken: str | None = None
        self._closed = False
        self._sending = _Use("sending frames")
        self._receiving = _Use("receiving frames")
        self._updating = _Use("waiting for an update")
        # One task at a time reads the attach socket.
        self._attach_lock = trio.Lock()

    @property
    def binding(self) -> Binding:
        """What the vif is, by the last update that `wait_update` returned."""
        return self._binding

    @property
    def offload(self) -> Offload:
        """What was negotiated.  If it is not 0, each frame begins with a virtio_net_hdr."""
        return self._attachment.welcome.offload

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        """Send *frames* in their order.

        If it is cancelled, the first few of them are sent, each whole: what
        is missing of the last goes ahead of the next call's.

        Raises:
            ValueError: if a frame is too long or too short for a record; then none is sent.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_usable()
            await self._send_records([encode_frame(frame, vnet=self._vnet) for frame in frames])

    async def _send_records(self, records: list[bytes]) -> None:
        head = self._unsent
        data = memoryview(b"".join([head, *records]))
        sent = 0
        try:
            while sent < len(data):
                sent += await self._when_ready(
                    trio.lowlevel.wait_writable,
                    self._attachment.data,
                    partial(self._attachment.data.send, data[sent:], _FLAGS),
                )
        except OSError as exc:
            raise self._break(await self._last_word()) from exc
        finally:
            self._unsent = head[sent:] or _rest_of_record(records, sent - len(head))

    async def receive_frames(self, max_frames: int = 64) -> list[bytes]:
        """Wait until there is a frame; return those that are there, at most *max_frames*.

        Raises:
            ValueError: if *max_frames* is not at least 1.
        """
        if max_frames < 1:
            raise ValueError(f"max_frames is {max_frames}, not at least 1")
        with self._receiving:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this vif was closed")
            while not self._received:
                self._check_usable()
                await self._receive_more()
            count = min(max_frames, len(self._received))
            return [self._received.popleft() for _ in range(count)]

    async def _receive_more(self) -> None:
        try:
            data = await self._when_ready(
                trio.lowlevel.wait_readable,
                self._attachment.data,
                partial(self._attachment.data.recv, _READ_BYTES, _FLAGS),
            )
        except OSError as exc:
            raise self._break(await self._last_word()) from exc
        if not data:
            raise self._break(await self._last_word())
        try:
            self._received.extend(self._decoder.feed(data))
        except BadMessage as exc:
            raise self._break(f"the daemon broke the data stream: {exc}") from exc

    async def wait_update(self) -> Binding:
        """Wait until the daemon changes the binding; return the new one."""
        with self._updating:
            await trio.lowlevel.checkpoint()
            async with self._attach_lock:
                self._check_usable()
                message = await self._receive_message()
            if isinstance(message, Goodbye):
                raise self._break(_farewell(message))
            self._binding = message.binding
            return self._binding

    async def _receive_message(self) -> Update | Goodbye:
        try:
            message = await self._when_ready(
                trio.lowlevel.wait_readable,
                self._attachment.sock,
                self._attachment.receive_nowait,
            )
        except (BadMessage, RemoteProtocolError) as exc:
            raise self._break(f"the daemon broke the protocol: {exc}") from exc
        except OSError as exc:
            raise self._break(_farewell(None)) from exc
        if message is None:
            raise self._break(_farewell(None))
        return message

    async def aclose(self) -> None:
        """Detach.  Tasks that wait get ClosedResourceError; more than once is allowed."""
        if not self._closed:
            self._closed = True
            for sock in (self._attachment.data, self._attachment.sock):
                trio.lowlevel.notify_closing(sock)
            self._attachment.close()
        await trio.lowlevel.checkpoint()

    def _check_usable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this vif was closed")
        if self._broken is not None:
            raise trio.BrokenResourceError(self._broken)

    async def _when_ready(
        self,
        wait: Callable[[socket.socket], Awaitable[None]],
        sock: socket.socket,
        act: Callable[[], T],
    ) -> T:
        """Return what *act* on *sock* does as soon as it does not block."""
        while True:
            try:
                return act()
            except BlockingIOError:
                await wait(sock)
            self._check_usable()

    def _break(self, why: str) -> trio.BrokenResourceError:
        if self._broken is None:
            self._broken = why
        return trio.BrokenResourceError(self._broken)

    async def _last_word(self) -> str:
        """Why the data stream ended, if the daemon says so soon."""
        with trio.move_on_after(_FAREWELL_TIMEOUT_S):
            async with self._attach_lock:
                while self._broken is None:
                    self._check_usable()
                    message = await self._receive_message()
                    if isinstance(message, Goodbye):
                        return _farewell(message)
        return _farewell(None)


def _rest_of_record(records: list[bytes], sent: int) -> bytes:
    """Return what is missing of the record that *sent* bytes of *records* cut, if they do."""
    for record in records:
        if sent <= 0:
            break
        if sent < len(record):
            return record[sent:]
        sent -= len(record)
    return b""


def _farewell(message: Goodbye | None) -> str:
    if message is None:
        return "the daemon closed the vif"
    return message.text or f"the daemon closed the vif: {message.code.name.lower()}"


@asynccontextmanager
async def open_vif(
    name: str | None = None,
    *,
    control: str | None = None,
    offload: Offload = NO_OFFLOAD,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Vif]:
    """Attach to the vif *name*, or to the caller's only one.

    *control* is the path of the daemon's control socket, else
    $MULTIPLEXER_CONTROL, else the usual one.  *offload* is what the caller can
    do with a virtio_net_hdr; `Vif.offload` tells what was agreed.

    Raises:
        ValueError: if *name* is no name of a vif.
        ControlError: if there is no such vif, or it is another user's.
        VifRefused: if the daemon does not let us attach, because somebody else is.
        OSError: if the daemon cannot be reached.
        BadMessage, RemoteProtocolError: if it does not speak the protocol.
    """
    vif_name = None if name is None else VifName.parse(name)
    hello = Hello(offload=offload, transports=(Transport.STREAM,), client="pfinet_client")

    def attach() -> Attachment:
        located = locate_vif(vif_name, control, timeout_s)
        return connect_attach(located.path("attach"), hello, timeout_s)

    async with Vif(await _in_thread(attach)) as vif:
        yield vif


async def _in_thread(attach: Callable[[], Attachment]) -> Attachment:
    """Return what *attach* does in a thread; if cancelled, close it when it is there."""
    handed: list[Attachment] = []
    abandoned = False

    def take(attachment: Attachment) -> None:
        if abandoned:
            attachment.close()
        else:
            handed.append(attachment)

    def work() -> None:
        attachment = attach()
        try:
            trio.from_thread.run_sync(take, attachment)
        except trio.RunFinishedError:
            attachment.close()

    try:
        await trio.to_thread.run_sync(work, abandon_on_cancel=True)
    except trio.Cancelled:
        abandoned = True
        for attachment in handed:
            attachment.close()
        raise
    return handed[0]
