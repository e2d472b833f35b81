"""What a parent does with signals while a command runs in its terminal's foreground.

The command is in the same process group, so what the terminal sends reaches it
by itself: the parent ignores that.  What is sent to the parent alone, to end
or to notify the command, is passed on.  Stops are mirrored by the caller.
"""

import os
import signal
from types import FrameType

#: The terminal sends them to the whole foreground group.
IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
#: Sent to the parent by somebody who means the command.
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Python ignores them in every program it runs; commands expect the default.
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)


class Signals:
    """The signal set-up of one parent: `hold` before fork, then `take` or `give_back`.

    `wakeup` is readable once a signal of FORWARDED, or SIGCHLD, has come.  What
    the caller was started to ignore (nohup) stays ignored in parent and child.
    """

    def __init__(self) -> None:
        self.wakeup, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._mask: set[int] = set()
        self._heeded = {each for each in FORWARDED if signal.getsignal(each) is not signal.SIG_IGN}

    def hold(self) -> None:
        """Block what parent and child treat differently until each has said how."""
        held = {*IGNORED, *FORWARDED, signal.SIGCHLD}
        self._mask = {int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, held)}

    def take(self) -> None:
        """In the parent: ignore, pass on and wake up, from now on."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for each in IGNORED:
            signal.signal(each, signal.SIG_IGN)
        for each in (*self._heeded, signal.SIGCHLD):
            signal.signal(each, _only_wake_up)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def give_back(self) -> None:
        """In the child: let the command have what the caller had."""
        for each in (*IGNORED, *self._heeded):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, signal.SIG_DFL)
        for each in _PYTHON_IGNORES:
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def read_nowait(self) -> tuple[signal.Signals, ...]:
        """Return the signals that came since the last call."""
        try:
            return tuple(signal.Signals(each) for each in os.read(self.wakeup, 4096))
        except BlockingIOError:
            return ()

    def close(self) -> None:
        """Stop waking up; dispositions stay, for the process is about to end."""
        signal.set_wakeup_fd(-1)
        os.close(self.wakeup)
        os.close(self._write)


def _only_wake_up(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor has told."""


def die_by(number: int) -> None:
    """End this process by the signal that ended the command, without a core file of its own.

    A shell then acts as it would have for the command itself: it reports
    128 + *number*, and a loop ends at the user's ^C.  Returns only if that
    signal ends no process.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
