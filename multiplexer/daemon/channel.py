"""What broker, control and engine say to each other, and how it is written.

Three SEQPACKET socket pairs join the three processes.  One message is one
datagram: a JSON object whose ``"type"`` names a class below and whose other
keys are exactly that class's fields; descriptors ride along by SCM_RIGHTS.

A process is a privilege boundary, so a reader believes nothing: an unknown
type, a missing or surplus key, a value of another type or more descriptors
than a message may carry all raise `SiblingError`.  Siblings run the same
release, therefore there are no versions and nothing is skipped.

The engine's sandbox forbids sendmsg(2): a message without descriptors is
written by send(2), and the engine never sends one with them.

The functions here block or raise; `multiplexer.daemon.channel_trio` has the
same two for trio.
"""

import array
import contextlib
import json
import os
import socket
import struct
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from multiplexer.daemon import jsonvalues
from multiplexer.observe.trace import Traced
from pfinet_proto.values import MacAddress

#: Below the kernel's default socket buffer (212992), so that one datagram fits.
MAX_MESSAGE_BYTES = 200 * 1024

#: More than any message carries, so that surplus is seen and refused.
MAX_FDS = 8

#: For how long the engine may stand still since control does not read: once, for it is
#: then taken for gone.
PATIENCE_S = 0.5


class SiblingError(Exception):
    """Another process of the daemon broke this protocol: a bug or a break-in."""


class SiblingGone(Exception):
    """The process at the other end has closed the channel or is dead."""


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
    """An attachment that an earlier control made, with its descriptors as for `Keep`."""

    kept: Kept


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
    stays open; of a data stream nothing does, since it cannot be resumed by
    another engine, and its end must be the engine's to show.
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
class Inject:
    """Deliver *frames* as if the stack of the vif at *port* had sent them.

    They are checked as all that it sends: control never has more say than the vif.
    """

    request: int
    port: int
    frames: tuple[bytes, ...]


@attrs.frozen
class Attach:
    """Join the data descriptor that rides along to *port*.

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
    | SetUplink
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
    | Attach
    | Detach
    | ReadCounters
    | ReadPorts
    | Trace
    | CountersReply
    | PortsReply
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
        Attach: (1,),
        Done: range(MAX_FDS),
        Keep: range(MAX_FDS),
        Inherited: range(MAX_FDS),
    }
)


def encode(message: Message) -> bytes:
    """Return the datagram of *message*.

    Raises:
        ValueError: if it is longer than MAX_MESSAGE_BYTES.
    """
    name = type(message).__name__
    tree = {"type": name, **jsonvalues.to_json(message)}
    data = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{name} is {len(data)} bytes, more than {MAX_MESSAGE_BYTES}")
    return data


def decode(data: bytes) -> Message:
    """Return the message of one datagram.

    Raises:
        SiblingError: if it is none that this protocol has.
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SiblingError(f"not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise SiblingError(f"message is a {type(tree).__name__}, not an object")
    name = tree.pop("type", None)
    cls = MESSAGES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise SiblingError(f"unknown message type {name!r}")
    try:
        message: Message = jsonvalues.from_json(cls, tree, cls.__name__)
    except ValueError as error:
        raise SiblingError(str(error)) from None
    return message


def send(sock: socket.socket, message: Message, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send *message*; the caller keeps *fds* and closes them.

    Raises:
        SiblingGone: if nobody is at the other end.
        BlockingIOError: with MSG_DONTWAIT in *flags*, if the socket is full.
    """
    data = encode(message)
    try:
        if fds:
            sock.sendmsg([data], rights(fds), flags | socket.MSG_NOSIGNAL)
        else:
            sock.send(data, flags | socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise SiblingGone(f"sending {type(message).__name__}: {error.strerror}") from error


def bound_sending(sock: socket.socket) -> None:
    """Let `send` on *sock*, which blocks, raise BlockingIOError after PATIENCE_S in vain."""
    seconds, rest = divmod(PATIENCE_S, 1)
    patience = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)


def receive(sock: socket.socket, flags: int = 0) -> tuple[Message, list[int]]:
    """Return the next message and its descriptors, which the caller then owns.

    Raises:
        SiblingGone: if the other end has closed.
        SiblingError: as `decode`, or if the descriptors do not fit the message.
        BlockingIOError: with MSG_DONTWAIT in *flags*, if there is none.
    """
    try:
        received = sock.recvmsg(
            MAX_MESSAGE_BYTES + 1, rights_space(), flags | socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError as error:
        raise SiblingGone(f"receiving: {error.strerror}") from error
    return unpack(received[0], received[1], received[2])


def rights(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """Return the control message that carries *fds*."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())]


def rights_space() -> int:
    """Return the bytes of control buffer that a receiver gives."""
    return socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


def unpack(
    data: bytes, ancillary: Sequence[tuple[int, int, bytes]], flags: int
) -> tuple[Message, list[int]]:
    """Return message and descriptors of what one recvmsg(2) gave.

    No descriptor is left open when it raises, as `receive` does.
    """
    fds = descriptors_in(ancillary)
    try:
        if not data:
            raise SiblingGone("the channel is closed")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise SiblingError(
                f"message is longer than {MAX_MESSAGE_BYTES} bytes or {MAX_FDS} descriptors"
            )
        message = decode(data)
        if len(fds) not in FD_COUNTS.get(type(message), (0,)):
            raise SiblingError(f"{type(message).__name__} with {len(fds)} descriptors")
    except BaseException:
        close_all(fds)
        raise
    return message, fds


def descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that one recvmsg(2) gave."""
    fds = array.array("i")
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
    return fds.tolist()


def as_sockets(fds: Collection[int]) -> list[socket.socket]:
    """Return *fds* as sockets, which then own them.

    Raises:
        OSError: if one of them is none; all are then closed.
    """
    sockets: list[socket.socket] = []
    try:
        for fd in fds:
            sockets.append(socket.socket(fileno=fd))
    except OSError:
        for sock in sockets:
            sock.detach()
        close_all(fds)
        raise
    return sockets


def close_all(fds: Collection[int]) -> None:
    """Close each of *fds*."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
