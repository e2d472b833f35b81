"""All contenders running side by side, so that each round meets them on the same machine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

import attrs

from tests.support.lab import Lab
from tests.support.programs import ping

from .systems.bridge import bridge_tap, bridge_veth
from .systems.macvlan import macvlan
from .systems.multiplexer import (
    configure,
    multiplexer_ring,
    multiplexer_run,
    multiplexer_stream,
    multiplexer_trusted_tap,
)
from .systems.ovs import ovs_userspace
from .systems.system import System
from .systems.translators import passt, slirp4netns
from .systems.vde import vde_switch
from .traffic.program import Traffic

Start = Callable[[Lab, Traffic], AbstractContextManager[System]]

STARTS: Final[tuple[Start, ...]] = (
    bridge_veth,
    bridge_tap,
    macvlan,
    vde_switch,
    ovs_userspace,
    slirp4netns,
    passt,
    multiplexer_stream,
    multiplexer_ring,
    multiplexer_run,
    multiplexer_trusted_tap,
)


@attrs.frozen
class Lineup:
    """The systems, running, and the program that drives them."""

    systems: tuple[System, ...]
    traffic: Traffic


@contextmanager
def lined_up() -> Iterator[Lineup]:
    """Run every system until the end of the context; each answers before it begins."""
    with ExitStack() as until_end:
        lab = until_end.enter_context(Lab("bench"))
        traffic = Traffic.build(lab.root)
        configure(lab)
        until_end.enter_context(lab.daemon())
        systems = [until_end.enter_context(start(lab, traffic)) for start in STARTS]
        for system in systems:
            if system.stacks is not None:
                first, second = system.stacks
                assert ping(first.place, second.address), f"{system.name} does not answer"
        yield Lineup(tuple(systems), traffic)
