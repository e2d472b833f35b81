"""How long a transfer stands still when a process of the daemon is killed.

Between two stacks flows TCP, which tries again only now and then, or a steady
stream of datagrams, whose pause is the daemon's own.  The broker is started
again at once, as a service manager would.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.lab import Daemon, Lab, Stack, end
from tests.support.programs import running

from ..names import KILLED, STREAMS, pause
from ..report import Sample
from ..systems.multiplexer import OWNERS, address_of, checked_by

SYSTEM: Final = "multiplexer_run"
SENDER, RECEIVER = "run0", "run1"
OPTIONS: Final = {"TCP": ("-t60",), "datagrams": ("-t60", "-u", "-b50M", "-l1000")}

#: From the start of the transfer to the kill, and from there to the end of watching.
SETTLING_S: Final = 1.0
WATCHING_S: Final = 5.0
LOOK_EACH_S: Final = 0.001


def survival(work: str) -> Iterator[Sample]:
    """Yield how long the receiver gets nothing, by who is killed and what flows."""
    for role in KILLED:
        for stream in STREAMS:
            with Lab("survival") as lab:
                lab.configure(OWNERS)
                daemon = Daemon(lab)
                with (
                    lab.user(OWNERS[SENDER]).stack(SENDER) as sender,
                    lab.user(OWNERS[RECEIVER]).stack(RECEIVER) as receiver,
                    transfer(sender, receiver, OPTIONS[stream]),
                    ThreadPoolExecutor(1) as watcher,
                ):
                    time.sleep(SETTLING_S)
                    paused = watcher.submit(longest_pause_s, receiver)
                    os.kill(daemon.processes()[role], signal.SIGKILL)
                    if role == "broker":
                        daemon.process.wait()
                        Daemon(lab)
                    pause_s = paused.result()
                    checked = checked_by(lab, SENDER, RECEIVER)()
            yield Sample(work, SYSTEM, pause(stream, role), pause_s, checked)


@contextmanager
def transfer(sender: Stack, receiver: Stack, options: tuple[str, ...]) -> Iterator[None]:
    with running(receiver, "iperf3", "-s", "-1", "--forceflush", until="listening"):
        command = ("iperf3", "-c", address_of(RECEIVER), *options)
        client = sender.popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield
        end(client)


def longest_pause_s(receiver: Stack) -> float:
    """Watch the bytes that *receiver* gets; return the longest time without any."""
    start_s = last_s = time.monotonic()
    last, longest_s = received_by(receiver), 0.0
    while (now_s := time.monotonic()) < start_s + WATCHING_S:
        found = received_by(receiver)
        longest_s = max(longest_s, now_s - last_s)
        if found != last:
            last, last_s = found, now_s
        time.sleep(LOOK_EACH_S)
    return longest_s


def received_by(stack: Stack) -> int:
    """Return the bytes that the stack's interface has got."""
    for line in Path(f"/proc/{stack.pid}/net/dev").read_text().splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() != "lo":
            return int(numbers.split()[0])
    raise LookupError("the stack has no interface")
