"""The disk of the state is full: frames flow, control may die, vifs are deleted."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.disk import fill, small_disk
from tests.support.lab import Lab
from tests.support.netns import CommandFailed
from tests.support.plain import Refused
from tests.support.programs import ping
from tests.support.waiting import eventually

OWNERS = {"alice": 20001, "bob": 20002}
DISK_BYTES = 2**20


@pytest.fixture
def full(lab: Lab) -> Iterator[Lab]:
    """A lab whose daemon has run, and has no room for more state but what it holds back."""
    lab.configure(OWNERS)
    with small_disk(lab.root / "state", DISK_BYTES) as disk:
        with lab.daemon():
            create(lab, "carol", 50)
        fill(disk)
        yield lab


def create(lab: Lab, name: str, host: int) -> None:
    lab.multiplexerctl(
        "vif", "create", name, "--owner", "20005", "--address", f"10.77.0.{host}/24"
    )


def create_many(lab: Lab) -> None:
    for number in range(100):
        create(lab, f"dave{number}", 51 + number)


def test_control_is_followed_by_another_and_the_engine_goes_on(full: Lab) -> None:
    with full.daemon() as daemon, full.user(20001).stack("alice") as alice:
        engine = daemon.processes()["engine"]
        os.kill(daemon.processes()["control"], signal.SIGKILL)
        eventually(lambda: full.restarts() == (1, 0), "another control is there")

        assert daemon.processes()["engine"] == engine
        assert ping(alice, "10.77.0.1")
        assert full.ask("vif.show", name="carol")["name"] == "carol"


def test_changes_are_refused_with_the_reason_and_what_is_deleted_is_gone(full: Lab) -> None:
    """Many are made, since what the log and the database have already is used first."""
    with full.daemon():
        with pytest.raises(CommandFailed, match="No space left on device"):
            create_many(full)
        full.multiplexerctl("vif", "delete", "carol")
    with full.daemon(), pytest.raises(Refused, match="carol"):
        full.ask("vif.show", name="carol")


def test_vifs_that_are_new_in_the_file_are_there_and_stay_what_they_are(full: Lab) -> None:
    """There is no room for their ids, which a reload therefore cannot read either."""
    full.configure({**OWNERS, "eve": 20006})
    with full.daemon() as daemon:
        eve = full.ask("vif.show", name="eve")["id"]
        full.configure({**OWNERS, "eve": 20006, "frank": 20007})
        full.multiplexerctl("reload")

        assert full.ask("vif.show", name="eve")["id"] == eve
        assert full.ask("vif.show", name="frank")["owner_uid"] == 20007
        assert full.query("status")["control_restarts"] == 0
        log = daemon.log.read_text()
    for name in ("eve", "frank"):
        assert f"the id of vif {name} is not kept" in log
        assert "No space left on device" in log
    (full.root / "state" / "filling").unlink()
    with full.daemon():
        eve = full.ask("vif.show", name="eve")["id"]
    with full.daemon():
        assert full.ask("vif.show", name="eve")["id"] == eve
