"""Control is killed while an administrator makes and deletes vifs."""

import os
import random
import signal
import socket
from contextlib import closing
from typing import Any, Final

import attrs
import pytest

from tests.support import plain
from tests.support.lab import Daemon, Lab
from tests.support.waiting import eventually

SEED: Final = 20261126
#: One less than the daemon bears in a minute.
KILLS: Final = 4
CHANGES_BETWEEN: Final = 10
#: Turns of an idle loop from the request to the kill: longer than a change takes.
MOST_TURNS: Final = 400_000


@attrs.define
class Administrator:
    """Makes and deletes vifs, and knows which there have to be."""

    lab: Lab
    chance: random.Random
    names: set[str] = attrs.field(factory=set)
    made: int = 0

    def next_request(self) -> tuple[str, dict[str, Any], set[str]]:
        """Return a request, and the names that there are after it."""
        if self.names and self.chance.random() < 0.4:
            name = self.chance.choice(sorted(self.names))
            return "vif.delete", {"name": name}, self.names - {name}
        self.made += 1
        name = f"v{self.made}"
        arguments = {
            "name": name,
            "owner": "20005",
            "addresses": [f"10.77.0.{50 + self.made}/24"],
            # Without force, the wire is asked for half a second, in which a kill nearly always
            # would fall.
            "force": self.chance.random() < 0.8,
        }
        return "vif.create", arguments, self.names | {name}

    def change(self) -> None:
        op, arguments, names = self.next_request()
        self.lab.ask(op, **arguments)
        self.names = names

    def change_and_kill(self, daemon: Daemon, kills: int) -> None:
        """Ask for a change and kill control meanwhile; then see what has become of it."""
        op, arguments, names = self.next_request()
        control = daemon.processes()["control"]
        with closing(plain.connected(self.lab.run_dir / "control", 0)) as sock:
            plain.send_request(sock, op, arguments)
            for _ in range(self.chance.randrange(MOST_TURNS)):
                pass
            os.kill(control, signal.SIGKILL)
            acknowledged = was_answered(sock)
        eventually(lambda: restarts(self.lab) == kills, "another control is there")

        found = {vif["name"] for vif in self.lab.ask("vif.list")["vifs"]}
        assert found in ([names] if acknowledged else [self.names, names]), (op, arguments)
        self.names = found


def was_answered(sock: socket.socket) -> bool:
    try:
        plain.receive_result(sock)
    except (EOFError, ConnectionResetError):
        return False
    return True


def restarts(lab: Lab) -> int:
    try:
        return int(lab.ask("status")["control_restarts"])
    except (OSError, EOFError):
        return 0


def test_no_vif_that_was_acknowledged_is_lost_and_none_is_there_by_half(lab: Lab) -> None:
    print(f"seed {SEED}")
    lab.configure({})
    with lab.daemon() as daemon:
        engine = daemon.processes()["engine"]
        administrator = Administrator(lab, random.Random(SEED))
        for kills in range(1, KILLS + 1):
            for _ in range(CHANGES_BETWEEN):
                administrator.change()
            administrator.change_and_kill(daemon, kills)

            ids = {vif["id"] for vif in lab.ask("vif.list")["vifs"]}
            assert {entry.name for entry in (lab.run_dir / "vif").iterdir()} == ids
        assert daemon.processes()["engine"] == engine
    with lab.daemon():
        left = {vif["name"] for vif in lab.ask("vif.list")["vifs"]}

    assert left == administrator.names
    with pytest.raises(OSError, match="No such file"):
        lab.ask("status")
