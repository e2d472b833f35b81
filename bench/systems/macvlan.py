"""Two macvlans in bridge mode on one interface, which switches between them and to the wire."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.lab import Lab

from ..traffic.program import Traffic
from .networks import bring_up, ip, make_host, packet_end, plug_in
from .system import System


@contextmanager
def macvlan(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run two namespaces with a macvlan each; below them is one end of a cable."""
    with ExitStack() as until_end:
        host = make_host(lab, "macvlan", until_end)
        here = host.namespace.path.name
        wire = plug_in(lab, host, "lower", until_end)
        raw, stacks = [], []
        for number, address in enumerate(("10.83.0.1", "10.83.0.2")):
            user = make_host(lab, f"macvlan{number}", until_end)
            there = user.namespace.path.name
            ip(
                f"-n {here} link add link lower name mv{number} netns {there}"
                " type macvlan mode bridge"
            )
            stacks.append(bring_up(user, f"mv{number}", address))
            raw.append(packet_end(user, f"mv{number}", address))
        yield System("macvlan", (raw[0], raw[1]), (stacks[0], stacks[1]), wire)
