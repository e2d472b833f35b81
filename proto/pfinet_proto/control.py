"""The `control` socket: requests and replies, and what they are about.

A request is a record of JSON, `{"v":1,"id":n,"op":"vif.show","args":{…}}`, and
gets one reply with the same id: `{"v":1,"id":n,"ok":true,"result":{…}}`, or
`{"v":1,"id":n,"ok":false,"error":{"code":"…","message":"…"}}`.  Replies come
in the order of the requests.  Unknown keys are skipped; SPEC.md, section 2,
has the operations.

A request class and its result belong together by `Request`'s parameter, so a
client that asks `VifShow` is known to get a `VifInfo`.
"""

import enum
import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import attrs

from pfinet_proto import jsonform
from pfinet_proto.errors import BadMessage
from pfinet_proto.framing import FrameDecoder, encode_record
from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, VifName

__all__ = [
    "DEFAULT_CONTROL_PATH",
    "MAX_ADDRESSES",
    "MAX_NAME_CHARS",
    "MAX_PREFIXES",
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "MAX_TRACED",
    "MAX_TRACED_BYTES",
    "MAX_USER_CHARS",
    "NO_REQUEST",
    "OPERATIONS",
    "VERSION",
    "AsideInfo",
    "Call",
    "Conflict",
    "ControlError",
    "Counters",
    "Deleted",
    "ErrorCode",
    "FrameDecoder",
    "Holder",
    "HostPortInfo",
    "LimitsInfo",
    "Located",
    "NetworkInfo",
    "NetworkList",
    "NetworkShow",
    "Networks",
    "Operation",
    "OwnLimitsInfo",
    "Reload",
    "Reloaded",
    "Reply",
    "Request",
    "Result",
    "Status",
    "StatusInfo",
    "Trace",
    "TraceReceiver",
    "TraceStep",
    "Traces",
    "TrustChange",
    "TrustInfo",
    "UplinkInfo",
    "UplinkList",
    "UplinkShow",
    "Uplinks",
    "VifBorrow",
    "VifCreate",
    "VifDelete",
    "VifInfo",
    "VifList",
    "VifLocate",
    "VifSet",
    "VifShow",
    "VifTrace",
    "Vifs",
    "decode_reply_untrusted",
    "decode_request_untrusted",
    "encode_reply",
    "encode_request",
]

VERSION = 1

DEFAULT_CONTROL_PATH = "/run/multiplexer/control"

#: A `vif.create` with every list at its longest is far below this.
MAX_REQUEST_BYTES = 65536

#: `vif.list` of every vif that the daemon may have (3776) is below this.
MAX_REPLY_BYTES = 16 * 1024 * 1024

MAX_ADDRESSES = 64
MAX_PREFIXES = 64

#: Of a network or uplink, and of a user, as a request has them.
MAX_NAME_CHARS = 64
MAX_USER_CHARS = 256

#: Frames in one `vif.trace`, and bytes of each: no network's frames are longer.
MAX_TRACED = 32
MAX_TRACED_BYTES = 9014

_HEX = re.compile(r"([0-9a-fA-F]{2})*")

#: A reader's largest id: what a float of another JSON library holds exactly.
MAX_ID = 2**53 - 1

#: The id of an error that answers no request: the connection is refused.
NO_REQUEST = 0

R = TypeVar("R", covariant=True)


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


# Results.


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
class OwnLimitsInfo:
    """The limits that one vif has of its own; null is what its network says."""

    frames_per_s: int | None = None
    bytes_per_s: int | None = None
    broadcast_per_s: int | None = None
    copies_per_s: int | None = None


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

    *host* is None where the host and the vifs do not reach each other.
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
    trust: TrustInfo = TrustInfo()
    grant: str | None = None
    ephemeral: bool = False
    claimed: tuple[IPAddress, ...] = ()
    host_conflicts: tuple[IPAddress, ...] = ()


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


# Requests.


class Request(Generic[R]):
    """What a client asks; *R* is the class of the result."""


