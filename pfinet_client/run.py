"""Do a task on a kernel stack of its own, a command above all, and stay until it ends.

The main thread waits for signals (the task's end among them) and for what
the stack's cable waits for.  Losing the daemon or the vif interrupts or
disconnects the stack; only the task's own end ends it.
"""

import os
import selectors
from contextlib import ExitStack

from pfinet_client import beacon
from pfinet_client.cable import Cable
from pfinet_client.entrance import Entrance
from pfinet_client.kernel_stack import Task, start_stack
from pfinet_client.locate import control_path
from pfinet_client.signals import Signals
from pfinet_client.watch import Watch
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
        watch = Watch(stack.pid, signals, selector)

        def reconfigure(binding: Binding) -> None:
            stack.reconfigure(binding)
            task.tell(binding)

        cable = Cable(stack.tap, entrance, attachment, selector, reconfigure, watch.hang_up)
        closing.callback(cable.close)
        stack.go()
        return watch.wait_end(lambda: cable.patience_s, cable.on_timeout)
