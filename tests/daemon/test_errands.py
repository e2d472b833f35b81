"""Clients' connections that the broker has kept: not closed by it if a descriptor may wait there.

Control, which has another copy of each, may have been killed.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from unittest import mock

import pytest

from multiplexer.daemon import channel, descriptors, disposal
from multiplexer.daemon.admission import Admission, Refused
from multiplexer.daemon.errands import Errands
from multiplexer.daemon.fdstore import FdStore
from multiplexer.daemon.rundir import RunDirectory
from multiplexer.model import Config, Daemon
from multiplexer.uplinks.host_tap import HostTaps
from tests.support.tracer import Tracer

UID = 20001
VIF_ID = "0123456789abcdef" * 2
SESSION = channel.Session("attach", "tap", 0, UID, UID, os.getpid(), 0, bytes(16))
KEPT = channel.Kept(VIF_ID, 64, 1, SESSION)


class Noting(RunDirectory):
    """A run-time directory that notes which connections it is to close."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.given: list[socket.socket] = []

    def close_connections(self, connections: Iterable[socket.socket]) -> None:
        self.given += connections


@pytest.fixture
def run_directory() -> Iterator[Noting]:
    place = tempfile.mkdtemp(dir="/run")
    made = Noting(f"{place}/multiplexer")
    yield made
    for sock in made.given:
        sock.close()
    made.remove()
    shutil.rmtree(place)


@pytest.fixture
def errands(run_directory: Noting) -> Errands:
    config = Config(daemon=Daemon(owner_uids=(range(UID, UID + 1),)))
    made = Errands(
        Admission(config, {0: "root"}.get),
        run_directory,
        FdStore(),
        (),
        mock.create_autospec(HostTaps),
    )
    made.run(channel.OpenVifSockets(1, VIF_ID, UID, ("attach",)), ())
    return made


@pytest.fixture
def connection() -> Iterator[int]:
    """Return a descriptor of a client's connection, which is whose it is given to."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        yield ours.detach()


@pytest.mark.parametrize(
    "request_of", [channel.Forget, channel.CloseVifSockets], ids=["forget", "close"]
)
def test_what_is_forgotten_is_not_closed_at_once(
    errands: Errands,
    run_directory: Noting,
    connection: int,
    request_of: type[channel.Forget | channel.CloseVifSockets],
) -> None:
    errands.run(channel.Keep(2, KEPT), [connection])
    errands.run(request_of(3, VIF_ID), ())

    assert [sock.fileno() for sock in run_directory.given] == [connection]


def test_what_no_control_has_asked_for_again_is_not_closed_at_once(
    errands: Errands, run_directory: Noting, connection: int
) -> None:
    errands.run(channel.Keep(2, KEPT), [connection])
    errands.begin_anew()
    errands.end_unclaimed()

    assert [sock.fileno() for sock in run_directory.given] == [connection]


def test_what_is_not_kept_is_not_closed_at_once(
    errands: Errands, run_directory: Noting, connection: int
) -> None:
    stranger = channel.Kept("f" * 32, 64, 1, SESSION)
    with pytest.raises(Refused):
        errands.run(channel.Keep(2, stranger), [connection])

    assert [sock.fileno() for sock in run_directory.given] == [connection]


@pytest.mark.parametrize("is_prepared", [True, False])
def test_the_broker_leaves_to_a_process_what_let_in_a_descriptor(
    run_directory: Noting, monkeypatch: pytest.MonkeyPatch, is_prepared: bool
) -> None:
    """Also where the kernel refuses the descriptors of all others."""
    monkeypatch.setattr(disposal, "MOST_PROCESSES", 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tracer = Tracer()
    with ours, theirs:
        if is_prepared:
            descriptors.prepare(ours)
        tracer.send(theirs, b"x")
        RunDirectory.close_connections(run_directory, [ours])

        assert tracer.is_discarded != is_prepared
    tracer.close()
