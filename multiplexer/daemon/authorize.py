"""Who may do what: may this vif be, may this caller use it or administer.

Pure: what only the system knows (users, the host's addresses, the NICs' MACs)
arrives as HostFacts, and who calls, as the kernel says, as Caller.

A binding may be if it keeps the rules of its network (`multiplexer.binding`),
takes nothing that another vif has (`multiplexer.ledger`) and nothing of the
host's.  Static vifs, new ones and those kept from an earlier run go through
the same checks; only what becomes of a fault differs.
"""

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

import attrs

from pfinet_proto import control
from pfinet_proto.values import IPAddress, MacAddress, VifName

from ..binding import Fault, Wanted, binding_faults, choose_network, claims
from ..host_port import mac_of
from ..ledger import Ledger
from ..model import (
    MAX_UID,
    MAX_VIFS,
    OVERFLOW_UID,
    UNGRANTABLE_ETHERTYPES,
    Config,
    ConfigError,
    LinkLocal,
    Network,
    OwnLimits,
    Role,
    Trust,
    Vif,
    stable_mac,
)

E = TypeVar("E", bound=enum.Enum)


class Refused(Exception):
    """The caller asked for what cannot be.

    *code* is one of the control protocol's error codes, *field* the argument
    that is at fault.
    """

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


@attrs.frozen
class Owner:
    """Whose a vif is.  *name* is None for a uid without a name."""

    uid: int
    name: str | None = None


@attrs.frozen
class HostFacts:
    """What only the system knows.

    *addresses* are all of the host's.  *nic_macs* has the MAC of each nic uplink
    by the uplink's name, as last seen: stable MACs depend on it, so it must not
    be missing only because the NIC is.  *users* has the owner by the text that
    named it; what is missing is no user, but digits need not be there.
    """

    addresses: tuple[IPAddress, ...] = ()
    nic_macs: Mapping[str, MacAddress] = attrs.field(factory=dict)
    users: Mapping[str, Owner] = attrs.field(factory=dict)


@attrs.frozen
class Caller:
    """Who is at the other end of a socket, by SO_PEERCRED and SO_PEERGROUPS.

    *name* and *groups* are the names of its uid and of its gids, if they have any.
    """

    uid: int
    gid: int
    name: str | None = None
    gids: frozenset[int] = frozenset()
    groups: frozenset[str] = frozenset()


class VifRequest(Wanted, Protocol):
    """A vif that somebody asks for."""

    @property
    def limits(self) -> control.OwnLimitsInfo: ...
    @property
    def trust(self) -> control.TrustInfo: ...


def may_administer(config: Config, caller: Caller) -> bool:
    """Whether *caller* may create and delete vifs and see those of others."""
    return caller.uid == 0 or is_named(config.daemon.admins, caller)


def is_named(entries: Iterable[str], caller: Caller) -> bool:
    """Whether one of *entries*, user names, uids in digits and ``@`` groups, is *caller*."""
    if caller.uid == OVERFLOW_UID:
        return False
    return any(_names(entry, caller) for entry in entries)


def _names(entry: str, caller: Caller) -> bool:
    if entry.startswith("@"):
        group = entry[1:]
        if group.isdigit():
            return int(group) in caller.gids | {caller.gid}
        return group in caller.groups
    return caller.uid == int(entry) if entry.isdigit() else caller.name == entry


def may_use(vif: Vif, caller: Caller) -> bool:
    """Whether *caller* owns *vif*.

    Where the owner had a name, it must match as well as the uid: a uid is given
    to somebody else once its first user is gone.
    """
    if caller.uid == OVERFLOW_UID or caller.uid != vif.owner_uid:
        return False
    return vif.owner_name is None or vif.owner_name == caller.name


def may_see(config: Config, vif: Vif, caller: Caller) -> bool:
    """Whether *vif* exists, as far as *caller* is told."""
    return may_use(vif, caller) or may_administer(config, caller)


