"""Messages as datagrams: a header of magic, type and a reserved field, then the fields.

Each type has its number, and a function for each way between its value and its fields.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import construct as c

from pfinet_proto.errors import BadMessage, LocalProtocolError

from .fields import Fields, Tag, binding_fields, field, read_binding
from .messages import (
    MAX_TRANSPORTS,
    Goodbye,
    GoodbyeCode,
    Hello,
    Message,
    Offload,
    Refused,
    RefusedCode,
    Tap,
    Transport,
    Unrecognized,
    Update,
    Welcome,
)

MAGIC = b"PFIN"

#: A datagram with every list at its longest is far below this.
MAX_MESSAGE_BYTES = 16384

_ENVELOPE = c.Struct(
    "magic" / c.Const(MAGIC),
    "type" / c.Int16ub,
    "reserved" / c.Default(c.Int16ub, 0),
    "body" / c.GreedyBytes,
)
_BODY = c.Struct(
    "fields"
    / c.GreedyRange(
        c.Struct("tag" / c.Int16ub, "value" / c.Prefixed(c.Int16ub, c.GreedyBytes)),
    ),
    "end" / c.Terminated,
)


def _hello_fields(message: Hello) -> list[dict[str, Any]]:
    fields = [
        field(Tag.VERSION_RANGE, [message.version_min, message.version_max]),
        field(Tag.OFFLOAD, message.offload),
        field(Tag.TRANSPORTS, message.transports),
    ]
    if message.cookie is not None:
        fields.append(field(Tag.COOKIE, message.cookie))
    if message.client:
        fields.append(field(Tag.CLIENT, message.client))
    return fields


def _read_hello(fields: Fields) -> Hello:
    version_min, version_max = fields[Tag.VERSION_RANGE]
    offered = fields[Tag.TRANSPORTS]
    if len(offered) > MAX_TRANSPORTS:
        raise BadMessage(f"{len(offered)} transports, not at most {MAX_TRANSPORTS}")
    return Hello(
        version_min=version_min,
        version_max=version_max,
        offload=Offload(fields.get(Tag.OFFLOAD, 0)),
        transports=tuple(Transport(number) for number in offered if number in set(Transport)),
        cookie=fields.get(Tag.COOKIE, None),
        client=fields.get(Tag.CLIENT, ""),
    )


def _welcome_fields(message: Welcome) -> list[dict[str, Any]]:
    return [
        field(Tag.VERSION, message.version),
        field(Tag.TRANSPORT, message.transport),
        field(Tag.OFFLOAD, message.offload),
        field(Tag.COOKIE, message.cookie),
        *binding_fields(message.binding),
    ]


def _read_welcome(fields: Fields) -> Welcome:
    return Welcome(
        version=fields[Tag.VERSION],
        transport=Transport(fields[Tag.TRANSPORT]),
        offload=Offload(fields[Tag.OFFLOAD]),
        cookie=fields[Tag.COOKIE],
        binding=read_binding(fields),
    )


def _reason_fields(message: Refused | Goodbye) -> list[dict[str, Any]]:
    return [field(Tag.CODE, message.code), field(Tag.TEXT, message.text)]


def _read_refused(fields: Fields) -> Refused:
    return Refused(RefusedCode(fields[Tag.CODE]), fields.get(Tag.TEXT, ""))


def _read_goodbye(fields: Fields) -> Goodbye:
    return Goodbye(GoodbyeCode(fields[Tag.CODE]), fields.get(Tag.TEXT, ""))


def _update_fields(message: Update) -> list[dict[str, Any]]:
    return binding_fields(message.binding)


def _read_update(fields: Fields) -> Update:
    return Update(read_binding(fields))


def _tap_fields(message: Tap) -> list[dict[str, Any]]:
    return []


def _read_tap(fields: Fields) -> Tap:
    return Tap()


@attrs.frozen
class _Kind:
    number: int
    write: Callable[[Any], list[dict[str, Any]]]
    read: Callable[[Fields], Message]


_KINDS: Mapping[type[Any], _Kind] = {
    Hello: _Kind(1, _hello_fields, _read_hello),
    Welcome: _Kind(2, _welcome_fields, _read_welcome),
    Refused: _Kind(3, _reason_fields, _read_refused),
    Update: _Kind(4, _update_fields, _read_update),
    Goodbye: _Kind(5, _reason_fields, _read_goodbye),
    Tap: _Kind(6, _tap_fields, _read_tap),
}
_BY_NUMBER = {kind.number: kind for kind in _KINDS.values()}


def encode(message: Message) -> bytes:
    """Return the datagram of *message*.

    Raises:
        LocalProtocolError: if it is `Unrecognized`, which nobody can write.
    """
    kind = _KINDS.get(type(message))
    if kind is None:
        raise LocalProtocolError(f"{type(message).__name__} cannot be encoded")
    body = _BODY.build({"fields": kind.write(message)})
    return _ENVELOPE.build({"type": kind.number, "body": body})


def decode_untrusted(data: bytes) -> Message:
    """Return the message that the datagram *data* is.

    The descriptors beside it are the caller's to count.

    Raises:
        BadMessage: if it is too long, has another magic, ends inside a field,
            or if a field that it knows is missing, surplus or out of range.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"message of {len(data)} bytes, not at most {MAX_MESSAGE_BYTES}")
    try:
        envelope = _ENVELOPE.parse(data)
    except c.ConstructError:
        raise BadMessage(
            f"{data[:8]!r} does not begin a message, wanted {MAGIC!r} and a type"
        ) from None
    kind = _BY_NUMBER.get(envelope.type)
    if kind is None:
        return Unrecognized(envelope.type)
    try:
        body = _BODY.parse(envelope.body)
    except c.ConstructError:
        raise BadMessage("message ends inside a field") from None
    try:
        return kind.read(Fields((field.tag, field.value) for field in body.fields))
    except ValueError as exc:
        raise BadMessage(str(exc)) from None
