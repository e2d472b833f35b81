"""The tap that a trusted user lends: let in, received, and seen to be one.

Descriptors otherwise go from us to clients only, and every socket refuses them,
because who made one decides how long closing it takes, or even a look at it.
Here the administrator trusts the user (`trusted_tap`), and still: one is let in
only while it is due, on that one connection; and it is received by a process
(`multiplexer.daemon.inspection`) that can be left behind.
"""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from multiplexer.daemon import channel, inspection
from multiplexer.daemon.descriptors import SO_PASSRIGHTS, prepare, refuse_fds
from multiplexer.daemon.doorman import Doorman, SentDescriptors
from pfinet_proto.attach import MAX_MESSAGE_BYTES, TAP_FDS, Tap
from pfinet_proto.attach.machine import AttachMachine
from pfinet_proto.errors import RemoteProtocolError

#: A client makes its stack first, with what the Welcome says.
TAP_TIMEOUT_S: Final = 30.0
#: A look takes no time, unless it is made to.
LOOK_TIMEOUT_S: Final = 5.0


@contextmanager
def descriptors_let_in(connection: socket.socket) -> Iterator[None]:
    """Let the peer send descriptors while the context lasts.

    What it sends then may be received much later, or never be: so the connection is
    prepared, for good.
    """
    prepare(connection)
    connection.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)
    try:
        yield
    finally:
        refuse_fds(connection)


async def receive_tap(
    connection: socket.socket, machine: AttachMachine, doorman: Doorman, *, vnet: bool
) -> int | None:
    """Return the tap that the client hands over; None if it leaves, or takes too long.

    *vnet* says whether its frames must have a virtio_net_hdr.

    Raises:
        BadMessage: if the client sends what is no message.
        RemoteProtocolError: if it sends one out of turn, or what is no such tap.
        SentDescriptors: if that held up who looked at it.
    """
    with trio.move_on_after(TAP_TIMEOUT_S):
        while True:
            try:
                data = await doorman.receive(connection, MAX_MESSAGE_BYTES + 1)
            except SentDescriptors:
                return await _take(connection, machine, doorman, vnet)
            if not data:
                return None
            _check_count(machine, data, 0)
    return None


async def _take(
    connection: socket.socket, machine: AttachMachine, doorman: Doorman, vnet: bool
) -> int:
    found, fds = await _inspect(connection, doorman, vnet)
    try:
        _check_count(machine, found.data, found.n_fds)
        if found.why is not None:
            raise RemoteProtocolError(f"the descriptor that came with Tap {found.why}")
        return fds.pop()
    finally:
        channel.close_all(fds)


def _check_count(machine: AttachMachine, data: bytes, n_fds: int) -> None:
    message = machine.receive_untrusted(data)
    wanted = TAP_FDS if isinstance(message, Tap) else 0
    if n_fds != wanted:
        raise RemoteProtocolError(
            f"{type(message).__name__} with {n_fds} descriptors, not {wanted}"
        )


async def _inspect(
    connection: socket.socket, doorman: Doorman, vnet: bool
) -> tuple[inspection.Inspected, list[int]]:
    if doorman.is_busy:
        raise RemoteProtocolError("the descriptor that came cannot be looked at now")
    pid, report = inspection.start(connection, vnet)
    with report:
        try:
            with trio.move_on_after(LOOK_TIMEOUT_S):
                await trio.lowlevel.wait_readable(report)
                found, fds = inspection.read_report(report)
                try:
                    await trio.lowlevel.wait_readable(report)  # it has no copy any more
                except BaseException:
                    channel.close_all(fds)
                    raise
                return found, fds
        finally:
            os.kill(pid, signal.SIGKILL)
            doorman.reap(pid)
    raise SentDescriptors