def _at_most(wanted: int) -> Any:
    def check(_instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if len(value) > wanted:
            raise ValueError(f"{len(value)} {attribute.name}, not at most {wanted}")

    return check


def _chars_at_most(wanted: int) -> Any:
    def check(_instance: object, attribute: "attrs.Attribute[Any]", value: str | None) -> None:
        if value is not None and len(value) > wanted:
            raise ValueError(f"{attribute.name} has {len(value)} characters, not at most {wanted}")

    return check


@attrs.frozen
class Status(Request[StatusInfo]):
    """What runs?"""


@attrs.frozen
class NetworkList(Request[Networks]):
    """Which networks are there?"""


@attrs.frozen
class NetworkShow(Request[NetworkInfo]):
    """What is the network *name*?"""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class UplinkList(Request[Uplinks]):
    """Which uplinks are there?"""


@attrs.frozen
class UplinkShow(Request[UplinkInfo]):
    """What is the uplink *name*?"""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class VifList(Request[Vifs]):
    """Which vifs may the caller see?"""


@attrs.frozen
class VifShow(Request[VifInfo]):
    """What is the vif *name*?"""

    name: VifName


def _check_frames(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for at, text in enumerate(value):
        if not _HEX.fullmatch(text) or len(text) > 2 * MAX_TRACED_BYTES:
            raise ValueError(
                f"frames[{at}] is {text!r:.40}, not hexadecimal digits of"
                f" at most {MAX_TRACED_BYTES} bytes"
            )


@attrs.frozen
class VifCreate(Request[VifInfo]):
    """Make a vif.

    *owner* is a user name, or a uid as text; without it, it is the caller.  Without
    *mac* the daemon makes a stable one; without *network* it is the one that the
    addresses lie in.  Who makes it by a grant need not name addresses: the
    daemon then chooses.  With *force* an administrator's vif is made though a station
    on the wire has its address.
    """

    name: VifName
    owner: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_USER_CHARS))
    addresses: tuple[IPInterface, ...] = attrs.field(default=(), validator=_at_most(MAX_ADDRESSES))
    prefixes: tuple[IPNetwork, ...] = attrs.field(default=(), validator=_at_most(MAX_PREFIXES))
    mac: MacAddress | None = None
    network: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_NAME_CHARS))
    limits: OwnLimitsInfo = OwnLimitsInfo()
    trust: TrustInfo = TrustInfo()
    force: bool = False


@attrs.frozen
class TrustChange:
    """What becomes of a vif's trust: as `TrustInfo`, and null stays as it is."""

    roles: tuple[str, ...] | None = None
    ethertypes: tuple[int, ...] | None = None
    link_local: str | None = None
    trusted_tap: bool | None = None


def _if_any(check: Any) -> Any:
    return attrs.validators.optional(check)


@attrs.frozen
class VifSet(Request[VifInfo]):
    """Change the vif *name*, all of it or nothing; what is null stays as it is.

    *addresses* and *prefixes* replace what it has; of that, or of what they
    are, those to remove go and then those to add come.  *defaults* are names of
    `mac`, `link_local` and the limits, each of which is as if it had never
    been given.
    """

    name: VifName
    owner: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_USER_CHARS))
    addresses: tuple[IPInterface, ...] | None = attrs.field(
        default=None, validator=_if_any(_at_most(MAX_ADDRESSES))
    )
    prefixes: tuple[IPNetwork, ...] | None = attrs.field(
        default=None, validator=_if_any(_at_most(MAX_PREFIXES))
    )
    remove_addresses: tuple[IPInterface, ...] = attrs.field(
        default=(), validator=_at_most(MAX_ADDRESSES)
    )
    remove_prefixes: tuple[IPNetwork, ...] = attrs.field(
        default=(), validator=_at_most(MAX_PREFIXES)
    )
    add_addresses: tuple[IPInterface, ...] = attrs.field(
        default=(), validator=_at_most(MAX_ADDRESSES)
    )
    add_prefixes: tuple[IPNetwork, ...] = attrs.field(default=(), validator=_at_most(MAX_PREFIXES))
    mac: MacAddress | None = None
    limits: OwnLimitsInfo = OwnLimitsInfo()
    trust: TrustChange = TrustChange()
    defaults: tuple[str, ...] = ()


@attrs.frozen
class VifBorrow(Request[VifInfo]):
    """Make an ephemeral vif in *network* for the caller, by a grant.

    The daemon names it and chooses its addresses.  It goes soon after its client.
    """

    network: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class VifDelete(Request[Deleted]):
    """Remove the vif *name*, and whoever is attached to it."""

    name: VifName


@attrs.frozen
class VifLocate(Request[Located]):
    """Where does one attach to the vif *name*, or to the caller's only one?"""

    name: VifName | None = None


@attrs.frozen
class VifTrace(Request[Traces]):
    """What would become of *frames*, each in hexadecimal, if the vif *name* sent them?

    Nothing is sent, counted or charged.
    """

    name: VifName
    frames: tuple[str, ...] = attrs.field(validator=[_at_most(MAX_TRACED), _check_frames])


@attrs.frozen
class Reload(Request[Reloaded]):
    """Apply the configuration file as it is now, or only tell what that would do."""

    dry_run: bool = False


@attrs.frozen
class Operation:
    """The classes of one operation."""

    request: type[Any]
    result: type[Any]


