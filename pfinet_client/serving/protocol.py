"""What the server of a stack and its clients say to each other.

Each message is one packet of a SEQPACKET socket, led by a byte that tells its
kind.  Both ends are programs of one user and of one release: there is no
version, and integers are the machine's.

    server                                  client
      | Bound: first of all, and whenever      |
      |   the vif's binding has changed ------>|
      |<------------------- SocketWanted       |
      | SocketMade, the socket beside it ----->|

A client has one wish at a time.  A server that cannot begin says Failed.
"""

import struct

from attrs import frozen

from pfinet_proto.attach import MAX_MESSAGE_BYTES as MAX_BINDING_BYTES
from pfinet_proto.attach import Binding, Update
from pfinet_proto.attach import decode_untrusted as decode_attach
from pfinet_proto.attach import encode as encode_attach
from pfinet_proto.errors import BadMessage

MAX_MESSAGE_BYTES = MAX_BINDING_BYTES + 1

_WANTED, _MADE, _BOUND, _FAILED = b"w", b"m", b"b", b"f"
_WANTED_BODY = struct.Struct("=iii")
_MADE_BODY = struct.Struct("=i")


@frozen
class SocketWanted:
    """The arguments of socket(2), each of 32 bits with its sign."""

    family: int
    type: int
    proto: int


@frozen
class SocketMade:
    """What socket(2) gave: its *errno*, or 0, and then the socket is beside the message."""

    errno: int


@frozen
class Bound:
    """What the stack's vif is from now on."""

    binding: Binding


@frozen
class Failed:
    """Why there is no stack, for the person."""

    text: str


Message = SocketWanted | SocketMade | Bound | Failed


def encode(message: Message) -> bytes:
    """Return *message* as a packet; a text that is too long is cut.

    Raises:
        ValueError: if a number does not fit into 32 bits.
    """
    match message:
        case SocketWanted(family, kind, proto):
            return _WANTED + _pack(_WANTED_BODY, family, kind, proto)
        case SocketMade(number):
            return _MADE + _pack(_MADE_BODY, number)
        case Bound(binding):
            return _BOUND + encode_attach(Update(binding))
        case Failed(text):
            return (_FAILED + text.encode())[:MAX_MESSAGE_BYTES]


def _pack(form: struct.Struct, *numbers: int) -> bytes:
    try:
        return form.pack(*numbers)
    except struct.error:
        raise ValueError(f"{numbers}: not numbers of 32 bits") from None


def decode_untrusted(packet: bytes) -> Message:
    """Return the message that *packet* is.

    Raises:
        BadMessage: if it is none.
    """
    kind, body = packet[:1], packet[1:]
    if kind == _WANTED and len(body) == _WANTED_BODY.size:
        return SocketWanted(*_WANTED_BODY.unpack(body))
    if kind == _MADE and len(body) == _MADE_BODY.size:
        return SocketMade(*_MADE_BODY.unpack(body))
    if kind == _BOUND:
        update = decode_attach(body)
        if isinstance(update, Update):
            return Bound(update.binding)
    if kind == _FAILED:
        return Failed(body.decode(errors="replace"))
    raise BadMessage(f"{packet[:16]!r}, of {len(packet)} bytes: no message of a stack's server")
