"""Clients as processes of their own, that go on until they are ended."""

import os
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

TIMEOUT_S: Final = 60

Act = Callable[[Callable[[], None]], None]


def _nothing() -> None:
    pass


@contextmanager
def acting(act: Act, release: Callable[[], None] = _nothing) -> Iterator[None]:
    """Have a process *act*, from when it says for the first time that it has done a round.

    *act* is given a function to say it with, and goes on until it is killed.
    It must not end before.  *release* lets it end that is held up by what it has.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.set_blocking(writer, False)
            act(lambda: _say(writer))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert select.select([reader], [], [], TIMEOUT_S)[0], "it takes too long"
        assert os.read(reader, 1), "it has failed"
        yield
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it has ended before its time"
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        release()
        os.waitpid(pid, 0)


def _say(writer: int) -> None:
    with suppress(BlockingIOError):  # else it was said often enough
        os.write(writer, b"x")
