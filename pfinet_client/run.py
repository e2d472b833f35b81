"""Run a command on a stack of its own, and stay until it ends.

The main thread waits for three things at once: signals (the command's end
among them), the daemon's word on the attach socket, and the end of the pump,
which carries the frames in a thread of its own.  Losing the daemon or the vif
disconnects the stack; only the command's own end ends it.
"""

import os
import selectors
import signal
from collections.abc import Sequence
from contextlib import suppress

from pfinet_client.attachment import Attachment
from pfinet_client.command import say
from pfinet_client.errors import StackError
from pfinet_client.pump_thread import End, Pump
from pfinet_client.signals import FORWARDED, Signals
from pfinet_client.stack import Stack, start_stack
from pfinet_client.tap import drop_carrier
from pfinet_proto.attach import Goodbye, GoodbyeCode
from pfinet_proto.errors import BadMessage, RemoteProtocolError

# The vif will not come back to this user, so the command is told to end.
_FINAL = (GoodbyeCode.DELETED, GoodbyeCode.OWNER_CHANGED)
# The engine closes the stream, another process says why; it has this long to do so.
_EXPLANATION_S = 1.0


def run(attachment: Attachment, command: Sequence[str]) -> int:
    """Run *command* on a kernel stack at *attachment*, which is closed at the end.

    Returns the command's wait status (os.WIFEXITED and so on).

    Raises:
        StackError: if the stack cannot be made; the command has not run then.
    """
    signals = Signals()
    try:
        welcome = attachment.welcome
        stack = start_stack(welcome.binding, welcome.offload, command, signals)
        try:
            pump = Pump(stack.tap, attachment.data, bool(welcome.offload))
            try:
                stack.go()
                return _Watch(stack, attachment, pump, signals).wait_command()
            finally:
                pump.close()
        finally:
            stack.close()
    finally:
        signals.close()
        attachment.close()


class _Watch:
    """What the main thread does while the command runs."""

    def __init__(self, stack: Stack, attachment: Attachment, pump: Pump, signals: Signals) -> None:
        self._attachment = attachment
        self._stack = stack
        self._attach = attachment.sock
        self._name = attachment.welcome.binding.vif
        self._pump = pump
        self._signals = signals
        self._status: int | None = None
        self._patience_s: float | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.wakeup, selectors.EVENT_READ, self._on_signals)
        self._selector.register(self._attach, selectors.EVENT_READ, self._on_message)
        self._selector.register(pump.done, selectors.EVENT_READ, self._on_pump_end)

    def wait_command(self) -> int:
        """Block until the command has ended and return its wait status."""
        with self._selector:
            while self._status is None:
                events = self._selector.select(self._patience_s)
                for key, _ in events:
                    # What an earlier one of these has unregistered is closed by now.
                    if key in self._selector.get_map().values():
                        key.data()
                if not events:
                    self._disconnect("the daemon closed the data stream")
        return self._status

    def _on_signals(self) -> None:
        for number in self._signals.read_nowait():
            if number == signal.SIGCHLD:
                self._on_child_change()
            elif number in FORWARDED and self._status is None:
                os.kill(self._stack.pid, number)

    def _on_child_change(self) -> None:
        pid, status = os.waitpid(self._stack.pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return
        if os.WIFSTOPPED(status):
            self._stop_with_command()
        else:
            self._status = status

    def _stop_with_command(self) -> None:
        """Stop as the command has, so that the shell sees its job stopped; go on with it."""
        if not _has_terminal():
            return
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(self._stack.pid, signal.SIGCONT)

    def _on_message(self) -> None:
        try:
            message = self._attachment.receive_nowait()
        except BlockingIOError:
            return
        except OSError:
            message = None
        except (BadMessage, RemoteProtocolError) as error:
            self._disconnect(f"the daemon broke the protocol: {error}")
            return
        if message is None:
            self._disconnect("the daemon is gone")
        elif isinstance(message, Goodbye):
            self._on_goodbye(message)
        else:
            say(f"the binding of vif {self._name} has changed; a new stack will have it")

    def _on_goodbye(self, goodbye: Goodbye) -> None:
        self._disconnect(goodbye.text or goodbye.code.name.lower().replace("_", " "))
        if goodbye.code in _FINAL and self._status is None:
            os.kill(self._stack.pid, signal.SIGHUP)

    def _on_pump_end(self) -> None:
        self._selector.unregister(self._pump.done)
        try:
            end = self._pump.wait_end()
        except StackError as error:
            self._disconnect(str(error))
            return
        if end is End.STREAM_CLOSED:
            self._patience_s = _EXPLANATION_S
        elif end is End.BAD_LENGTH:
            self._disconnect(f"{end.value}, {self._pump.report.bad_length}")
        else:
            self._disconnect(end.value)

    def _disconnect(self, why: str) -> None:
        """Unplug the stack's cable and tell the user; the command goes on."""
        say(f"vif {self._name}: {why}; the stack is disconnected")
        self._patience_s = None
        for watched in (self._attach, self._pump.done):
            with suppress(KeyError):
                self._selector.unregister(watched)
        # Closing is what frees the vif.
        self._pump.close()
        self._attachment.close()
        drop_carrier(self._stack.tap)


def _has_terminal() -> bool:
    """Whether there is a controlling terminal, so that a shell may wait for a stopped job."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
