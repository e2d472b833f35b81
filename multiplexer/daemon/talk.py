"""What is said on a client's connection while it is attached.

On the `attach` socket the client is told when its vif changes, and why it is
let go; it has nothing to say itself.  The other ways in have no words.
"""

import contextlib
import socket
from typing import Final, Protocol

import attrs
import trio

from multiplexer.daemon.doorman import Doorman, SentDescriptors
from multiplexer.daemon.engine_client import Attachment
from multiplexer.daemon.live_vif import LiveVif
from pfinet_proto.attach import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    Binding,
    Goodbye,
    GoodbyeCode,
    Refused,
    Update,
)
from pfinet_proto.attach.machine import AttachMachine, State

#: Why an attachment ended, where nobody says more.
CLOSED: Final = "closed by the client"

#: A client has nothing to say, so what it says is read this slowly: its own
#: queue fills, and it waits.
PACE_S: Final = 0.1


class Talk(Protocol):
    """One attached client's connection."""

    async def wait_end(self) -> str:
        """Wait until the client or the engine ends the attachment, and return why it did.

        Raises:
            BadMessage: if the client sends what is no message.
            RemoteProtocolError: if it sends one out of turn.
        """
        ...

    def say_last(self, farewell: Goodbye) -> None:
        """Say why we end it."""
        ...


@attrs.frozen
class Silent:
    """A connection that is the engine's, where we have no words."""

    attachment: Attachment

    async def wait_end(self) -> str:
        await self.attachment.ended.wait()
        return self.attachment.why or CLOSED

    def say_last(self, farewell: Goodbye) -> None:
        pass


@attrs.frozen
class Spoken:
    """A connection of the `attach` socket.

    Its client was *told* that binding, or we do not know what, and is told of
    each other one.
    """

    live: LiveVif
    attachment: Attachment
    connection: socket.socket
    machine: AttachMachine
    told: Binding | None
    doorman: Doorman

    async def wait_end(self) -> str:
        why = CLOSED
        async with trio.open_nursery() as nursery:

            async def watch_engine() -> None:
                nonlocal why
                await self.attachment.ended.wait()
                why = self.attachment.why or why
                self.say_last(Goodbye(GoodbyeCode.BAD_STREAM, bounded(why)))
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch_engine)
            nursery.start_soon(tell_updates, self.live, self.connection, self.machine, self.told)
            while data := await self._receive():
                self.machine.receive_untrusted(data)
                await trio.sleep(PACE_S)
            nursery.cancel_scope.cancel()
        return why

    async def _receive(self) -> bytes:
        try:
            return await self.doorman.receive(self.connection, MAX_MESSAGE_BYTES + 1)
        except SentDescriptors as error:
            self.say_last(Goodbye(GoodbyeCode.OTHER, str(error)))
            raise

    def say_last(self, farewell: Goodbye) -> None:
        say_last(self.connection, self.machine, farewell)


async def tell_updates(
    live: LiveVif, connection: socket.socket, machine: AttachMachine, told: Binding | None
) -> None:
    """Tell the client of each new binding; who is slow to read gets the last one only."""
    client = trio.socket.from_stdlib_socket(connection)
    while True:
        changed = live.rebound
        if live.binding != told:
            told = live.binding
            await client.send(machine.send(Update(told)))
        await changed.wait()


def say_last(
    connection: socket.socket, machine: AttachMachine, message: Refused | Goodbye
) -> None:
    """Send the message that ends the handshake, if the client has room for it."""
    if machine.state is State.CLOSED:
        return
    with contextlib.suppress(OSError):
        connection.send(machine.send(message), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def bounded(text: str) -> str:
    """Return *text* as ASCII that is printable and not too long for a message."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable.encode("ascii", "replace")[:MAX_TEXT_BYTES].decode("ascii")
