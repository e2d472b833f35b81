"""The records of the `control` socket: calls and replies as bytes, and back.

A client reads its reply for the request that it wrote; the daemon reads a call
without knowing what comes.  Either takes whatever bytes the other sends.
"""

from typing import Any, TypeVar, cast

import attrs

from pfinet_proto import jsonform
from pfinet_proto.control.requests import (
    OPERATIONS,
    FilterDefine,
    Request,
    SetChange,
    SetCreate,
)
from pfinet_proto.control.results import ControlError, ErrorCode, Result
from pfinet_proto.errors import BadMessage
from pfinet_proto.framing import encode_record

VERSION = 1

DEFAULT_CONTROL_PATH = "/run/multiplexer/control"

#: A `vif.create` with every list at its longest is far below this.
MAX_REQUEST_BYTES = 65536

#: What an administrator's may be: a filter of 4 MiB, each of whose bytes JSON may write as two.
MAX_LONG_REQUEST_BYTES = 16 * 1024 * 1024

#: `vif.list` of every vif that the daemon may have (3776) is below this.
MAX_REPLY_BYTES = 16 * 1024 * 1024

#: A reader's largest id: what a float of another JSON library holds exactly.
MAX_ID = 2**53 - 1

#: The id of an error that answers no request: the connection is refused.
NO_REQUEST = 0

_NAME_OF = {operation.request: name for name, operation in OPERATIONS.items()}

R = TypeVar("R")


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


def _most_bytes(request: Request[Any]) -> int:
    may_be_long = isinstance(request, FilterDefine | SetCreate | SetChange)
    return MAX_LONG_REQUEST_BYTES if may_be_long else MAX_REQUEST_BYTES


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
    return _record(jsonform.format_json(body), _most_bytes(request))


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
