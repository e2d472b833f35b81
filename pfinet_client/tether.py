"""What a trio program hangs on: an attachment, and those that follow it.

One task reads the daemon's words, and when the attachment has ended gets
another, while whoever wants to use it waits or does without.  It is a system
task, so that a program that opens a vif needs no nursery, and what it raises
itself comes out as it is.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import trio

from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.reattach import Pauses, farewell, is_final
from pfinet_proto.attach import Update, Welcome
from pfinet_proto.control import ControlError
from pfinet_proto.errors import BadMessage, RemoteProtocolError

#: The engine ends the data stream before control can say why.
_FAREWELL_TIMEOUT_S = 0.1

CLOSED_BY_DAEMON = "the daemon closed the vif"

AttachAgain = Callable[[Welcome], Attachment | None]
A = TypeVar("A", Attachment, Attachment | None)


class Tether:
    """Holds *attachment* and its successors, from construction to `close`.

    *attach_again* blocks while it tries once to get a successor, as
    `Entrance.attach_again`; without it the first end is the last.  *on_end* is
    called before an attachment that has ended is closed.
    """

    def __init__(
        self,
        attachment: Attachment,
        attach_again: AttachAgain | None,
        on_end: Callable[[Attachment], None],
    ) -> None:
        self.attachment: Attachment | None = attachment
        """None while there is none."""
        self.welcome = attachment.welcome
        """Of the last attachment."""
        self.binding = attachment.welcome.binding
        """By the daemon's last word."""
        self.why_broken: str | None = None
        """Set once there will be no attachment any more."""
        self._attach_again = attach_again
        self._on_end = on_end
        self._changed = trio.Event()
        self._keeping = trio.CancelScope()
        # Cancelled when the data stream has ended, for the reason of `_loss`.
        self._listening = trio.CancelScope()
        self._loss = CLOSED_BY_DAEMON
        trio.lowlevel.spawn_system_task(self._keep, attachment)

    @property
    def comes_back(self) -> bool:
        """Whether a lost attachment is followed by another."""
        return self._attach_again is not None

    async def wait_changed(self) -> None:
        """Wait until one of the attributes has changed."""
        await self._changed.wait()

    def lose(self, attachment: Attachment, why: str, *, tell: bool = True) -> None:
        """Note that the data stream of *attachment* has ended.

        With *tell* the daemon has a moment to say a better reason than *why*.
        """
        if self.attachment is attachment:
            self._loss = why
            self._set(None)
            self._listening.deadline = trio.current_time() + (_FAREWELL_TIMEOUT_S if tell else 0)

    def close(self) -> None:
        """Detach, and do not come back."""
        self._keeping.cancel()
        if self.attachment is not None:
            _close(self.attachment)
        self._set(None)

    def _set(self, attachment: Attachment | None) -> None:
        self.attachment = attachment
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _keep(self, attachment: Attachment) -> None:
        pauses = Pauses()
        with self._keeping:
            # Who closed us before we began has closed the sockets, too.
            await trio.lowlevel.checkpoint()
            while True:
                since_s = trio.current_time()
                try:
                    why, final = await self._wait_end(attachment)
                    self._on_end(attachment)
                finally:
                    _close(attachment)
                self._set(None)
                if final or self._attach_again is None:
                    break
                pauses.note_attached_for(trio.current_time() - since_s)
                try:
                    attachment = await self._come_back(self._attach_again, pauses)
                except (ControlError, VifRefused) as refusal:
                    why = str(refusal)
                    break
                self._listening, self._loss = trio.CancelScope(), CLOSED_BY_DAEMON
                self.welcome = attachment.welcome
                self.binding = attachment.welcome.binding
                self._set(attachment)
            self.why_broken = why
            self._notify()

    async def _wait_end(self, attachment: Attachment) -> tuple[str, bool]:
        """Heed the daemon's words until the attachment ends; return why, and if for good."""
        with self._listening:
            while True:
                await trio.lowlevel.wait_readable(attachment.sock)
                try:
                    message = attachment.receive_nowait()
                except BlockingIOError:
                    continue
                except (BadMessage, RemoteProtocolError) as error:
                    return f"the daemon broke the protocol: {error}", False
                except OSError:
                    message = None
                if message is None:
                    break
                if not isinstance(message, Update):
                    return farewell(message), is_final(message.code)
                self.binding = message.binding
                self._notify()
        return self._loss, False

    async def _come_back(self, attach_again: AttachAgain, pauses: Pauses) -> Attachment:
        while True:
            await trio.sleep(pauses.next_s())
            attachment = await attach_in_thread(lambda: attach_again(self.welcome))
            if attachment is not None:
                return attachment


def _close(attachment: Attachment) -> None:
    for sock in (attachment.data, attachment.sock):
        # One that is closed already has no number any more.
        with suppress(ValueError):
            trio.lowlevel.notify_closing(sock)
    attachment.close()


async def attach_in_thread(attach: Callable[[], A]) -> A:
    """Return what *attach* does in a thread; if cancelled, close it when it is there."""
    handed: list[A] = []
    abandoned = False

    def take(attachment: A) -> None:
        if not abandoned:
            handed.append(attachment)
        elif attachment is not None:
            attachment.close()

    def work() -> None:
        attachment = attach()
        try:
            trio.from_thread.run_sync(take, attachment)
        except trio.RunFinishedError:
            if attachment is not None:
                attachment.close()

    try:
        await trio.to_thread.run_sync(work, abandon_on_cancel=True)
    except trio.Cancelled:
        abandoned = True
        for attachment in handed:
            if attachment is not None:
                attachment.close()
        raise
    return handed[0]
