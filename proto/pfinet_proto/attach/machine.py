"""The order of the `attach` socket's messages: who may say what, and when.

The transitions are a table, the same for both ends.
"""

import enum
from collections.abc import Mapping
from typing import Any, Self

from pfinet_proto.errors import LocalProtocolError, RemoteProtocolError

from .codec import decode_untrusted, encode
from .messages import (
    Goodbye,
    Hello,
    Message,
    Refused,
    Tap,
    Transport,
    Unrecognized,
    Update,
    Welcome,
)


class Role(enum.Enum):
    """Which end of the socket."""

    CLIENT = enum.auto()
    DAEMON = enum.auto()


class State(enum.Enum):
    """How far an attachment is; LENDING is when the client's tap is still due."""

    GREETING = enum.auto()
    OFFERED = enum.auto()
    LENDING = enum.auto()
    ATTACHED = enum.auto()
    CLOSED = enum.auto()


#: The state after a message of the sender; what is not here is not allowed.
#: A Welcome with the transport tap leads to LENDING.
NEXT: Mapping[tuple[State, Role, type[Any]], State] = {
    (State.GREETING, Role.CLIENT, Hello): State.OFFERED,
    (State.GREETING, Role.DAEMON, Refused): State.CLOSED,
    (State.OFFERED, Role.DAEMON, Welcome): State.ATTACHED,
    (State.OFFERED, Role.DAEMON, Refused): State.CLOSED,
    (State.LENDING, Role.CLIENT, Tap): State.ATTACHED,
    (State.LENDING, Role.DAEMON, Update): State.LENDING,
    (State.LENDING, Role.DAEMON, Goodbye): State.CLOSED,
    (State.LENDING, Role.DAEMON, Unrecognized): State.LENDING,
    (State.LENDING, Role.CLIENT, Unrecognized): State.LENDING,
    (State.ATTACHED, Role.DAEMON, Update): State.ATTACHED,
    (State.ATTACHED, Role.DAEMON, Goodbye): State.CLOSED,
    (State.ATTACHED, Role.DAEMON, Unrecognized): State.ATTACHED,
    (State.ATTACHED, Role.CLIENT, Unrecognized): State.ATTACHED,
}

_PEER = {Role.CLIENT: Role.DAEMON, Role.DAEMON: Role.CLIENT}


def _disagreement(hello: Hello, welcome: Welcome) -> str | None:
    """What of *welcome* was never offered by *hello*, or None."""
    if not hello.version_min <= welcome.version <= hello.version_max:
        return (
            f"version {welcome.version}, offered were {hello.version_min} to {hello.version_max}"
        )
    if welcome.transport not in hello.transports:
        return f"transport {welcome.transport.name} was not offered"
    if welcome.offload & ~hello.offload:
        return f"offload {welcome.offload!r}, offered was {hello.offload!r}"
    return None


class AttachMachine:
    """One attachment, seen from either end.  No I/O, no clock.

    A message goes through `send` before it is written, and through
    `receive_untrusted` after it is read.  Both leave the state as it was when
    they raise.
    """

    def __init__(self, role: Role) -> None:
        self._role = role
        self._hello: Hello | None = None
        self.state = State.GREETING

    @classmethod
    def attached(cls, role: Role) -> Self:
        """Return the machine of an attachment that another process brought so far."""
        machine = cls(role)
        machine.state = State.ATTACHED
        return machine

    def send(self, message: Message) -> bytes:
        """Return the datagram of *message*, which this end sends now.

        Raises:
            LocalProtocolError: if it may not.
        """
        data = encode(message)
        self._process(self._role, message, LocalProtocolError)
        return data

    def receive_untrusted(self, data: bytes) -> Message:
        """Return the message that the peer sent as *data*.

        Raises:
            BadMessage: if it is none.
            RemoteProtocolError: if the peer may not send it now.
        """
        message = decode_untrusted(data)
        self._process(_PEER[self._role], message, RemoteProtocolError)
        return message

    def _process(
        self,
        sender: Role,
        message: Message,
        error: type[LocalProtocolError] | type[RemoteProtocolError],
    ) -> None:
        following = NEXT.get((self.state, sender, type(message)))
        if following is None:
            raise error(
                f"{type(message).__name__} from the {sender.name.lower()} "
                f"while {self.state.name.lower()}"
            )
        if isinstance(message, Hello):
            self._hello = message
        elif isinstance(message, Welcome) and self._hello is not None:
            wrong = _disagreement(self._hello, message)
            if wrong is not None:
                raise error(f"Welcome with {wrong}")
            if message.transport is Transport.TAP:
                following = State.LENDING
        self.state = following
