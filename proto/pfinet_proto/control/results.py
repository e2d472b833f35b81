"""What a request gives: its result, or the error in its place.

The classes are the JSON of SPEC.md, section 2: a field is a key, and one with a
default may be missing, as in the replies of an older daemon.
"""

import enum
from collections.abc import Mapping

import attrs

from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, Text, VifName


class ErrorCode(enum.StrEnum):
    """Why a request was not done."""

    BAD_REQUEST = "bad_request"
    UNKNOWN_OP = "unknown_op"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class ControlError(Exception):
    """The daemon did not do what was asked; *message* is for the person."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class Result:
    """What a request gives."""


@attrs.frozen
class Deleted(Result):
    """It is gone."""


@attrs.frozen
class StatusInfo(Result):
    """What runs, and what it found the kernel able to do.

    *control_restarts* are those that no client noticed, *engine_restarts* the others.
    *host_networks* are those whose vifs and the host reach each other now; *set_aside*
    counts the vifs that the file leaves no room for.
    """

    version: str
    uptime_s: int
    config: str
    kernel: str
    passrights: bool
    shut_out: int
    networks: int
    uplinks: int
    vifs: int
    attached: int
    control_restarts: int = 0
    engine_restarts: int = 0
    host_networks: tuple[str, ...] = ()
    set_aside: int = 0


@attrs.frozen
class LimitsInfo:
    """The most that a vif may send; 0 is no limit."""

    frames_per_s: int
    bytes_per_s: int
    broadcast_per_s: int
    copies_per_s: int


@attrs.frozen
class TrustInfo:
    """What an administrator lets one vif do that others may not.

    *roles* are of `router` and `dhcp-server`; *link_local* is `eui64` or
    `first-come`, null is what its network says.
    """

    roles: tuple[str, ...] = ()
    ethertypes: tuple[int, ...] = ()
    link_local: str | None = None
    trusted_tap: bool = False


#: What most vifs have.
NO_TRUST = TrustInfo()


@attrs.frozen
class Counters:
    """What passed and what was dropped, since the engine started.

    For a vif, rx is what its stack sent and tx what it was given; for an
    uplink, rx is what came from the wire.  *drops* counts frames by reason,
    without the reasons that never occurred.
    """

    rx_frames: int
    rx_bytes: int
    tx_frames: int
    tx_bytes: int
    drops: Mapping[str, int]


@attrs.frozen
class Conflict:
    """A foreign station that claimed one of the vif's addresses, *count* times."""

    mac: MacAddress
    address: IPAddress | None
    count: int


@attrs.frozen
class HostPortInfo:
    """The host's own port in a network: its interface there, and what goes on.

    *addresses* are the host's in the network; *error* says what could not be done
    for it.  For its counters the host's stack is that of a vif.
    """

    interface: str
    mac: MacAddress
    present: bool
    up: bool
    addresses: tuple[IPAddress, ...]
    error: str | None
    counters: Counters
    conflicts: tuple[Conflict, ...]


@attrs.frozen
class NetworkInfo(Result):
    """A network; *uplink_port* is false if nothing passes between it and the wire.

    *host* is None where the host and the vifs do not reach each other.  *filter* is
    that of vifs for which nothing else says one.
    """

    name: str
    mode: str
    uplink: str | None
    uplink_port: bool
    prefixes: tuple[IPNetwork, ...]
    gateways: tuple[IPAddress, ...]
    mtu: int
    dns: tuple[IPAddress, ...]
    search: tuple[str, ...]
    reserved: tuple[str, ...]
    autoconf: bool
    limits: LimitsInfo
    vifs: int
    link_local: str = "eui64"
    host: HostPortInfo | None = None
    filter: str | None = None


@attrs.frozen
class Networks(Result):
    """Every network, by name."""

    networks: tuple[NetworkInfo, ...]


@attrs.frozen
class UplinkInfo(Result):
    """An uplink; *error* says why an interface that exists is not in use."""

    name: str
    kind: str
    interface: str | None
    present: bool
    up: bool
    mac: MacAddress | None
    mtu: int | None
    external: tuple[IPNetwork, ...]
    networks: tuple[str, ...]
    counters: Counters | None
    error: str | None = None


@attrs.frozen
class Uplinks(Result):
    """Every uplink, in the order of the configuration file."""

    uplinks: tuple[UplinkInfo, ...]


@attrs.frozen
class Holder:
    """Who is attached: the peer's ids as the kernel tells them, and since when."""

    uid: int
    pid: int
    transport: str
    offload: int
    since_s: int


@attrs.frozen
class LearnedInfo:
    """An address that was seen to be a vif's.

    *server* has assigned it by DHCP, for *left_s* more seconds; None: for ever, or it was
    not assigned.
    """

    address: IPAddress
    server: IPAddress | None = None
    left_s: int | None = None


