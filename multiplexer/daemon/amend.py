"""What `vif set` makes of a vif.

Pure, and not a judgement: whether the vif may be what it becomes is for
`authorize`, as with a new one.
"""

from typing import Final, TypeVar

import attrs

from pfinet_proto import control
from pfinet_proto.values import IPInterface, IPNetwork

from ..binding import Fault
from ..model import Config, OwnLimits, Trust, Vif, stable_mac
from .authorize import HostFacts, Refused, find_owner, read_limits, read_trust
from .filtering import amended_binding

LIMITS: Final = tuple(field.name for field in attrs.fields(OwnLimits))

#: What can be as if it had never been given.
DEFAULTS: Final = ("mac", "link_local", "filter", *LIMITS)

Bound = TypeVar("Bound", bound=IPInterface | IPNetwork)


def amended(config: Config, vif: Vif, change: control.VifSet, facts: HostFacts) -> Vif:
    """Return *vif* as *change* makes it.

    A vif that gets another owner is not of the former one's grant any more.

    Raises:
        Refused: if *change* contradicts the vif or itself.
    """
    _check_defaults(change)
    binding = amended_binding(vif.filter, change)
    try:
        amended = attrs.evolve(
            vif,
            addresses=_amend(
                vif.addresses, change.addresses, change.remove_addresses, change.add_addresses
            ),
            prefixes=_amend(
                vif.prefixes, change.prefixes, change.remove_prefixes, change.add_prefixes
            ),
            limits=_amend_limits(vif.limits, change),
            trust=_amend_trust(vif.trust, change),
            filter=binding,
        )
    except ValueError as error:
        raise Refused("invalid", str(error)) from None
    if change.mac is not None:
        amended = attrs.evolve(amended, mac=change.mac)
    elif "mac" in change.defaults:
        nic_mac = facts.nic_macs.get(config.network(vif.network).uplink or "")
        # A user's own vif: of its id, as `grants` does it.
        of = vif.name if vif.grant is None else vif.id
        amended = attrs.evolve(amended, mac=stable_mac(nic_mac, of))
    if change.owner is not None:
        amended = _give(amended, change.owner, facts)
    return amended


def _check_defaults(change: control.VifSet) -> None:
    given = {
        "mac": change.mac,
        "link_local": change.trust.link_local,
        "filter": change.filter,
    }
    given.update(attrs.asdict(change.limits))
    for name in change.defaults:
        if name not in DEFAULTS:
            wanted = ", ".join(DEFAULTS)
            raise Refused("invalid", f"{name!r} has no default, wanted one of {wanted}")
        if given[name] is not None:
            raise Refused("invalid", f"{name} is to be {given[name]} and the default, wanted one")


def _amend(
    now: tuple[Bound, ...],
    instead: tuple[Bound, ...] | None,
    less: tuple[Bound, ...],
    more: tuple[Bound, ...],
) -> tuple[Bound, ...]:
    """Return *now*, or what is *instead*, less and more some; what was there keeps its place."""
    base: tuple[Bound, ...] = now if instead is None else instead
    for gone in less:
        if gone not in base:
            raise ValueError(f"{gone} is not bound, so it cannot be removed")
    return (*(bound for bound in base if bound not in less), *more)


def _amend_limits(now: OwnLimits, change: control.VifSet) -> OwnLimits:
    given = attrs.asdict(read_limits(change.limits))
    amended = {name: rate for name, rate in given.items() if rate is not None}
    amended.update({name: None for name in change.defaults if name in LIMITS})
    return attrs.evolve(now, **amended)


def _amend_trust(now: Trust, change: control.VifSet) -> Trust:
    wanted = change.trust
    read = read_trust(
        control.TrustInfo(wanted.roles or (), wanted.ethertypes or (), wanted.link_local)
    )
    link_local = read.link_local or now.link_local
    return Trust(
        roles=now.roles if wanted.roles is None else read.roles,
        ethertypes=now.ethertypes if wanted.ethertypes is None else read.ethertypes,
        link_local=None if "link_local" in change.defaults else link_local,
        trusted_tap=now.trusted_tap if wanted.trusted_tap is None else wanted.trusted_tap,
    )


def _give(vif: Vif, to: str, facts: HostFacts) -> Vif:
    owner = find_owner(to, facts)
    if isinstance(owner, Fault):
        raise Refused(owner.code, owner.message, owner.field)
    if (owner.uid, owner.name) == (vif.owner_uid, vif.owner_name):
        return vif
    if vif.ephemeral:
        raise Refused(
            "conflict",
            f'vif "{vif.name}" is ephemeral: it goes with its client, so it gets no other owner',
            "owner",
        )
    return attrs.evolve(vif, owner_uid=owner.uid, owner_name=owner.name, grant=None)
