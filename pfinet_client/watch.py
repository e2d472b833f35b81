"""Stay while a child runs: wait for its end, pass signals on to it, stop and go on with it."""

import os
import selectors
import signal
from collections.abc import Callable

from pfinet_client.signals import FORWARDED, Signals


class Watch:
    """What the main thread does while its child *pid* runs.

    It serves *selector*: each key's data is called when the key is ready.
    """

    def __init__(self, pid: int, signals: Signals, selector: selectors.BaseSelector) -> None:
        self._pid = pid
        self._signals = signals
        self._selector = selector
        self._status: int | None = None
        selector.register(signals.wakeup, selectors.EVENT_READ, self._on_signals)

    def wait_end(
        self,
        patience_s: Callable[[], float | None] = lambda: None,
        on_timeout: Callable[[], None] = lambda: None,
    ) -> int:
        """Block until the process has ended and return its wait status.

        *on_timeout* is called when nothing is ready for *patience_s*.
        """
        while self._status is None:
            events = self._selector.select(patience_s())
            for key, _ in events:
                # What an earlier one of these has unregistered is closed by now.
                if key in self._selector.get_map().values():
                    key.data()
            if not events:
                on_timeout()
        return self._status

    def hang_up(self) -> None:
        """Tell the process that its network will not come back."""
        if self._status is None:
            os.kill(self._pid, signal.SIGHUP)

    def _on_signals(self) -> None:
        for number in self._signals.read_nowait():
            # Once the command was waited for, its pid may be another's.
            if self._status is not None:
                return
            if number == signal.SIGCHLD:
                self._on_child_change()
            elif number in FORWARDED:
                os.kill(self._pid, number)

    def _on_child_change(self) -> None:
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
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
        os.kill(self._pid, signal.SIGCONT)


def _has_terminal() -> bool:
    """Whether there is a controlling terminal, so that a shell may wait for a stopped job."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