def check_new_vif(
    config: Config,
    existing: Iterable[Vif],
    request: VifRequest,
    owner: Owner | Fault,
    facts: HostFacts,
    vif_id: str,
    *,
    hidden: Collection[VifName] = (),
) -> Vif:
    """Return the vif that *request* makes for *owner*; *vif_id* is its random id.

    A refusal does not name the vifs that are *hidden* from who asks.

    Raises:
        Refused: by the first thing that is wrong with it.
    """
    if isinstance(owner, Fault):
        raise _refusal(owner)
    network = choose_network(config.networks, request)
    if isinstance(network, Fault):
        raise _refusal(network)
    mac = _mac_of(request, network, facts)
    try:
        limits, trust = read_limits(request.limits), read_trust(request.trust)
    except ValueError as error:
        raise Refused("invalid", str(error)) from None
    ledger = ledger_of(config, existing)
    for fault in _faults(config, ledger, network, request, mac, facts, hidden):
        raise _refusal(fault)
    for fault in _owner_faults(config, owner.uid):
        raise _refusal(fault)
    return _vif(vif_id, request, owner, network, mac, limits, trust)


def check_changed_vif(config: Config, others: Iterable[Vif], vif: Vif, facts: HostFacts) -> None:
    """Check *vif*, as it would be after a change, beside all *others*.

    Raises:
        Refused: by the first thing that is wrong with it.
    """
    network = config.network(vif.network)
    ledger = ledger_of(config, others)
    for fault in _faults(config, ledger, network, vif, vif.mac, facts):
        raise _refusal(fault)
    for fault in _owner_faults(config, vif.owner_uid):
        raise _refusal(fault)


def build_vifs(config: Config, facts: HostFacts, ids: Mapping[VifName, str]) -> tuple[Vif, ...]:
    """Return the file's static vifs; *ids* has the random id of each.

    Their owners may be any users: the file is the administrator's own word.

    Raises:
        ConfigError: with all that is wrong, each with its line.
    """
    ledger = Ledger()
    vifs: list[Vif] = []
    problems: list[tuple[int, str]] = []
    for static in config.vifs:
        network = choose_network(config.networks, static)
        assert isinstance(network, Network), "parse_config() has checked it"
        mac = _mac_of(static, network, facts)
        owner = find_owner(static.owner, facts)
        faults = [*_faults(config, ledger, network, static, mac, facts)]
        if isinstance(owner, Fault):
            faults.append(owner)
        else:
            vifs.append(
                attrs.evolve(
                    _vif(
                        ids[static.name],
                        static,
                        owner,
                        network,
                        mac,
                        static.limits,
                        static.trust,
                    ),
                    static=True,
                    filter=static.filter or network.filter,
                )
            )
        for fault in faults:
            key = (fault.field,) if fault.index is None else (fault.field, fault.index)
            path = ("vif", str(static.name), *key)
            text = f"{config.origin.locate(path)}: {fault.message}"
            problems.append((config.origin.line(path), text))
        ledger.enter(network, static, mac)
    if problems:
        raise ConfigError(text for _, text in sorted(problems))
    return tuple(vifs)


def keep_vifs(
    config: Config, static: Iterable[Vif], stored: Iterable[Vif], facts: HostFacts
) -> tuple[tuple[Vif, ...], tuple[tuple[Vif, Refused], ...]]:
    """Part the vifs of an earlier run into those that may still be, and the others.

    The file may have changed since: their network may be gone, or a static vif
    have their address.
    """
    ledger = ledger_of(config, static)
    kept: list[Vif] = []
    refused: list[tuple[Vif, Refused]] = []
    for vif in stored:
        network = choose_network(config.networks, vif)
        if isinstance(network, Fault):
            faults = [network]
        else:
            faults = [
                *_owner_faults(config, vif.owner_uid),
                *_faults(config, ledger, network, vif, vif.mac, facts),
            ]
        if isinstance(network, Fault) or faults:
            refused.append((vif, _refusal(faults[0])))
        else:
            ledger.enter(network, vif, vif.mac)
            kept.append(vif)
    return tuple(kept), tuple(refused)


def read_limits(asked: control.OwnLimitsInfo) -> OwnLimits:
    """Return the limits that are *asked* for.

    Raises:
        ValueError: if one is out of range.
    """
    return OwnLimits(**attrs.asdict(asked))


