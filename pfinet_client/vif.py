"""A vif as a trio resource: frames out, frames in.

    async with open_vif("lab") as vif:
        await vif.send_frames([frame])
        for frame in await vif.receive_frames():
            ...

When the daemon goes away the vif attaches again by itself, for as long as it
takes.  Until then frames are lost, as on any Ethernet whose cable is pulled.

Errors follow trio: ClosedResourceError if the caller closed it,
BrokenResourceError if it is lost for good, BusyResourceError if two tasks do
the same thing at once.  Sending, receiving and waiting for updates may go on in
three tasks.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import trio

from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.entrance import Entrance
from pfinet_client.frames import FrameStream, StreamEnded
from pfinet_client.locate import TIMEOUT_S
from pfinet_client.packed import MAX_BYTES, MAX_FRAMES, PackedFrames
from pfinet_client.ring import RingFrames
from pfinet_client.tether import CLOSED_BY_DAEMON, AttachAgain, Tether, attach_in_thread
from pfinet_proto.attach import NO_OFFLOAD, Binding, Hello, Offload, Transport
from pfinet_proto.errors import BadMessage
from pfinet_proto.stream import check_frame
from pfinet_proto.values import VifName

__all__ = ["Vif", "VifRefused", "open_vif"]


class _Use:
    """Lets one task at a time do one thing."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.is_busy = False

    def __enter__(self) -> None:
        if self.is_busy:
            raise trio.BusyResourceError(f"another task is {self._what}")
        self.is_busy = True

    def __exit__(self, *_: object) -> None:
        self.is_busy = False


class _Line:
    """An attachment and its frames."""

    def __init__(self, attachment: Attachment) -> None:
        """Take *attachment*; BadMessage or OSError if its rings are none."""
        self.attachment = attachment
        vnet = attachment.welcome.offload != NO_OFFLOAD
        self.frames: FrameStream | RingFrames = (
            FrameStream(attachment.data, vnet=vnet)
            if attachment.memory is None
            else RingFrames(attachment.data, attachment.memory, vnet=vnet)
        )


