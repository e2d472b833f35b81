"""What the file's grants let a user make: vifs for itself, within a part of a network.

Pure, as `multiplexer.daemon.authorize` is.  A grant bounds what may be asked
for: the network, which addresses and how many, how many vifs, how fast.  What is within it
is then judged by the rules that hold for every vif.

What nobody chooses but an administrator:

- The MAC.  A user could take that of a station on the wire, which the daemon
  would then keep from being heard.  Nor is it made of the vif's name, of which
  one could try many until the MAC is the wanted one, but of the vif's id.
- What others trust a vif for: roles, EtherTypes, link-local addresses, its tap.
- The filter.  A vif has that of its grant, or else of its network, before anybody can
  attach to it, so that to delete it and make it again is no way around.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import ip_interface
from typing import Final

import attrs

from pfinet_proto import control
from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, VifName

from ..binding import edge_addresses, given_claims, may_be_derived
from ..ledger import Ledger
from ..model import AddressRange, Config, Grant, Network, OwnLimits, Vif, stable_mac
from .authorize import (
    Caller,
    HostFacts,
    Owner,
    Refused,
    check_new_vif,
    is_named,
    ledger_of,
    may_use,
    read_limits,
)

#: So that with any uid and number behind it the name of a network is still a vif's.
_BORROWED_NETWORK_CHARS: Final = 31 - len("-4294967294-3776")


def grants_of(config: Config, caller: Caller) -> tuple[Grant, ...]:
    """Return the grants that name *caller*, in the order of the file."""
    return tuple(grant for grant in config.grants if is_named(grant.to, caller))


def check_granted_vif(
    config: Config,
    existing: Sequence[Vif],
    request: control.VifCreate,
    caller: Caller,
    facts: HostFacts,
    vif_id: str,
    *,
    avoid: Collection[IPAddress] = (),
    aside: Iterable[Vif] = (),
) -> Vif:
    """Return the vif that *request* makes by the first grant of *caller* that allows it.

    If it asks for no address it gets the first that is free, and not one to
    *avoid*, of each family that the grant has.  Vifs *aside* have nothing, but
    may come back, so they are counted.

    Raises:
        Refused: saying of each grant, if one was named of that network, why it does not
            allow it, or what else is wrong.
    """
    grants = grants_of(config, caller)
    if not grants:
        message = (
            f"uid {caller.uid} is no administrator (root, or of daemon.admins),"
            " and no grant names it"
        )
        raise Refused("forbidden", message)
    for why in _privileges(request, caller):
        raise Refused("forbidden", f"only an administrator {why}")
    try:
        asked = read_limits(request.limits)
    except ValueError as error:
        raise Refused("invalid", str(error)) from None
    counted = (*existing, *aside)
    # What others give is of interest only if none is for the network that was named.
    there = [grant for grant in grants if grant.network == request.network]
    reasons = []
    for grant in there or grants:
        network = config.network(grant.network)
        reason = next(_why_not(grant, network, counted, request, caller, asked), None)
        if reason is None and not given_claims(request):
            chosen = _choose(config, network, grant, existing, facts, avoid)
            if not chosen:
                reason = f"no address of {_list(grant.addresses)} is free"
        else:
            chosen = request.addresses
        if reason is None:
            within = attrs.evolve(
                request,
                network=grant.network,
                addresses=chosen,
                mac=stable_mac(facts.nic_macs.get(network.uplink or ""), vif_id),
                limits=control.OwnLimitsInfo(**attrs.asdict(_merge(asked, grant.limits))),
            )
            owner = Owner(caller.uid, caller.name)
            hidden = {vif.name for vif in existing if not may_use(vif, caller)}
            vif = check_new_vif(config, existing, within, owner, facts, vif_id, hidden=hidden)
            return attrs.evolve(vif, grant=grant.name, filter=grant.filter or network.filter)
        reasons.append(f'grant "{grant.name}": {reason}')
    raise Refused("forbidden", "; ".join(reasons))


def may_use_grant(config: Config, request: control.VifCreate, caller: Caller) -> bool:
    """Whether a grant names *caller*, and *request* has nothing that no grant can allow."""
    return bool(grants_of(config, caller)) and not any(_privileges(request, caller))


def why_not_delete(vif: Vif, caller: Caller) -> str | None:
    """Return why *caller*, who is no administrator, may not delete *vif*, which it may see."""
    if not may_use(vif, caller):
        return f'vif "{vif.name}" is not yours'
    if vif.static:
        return f'vif "{vif.name}" is one of the configuration file, where it may be deleted'
    if vif.grant is None:
        return f'vif "{vif.name}" was made by an administrator, who alone may delete it'
    return None


def borrowed_name(network: str, uid: int, taken: Collection[VifName]) -> VifName:
    """Return a name for a vif that *uid* borrows, which is none of *taken*."""
    stem = f"{network[:_BORROWED_NETWORK_CHARS]}-{uid}"
    numbers = range(1, len(taken) + 2)
    return next(
        name for name in (VifName(f"{stem}-{number}") for number in numbers) if name not in taken
    )


def _privileges(request: control.VifCreate, caller: Caller) -> Iterator[str]:
    """Yield what of *request* takes an administrator, whatever a grant says."""
    if request.owner not in (None, str(caller.uid), caller.name):
        yield f"makes a vif for another user, here {request.owner!r}"
    if request.mac is not None:
        yield "chooses a MAC address"
    if request.force:
        yield "makes a vif for an address that is in use on the wire"
    if request.trust != control.TrustInfo():
        yield "gives roles, EtherTypes, link-local addresses or a trusted tap"
    if request.filter is not None or request.parameters:
        yield "binds a vif to a network filter"


def _why_not(
    grant: Grant,
    network: Network,
    existing: Iterable[Vif],
    request: control.VifCreate,
    caller: Caller,
    asked: OwnLimits,
) -> Iterator[str]:
    if request.network not in (None, grant.network):
        yield f'it is for network "{grant.network}", not "{request.network}"'
    given = given_claims(request)
    if request.prefixes and not grant.prefixes:
        yield f"prefix {request.prefixes[0]} is more than an address, which is all it gives"
    if len(given) > grant.addresses_per_vif:
        what = "addresses and prefixes" if grant.prefixes else "addresses"
        yield f"{len(given)} {what}, wanted at most {grant.addresses_per_vif} for a vif"
    for claim in given:
        if not any(range_.holds(claim.prefix) for range_ in grant.addresses):
            yield f"{claim} is not in {_list(grant.addresses)}"
        elif may_be_derived(network, claim.prefix):
            what = "is one" if claim.prefix.num_addresses == 1 else "holds some"
            yield f"{claim} {what} that stacks make of a MAC (with ff:fe in it)"
    count = sum(vif.owner_uid == caller.uid and vif.grant == grant.name for vif in existing)
    if count >= grant.vifs:
        yield f"you have {count} {'vif' if count == 1 else 'vifs'}, which is all it gives"
    most = attrs.asdict(grant.limits.over(network.limits))
    for name, rate in attrs.asdict(asked).items():
        if rate is not None and most[name] and not 0 < rate <= most[name]:
            yield f"{name} is {rate or 'no limit'}, wanted at most {most[name]}"


def _merge(asked: OwnLimits, otherwise: OwnLimits) -> OwnLimits:
    """Return *asked*, and what is *otherwise* where nothing was."""
    given = {name: rate for name, rate in attrs.asdict(asked).items() if rate is not None}
    return attrs.evolve(otherwise, **given)


def _choose(
    config: Config,
    network: Network,
    grant: Grant,
    existing: Iterable[Vif],
    facts: HostFacts,
    avoid: Iterable[IPAddress],
) -> tuple[IPInterface, ...]:
    """Return the first free address of each family that *grant* has; none if one has none left."""
    taken = [*_taken(network, ledger_of(config, existing), (*facts.addresses, *avoid))]
    chosen: list[IPInterface] = []
    for prefix in network.prefixes:
        version = prefix.version
        ranges = [range_ for range_ in grant.addresses if range_.first.version == version]
        if ranges and len(chosen) < grant.addresses_per_vif:
            same = [range_ for range_ in taken if range_.first.version == version]
            address = first_free(ranges, same)
            if address is None:
                return ()
            chosen.append(ip_interface((int(address), prefix.prefixlen)))
    return tuple(chosen)


def _taken(
    network: Network, ledger: Ledger, addresses: Iterable[IPAddress]
) -> Iterator[AddressRange]:
    """Yield all that a new vif in *network* cannot have."""
    yield from network.reserved
    for prefix in ledger.claimed(network):
        yield _range_of(prefix)
    edges = [edge for prefix in network.prefixes for edge in edge_addresses(prefix)]
    for address in (*edges, *network.gateways, *addresses):
        yield AddressRange(address, address)


def first_free(ranges: Iterable[AddressRange], taken: Iterable[AddressRange]) -> IPAddress | None:
    """Return the first address of *ranges* that is in none of *taken*; all are of one family.

    A range may have 2^64 addresses, so what is taken is skipped and not counted out.
    """
    in_order = sorted(taken, key=lambda range_: int(range_.first))
    for range_ in ranges:
        number = int(range_.first)
        for other in in_order:
            if int(other.first) > number:
                break
            number = max(number, int(other.last) + 1)
        if number <= int(range_.last):
            return range_.first + (number - int(range_.first))
    return None


def _range_of(prefix: IPNetwork) -> AddressRange:
    return AddressRange(prefix.network_address, prefix.broadcast_address)


def _list(ranges: Iterable[AddressRange]) -> str:
    return " or ".join(map(str, ranges))
