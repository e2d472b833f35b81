"""Run a command on a stack of its own, and stay until it ends.

The main thread waits for signals (the command's end among them) and for what
the stack's cable waits for.  Losing the daemon or the vif interrupts or
disconnects the stack; only the command's own end ends it.
"""

import os
import selectors
import signal
from collections.abc import Sequence
from contextlib import ExitStack

from pfinet_client import beacon
from pfinet_client.cable import Cable
from pfinet_client.entrance import Entrance
from pfinet_client.locate import control_path
from pfinet_client.signals import FORWARDED, Signals
from pfinet_client.stack import Stack, start_stack


def run(entrance: Entrance, command: Sequence[str]) -> int:
    """Run *command* on a kernel stack at the vif behind *entrance*.

    Returns the command's wait status (os.WIFEXITED and so on).

    Raises:
        StackError: if the stack cannot be made; the command has not run then.
        ControlError, VifRefused, BadMessage, RemoteProtocolError, OSError: as
            `Entrance.attach`.
    """
    with ExitStack() as closing:
        attachment = entrance.attach()
        closing.callback(attachment.close)
        signals = Signals()
        closing.callback(signals.close)
        welcome = attachment.welcome
        stack = start_stack(welcome.binding, welcome.offload, command, signals)
        closing.callback(stack.close)
        light = beacon.light(welcome.binding.vif, control_path(entrance.control))
        closing.callback(os.close, light)
        selector = closing.enter_context(selectors.DefaultSelector())
        watch = Watch(stack, signals, selector)
        cable = Cable(stack.tap, entrance, attachment, selector, stack.reconfigure, watch.hang_up)
        closing.callback(cable.close)
        stack.go()
        return watch.wait_command(cable)


class Watch:
    """What the main thread does while the command runs."""

    def __init__(self, stack: Stack, signals: Signals, selector: selectors.BaseSelector) -> None:
        self._stack = stack
        self._signals = signals
        self._selector = selector
        self._status: int | None = None
        selector.register(signals.wakeup, selectors.EVENT_READ, self._on_signals)

    def wait_command(self, cable: Cable) -> int:
        """Block until the command has ended and return its wait status."""
        while self._status is None:
            events = self._selector.select(cable.patience_s)
            for key, _ in events:
                # What an earlier one of these has unregistered is closed by now.
                if key in self._selector.get_map().values():
                    key.data()
            if not events:
                cable.on_timeout()
        return self._status

    def hang_up(self) -> None:
        """Tell the command that its network will not come back."""
        if self._status is None:
            os.kill(self._stack.pid, signal.SIGHUP)

    def _on_signals(self) -> None:
        for number in self._signals.read_nowait():
            # Once the command was waited for, its pid may be another's.
            if self._status is not None:
                return
            if number == signal.SIGCHLD:
                self._on_child_change()
            elif number in FORWARDED:
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


def _has_terminal() -> bool:
    """Whether there is a controlling terminal, so that a shell may wait for a stopped job."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
