"""What control and engine say to each other."""

import attrs

from multiplexer.observe.trace import Traced
from pfinet_proto.values import MacAddress

#: What the data of a ring need: the stream of its kicks, and its memory.
RING_FDS = 2

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
