"""A vif's filter holds for real frames, whatever becomes of the filter, the vif and the daemon."""

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.support import plain
from tests.support.lab import Daemon, Lab
from tests.support.waiting import eventually

ALICE, BOB = 20001, 20002
NUMBERS = {"alice": 11, "bob": 12}

#: Nobody's filter says anything of it.
OPEN_PORT = 5000

CLOSED = """\
<filter name='closed'>
  <rule action='drop' direction='{direction}'>
    <udp dstportstart='$PORT'/>
  </rule>
</filter>
"""
ABOVE = "<filter name='above'><filterref filter='closed'/></filter>\n"


@attrs.define
class Wire:
    """The clients of alice and bob, and what passes from the one to the other."""

    lab: Lab
    alice: plain.StreamClient
    bob: plain.StreamClient
    macs: dict[str, str]
    marks: Iterator[int] = attrs.field(factory=itertools.count)

    def passes(self, port: int) -> bool:
        """Return whether a datagram to *port* of bob arrives."""
        mark, end = f"<{next(self.marks)}>".encode(), f"<{next(self.marks)}>".encode()
        self.alice.send([self._frame(port, mark), self._frame(OPEN_PORT, end)])
        return any(mark in frame for frame in self.bob.receive_until(end))

    def reaches(self) -> bool:
        """Return whether anything that was sent has arrived."""
        self.alice.send([self._frame(OPEN_PORT, b"<hello>")])
        return any(b"<hello>" in frame for frame in self.bob.receive_now())

    def _frame(self, port: int, mark: bytes) -> bytes:
        source, destination = (f"10.77.0.{NUMBERS[name]}" for name in ("alice", "bob"))
        ether = Ether(src=self.macs["alice"], dst=self.macs["bob"])
        return bytes(
            ether / IP(src=source, dst=destination) / UDP(sport=7, dport=port) / Raw(mark)
        )

    def drops(self, name: str) -> dict[str, int]:
        counters = self.lab.ask("vif.show", name=name)["counters"]
        return dict(counters["drops"])

    def trace(self, port: int) -> Any:
        frames = [self._frame(port, b"<traced>").hex()]
        return self.lab.ask("vif.trace", name="alice", frames=frames)["traces"][0]


@contextmanager
def wire(lab: Lab) -> Iterator[Wire]:
    macs = {name: lab.ask("vif.show", name=name)["mac"] for name in NUMBERS}
    with ExitStack() as stack:
        alice, bob = (
            stack.enter_context(plain.StreamClient(lab.socket_of(name, "stream"), uid))
            for name, uid in (("alice", ALICE), ("bob", BOB))
        )
        between = Wire(lab, alice, bob, macs)
        # They have connected; what is sent before both are attached is for nobody.
        eventually(between.reaches, "frames pass")
        yield between


def create(lab: Lab, name: str, owner: int, *more: str) -> None:
    address = f"10.77.0.{NUMBERS[name]}/24"
    # Nobody else is on the wire, so it need not be asked.
    line = ("vif", "create", name, "--owner", str(owner), "--address", address, "--force")
    lab.multiplexerctl(*line, *more)


def define(lab: Lab, text: str, *, check: bool = True) -> str:
    file = Path(lab.root) / "filter.xml"
    file.write_text(text)
    return lab.multiplexerctl("filter", "define", str(file), check=check).stderr


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    lab.configure({})
    with lab.daemon() as daemon:
        define(lab, CLOSED.format(direction="out"))
        create(lab, "bob", BOB)
        yield daemon


def test_a_filter_is_enforced_from_the_first_frame_and_shown(lab: Lab, daemon: Daemon) -> None:
    create(lab, "alice", ALICE, "--filter", "closed", "--param", "PORT=1", "--param", "PORT=2")
    with wire(lab) as between:
        assert [between.passes(port) for port in (1, 2, 3)] == [False, False, True]
        assert between.drops("alice")["filter_out"] == 2
        traced = between.trace(1)
        assert traced["verdict"] == "filter_out"
        assert traced["steps"][-1]["step"] == "filter"
        assert "drop out in line 3 of filter 'closed'" in traced["steps"][-1]["text"]
        assert between.trace(3)["verdict"] == "pass"

    shown = lab.query("vif", "show", "alice")["filter"]
    assert (shown["name"], shown["parameters"]) == ("closed", {"PORT": ["1", "2"]})


def test_a_receivers_filter_keeps_frames_out_of_it_alone(lab: Lab, daemon: Daemon) -> None:
    create(lab, "alice", ALICE)
    define(lab, CLOSED.format(direction="in"))
    lab.multiplexerctl("filter", "binding", "create", "bob", "closed", "--param", "PORT=1")
    with wire(lab) as between:
        assert [between.passes(port) for port in (1, 2)] == [False, True]
        assert between.drops("bob")["filter_in"] == 1


