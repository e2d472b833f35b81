"""Control is killed while an administrator makes and deletes vifs, at steps that have a name.

It comes so far and no further because a sibling that it waits for is stopped.
"""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, Final

import attrs
import pytest

from tests.support import plain
from tests.support.lab import Daemon, Lab
from tests.support.waiting import eventually

SEED: Final = 20261126
CHANGES_BETWEEN: Final = 10
BYSTANDER_UID: Final = 20006


@attrs.define
class Administrator:
    """Makes and deletes vifs, and knows which there have to be."""

    lab: Lab
    chance: random.Random
    names: set[str] = attrs.field(factory=set)
    made: int = 0

    def change(self) -> None:
        """Make a vif or delete one, and be told that it is done."""
        if self.names and self.chance.random() < 0.4:
            name = self.chance.choice(sorted(self.names))
            self.lab.ask("vif.delete", name=name)
            self.names.remove(name)
        else:
            # Without force, the wire is asked for half a second.
            self.create(force=self.chance.random() < 0.8)

    def create(self, *, force: bool = True) -> str:
        arguments = self.next_vif(force=force)
        self.lab.ask("vif.create", **arguments)
        self.names.add(arguments["name"])
        return str(arguments["name"])

    def next_vif(self, *, force: bool = True) -> dict[str, Any]:
        self.made += 1
        return {
            "name": f"v{self.made}",
            "owner": "20005",
            "addresses": [f"10.77.0.{50 + self.made}/24"],
            "force": force,
        }


@attrs.frozen
class Killing:
    """Kills control, in the steps of what an administrator asks for."""

    administrator: Administrator
    daemon: Daemon

    @property
    def lab(self) -> Lab:
        return self.administrator.lab

    def before_it_reads_the_request(self) -> None:
        with self.dying("vif.create", self.administrator.next_vif(), held="control"):
            pass

    def before_the_broker_has_made_the_sockets(self) -> None:
        with self.dying("vif.create", self.administrator.next_vif(), held="broker"):
            for _ in range(10):  # others are answered meanwhile
                self.lab.ask("status", BYSTANDER_UID)

    def after_the_database_has_forgotten_and_before_the_engine_has(self) -> None:
        name = self.administrator.create()
        directory = self.lab.socket_of(name, "attach").parent
        with self.dying("vif.delete", {"name": name}, held="engine"):
            eventually(lambda: not directory.exists(), "the sockets are gone")
        self.administrator.names.remove(name)

    def after_the_acknowledgement(self) -> None:
        control = self.daemon.processes()["control"]
        self.administrator.create()
        os.kill(control, signal.SIGKILL)

    @contextmanager
    def dying(self, op: str, arguments: dict[str, Any], held: str) -> Iterator[None]:
        """Ask for *op* while *held* is stopped, and kill control, which cannot have answered."""
        processes = self.daemon.processes()
        with closing(plain.connected(self.lab.run_dir / "control", 0)) as sock:
            # A connection that it has not accepted yet would be the next one's.
            plain.send_request(sock, "status", {})
            plain.receive_result(sock)
            with stopped(processes[held]):
                plain.send_request(sock, op, arguments)
                yield
                os.kill(processes["control"], signal.SIGKILL)
                with pytest.raises((EOFError, ConnectionResetError)):
                    plain.receive_result(sock)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Let the process do nothing for a while, and go on if it still is there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def was_restarted(lab: Lab, times: int) -> bool:
    return lab.restarts() == (times, 0)


def has_exactly(lab: Lab, names: set[str]) -> bool:
    """Return whether there are these vifs, each with its directory, and no others."""
    vifs = lab.ask("vif.list")["vifs"]
    directories = {entry.name for entry in (lab.run_dir / "vif").iterdir()}
    return {vif["name"] for vif in vifs} == names and {vif["id"] for vif in vifs} == directories


def test_no_vif_that_was_acknowledged_is_lost_and_none_is_there_by_half(lab: Lab) -> None:
    print(f"seed {SEED}")
    lab.configure({})
    with lab.daemon() as daemon:
        engine = daemon.processes()["engine"]
        administrator = Administrator(lab, random.Random(SEED))
        killing = Killing(administrator, daemon)
        steps = [  # one less than the daemon bears in a minute
            killing.before_it_reads_the_request,
            killing.before_the_broker_has_made_the_sockets,
            killing.after_the_database_has_forgotten_and_before_the_engine_has,
            killing.after_the_acknowledgement,
        ]
        for kills, step in enumerate(steps, 1):
            for _ in range(CHANGES_BETWEEN):
                administrator.change()
            step()
            eventually(partial(was_restarted, lab, kills), "another control is there")
            eventually(partial(has_exactly, lab, administrator.names), step.__name__)
        assert daemon.processes()["engine"] == engine
    with lab.daemon():
        left = {vif["name"] for vif in lab.ask("vif.list")["vifs"]}

    assert left == administrator.names
    with pytest.raises(OSError, match="No such file"):
        lab.ask("status")
