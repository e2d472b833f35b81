"""Show the main job: users on their own stacks across one NIC, and an intruder.

Everything happens in private namespaces, with frames that carry marks; sockets
that see every frame, in each stack and at the outside host, look for them.
Exit status: 0 if all is as it must be, 1 if anything is not, 2 if it cannot run.
"""

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import attrs

from tests.support.lab import LAN, Lab, Stack, interpreter
from tests.support.netns import CommandFailed
from tests.support.seclusion import seclude
from tests.support.wire import Listener, NothingCame, send

from . import attempts
from .report import Report, columns

OWNERS: Final = {"alice": 20001, "bob": 20002, "mallory": 20003}
ADDRESSES: Final = {
    "outside": ("10.77.0.1", "fd77::1"),
    "alice": ("10.77.0.11", "fd77::11"),
    "bob": ("10.77.0.12", "fd77::12"),
    "mallory": ("10.77.0.13", "fd77::13"),
}
PROGRAMS: Final = ("ip", "nsenter", "ping")
WIDTHS: Final = (38, 4, 16, 13, 7)
FETCH: Final = (
    "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
)


class Intruder:
    """Mallory's stack, with `intruder.py` in it: it sends what it is told, and sees all it can."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if self._lines.get(timeout=10) != "ready\n":
            raise CommandFailed("the intruder's program did not start")

    def _read(self) -> None:
        output = self.stack.process.stdout
        assert output is not None
        for line in output:
            self._lines.put(line)

    def send(self, frames: list[bytes]) -> None:
        orders = self.stack.process.stdin
        assert orders is not None
        orders.writelines(frame.hex() + "\n" for frame in frames)
        orders.flush()

    def seen_until(self, mark: bytes) -> list[bytes]:
        """Return what the capture saw, up to and with the frame that holds *mark*."""
        seen: list[bytes] = []
        while not seen or mark not in seen[-1]:
            try:
                seen.append(bytes.fromhex(self._lines.get(timeout=10)))
            except queue.Empty:
                raise NothingCame(f"the capture has not seen {mark!r}") from None
        return seen


@attrs.frozen
class Scene:
    """All who play."""

    lab: Lab
    alice: Stack
    bob: Stack
    intruder: Intruder
    parties: attempts.Parties
    listeners: Mapping[str, Listener]

    def arrived(self, mark: bytes, until: bytes) -> list[str]:
        """Return at whom frames with *mark* arrived before the frame with *until*."""
        return [
            name
            for name, listener in self.listeners.items()
            if any(mark in frame for frame in listener.frames_until(until))
        ]

    def drops_of_intruder(self) -> dict[str, int]:
        counters = self.intruder.stack.user.show("mallory")["counters"]
        return dict(counters["drops"])

    def drops_of_uplink(self) -> dict[str, int]:
        return dict(self.lab.query("uplink", "show", "wire")["counters"]["drops"])


def mark_of(number: int | str) -> bytes:
    """Return a mark that fits the padding of the shortest frame, and stands out."""
    return f"<demo mark {number:>3}>".encode()


def party(name: str, mac: bytes) -> attempts.Party:
    v4, v6 = (ip_address(text).packed for text in ADDRESSES[name])
    return attempts.Party(name, mac, v4, v6)


@contextmanager
def scene(report: Report) -> Iterator[Scene]:
    """Set everything up, and take it down at the end."""
    with ExitStack() as until_end:
        lab = until_end.enter_context(Lab())
        report.say(f"The outside host is {' and '.join(ADDRESSES['outside'])} on a LAN.")
        lab.configure(OWNERS)
        until_end.enter_context(lab.daemon())
        report.say("multiplexerd owns the NIC on that LAN, and runs as three processes.")
        tool = lab.publish(Path(__file__).with_name("intruder.py"))
        commands = {"mallory": [interpreter().executable, str(tool)]}
        stacks = {
            name: until_end.enter_context(lab.user(uid).stack(name, *commands.get(name, [])))
            for name, uid in OWNERS.items()
        }
        for name, uid in OWNERS.items():
            report.say(f"{name}, uid {uid}, runs a stack: {' and '.join(ADDRESSES[name])}.")
        watched = {name: stacks[name].listener() for name in ("alice", "bob")}
        watched["outside"] = lab.outside.listener(LAN)
        for listener in watched.values():
            until_end.enter_context(listener)
        yield Scene(
            lab,
            stacks["alice"],
            stacks["bob"],
            Intruder(stacks["mallory"]),
            attempts.Parties(
                intruder=party("mallory", stacks["mallory"].mac),
                victim=party("alice", stacks["alice"].mac),
                neighbour=party("bob", stacks["bob"].mac),
                outside=party("outside", lab.outside.mac(LAN)),
            ),
            watched,
        )


def show_talk(of: Scene, report: Report) -> None:
    """Users reach each other and the outside, over both families."""
    report.say("\nTwo users and the outside host talk.")
    for who, whom in (("alice", "bob"), ("bob", "alice"), ("alice", "outside")):
        stack = of.alice if who == "alice" else of.bob
        for address in ADDRESSES[whom]:
            done = stack.exec("ping", "-n", "-c1", "-W5", address, check=False)
            report.check(done.returncode == 0, f"{who} pings {whom} at {address}")
    for address in ADDRESSES["bob"]:
        done = of.lab.outside.run("ping", "-n", "-c1", "-W5", address, check=False)
        report.check(done.returncode == 0, f"outside pings bob at {address}")
    fetch = (interpreter().executable, "-c", FETCH)
    web = str(of.lab.publish(Path(__file__).with_name("web.py")))
    at_bob = partial(of.bob.popen, interpreter().executable, web)
    at_outside = partial(of.lab.outside.popen, interpreter().executable, web)
    for index in (0, 1):
        bob, outside = ADDRESSES["bob"][index], ADDRESSES["outside"][index]
        with serving(at_bob(bob, stdout=subprocess.PIPE)):
            done = of.lab.outside.run(*fetch, url(bob), check=False)
            seen = done.stdout.strip()
            report.check(
                seen == outside, f"outside fetches a page from {url(bob)}; bob sees {seen}"
            )
        with serving(at_outside(outside, stdout=subprocess.PIPE)):
            seen = of.bob.exec(*fetch, url(outside), check=False).stdout.strip()
            report.check(
                seen == bob, f"bob fetches a page from {url(outside)}; outside sees {seen}"
            )


def url(address: str) -> str:
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


@contextmanager
def serving(server: subprocess.Popen[str]) -> Iterator[None]:
    """Wait until *server* is ready, and end it afterwards."""
    assert server.stdout is not None
    try:
        if server.stdout.readline() != "ready\n":
            raise CommandFailed("the web server did not start")
        yield
    finally:
        server.kill()
        server.wait()


def show_listeners(of: Scene, report: Report) -> None:
    """What is lawful arrives: then the listeners would show a forgery as well."""
    report.say("\nThe listeners work: what mallory may send arrives everywhere.")
    kinds = ("IPv4 datagram", "IPv6 datagram", "ARP announcement", "neighbour advertisement")
    frames = attempts.lawful(of.parties.intruder, mark_of("ok"))
    for number, (kind, frame) in enumerate(zip(kinds, frames, strict=True)):
        until = mark_of(f"f{number}")
        of.intruder.send([frame, attempts.fence(of.parties.intruder, until)])
        arrived = of.arrived(mark_of("ok"), until)
        report.check(
            arrived == list(of.listeners),
            f"{kind} of mallory's own arrives at {', '.join(arrived) or 'nobody'}",
        )


def show_attempts(of: Scene, report: Report) -> None:
    """Every forgery is dropped, and counted under its name."""
    report.say("\nmallory, root in its own stack, tries to be somebody else.")
    heading = ("attempt", "sent", "arrived at", "counter", "rose by")
    report.say("        " + columns(heading, WIDTHS))
    before = of.drops_of_intruder()
    for number, attempt in enumerate(attempts.attempts()):
        mark, until = mark_of(number), mark_of(f"u{number}")
        forged = attempt.build(of.parties, mark)
        of.intruder.send([*forged, attempts.fence(of.parties.intruder, until)])
        arrived = of.arrived(mark, until)
        after = of.drops_of_intruder()
        rise = after.get(attempt.counter, 0) - before.get(attempt.counter, 0)
        before = after
        tell(report, attempt.name, len(forged), arrived, attempt.counter, rise)


def show_tag_from_wire(of: Scene, report: Report) -> None:
    """A tagged frame from the wire for a user's MAC reaches nobody."""
    mark, until = mark_of("vl"), mark_of("end")
    before = of.drops_of_uplink()
    forged = attempts.tagged_from_wire(of.parties, mark)
    send(of.lab.outside.namespace, LAN, [*forged, attempts.fence(of.parties.outside, until)])
    inside = {name: of.listeners[name] for name in ("alice", "bob")}
    arrived = attrs.evolve(of, listeners=inside).arrived(mark, until)
    rise = of.drops_of_uplink().get("uplink_vlan", 0) - before.get("uplink_vlan", 0)
    tell(report, "tagged frame from the wire", len(forged), arrived, "uplink_vlan", rise)