class Vif(trio.abc.AsyncResource):
    """A vif that this program is attached to; `open_vif` makes one."""

    def __init__(self, attachment: Attachment, attach_again: AttachAgain | None = None) -> None:
        """Take over *attachment*; *attach_again* is as in `Tether`.

        Raises:
            BadMessage, OSError: if it has rings that are none.
        """
        self._line = _Line(attachment)
        self._tether = Tether(attachment, attach_again, self._save_received)
        self._binding = attachment.welcome.binding
        self._vnet = attachment.welcome.offload != NO_OFFLOAD
        self._received: deque[bytes] = deque()
        self._closed = False
        self._sending = _Use("sending frames")
        self._receiving = _Use("receiving frames")
        self._updating = _Use("waiting for an update")

    @property
    def binding(self) -> Binding:
        """What the vif is, by the last update that `wait_update` returned."""
        return self._binding

    @property
    def offload(self) -> Offload:
        """What was negotiated.  If it is not 0, each frame begins with a virtio_net_hdr.

        A daemon that was away may take less of it afterwards, but never more,
        and never changes whether there is a header.
        """
        return self._tether.welcome.offload

    @property
    def transport(self) -> Transport:
        """How frames travel: by a ring, or by a stream where the daemon has none for us."""
        return self._tether.welcome.transport

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        """Send *frames* in their order; lose them if the daemon is away.

        If it is cancelled, the first few of them are sent, each whole: what
        is missing of the last goes ahead of the next call's.

        Raises:
            ValueError: if a frame is too long or too short for a record; then none is sent.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            line = self._line_nowait()
            checked = list(frames)
            for frame in checked:
                check_frame(frame, vnet=self._vnet)
            if line is None:
                return
            try:
                await line.frames.send(checked)
            except StreamEnded:
                self._tether.lose(line.attachment, CLOSED_BY_DAEMON)
            except BadMessage as error:
                self._lose_broken(line, error)
            else:
                return
            if self._closed or not self._tether.comes_back:
                await self._wait_line()

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
                await self._receive_more()
            count = min(max_frames, len(self._received))
            return [self._received.popleft() for _ in range(count)]

    def send_packed_nowait(self, batch: PackedFrames) -> int:
        """Send the first frames of *batch* without waiting; return how many.

        Those are all of them if the daemon is away, and they are lost; and none by a
        stream, or while another task is sending.
        """
        line = self._line_nowait()
        if line is None:
            return batch.count
        if self._sending.is_busy or not isinstance(line.frames, RingFrames):
            return 0
        try:
            return line.frames.put_nowait(batch)
        except StreamEnded:
            self._tether.lose(line.attachment, CLOSED_BY_DAEMON)
        except BadMessage as error:
            self._lose_broken(line, error)
        return batch.count

    async def receive_packed(self, batch: PackedFrames) -> None:
        """Wait until there is a frame, and let *batch* have those that are there."""
        with self._receiving:
            await trio.lowlevel.checkpoint()
            self._check_not_closed()
            batch.count = 0
            while batch.count == 0:
                if self._received:
                    batch.fill(self._pop_received(MAX_FRAMES, MAX_BYTES))
                else:
                    await self._receive_more(batch)

    def _pop_received(self, most_frames: int, most_bytes: int) -> Iterator[bytes]:
        """Take frames from those that are there, of so many bytes at most."""
        while self._received and most_frames and len(self._received[0]) <= most_bytes:
            most_frames -= 1
            most_bytes -= len(self._received[0])
            yield self._received.popleft()

    async def _receive_more(self, batch: PackedFrames | None = None) -> None:
        """Receive into *batch*, if there is one and the line is a ring, or to be kept."""
        line = await self._wait_line()
        try:
            if batch is not None and isinstance(line.frames, RingFrames):
                await line.frames.receive_packed(batch)
            else:
                self._received.extend(await line.frames.receive())
        except StreamEnded:
            self._tether.lose(line.attachment, CLOSED_BY_DAEMON)
        except BadMessage as error:
            self._lose_broken(line, error)

    def _lose_broken(self, line: _Line, error: BadMessage) -> None:
        why = f"the daemon broke the data stream: {error}"
        self._tether.lose(line.attachment, why, tell=False)

    def _save_received(self, attachment: Attachment) -> None:
        """Keep the frames that came before the end of *attachment*, at most its buffer full."""
        if attachment is self._line.attachment and not self._received:
            self._received.extend(self._line.frames.drain_nowait())

    async def wait_update(self) -> Binding:
        """Wait until the binding is another than `binding`; return it, and let it be that.

        Of several changes since the last call the last is returned.
        """
        with self._updating:
            await trio.lowlevel.checkpoint()
            while self._tether.binding == self._binding:
                self._check_usable()
                await self._tether.wait_changed()
            self._check_not_closed()
            self._binding = self._tether.binding
            return self._binding

    async def aclose(self) -> None:
        """Detach.  Tasks that wait get ClosedResourceError; more than once is allowed."""
        self._closed = True
        self._tether.close()
        await trio.lowlevel.checkpoint()

    async def _wait_line(self) -> _Line:
        """Wait until the vif is attached."""
        while (line := self._line_nowait()) is None:
            await self._tether.wait_changed()
        return line

    def _line_nowait(self) -> _Line | None:
        """Return what the vif is attached by; None while the daemon is away."""
        self._check_usable()
        attachment = self._tether.attachment
        if attachment is None:
            return None
        if attachment is not self._line.attachment:
            try:
                self._line = _Line(attachment)
            except (BadMessage, OSError) as error:
                why = f"the daemon gave rings that cannot be used: {error}"
                self._tether.lose(attachment, why, tell=False)
                return None
        return self._line

    def _check_usable(self) -> None:
        self._check_not_closed()
        if self._tether.why_broken is not None:
            raise trio.BrokenResourceError(self._tether.why_broken)

    def _check_not_closed(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this vif was closed")


@asynccontextmanager
async def open_vif(
    name: str | None = None,
    *,
    control: str | None = None,
    offload: Offload = NO_OFFLOAD,
    timeout_s: float = TIMEOUT_S,
    reattach: bool = True,
) -> AsyncIterator[Vif]:
    """Attach to the vif *name*, or to the caller's only one.

    *control* is the path of the daemon's control socket, else
    $MULTIPLEXER_CONTROL, else the usual one.  *offload* is what the caller can
    do with a virtio_net_hdr; `Vif.offload` tells what was agreed.  Without
    *reattach* the vif is broken once the daemon goes away.

    Raises:
        ValueError: if *name* is no name of a vif.
        ControlError: if there is no such vif, or it is another user's.
        VifRefused: if the daemon does not let us attach, because somebody else is.
        OSError: if the daemon cannot be reached.
        BadMessage, RemoteProtocolError: if it does not speak the protocol.
    """
    vif_name = None if name is None else VifName.parse(name)
    transports = (Transport.RING, Transport.STREAM)
    hello = Hello(offload=offload, transports=transports, client="pfinet_client")
    entrance = Entrance(vif_name, control, hello, timeout_s)
    attachment: Attachment = await attach_in_thread(entrance.attach)
    try:
        attached = Vif(attachment, entrance.attach_again if reattach else None)
    except BaseException:
        attachment.close()
        raise
    async with attached as vif:
        yield vif
