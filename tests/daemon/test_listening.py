"""How many connections there may be, whom that can lock out, and what ends one of them alone."""

import errno
import io
import os
from contextlib import ExitStack

import pytest

from multiplexer.daemon.audit import Log
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.doorman import Doorman
from multiplexer.daemon.listening import ConnectionLimits, serve_alone
from multiplexer.daemon.peer import Peer

OWNER = Peer(uid=1000, gid=1000, pid=7)


def stranger(number: int) -> Peer:
    return Peer(uid=100_000 + number, gid=100_000, pid=8)


def test_strangers_can_fill_their_own_room_and_lock_out_nobody_who_is_known() -> None:
    """A user has thousands of subordinate uids, each of which looks like another user."""
    limits = ConnectionLimits(2, 10, is_known=lambda peer: peer.uid in (0, OWNER.uid))
    with ExitStack() as held:
        for number in range(5):
            assert held.enter_context(limits.counted(stranger(number)))
            assert held.enter_context(limits.counted(stranger(number)))

        with limits.counted(stranger(5)) as admitted:
            assert not admitted
        with limits.counted(OWNER) as admitted:
            assert admitted


def test_one_uid_has_only_so_many_even_if_it_is_known() -> None:
    limits = ConnectionLimits(2, 10, is_known=lambda peer: True)
    with limits.counted(OWNER), limits.counted(OWNER), limits.counted(OWNER) as admitted:
        assert not admitted


def test_what_has_ended_makes_room() -> None:
    limits = ConnectionLimits(1, 1)
    with limits.counted(stranger(1)):
        pass

    with limits.counted(stranger(2)) as admitted:
        assert admitted


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS])
async def test_what_the_system_refuses_us_ends_one_connection_and_is_told(number: int) -> None:
    assert await said_of(OSError(number, os.strerror(number))) == (
        f'audit: failed by="{OWNER}" why="[Errno {number}] {os.strerror(number)}"'
    )


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE])
async def test_that_a_client_has_gone_is_nothing_to_tell(number: int) -> None:
    assert await said_of(OSError(number, os.strerror(number))) == ""


async def said_of(error: OSError) -> str:
    """Return what is logged of a client that is served until *error*."""

    async def serve() -> None:
        raise error

    text = io.StringIO()
    log = ClientLog(Log("control", text, journal=True))
    await serve_alone(serve, OWNER, Doorman(wary=False), log)
    return text.getvalue().partition(": ")[2].rstrip()
