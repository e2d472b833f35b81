"""`multiplexerctl top`: looks again and again, until it is quit.

On a terminal it takes the whole screen, follows its size, and is quit by q or
Ctrl-C; elsewhere it prints one table after the other.  A daemon that goes away
is waited for.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from multiplexer.cli.client import ControlClient, DaemonUnreachable
from multiplexer.cli.page import page_as_terminal_text, page_as_text
from multiplexer.cli.rates import Look, Rates, page_of_rates, rates_between
from pfinet_proto.control import UplinkList, VifList

#: Lines of the screen that are no rows: two of the head, a blank one, the columns, the last.
HEAD_LINES: Final = 5

ENTER_SCREEN: Final = "\x1b[?1049h\x1b[?25l"
LEAVE_SCREEN: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
CLEAR_LINE: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"

QUIT_KEYS: Final = frozenset(b"qQ\x03\x04")

Connect = Callable[[], ControlClient]


def run(connect: Connect, interval_s: float, count: int | None, as_json: bool) -> None:
    """Show rates each *interval_s*, *count* times or until quit.

    Raises:
        DaemonUnreachable, ControlError: as the first look does.
    """
    before = look(connect)
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        for now, note in _looks(connect, before, count, lambda: time.sleep(interval_s)):
            _print(rates_between(*now), note, as_json)
        return
    with _screen() as keys:
        shown: tuple[tuple[Rates, ...], str] = (rates_between(before, before), "")

        def wait() -> None:
            _wait(keys, interval_s, lambda: _draw(*shown))

        _draw(*shown)
        with contextlib.suppress(_Quit):
            for now, note in _looks(connect, before, count, wait):
                shown = (rates_between(*now), note)
                _draw(*shown)


def look(connect: Connect) -> Look:
    """Ask for all counters."""
    with connect() as client:
        vifs = client.ask(VifList()).vifs
        uplinks = client.ask(UplinkList()).uplinks
    return Look(time.monotonic(), vifs, uplinks)


def _looks(
    connect: Connect, before: Look, count: int | None, wait: Callable[[], None]
) -> Iterator[tuple[tuple[Look, Look], str]]:
    """Yield two looks, one after the other, and what to say of them, after each *wait*."""
    now, note = before, ""
    while count is None or count > 0:
        wait()
        try:
            before, now, note = now, look(connect), ""
        except DaemonUnreachable as error:
            note = str(error)
        yield (before, now), note
        count = None if count is None else count - 1


def _print(rates: tuple[Rates, ...], note: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps([attrs.asdict(rate) for rate in rates]), flush=True)
    else:
        print(page_as_text(page_of_rates(rates, None, note)), flush=True)


def _draw(rates: tuple[Rates, ...], note: str) -> None:
    columns, lines = shutil.get_terminal_size()
    page = page_of_rates(rates, lines - HEAD_LINES, note)
    text = page_as_terminal_text(page, columns).splitlines()[: lines - 1]
    body = "".join(f"{line}{CLEAR_LINE}\n" for line in text)
    sys.stdout.write(f"{HOME}{body}{CLEAR_BELOW}")
    sys.stdout.flush()


class _Quit(Exception):
    """The person has seen enough."""


@contextlib.contextmanager
def _screen() -> Iterator[socket.socket]:
    """Have a screen of our own, each key at once, and a socket that a new size wakes."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    woken, waker = socket.socketpair()
    with woken, waker:
        woken.setblocking(False)
        waker.setblocking(False)
        old_handler = signal.signal(signal.SIGWINCH, lambda *_: None)
        old_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            tty.setcbreak(keyboard)
            sys.stdout.write(ENTER_SCREEN)
            yield woken
        except KeyboardInterrupt:
            pass
        finally:
            sys.stdout.write(LEAVE_SCREEN)
            sys.stdout.flush()
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
            signal.set_wakeup_fd(old_waker)
            signal.signal(signal.SIGWINCH, old_handler)


def _wait(woken: socket.socket, interval_s: float, redraw: Callable[[], None]) -> None:
    """Wait for *interval_s*, and redraw whenever the terminal has another size.

    Raises:
        _Quit: if a key says so, or the terminal is gone.
    """
    end_s = time.monotonic() + interval_s
    while (left_s := end_s - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin, woken], [], [], left_s)
        if woken in ready:
            woken.recv(4096)
            redraw()
        if sys.stdin in ready:
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or QUIT_KEYS & set(keys):
                raise _Quit