def tell(
    report: Report, name: str, sent: int, arrived: list[str], counter: str, rise: int
) -> None:
    cells = (name, str(sent), ", ".join(arrived) or "nowhere", counter, str(rise))
    report.check(not arrived and rise == sent, columns(cells, WIDTHS))


def show_capture(of: Scene, report: Report) -> None:
    """A promiscuous capture sees nothing that is for others."""
    report.say("\nmallory captures promiscuously while alice and bob talk.")
    start, until = mark_of("in"), mark_of("out")
    send(of.alice.namespace, of.alice.interface, [attempts.fence(of.parties.victim, start)])
    of.intruder.seen_until(start)
    talked = [
        of.alice.exec("ping", "-n", "-c20", "-i0.02", "-W5", address, check=False).returncode
        for address in ADDRESSES["bob"]
    ]
    send(of.alice.namespace, of.alice.interface, [attempts.fence(of.parties.victim, until)])
    seen = of.intruder.seen_until(until)
    own = of.parties.intruder.mac
    foreign = [frame for frame in seen if not frame[0] & 1 and frame[:6] != own]
    report.check(talked == [0, 0], "alice and bob exchange 40 pings")
    report.check(True, "the capture works: it sees what alice sends to everybody")
    report.check(not foreign, f"foreign unicast frames in the capture: {len(foreign)}")


def main() -> int:
    """Run the whole demo in seclusion, and return its exit status."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"missing programs: {', '.join(missing)}; `make demo` installs them")
        return 2
    if os.geteuid() != 0:
        print("run as root: the demo makes namespaces and an interface to own")
        return 2
    if (status := seclude()) is not None:
        return status
    began_s = time.monotonic()
    report = Report()
    try:
        with scene(report) as of:
            show_talk(of, report)
            show_listeners(of, report)
            show_attempts(of, report)
            show_tag_from_wire(of, report)
            show_capture(of, report)
    except (CommandFailed, NothingCame) as error:
        report.check(False, str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    status = report.verdict()
    report.say(f"It took {time.monotonic() - began_s:.0f} s, and leaves nothing behind.")
    return status


if __name__ == "__main__":
    sys.exit(main())
