"""`multiplexerctl top`: looks again and again, until it is quit.

On a terminal it takes the whole screen, follows its size, and is quit by q or
Ctrl-C; elsewhere it prints one table after the other.  A daemon that goes away
is waited for.
"""

import contextlib
import json as jsonlib
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

from multiplexer.cli.arguments import argument
from multiplexer.cli.client import Connect, DaemonUnreachable
from multiplexer.cli.exit_status import DONE
from multiplexer.cli.page import page_as_terminal_text, page_as_text
from multiplexer.cli.rates import Look, Rates, page_of_rates, rates_between
from pfinet_proto.control import UplinkList, VifList
from pfinet_proto.typed import value_of

#: Lines of the screen that are no rows: two of the head, a blank one, the columns, the last.
HEAD_LINES: Final = 5

ENTER_SCREEN: Final = "\x1b[?1049h\x1b[?25l"
LEAVE_SCREEN: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
CLEAR_LINE: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"

QUIT_KEYS: Final = frozenset(b"qQ\x03\x04")

#: How often it looks, in seconds.
MIN_INTERVAL_S: Final = 0.1
MAX_INTERVAL_S: Final = 3600.0


def read_interval(text: str) -> float:
    """Return *text* as a number of seconds."""
    wanted = f"wanted seconds from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g}"
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number, {wanted}") from None
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise ValueError(f"{text} is out of range, {wanted}")
    return seconds


def read_count(text: str) -> int:
    """Return *text* as a number of times."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is no count, wanted an integer from 1 on")
    return int(text)


ARGUMENTS: Final = (
    argument(
        "--interval",
        metavar="SECONDS",
        type=value_of(read_interval),
        default=1.0,
        help="between two looks (default: 1)",
    ),
    argument(
        "--count",
        metavar="N",
        type=value_of(read_count),
        help="end after so many looks (default: when quit by q)",
    ),
)


def run(connect: Connect, json: bool, interval: float, count: int | None) -> int:
    """Show rates each *interval* seconds, *count* times or until quit.

    Raises:
        DaemonUnreachable, ControlError: as the first look does.
    """
    before = look(connect)
    if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        for now, note in _looks(connect, before, count, lambda: time.sleep(interval)):
            _print(rates_between(*now), note, json)
        return DONE
    with _screen() as keys:
        shown: tuple[tuple[Rates, ...], str] = (rates_between(before, before), "")

        def wait() -> None:
            _wait(keys, interval, lambda: _draw(*shown))

        _draw(*shown)
        with contextlib.suppress(_Quit):
            for now, note in _looks(connect, before, count, wait):
                shown = (rates_between(*now), note)
                _draw(*shown)
    return DONE


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
        print(jsonlib.dumps([attrs.asdict(rate) for rate in rates]), flush=True)
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
