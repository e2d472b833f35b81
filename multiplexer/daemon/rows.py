"""Vifs and filters as rows of the database, and back.

A column holds text that a person can read: lists and objects are JSON, a filter
is its document.  What cannot be read makes a ValueError or TypeError, which the
reader of the database tells as damage.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, ip_interface, ip_network
from typing import Any, Final

import attrs

from multiplexer.model import FilterBinding, LinkLocal, OwnLimits, Role, Trust, Vif
from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.errors import FilterError
from multiplexer.policy.nwfilter.learning import Learned, Mode
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.sets import NamedSet
from multiplexer.policy.nwfilter.syntax import Filter
from pfinet_proto.values import MacAddress, VifName

#: In the order of `row_of_vif`.
VIF_COLUMNS: Final = (
    "id",
    "name",
    "owner_uid",
    "owner_name",
    "network",
    "mac",
    "addresses",
    "prefixes",
    "limits",
    "trust",
    "ephemeral",
    "grant_name",
    "filter",
    "parameters",
)


def vif_of(row: Mapping[str, Any]) -> Vif:
    """Return the vif that *row* is.

    Raises:
        ValueError, TypeError: if it cannot be one.
    """
    return Vif(
        id=row["id"],
        name=VifName.parse(row["name"]),
        owner_uid=row["owner_uid"],
        owner_name=row["owner_name"],
        network=row["network"],
        mac=MacAddress.parse(row["mac"]),
        addresses=tuple(map(ip_interface, json.loads(row["addresses"]))),
        prefixes=tuple(map(ip_network, json.loads(row["prefixes"]))),
        limits=OwnLimits(**json.loads(row["limits"])),
        trust=_trust_of_json(**json.loads(row["trust"])),
        ephemeral=bool(row["ephemeral"]),
        grant=row["grant_name"],
        filter=_binding_of(row["filter"], json.loads(row["parameters"])),
    )


def row_of_vif(vif: Vif) -> tuple[Any, ...]:
    """Return what VIF_COLUMNS hold of *vif*."""
    binding = vif.filter
    return (
        vif.id,
        str(vif.name),
        vif.owner_uid,
        vif.owner_name,
        vif.network,
        str(vif.mac),
        json.dumps([str(address) for address in vif.addresses]),
        json.dumps([str(prefix) for prefix in vif.prefixes]),
        json.dumps(_limits_to_json(vif.limits)),
        json.dumps(_trust_to_json(vif.trust)),
        int(vif.ephemeral),
        vif.grant,
        None if binding is None else binding.name,
        json.dumps({} if binding is None else dict(binding.parameters)),
    )


def filter_of(row: Mapping[str, Any]) -> Filter:
    """Return the filter that *row* is: its lines are those of the text that is shown of it.

    Raises:
        ValueError: if it cannot be one.
    """
    filter_ = read_canonical(row["xml"])
    if (filter_.name, filter_.uuid) != (row["name"], row["uuid"]):
        raise ValueError(f"its document is of {filter_.name!r}, uuid {filter_.uuid}")
    return filter_


def row_of_filter(filter_: Filter) -> tuple[str, str | None, str]:
    """Return name, uuid and document of *filter_*."""
    return filter_.name, filter_.uuid, canonical(filter_)


def set_of(row: Mapping[str, Any]) -> NamedSet:
    """Return the set that *row* is.

    Raises:
        ValueError, TypeError: if it cannot be one.
    """
    return NamedSet(row["name"], tuple(map(ip_network, json.loads(row["members"]))))


def row_of_set(named: NamedSet) -> tuple[str, str]:
    """Return name and members of *named*."""
    return named.name, json.dumps([str(member) for member in named.members])


def learned_of(row: Mapping[str, Any]) -> tuple[Learned, ...]:
    """Return what *row* says that was learned of a vif's address.

    Raises:
        ValueError, TypeError: if it cannot be that.
    """
    return tuple(_learned_of_json(**each) for each in json.loads(row["addresses"]))


def text_of_learned(learned: Iterable[Learned]) -> str:
    """Return *learned* as `learned_of` reads it."""
    return json.dumps(
        [
            {
                "mode": each.mode.value,
                "mac": str(each.mac),
                "owner_uid": each.owner_uid,
                "address": str(each.address),
                "server": None if each.server is None else str(each.server),
                "expires_s": each.expires_s,
            }
            for each in learned
        ]
    )


def _learned_of_json(
    mode: str,
    mac: str,
    owner_uid: int,
    address: str,
    server: str | None,
    expires_s: int | None,
) -> Learned:
    for number in (owner_uid, 0 if expires_s is None else expires_s):
        if not isinstance(number, int):
            raise ValueError(f"{number!r} is not a number")
    return Learned(
        Mode(mode),
        MacAddress.parse(mac),
        owner_uid,
        IPv4Address(address),
        None if server is None else IPv4Address(server),
        expires_s,
    )


def read_canonical(text: str) -> Filter:
    """Return the filter whose canonical text *text* is, or was in an earlier release.

    What only a lenient reader takes may be in it, as in a name that the schema does
    not have.  But nothing that it passes over: a rule would be left without what it asks.

    Raises:
        FilterError: if it is none.
    """
    try:
        return parse_untrusted(text.encode())
    except FilterError:
        filter_ = parse_untrusted(text.encode(), lenient=True)
        if canonical(filter_) != text:
            raise
        return filter_


def _binding_of(name: str | None, parameters: Any) -> FilterBinding | None:
    is_object = isinstance(parameters, dict) and all(
        isinstance(values, list) and values and all(isinstance(each, str) for each in values)
        for values in parameters.values()
    )
    if not is_object:
        raise ValueError(f"parameters are {parameters!r}, not lists of text by name")
    return None if name is None else FilterBinding.of(name, parameters)


def _limits_to_json(limits: OwnLimits) -> dict[str, int]:
    return {name: rate for name, rate in attrs.asdict(limits).items() if rate is not None}


def _trust_to_json(trust: Trust) -> dict[str, Any]:
    return {
        "roles": sorted(role.value for role in trust.roles),
        "ethertypes": list(trust.ethertypes),
        "link_local": None if trust.link_local is None else trust.link_local.value,
        "trusted_tap": trust.trusted_tap,
    }


def _trust_of_json(
    roles: Sequence[str] = (),
    ethertypes: Sequence[int] = (),
    link_local: str | None = None,
    trusted_tap: bool = False,
) -> Trust:
    return Trust(
        frozenset(map(Role, roles)),
        tuple(ethertypes),
        None if link_local is None else LinkLocal(link_local),
        trusted_tap,
    )
