"""What the audit log says of a vif: all that an administrator, or a grant, gave it."""

from collections.abc import Iterable, Mapping

import attrs

from multiplexer.model import Vif


def fields_of(vif: Vif) -> Mapping[str, object]:
    """Return the fields of an event about *vif*; None is what it has not of its own."""
    trust = vif.trust
    return {
        "name": vif.name,
        "owner": vif.owner_name,
        "uid": vif.owner_uid,
        "network": vif.network,
        "mac": vif.mac,
        "bound": _list((*vif.addresses, *vif.prefixes)),
        "roles": _list(sorted(role.value for role in trust.roles)),
        "ethertypes": _list(f"{ethertype:#06x}" for ethertype in trust.ethertypes),
        "link_local": trust.link_local.value if trust.link_local is not None else None,
        "trusted_tap": "yes" if trust.trusted_tap else None,
        "filter": None if vif.filter is None else str(vif.filter),
        **attrs.asdict(vif.limits),
        "grant": vif.grant,
        "ephemeral": "yes" if vif.ephemeral else None,
    }


def _list(items: Iterable[object]) -> str | None:
    return ",".join(map(str, items)) or None
