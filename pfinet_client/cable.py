"""The cable between a stack and its vif.

    plugged in: an attachment, and a pump that carries frames; none where the
        |       daemon is lent the tap and carries them itself
        | the daemon, or its engine, is gone
        v
    coming back: tries to attach again; the stack keeps its carrier, and waits
        | attached                  | the vif is lost for good
        v                           v
    plugged in                  cut: no carrier

The stack sees a network that loses frames for a while, as any may.
"""

import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.command import say
from pfinet_client.entrance import Entrance
from pfinet_client.errors import StackError
from pfinet_client.pump_thread import End, Pump
from pfinet_client.reattach import Pauses, farewell, is_final
from pfinet_client.tap import drop_carrier, has_interface, set_offload
from pfinet_client.tries import Tries
from pfinet_proto.attach import Binding, Goodbye
from pfinet_proto.control import ControlError
from pfinet_proto.errors import BadMessage, RemoteProtocolError

# The engine ends the stream, another process may say why; it has this long to
# do so.  Connections wait meanwhile, so it is less than TCP waits to repeat itself.
_EXPLANATION_S = 0.1


class Cable:
    """Connects *tap* to what *attachment* is, and to its successors.

    It is served by the caller's *selector*: each key's data is to be called
    when the key is ready, and `on_timeout` after `patience_s` without any.
    *on_binding* is called with each binding that the daemon tells, and *on_lost*
    when the vif is lost for good.
    """

    def __init__(
        self,
        tap: int,
        entrance: Entrance,
        attachment: Attachment,
        selector: selectors.BaseSelector,
        on_binding: Callable[[Binding], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._tap = tap
        self._entrance = entrance
        self._selector = selector
        self._on_binding = on_binding
        self._on_lost = on_lost
        self._name = attachment.welcome.binding.vif
        self._pauses = Pauses()
        self._tries: Tries | None = None
        self._is_plugged_in = False
        self._pump: Pump | None = None
        self.patience_s: float | None = None
        self._plug_in(attachment)

    def _plug_in(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._is_plugged_in = True
        self._since_s = time.monotonic()
        self._selector.register(attachment.sock, selectors.EVENT_READ, self._on_message)
        self._pump = None
        if attachment.wants_tap:
            self._lend_tap()
            return
        self._pump = Pump(
            self._tap, attachment.data, bool(attachment.welcome.offload), attachment.memory
        )
        self._selector.register(self._pump.done, selectors.EVENT_READ, self._on_pump_end)

    def _lend_tap(self) -> None:
        if not has_interface(self._tap):
            self._cut(End.TAP_GONE.value)
            return
        with suppress(OSError):  # the connection broke, which is about to show
            self._attachment.lend_tap(self._tap)

    def on_timeout(self) -> None:
        """Go on without an explanation of why the data stream ended."""
        if self.patience_s is not None:
            self._come_back(End.STREAM_CLOSED.value)

    def close(self) -> None:
        """Detach, after what the tap still holds is sent."""
        self._unplug()
        if self._tries is not None:
            self._tries.close()

    def _on_message(self) -> None:
        try:
            message = self._attachment.receive_nowait()
        except BlockingIOError:
            return
        except OSError:
            message = None
        except (BadMessage, RemoteProtocolError) as error:
            self._come_back(f"the daemon broke the protocol: {error}")
            return
        if message is None:
            self._come_back("the daemon is gone")
        elif isinstance(message, Goodbye):
            self._on_goodbye(message)
        else:
            self._on_binding(message.binding)

    def _on_goodbye(self, goodbye: Goodbye) -> None:
        if is_final(goodbye.code):
            self._cut(farewell(goodbye))
            self._on_lost()
        else:
            self._come_back(farewell(goodbye))

    def _on_pump_end(self) -> None:
        assert self._pump is not None
        self._selector.unregister(self._pump.done)
        try:
            end = self._pump.wait_end()
        except StackError as error:
            self._cut(str(error))
            return
        if end is End.STREAM_CLOSED:
            self.patience_s = _EXPLANATION_S
        elif end is End.BAD_LENGTH:
            self._come_back(f"{end.value}, {self._pump.report.bad_length}")
        elif end is End.BAD_RING:
            self._come_back(end.value)
        else:
            self._cut(end.value)

    def _on_tries_end(self) -> None:
        assert self._tries is not None
        self._selector.unregister(self._tries.done)
        try:
            attachment = self._tries.take()
        except (ControlError, VifRefused) as refusal:
            self._cut(str(refusal))
            self._on_lost()
            return
        finally:
            self._tries.close()
            self._tries = None
        self._on_binding(attachment.welcome.binding)
        with suppress(OSError):  # the interface is gone, and the pump will tell
            set_offload(self._tap, attachment.welcome.offload)
        self._plug_in(attachment)
        say(f"vif {self._name}: attached again, by {attachment.welcome.transport.name.lower()}")

    def _come_back(self, why: str) -> None:
        """Attach again, however long that takes."""
        say(f"vif {self._name}: {why}; attaching again")
        self._unplug()
        self._pauses.note_attached_for(time.monotonic() - self._since_s)
        again = partial(self._entrance.attach_again, self._attachment.welcome)
        self._tries = Tries(again, self._pauses)
        self._selector.register(self._tries.done, selectors.EVENT_READ, self._on_tries_end)

    def _cut(self, why: str) -> None:
        say(f"vif {self._name}: {why}; the stack is disconnected")
        self._unplug()
        drop_carrier(self._tap)

    def _unplug(self) -> None:
        if not self._is_plugged_in:
            return
        self._is_plugged_in = False
        self.patience_s = None
        self._selector.unregister(self._attachment.sock)
        if self._pump is not None:
            with suppress(KeyError):  # it has ended, and that is why
                self._selector.unregister(self._pump.done)
            # Before the attachment: it may still have something to send.
            self._pump.close()
        # Closing is what frees the vif.
        self._attachment.close()
