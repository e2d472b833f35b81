"""Where a trio program runs that talks to the outside host: on each kind of stack."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

from tests.support.lab import Lab, interpreter, package_with_lwip_source
from tests.support.programs import Place, running

from ..traffic import streams
from .multiplexer import checked_by
from .networks import ip, make_host
from .system import System

PORT: Final = "9"
OUTSIDE: Final = "10.77.0.1"
#: The cable of who has no daemon, as that of the daemon's NIC.
PLAIN_OUTSIDE: Final = "10.81.0.1"
PLAIN: Final = "10.81.0.2"

#: The vifs, and their owners.
OWNERS: Final = {"trio0": 20001, "trio1": 20002}


def argv(*arguments: str) -> list[str]:
    """Return the command that runs the program."""
    text = Path(streams.__file__).read_text(encoding="utf-8")
    return [interpreter().executable, "-c", text, *arguments]


@attrs.frozen
class Program:
    """The program on a stack; *run* runs it with more arguments, and returns what it says."""

    system: System
    run: Callable[..., list[float]]


def program(
    name: str,
    place: Place,
    first: tuple[str, str, str],
    checked: Callable[[], int] | None = None,
    search_path: str | None = None,
) -> Program:
    """Return the program in *place*; *first* are its kind, its vif, and whom it talks to."""
    prefix = [] if search_path is None else ["env", f"PYTHONPATH={search_path}"]

    def run(*arguments: str) -> list[float]:
        done = place.run(*prefix, *argv(*first, PORT, *arguments))
        return [float(number) for number in done.stdout.split()]

    return Program(System(name, checked=checked), run)


@contextmanager
def programs() -> Iterator[tuple[Program, ...]]:
    """Give the program on every kind of stack; the outside host answers until the end."""
    with ExitStack() as until_end:
        lab = until_end.enter_context(Lab("streams"))
        lab.configure(OWNERS)
        until_end.enter_context(lab.daemon())
        plain = make_host(lab, "plain", until_end)
        here, there = (host.namespace.path.name for host in (plain, lab.outside))
        ip(
            f"link add eth0 netns {here} type veth peer name plain0 netns {there}",
            f"-n {here} link set eth0 up",
            f"-n {here} address add {PLAIN}/24 dev eth0",
            f"-n {there} link set plain0 up",
            f"-n {there} address add {PLAIN_OUTSIDE}/24 dev plain0",
        )
        until_end.enter_context(running(lab.outside, *argv("serve", PORT), until="ready"))
        alice, bob = (lab.user(uid) for uid in OWNERS.values())
        run = until_end.enter_context(bob.stack("trio1"))
        on_vif = checked_by(lab, "trio0")
        source = package_with_lwip_source()
        yield (
            program("trio_veth", plain, ("plain", "", PLAIN_OUTSIDE)),
            program("trio_run", run, ("plain", "", OUTSIDE), checked_by(lab, "trio1")),
            program("trio_kernel", alice, ("kernel", "trio0", OUTSIDE), on_vif),
            program("trio_lwip", alice, ("lwip", "trio0", OUTSIDE), on_vif),
            program("trio_lwip_source", alice, ("lwip", "trio0", OUTSIDE), on_vif, source),
        )
