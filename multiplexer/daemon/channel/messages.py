"""What broker, control and engine say to each other: a class for each message, and their table."""

import types
import typing
from collections.abc import Collection, Mapping

import attrs

from multiplexer.observe.trace import Traced
from pfinet_proto.values import MacAddress

#: More than any message carries, so that surplus is seen and refused.
MAX_FDS = 8

#: What the data of a ring need: the stream of its kicks, and its memory.
RING_FDS = 2


# broker -> control


@attrs.frozen
class Features:
    """What the broker found this kernel able to do.  ``status`` shows it."""

    passrights: bool


@attrs.frozen
class Restarts:
    """How often control alone was started again, and how often the engine with it."""

    control: int = 0
    engine: int = 0


@attrs.frozen
class Numbered:
    """By which number the datapath knows a network, or a nic uplink."""

    name: str
    number: int


@attrs.frozen
class Start:
    """The first message to control: the configuration file, already checked.

    *started_ns* is when the daemon was, by CLOCK_MONOTONIC.  As many as
    *inherited* messages of that type follow.  *networks* and *nics* have numbers
    that are not those of a start if the file was reloaded.
    """

    config_text: str
    filename: str
    features: Features
    started_ns: int
    restarts: Restarts
    inherited: int
    networks: tuple[Numbered, ...]
    nics: tuple[Numbered, ...]


@attrs.frozen
class Session:
    """A client, and what was agreed with it.

    *way* is the kind of socket that it came by, *since_ns* when it did, by
    CLOCK_MONOTONIC.  Only who came by `attach` was given a cookie.
    """

    way: str
    transport: str
    offload: int
    uid: int
    gid: int
    pid: int
    since_ns: int
    cookie: bytes | None


@attrs.frozen
class Kept:
    """What the next control has to know of an attachment."""

    vif_id: str
    port: int
    generation: int
    session: Session


@attrs.frozen
class Inherited:
    """An attachment that an earlier control made, with its descriptors as for `Keep`.

    Those of a ring ride along only if it is *adrift*: no engine serves it.
    """

    kept: Kept
    adrift: bool = False


@attrs.frozen
class UplinkState:
    """The state of a NIC uplink, at start and after each change.

    *mac* and *mtu* are those last seen; None only if it was never there.
    *error* says why an interface that exists is not in use.
    """

    uplink: str
    present: bool
    up: bool
    mac: MacAddress | None
    mtu: int | None
    error: str | None = None


@attrs.frozen
class HostPort:
    """The state of the host's own port in a network, at start and after each change.

    *error* says what could not be done for it.
    """

    network: str
    present: bool
    up: bool
    addresses: tuple[str, ...]
    error: str | None


@attrs.frozen
class ReloadAsked:
    """The administrator wants the file to be reloaded, by a signal."""


@attrs.frozen
class ReloadPrepared:
    """The answer to PrepareReload: the file as it is now, and its NICs.

    With any of *errors*, lines of text, nothing is prepared and the rest is empty.
    """

    request: int
    config_text: str
    uplinks: tuple[UplinkState, ...]
    errors: tuple[str, ...]


@attrs.frozen
class Done:
    """The answer to one request of control; None is success.

    After OpenVifSockets it carries one listening socket for each kind, in
    the order of the kinds.
    """

    request: int
    error: str | None = None


# control -> broker


@attrs.frozen
class OpenVifSockets:
    """Make the vif's directory and a listening socket for each kind."""

    request: int
    vif_id: str
    uid: int
    kinds: tuple[str, ...]


@attrs.frozen
class CloseVifSockets:
    """Remove the vif's directory and all in it; none is fine."""

    request: int
    vif_id: str


@attrs.frozen
class Keep:
    """Keep an attachment for the next control.

    The connection of a client that came by `attach` rides along, so that it
    stays open, and after it the engine's end of a ring; of a data stream nothing
    does, since it cannot be resumed by another engine, and its end must be the
    engine's to show.
    """

    request: int
    kept: Kept