@attrs.frozen
class FilterBindingInfo:
    """The filter that a vif is bound to, with the parameters that it was given.

    *supplied* are those that the vif has by itself; what is given goes first.  Where
    the filter needs an address that the vif has by a prefix only, *learned* has what
    was seen of it, and *learning* says how more is looked for, None if it is not.
    """

    name: str
    parameters: Mapping[str, tuple[str, ...]]
    supplied: Mapping[str, tuple[str, ...]]
    learned: tuple[LearnedInfo, ...] = ()
    learning: str | None = None


@attrs.frozen
class VifInfo(Result):
    """A vif: its binding, its owner, and what goes on.

    *source* is `static` (from the configuration file) or `dynamic` (created
    on request).  *limits* are those that hold, its own and its network's; None
    if an older daemon does not tell.  *grant* is the one by which its owner made it;
    an *ephemeral* vif goes soon after its client.  *claimed* are the link-local
    addresses that its stack took by first come, *host_conflicts* those bound to it that
    the host has got since.
    """

    name: VifName
    id: str
    owner_uid: int
    owner_name: str | None
    network: str
    mac: MacAddress
    addresses: tuple[IPInterface, ...]
    prefixes: tuple[IPNetwork, ...]
    source: str
    attached: Holder | None
    counters: Counters
    conflicts: tuple[Conflict, ...]
    limits: LimitsInfo | None = None
    trust: TrustInfo = NO_TRUST
    grant: str | None = None
    ephemeral: bool = False
    claimed: tuple[IPAddress, ...] = ()
    host_conflicts: tuple[IPAddress, ...] = ()
    filter: FilterBindingInfo | None = None


@attrs.frozen
class AsideInfo:
    """A vif that is kept, and nobody has, since the file leaves no room for it.

    *why* may name another's vif, so only administrators are told.
    """

    name: VifName
    owner_uid: int
    owner_name: str | None
    network: str
    addresses: tuple[IPInterface, ...]
    prefixes: tuple[IPNetwork, ...]
    why: str | None


@attrs.frozen
class Vifs(Result):
    """The vifs that the caller may see, by name; *aside* are those that are set aside."""

    vifs: tuple[VifInfo, ...]
    aside: tuple[AsideInfo, ...] = ()


@attrs.frozen
class TraceStep:
    """A step of a frame's way, and what was found there: `pass: …` or `drop: …`."""

    step: str
    text: str


@attrs.frozen
class TraceReceiver:
    """Who would get the frame.

    *name* is null for a vif that the caller may not see.  *drop* is the reason
    for which this one would not get it.
    """

    kind: str
    name: str | None
    drop: str | None


@attrs.frozen
class Trace:
    """What would become of one frame; *verdict* is `pass` or the drop reason.

    *more* receivers are there than those that are listed.
    """

    frame: str
    verdict: str
    steps: tuple[TraceStep, ...]
    receivers: tuple[TraceReceiver, ...]
    more: int = 0


@attrs.frozen
class Traces(Result):
    """What would become of frames of *vif*, in their order."""

    vif: VifName
    traces: tuple[Trace, ...]


@attrs.frozen
class Located(Result):
    """Where to attach: the directory, and the names of the sockets in it."""

    name: VifName
    directory: str
    kinds: tuple[str, ...]

    def path(self, kind: str) -> str:
        """Return the path of the socket *kind*.

        Raises:
            ValueError: if the vif has none such.
        """
        if kind not in self.kinds:
            raise ValueError(f"vif {self.name} has no {kind} socket, only {', '.join(self.kinds)}")
        return f"{self.directory}/{kind}"


@attrs.frozen
class Reloaded(Result):
    """What the configuration file, as it is now, changes: a line each.

    It is in force if it is *applied*.  With any of *errors* it is not, and
    nothing has changed.
    """

    applied: bool
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@attrs.frozen
class FilterInfo(Result):
    """A filter that is defined; *vifs* are those that it is bound to, or that reach it.

    A *stock* filter is installed with the daemon, and stays as it is.
    """

    name: str
    uuid: str
    chain: str
    priority: int
    stock: bool
    vifs: int


@attrs.frozen
class Filters(Result):
    """Every filter, by name."""

    filters: tuple[FilterInfo, ...]


@attrs.frozen
class FilterText(Result):
    """A filter's document, in its one form."""

    name: str
    uuid: str
    stock: bool
    xml: Text


@attrs.frozen
class SetInfo(Result):
    """A set of addresses that rules of filters may name; *members* counts its prefixes."""

    name: str
    members: int


@attrs.frozen
class Sets(Result):
    """Every set, by name."""

    sets: tuple[SetInfo, ...]


@attrs.frozen
class SetMembers(Result):
    """A set with its members: addresses and prefixes, IPv4 first, each sorted."""

    name: str
    members: tuple[str, ...]
