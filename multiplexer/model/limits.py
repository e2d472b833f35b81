"""How much a vif may send: what a network says, and what a vif has of its own."""

from typing import cast

import attrs

from .sizes import MAX_RATE


def _check_rate(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if not 0 <= value <= MAX_RATE:
        raise ValueError(f"{field.name} is {value}, wanted 0 to {MAX_RATE}")


@attrs.frozen
class Limits:
    """What a vif may send, each per second; 0 means no limit.

    *broadcast_per_s* counts its broadcast and multicast frames, *copies_per_s*
    what the datapath makes of them.
    """

    frames_per_s: int = attrs.field(default=0, validator=_check_rate)
    bytes_per_s: int = attrs.field(default=0, validator=_check_rate)
    broadcast_per_s: int = attrs.field(default=500, validator=_check_rate)
    copies_per_s: int = attrs.field(default=50_000, validator=_check_rate)


def _check_own_rate(
    instance: object, field: "attrs.Attribute[int | None]", value: int | None
) -> None:
    if value is not None:
        _check_rate(instance, cast("attrs.Attribute[int]", field), value)


@attrs.frozen
class OwnLimits:
    """The limits that one vif has of its own; None is what its network says."""

    frames_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)
    bytes_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)
    broadcast_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)
    copies_per_s: int | None = attrs.field(default=None, validator=_check_own_rate)

    def over(self, network: Limits) -> Limits:
        """Return what holds for a vif with these limits in a network with those."""
        own = {name: rate for name, rate in attrs.asdict(self).items() if rate is not None}
        return attrs.evolve(network, **own)