@attrs.frozen
class Forget:
    """Close what is kept for the vif; nothing is fine."""

    request: int
    vif_id: str


@attrs.frozen
class SetMemberships:
    """All the unicast MACs that the NIC of *uplink* shall receive for us."""

    request: int
    uplink: str
    macs: tuple[MacAddress, ...]


@attrs.frozen
class ChangeHostRoutes:
    """Let the host reach the prefixes *add* over its port in *network*, and *drop* no more."""

    request: int
    network: str
    add: tuple[str, ...]
    drop: tuple[str, ...]


@attrs.frozen
class PrepareReload:
    """Read the file again, and get ready for what it says."""

    request: int


@attrs.frozen
class CommitReload:
    """Go by the file that was prepared, from now on."""

    request: int


@attrs.frozen
class EndReload:
    """All that was committed is applied, or what was only prepared is not wanted."""

    request: int


# broker -> engine


@attrs.frozen
class SetUplink:
    """The state of an uplink's port.

    A packet socket rides along when it is new, and replaces the old one;
    with *present* false the engine closes what it has.
    """

    request: int
    port: int
    present: bool
    up: bool


@attrs.frozen
class ClearUplink:
    """Forget an uplink's port, its packet socket and its counters."""

    request: int
    port: int


@attrs.frozen
class NewControl:
    """A control process is at the other end of the socket that rides along.

    The channel with its predecessor is closed, with what was not read of it.
    """

    request: int


@attrs.frozen
class SetHost:
    """Write the vif row of *port*, which is the host's own.

    A tap rides along when it is new, and replaces the old one; with *present*
    false the engine closes what it has.
    """

    request: int
    port: int
    row: bytes
    present: bool


# control -> engine


@attrs.frozen
class SetNetwork:
    """Write one row of the network table."""

    request: int
    row: bytes


@attrs.frozen
class ClearNetwork:
    """Forget a network, which no vif is in any more."""

    request: int
    network: int


@attrs.frozen
class SetVif:
    """Write the vif row of *port*, which *vif_id* has until it is cleared."""

    request: int
    port: int
    vif_id: str
    row: bytes


@attrs.frozen
class ClearVif:
    """Forget the vif of *port* and its attachment."""

    request: int
    port: int


@attrs.frozen
class PrepareFilter:
    """A part of the next filter of the vif at *port*: *data* at *offset* of *length* bytes.

    Parts come in order.  With the last the table is read and checked; a *length*
    of 0 says that the vif is to have no filter.  Nothing changes before
    CommitFilters.
    """

    request: int
    port: int
    offset: int
    length: int
    data: bytes


@attrs.frozen
class CommitFilters:
    """Let all filters that were prepared take over at once."""

    request: int


@attrs.frozen
class AbandonFilters:
    """Forget all filters that were prepared, and parts of them."""

    request: int


@attrs.frozen
class Inject:
    """Deliver *frames* as if the stack of the vif at *port* had sent them.

    They are checked as all that it sends: control never has more say than the vif.
    With *to_wire*, no other vif gets what would go to all.
    """

    request: int
    port: int
    frames: tuple[bytes, ...]
    to_wire: bool = False


@attrs.frozen
class Attach:
    """Join the data descriptor that rides along to *port*; of a ring, its kick and its memory.

    *vnet* says that each frame is led by a virtio_net_hdr.  All attachments of one
    *account*, the owner's uid, make the engine keep at most *account_bytes*.
    """

    request: int
    port: int
    generation: int
    transport: str
    offload: int
    vnet: bool
    account: int
    account_bytes: int


@attrs.frozen
class Detach:
    """End attachment *generation* of *port*; an older one is no error."""

    request: int
    port: int
    generation: int


@attrs.frozen
class ReadCounters:
    """Ask for the counters of ports *first* to *first* + *count* - 1."""

    request: int
    first: int
    count: int


@attrs.frozen
class ReadSightings:
    """Ask for what was seen of vifs' addresses, of *count* sightings at most."""

    request: int
    count: int