def test_a_change_is_in_force_when_its_command_ends(lab: Lab, daemon: Daemon) -> None:
    """Of parameters, of the filter bound, of its definition, and of one below it."""
    create(lab, "alice", ALICE)
    with wire(lab) as between:

        def closed_are() -> list[int]:
            return [port for port in (1, 2, 3) if not between.passes(port)]

        assert closed_are() == []
        lab.multiplexerctl("vif", "set", "alice", "--filter", "closed", "--param", "PORT=1")
        assert closed_are() == [1]
        lab.multiplexerctl("vif", "set", "alice", "--param", "PORT=2")
        assert closed_are() == [2]
        define(lab, CLOSED.format(direction="out").replace("$PORT", "3"))
        assert closed_are() == [3]
        define(lab, ABOVE)
        lab.multiplexerctl("vif", "set", "alice", "--filter", "above", "--param", "PORT=2")
        assert closed_are() == [3]
        define(lab, CLOSED.format(direction="out"))
        assert closed_are() == [2]
        # A definition that a vif cannot take changes nothing.
        refused = define(lab, CLOSED.format(direction="out").replace("$PORT", "$P"), check=False)
        assert "parameters are missing: 'P'" in refused
        assert closed_are() == [2]
        lab.multiplexerctl("filter", "binding", "delete", "alice")
        assert closed_are() == []


def test_an_accepted_flow_is_judged_anew_by_a_changed_filter(lab: Lab, daemon: Daemon) -> None:
    """A connection that was let in does not outlive the rule that let it."""
    only = "<filter name='only'><rule action='accept' direction='out'><udp dstportstart='{}'/>"
    open_ = (
        f"</rule><rule action='accept' direction='out'><udp dstportstart='{OPEN_PORT}'/></rule>"
    )
    rest = "<rule action='drop' direction='inout' priority='1000'><all/></rule></filter>"
    define(lab, only.format(1) + open_ + rest)
    create(lab, "alice", ALICE, "--filter", "only")
    with wire(lab) as between:
        assert [between.passes(port) for port in (1, 1, 2)] == [True, True, False]
        define(lab, only.format(2) + open_ + rest)
        assert [between.passes(port) for port in (1, 2)] == [False, True]


def test_no_death_of_a_process_opens_what_a_filter_closes(lab: Lab, daemon: Daemon) -> None:
    create(lab, "alice", ALICE, "--filter", "closed", "--param", "PORT=1")
    with wire(lab) as between:
        assert not between.passes(1)
        os.kill(daemon.processes()["control"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (1, 0), "another control is there")
        # The client has not noticed, and neither has its filter.
        assert [between.passes(port) for port in (1, 2)] == [False, True]
        os.kill(daemon.processes()["engine"], signal.SIGKILL)
        eventually(lambda: lab.restarts() == (1, 1), "another engine is there")
    with wire(lab) as between:
        assert [between.passes(port) for port in (1, 2)] == [False, True]


def test_definitions_and_bindings_outlive_the_daemon(lab: Lab, daemon: Daemon) -> None:
    create(lab, "alice", ALICE, "--filter", "closed", "--param", "PORT=1")
    before = lab.query("filter", "list"), lab.query("filter", "binding", "list")
    assert daemon.stop() == 0
    with lab.daemon():
        assert (lab.query("filter", "list"), lab.query("filter", "binding", "list")) == before
        with wire(lab) as between:
            assert [between.passes(port) for port in (1, 2)] == [False, True]
        refused = lab.multiplexerctl("filter", "undefine", "closed", check=False)
        assert "filter 'closed' is in use by vif alice" in refused.stderr
        lab.multiplexerctl("vif", "delete", "alice")
        lab.multiplexerctl("filter", "undefine", "closed")


def test_a_stock_filter_knows_the_vif_it_is_bound_to(lab: Lab, daemon: Daemon) -> None:
    """What goes to it from the wire, such as multicast, it may well drop."""
    create(lab, "alice", ALICE, "--filter", "clean-traffic")
    with wire(lab) as between:
        assert between.passes(1)
        assert "filter_out" not in between.drops("alice")
        lab.multiplexerctl("vif", "set", "alice", "--param", "IP=10.77.0.99")
        forged = between.trace(1)
        assert forged["verdict"] == "filter_out"


def test_a_changed_set_is_in_force_when_its_command_ends(lab: Lab, daemon: Daemon) -> None:
    rule = (
        "<rule action='drop' direction='out'><udp dstportstart='1' ipset='bad' ipsetflags='dst'/>"
    )
    define(lab, f"<filter name='naming'>{rule}</rule></filter>")
    lab.multiplexerctl("set", "create", "bad", "10.77.0.100-10.77.0.200")
    create(lab, "alice", ALICE, "--filter", "naming")
    with wire(lab) as between:
        assert between.passes(1)
        lab.multiplexerctl("set", "add", "bad", "10.77.0.0/28")
        assert [between.passes(port) for port in (1, 2)] == [False, True]
        lab.multiplexerctl("set", "remove", "bad", "10.77.0.12")
        assert between.passes(1)
