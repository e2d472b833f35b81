"""Peers that are gone without a word: each kind of stack says so, once told how long to wait.

The other end is Linux; the wire between them is cut, and in one test mended
when the other end has forgotten everything.
"""

from collections.abc import Iterator
from itertools import count

import attrs
import pytest

from pfinet_proto.attach import Offload
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.puppet import Puppet, puppet
from tests.client.test_resets import OURS, THEIRS

KEEPALIVE = "SO_KEEPALIVE=1, TCP_KEEPIDLE=1, TCP_KEEPINTVL=1, TCP_KEEPCNT=1"


def cut(records: list[bytes]) -> list[bytes]:
    return []


@attrs.frozen
class Ends:
    """A stack of ours and Linux, which listens on *port*, of no other test."""

    ours: Puppet
    theirs: Puppet
    daemon: FakeDaemon
    ports: Iterator[int]
    port: int = 0

    def connect(self, options: str = "") -> None:
        assert self.ours.do(f"connect({THEIRS!r}, {self.port}, {options})") == repr(OURS)
        assert self.theirs.do(f"accept({self.port})") == repr(OURS)


@pytest.fixture(scope="module")
def stacks(each_kind: str) -> Iterator[Ends]:
    users = (binding(1), 20001), (binding(2), 20002)
    with (
        fake_daemon(*users, offload=Offload(0)) as daemon,
        puppet(ClientUser(20002, daemon), "v2", "kernel") as theirs,
        puppet(ClientUser(20001, daemon), "v1", each_kind) as ours,
    ):
        yield Ends(ours, theirs, daemon, count(80))


@pytest.fixture
def ends(stacks: Ends) -> Ends:
    stacks.daemon.wire = list
    port = next(stacks.ports)
    assert stacks.theirs.do(f"listen({port})") == "None"
    return attrs.evolve(stacks, port=port)


def test_who_only_listens_learns_by_keepalive(ends: Ends) -> None:
    ends.connect(KEEPALIVE)
    ends.daemon.wire = cut

    assert ends.ours.do("recv()") == "ETIMEDOUT"
    assert ends.ours.do("send(b'x')") == "EPIPE"


def test_a_peer_that_is_there_and_silent_is_kept(ends: Ends) -> None:
    """It answers each probe, as the wire sees."""
    seen: list[bytes] = []

    def note(records: list[bytes]) -> list[bytes]:
        # Others speak of neighbours.
        seen.extend(record for record in records if record[12:14] == b"\x08\x00")
        return records

    ends.connect(KEEPALIVE)
    with ends.daemon.changed:
        ends.daemon.wire = note
        # Probes and their answers, one more than would end it unanswered.
        assert ends.daemon.changed.wait_for(lambda: len(seen) >= 4, TIMEOUT_S)
    assert ends.theirs.do("send(b'there')") == "5"

    assert ends.ours.do("recv()") == "b'there'"
    assert ends.ours.do("close()") == "None"


def test_who_sends_learns_by_the_time_that_it_sets(ends: Ends) -> None:
    ends.connect("TCP_USER_TIMEOUT=1000")
    ends.daemon.wire = cut
    assert ends.ours.do("send(b'x')") == "1"

    assert ends.ours.do("recv()") == "ETIMEDOUT"


def test_data_that_is_acknowledged_begins_the_time_anew(ends: Ends) -> None:
    ends.connect("TCP_USER_TIMEOUT=1500")
    for _ in range(4):
        assert ends.ours.do("send(b'x')") == "1"
        assert ends.theirs.do("recv()") == "b'x'"
        assert ends.ours.do("trio.sleep(0.5)") == "None"

    assert ends.theirs.do("send(b'still there')") == "11"
    assert ends.ours.do("recv()") == "b'still there'"


def test_who_was_accepted_is_as_patient_as_the_listener(ends: Ends) -> None:
    assert ends.ours.do(f"listen({ends.port}, {KEEPALIVE})") == "None"
    assert ends.theirs.do(f"connect({OURS!r}, {ends.port})") == repr(THEIRS)
    assert ends.ours.do(f"accept({ends.port})") == repr(THEIRS)
    ends.daemon.wire = cut

    assert ends.ours.do("recv()") == "ETIMEDOUT"


def test_nobody_is_found_where_nobody_is(ends: Ends) -> None:
    """Linux says that its neighbour is missing, lwIP that nobody answers."""
    found = ends.ours.do("connect('10.9.0.3', 80, TCP_USER_TIMEOUT=2000)")

    assert found in ("EHOSTUNREACH", "ETIMEDOUT")


def test_what_cannot_be_waited_for_is_refused(ends: Ends) -> None:
    for option in ("TCP_KEEPIDLE=0", "TCP_KEEPIDLE=32768", "TCP_KEEPINTVL=0", "TCP_KEEPCNT=128"):
        assert ends.ours.do(f"connect({THEIRS!r}, {ends.port}, {option})") == "EINVAL"
    assert ends.ours.do(f"connect({THEIRS!r}, {ends.port}, TCP_USER_TIMEOUT=-1)") == "EINVAL"
    ends.connect("TCP_KEEPIDLE=32767")
    option = "tell(connections[-1].getsockopt(socket.IPPROTO_TCP, socket.{}))"
    for name, value in (("TCP_KEEPIDLE", 32767), ("TCP_KEEPINTVL", 75), ("TCP_KEEPCNT", 9)):
        assert ends.ours.do(option.format(name)) == str(value)


def test_a_peer_that_forgot_resets_what_it_hears_of(each_kind: str) -> None:
    """As one does that was switched off and on again."""
    users = (binding(1), 20001), (binding(2), 20002)
    with fake_daemon(*users, offload=Offload(0)) as daemon:
        alice, bob = ClientUser(20001, daemon), ClientUser(20002, daemon)
        with puppet(alice, "v1", each_kind) as ours:
            with puppet(bob, "v2", "kernel") as theirs:
                assert theirs.do("listen(80)") == "None"
                assert ours.do(f"connect({THEIRS!r}, 80)") == repr(OURS)
                assert theirs.do("accept(80)") == repr(OURS)
                daemon.wire = cut
            assert daemon.ports["v2"].detached.wait(TIMEOUT_S)
            daemon.wire = list
            with puppet(bob, "v2", "kernel"):
                assert ours.do("send(b'x')") == "1"
                assert ours.do("recv()") == "ECONNRESET"
