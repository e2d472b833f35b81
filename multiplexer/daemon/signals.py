"""The signals that the broker answers to, as something that can be waited for."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL: Final = signal.SIGHUP


@contextmanager
def caught_signals() -> Iterator[socket.socket]:
    """Have the signals above arrive as bytes on the socket that this gives, and do no more."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        for number in (*STOP_SIGNALS, RELOAD_SIGNAL):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno())
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(-1)