@attrs.frozen
class Trace:
    """Ask what would become of *frames* if the vif of *port* sent them."""

    request: int
    port: int
    frames: tuple[bytes, ...]


@attrs.frozen
class ReadPorts:
    """Ask which vifs and attachments ports *first* to *first* + *count* - 1 have."""

    request: int
    first: int
    count: int


# engine -> control


@attrs.frozen
class Port:
    """A port that is a vif's, and the generation of what is attached to it."""

    number: int
    vif_id: str
    generation: int | None


@attrs.frozen
class PortsReply:
    """The ports asked for that are a vif's."""

    request: int
    ports: tuple[Port, ...]


@attrs.frozen
class Sighted:
    """Something was seen of vifs' addresses; said once until ReadSightings."""


@attrs.frozen
class Sighting:
    """What was seen of an address of the vif *vif_id*, which is at *port*.

    *kind* is `source` (it has sent from it), `lease` (the DHCP server *server* has
    assigned it for *lease_s* seconds) or `release` (it has given it back).
    """

    port: int
    vif_id: str
    kind: str
    address: str
    server: str | None = None
    lease_s: int = 0


@attrs.frozen
class SightingsReply:
    """What was seen, in that order, and is not told again."""

    request: int
    sightings: tuple[Sighting, ...]


@attrs.frozen
class Conflict:
    """A foreign station claimed an address that is bound to the vif of *port*."""

    port: int
    mac: MacAddress
    address: str | None
    count: int


@attrs.frozen
class Claimed:
    """A link-local address that the vif of *port* has taken by first come."""

    port: int
    address: str


@attrs.frozen
class CountersReply:
    """One row for each port: frames and bytes in, frames and bytes out, drops.

    In is from the vif's stack, out is to it.  Drops are one number for each
    verdict, in the order of their numbers in C.
    """

    request: int
    first: int
    rows: tuple[tuple[int, ...], ...]
    conflicts: tuple[Conflict, ...]
    claimed: tuple[Claimed, ...] = ()


@attrs.frozen
class TraceReply:
    """What would become of each frame, in their order."""

    request: int
    traced: tuple[Traced, ...]


@attrs.frozen
class Detached:
    """Attachment *generation* of *port* has ended by itself.

    Where the client *sent_descriptors*, it is also said of one that Detach ends,
    before the Ack.
    """

    port: int
    generation: int
    why: str
    sent_descriptors: bool


# engine -> broker and control


@attrs.frozen
class Ack:
    """The answer to one request to the engine; None is success."""

    request: int
    error: str | None = None


# control -> broker, engine -> broker


@attrs.frozen
class Ready:
    """This process has done all its set-up and serves."""


Message = (
    Start
    | UplinkState
    | HostPort
    | ReloadAsked
    | ReloadPrepared
    | Done
    | Inherited
    | OpenVifSockets
    | CloseVifSockets
    | Keep
    | Forget
    | SetMemberships
    | ChangeHostRoutes
    | SetHost
    | PrepareReload
    | CommitReload
    | EndReload
    | SetUplink
    | ClearUplink
    | NewControl
    | SetNetwork
    | ClearNetwork
    | SetVif
    | ClearVif
    | Inject
    | PrepareFilter
    | CommitFilters
    | AbandonFilters
    | Attach
    | Detach
    | ReadCounters
    | ReadPorts
    | ReadSightings
    | Trace
    | CountersReply
    | PortsReply
    | SightingsReply
    | Sighted
    | TraceReply
    | Detached
    | Ack
    | Ready
)

MESSAGES: Mapping[str, type] = types.MappingProxyType(
    {cls.__name__: cls for cls in typing.get_args(Message)}
)

#: How many descriptors a message may carry; the others carry none.
FD_COUNTS: Mapping[type, Collection[int]] = types.MappingProxyType(
    {
        SetUplink: (0, 1),
        SetHost: (0, 1),
        NewControl: (1,),
        Attach: (1, RING_FDS),
        Done: range(MAX_FDS),
        Keep: range(MAX_FDS),
        Inherited: range(MAX_FDS),
    }
)
