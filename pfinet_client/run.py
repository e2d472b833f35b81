"""Do a task on a kernel stack of its own, a command above all, and stay until it ends.

The main thread waits for signals (the task's end among them) and for what
the stack's cable waits for.  Losing the daemon or the vif interrupts or
disconnects the stack; only the task's own end ends it.
"""

import os
import selectors
import signal
from contextlib import ExitStack

from pfinet_client import beacon
from pfinet_client.cable import Cable
from pfinet_client.entrance import Entrance
from pfinet_client.kernel_stack import KernelStack, Task, start_stack
from pfinet_client.locate import control_path
from pfinet_client.signals import FORWARDED, Signals
from pfinet_proto.attach import Binding, Offload, Transport

#: What the kernel's stack can leave to others, and take from them.
KERNEL_OFFLOAD = Offload.of_linux(os.uname().release)
#: How its frames may travel; the daemon takes the tap only of whom the administrator trusts.
KERNEL_TRANSPORTS = (Transport.TAP, Transport.RING, Transport.STREAM)


def run(entrance: Entrance, task: Task) -> int:
    """Have *task* done on a kernel stack at the vif behind *entrance*.

    Returns the wait status of its process (os.WIFEXITED and so on).

    Raises:
        StackError: if the stack cannot be made; the task was not begun then.
        ControlError, VifRefused, BadMessage, RemoteProtocolError, OSError: as
            `Entrance.attach`.
    """
    with ExitStack() as closing:
        attachment = entrance.attach()
        closing.callback(attachment.close)
        signals = Signals()
        closing.callback(signals.close)
        welcome = attachment.welcome
        stack = start_stack(welcome.binding, welcome.offload, task, signals)
        closing.callback(stack.close)
        task.outside()
        light = beacon.light(welcome.binding.vif, control_path(entrance.control))
        closing.callback(os.close, light)
        selector = closing.enter_context(selectors.DefaultSelector())
        watch = Watch(stack, signals, selector)

        def reconfigure(binding: Binding) -> None:
            stack.reconfigure(binding)
            task.tell(binding)

        cable = Cable(stack.tap, entrance, attachment, selector, reconfigure, watch.hang_up)
        closing.callback(cable.close)
        stack.go()
        return watch.wait_end(cable)


class Watch:
    """What the main thread does while the task's process runs."""

    def __init__(
        self, stack: KernelStack, signals: Signals, selector: selectors.BaseSelector
    ) -> None:
        self._stack = stack
        self._signals = signals
        self._selector = selector
        self._status: int | None = None
        selector.register(signals.wakeup, selectors.EVENT_READ, self._on_signals)

    def wait_end(self, cable: Cable) -> int:
        """Block until the process has ended and return its wait status."""
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
        """Tell the process that its network will not come back."""
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
