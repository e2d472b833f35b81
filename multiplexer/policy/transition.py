"""The rows that lead the datapath from one file to another, in an order that it takes.

It refuses what another holds: an uplink of another network, a MAC or a prefix
of another vif.  So whoever gives up what somebody else takes lets go of all
first, and gets its new row after that.  What does not change has no row here,
and goes on as if nothing happened.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence

import attrs

from ..binding import bound_prefixes
from ..model import Config, Vif, stable_mac
from .forwarding import compile_network
from .ingress import compile_vif


@attrs.frozen
class Staying:
    """A vif at *port* that is there before and after."""

    port: int
    before: Vif
    after: Vif


@attrs.frozen
class VifStep:
    """A row to be written for a vif."""

    port: int
    vif_id: str
    row: bytes


def network_rows(now: Config, then: Config) -> tuple[bytes, ...]:
    """Return the rows of networks to write, when the uplinks of *then* are there.

    Those of *now* that go lose their uplink; they are cleared when their vifs have left.
    """
    let_go = []
    for network in now.networks:
        port = now.uplink_port_of(network)
        stays = any(other.name == network.name for other in then.networks)
        if port is not None and not (
            stays and then.uplink_port_of(then.network(network.name)) == port
        ):
            let_go.append(compile_network(now, attrs.evolve(network, uplink=None)))
    rows = {network.name: compile_network(now, network) for network in now.networks}
    changed = [
        compile_network(then, network)
        for network in then.networks
        if compile_network(then, network) != rows.get(network.name)
    ]
    return (*let_go, *changed)


def vif_steps(
    now: Config, then: Config, stays: Sequence[Staying], comers: Iterable[Vif]
) -> tuple[VifStep, ...]:
    """Return the rows to write of those that stay, so that after them *comers* fit in."""
    changed = [
        each for each in stays if compile_vif(now, each.before) != compile_vif(then, each.after)
    ]
    taken: dict[Hashable, str] = {}
    for vif in (*(each.after for each in changed), *comers):
        for key in _keys(then, vif):
            taken.setdefault(key, vif.id)
    return (
        *(
            VifStep(each.port, each.after.id, compile_vif(then, _holding_nothing(each.after)))
            for each in changed
            if any(
                taken.get(key, each.after.id) != each.after.id for key in _keys(now, each.before)
            )
        ),
        *(VifStep(each.port, each.after.id, compile_vif(then, each.after)) for each in changed),
    )


def _keys(config: Config, vif: Vif) -> Iterator[Hashable]:
    """Yield what the datapath finds *vif* by, and nobody else may have."""
    network = config.network(vif.network)
    yield network.name, vif.mac
    for prefix in bound_prefixes(network, vif):
        yield network.name, prefix


def _holding_nothing(vif: Vif) -> Vif:
    """Return *vif* with a MAC that nobody has, and bound to nothing but what follows of that."""
    return attrs.evolve(vif, mac=stable_mac(None, vif.id), addresses=(), prefixes=())