OPERATIONS: Mapping[str, Operation] = {
    "status": Operation(Status, StatusInfo),
    "reload": Operation(Reload, Reloaded),
    "network.list": Operation(NetworkList, Networks),
    "network.show": Operation(NetworkShow, NetworkInfo),
    "uplink.list": Operation(UplinkList, Uplinks),
    "uplink.show": Operation(UplinkShow, UplinkInfo),
    "vif.list": Operation(VifList, Vifs),
    "vif.show": Operation(VifShow, VifInfo),
    "vif.create": Operation(VifCreate, VifInfo),
    "vif.set": Operation(VifSet, VifInfo),
    "vif.borrow": Operation(VifBorrow, VifInfo),
    "vif.delete": Operation(VifDelete, Deleted),
    "vif.locate": Operation(VifLocate, Located),
    "vif.trace": Operation(VifTrace, Traces),
}
_NAME_OF = {operation.request: name for name, operation in OPERATIONS.items()}


# Messages.


@attrs.frozen
class Call:
    """A request as the daemon reads it.

    An operation that it does not know, or arguments that do not fit it, leave
    the error to reply with in *request*.
    """

    id: int
    request: Request[Any] | ControlError


@attrs.frozen
class Reply:
    """A reply as the daemon writes it."""

    id: int
    outcome: Result | ControlError


@attrs.frozen
class _RequestForm:
    v: int
    id: int
    op: str


@attrs.frozen
class _ReplyForm:
    v: int
    id: int
    ok: bool


@attrs.frozen
class _ErrorForm:
    code: str
    message: str


def _check_envelope(envelope: _RequestForm | _ReplyForm) -> None:
    if envelope.v != VERSION:
        raise BadMessage(f"version {envelope.v}, not {VERSION}")
    if not 0 <= envelope.id <= MAX_ID:
        raise BadMessage(f"id {envelope.id}, not 0 to {MAX_ID}")


def _record(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise ValueError(f"message of {len(body)} bytes, not at most {max_bytes}")
    return encode_record(body)


def encode_request(request: Request[Any], request_id: int) -> bytes:
    """Return *request* as a record, its length first.

    Raises:
        ValueError: if it is longer than a request may be.
    """
    body = {
        "v": VERSION,
        "id": request_id,
        "op": _NAME_OF[type(request)],
        "args": jsonform.to_json(request),
    }
    return _record(jsonform.format_json(body), MAX_REQUEST_BYTES)


def decode_request_untrusted(body: bytes) -> Call:
    """Return the call that *body*, a record without its length, is.

    Raises:
        BadMessage: if it has no version, id and operation, so that there is
            nothing to reply to.
    """
    data = jsonform.parse_untrusted(body)
    envelope = jsonform.from_json_untrusted(_RequestForm, data, "request")
    _check_envelope(envelope)
    operation = OPERATIONS.get(envelope.op)
    if operation is None:
        return Call(
            envelope.id, ControlError(ErrorCode.UNKNOWN_OP, f"no operation {envelope.op!r}")
        )
    try:
        request = jsonform.from_json_untrusted(operation.request, data.get("args", {}), "args")
    except BadMessage as exc:
        return Call(envelope.id, ControlError(ErrorCode.BAD_REQUEST, str(exc)))
    return Call(envelope.id, request)


def encode_reply(reply: Reply) -> bytes:
    """Return *reply* as a record, its length first.

    Raises:
        ValueError: if it is longer than a reply may be.
    """
    body: dict[str, Any] = {"v": VERSION, "id": reply.id}
    if isinstance(reply.outcome, ControlError):
        body["ok"] = False
        body["error"] = {"code": reply.outcome.code.value, "message": reply.outcome.message}
    else:
        body["ok"] = True
        body["result"] = jsonform.to_json(reply.outcome)
    return _record(jsonform.format_json(body), MAX_REPLY_BYTES)


def decode_reply_untrusted(body: bytes, request: Request[R], request_id: int) -> R:
    """Return the result that *body*, a record without its length, gives to *request*.

    Raises:
        BadMessage: if it is no reply, or one to something else.
        ControlError: if the daemon did not do it.  A code of a later release
            counts as `internal`.
    """
    data = jsonform.parse_untrusted(body)
    envelope = jsonform.from_json_untrusted(_ReplyForm, data, "reply")
    _check_envelope(envelope)
    if envelope.id != request_id and (envelope.ok or envelope.id != NO_REQUEST):
        raise BadMessage(f"reply to request {envelope.id}, not {request_id}")
    if not envelope.ok:
        error = jsonform.from_json_untrusted(_ErrorForm, data.get("error"), "error")
        known = error.code in set(ErrorCode)
        raise ControlError(ErrorCode(error.code) if known else ErrorCode.INTERNAL, error.message)
    result = OPERATIONS[_NAME_OF[type(request)]].result
    return cast(R, jsonform.from_json_untrusted(result, data.get("result"), "result"))