def read_trust(asked: control.TrustInfo) -> Trust:
    """Return the trust that is *asked* for.

    Raises:
        ValueError: if there is no such role or link-local, or an EtherType is none or
            makes no difference.
    """
    for ethertype in asked.ethertypes:
        if ethertype in UNGRANTABLE_ETHERTYPES:
            raise ValueError(f"EtherType {ethertype:#06x} is {UNGRANTABLE_ETHERTYPES[ethertype]}")
    return Trust(
        roles=frozenset(_member(Role, "role", role) for role in asked.roles),
        ethertypes=asked.ethertypes,
        link_local=(
            None
            if asked.link_local is None
            else _member(LinkLocal, "link-local", asked.link_local)
        ),
        trusted_tap=asked.trusted_tap,
    )


def _member(choices: type[E], what: str, text: str) -> E:
    for choice in choices:
        if choice.value == text:
            return choice
    wanted = " or ".join(str(choice.value) for choice in choices)
    raise ValueError(f"{what} is {text!r}, wanted {wanted}")


def find_owner(text: str, facts: HostFacts) -> Owner | Fault:
    """Return the owner that *text*, a user name or a uid in digits, names."""
    if text in facts.users:
        owner = facts.users[text]
    elif text.isascii() and text.isdigit() and int(text) <= MAX_UID:
        owner = Owner(int(text))
    else:
        return Fault("invalid", f"no user is named {text!r}", "owner")
    if owner.uid == OVERFLOW_UID:
        return Fault("invalid", f"uid {owner.uid} is nobody's own", "owner")
    return owner


def _owner_faults(config: Config, uid: int) -> Iterator[Fault]:
    if not any(uid in uids for uids in config.daemon.owner_uids):
        wanted = ", ".join(f"{uids.start}-{uids.stop - 1}" for uids in config.daemon.owner_uids)
        message = f"uid {uid} may own no vif, wanted one of {wanted or 'none'}"
        yield Fault("invalid", f"{message} (daemon.owner_uids)", "owner")


def _faults(
    config: Config,
    ledger: Ledger,
    network: Network,
    wanted: Wanted,
    mac: MacAddress,
    facts: HostFacts,
    hidden: Collection[VifName] = (),
) -> Iterator[Fault]:
    if len(ledger) >= MAX_VIFS:
        yield Fault("unavailable", f"there are {len(ledger)} vifs, and no more can be", "name")
    yield from ledger.faults(network, wanted, mac, hidden=hidden)
    yield from binding_faults(config.networks, network, wanted, mac)
    for uplink, nic_mac in facts.nic_macs.items():
        if mac == nic_mac:
            yield Fault("conflict", f'MAC {mac} is that of the NIC of uplink "{uplink}"', "mac")
    if network.host and mac == mac_of(network.name):
        yield Fault("conflict", f'MAC {mac} is the host\'s in network "{network.name}"', "mac")
    for claim in claims(network, wanted, mac):
        for address in facts.addresses:
            if claim.touches(address):
                yield claim.fault("conflict", f"{claim.relation(address)} an address of the host")


def ledger_of(config: Config, vifs: Iterable[Vif]) -> Ledger:
    """Return the ledger that *vifs* are entered in."""
    networks = {network.name: network for network in config.networks}
    ledger = Ledger()
    for vif in vifs:
        ledger.enter(networks[vif.network], vif, vif.mac)
    return ledger


def _mac_of(wanted: Wanted, network: Network, facts: HostFacts) -> MacAddress:
    if wanted.mac is not None:
        return wanted.mac
    return stable_mac(facts.nic_macs.get(network.uplink or ""), wanted.name)


def _vif(
    vif_id: str,
    wanted: Wanted,
    owner: Owner,
    network: Network,
    mac: MacAddress,
    limits: OwnLimits,
    trust: Trust,
) -> Vif:
    return Vif(
        id=vif_id,
        name=wanted.name,
        owner_uid=owner.uid,
        owner_name=owner.name,
        network=network.name,
        mac=mac,
        addresses=wanted.addresses,
        prefixes=wanted.prefixes,
        limits=limits,
        trust=trust,
    )


def _refusal(fault: Fault) -> Refused:
    return Refused(fault.code, fault.message, fault.field)
