"""A trace says beforehand what the running datapath then does, and changes nothing."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from scapy.layers.l2 import ARP, Ether
from scapy.utils import wrpcap

from tests.support.lab import end, interpreter
from tests.support.lan import OWNERS, Lan
from tests.support.waiting import eventually

from . import attacks

MALLORY = OWNERS["mallory"]


def trace(lan: Lan, vif: str, frames: list[bytes]) -> list[dict[str, Any]]:
    texts = [frame.hex() for frame in frames]
    traces: list[dict[str, Any]] = lan.lab.ask("vif.trace", name=vif, frames=texts)["traces"]
    return traces


def test_every_forged_frame_is_said_to_be_dropped_for_its_reason(lan: Lan) -> None:
    """The same frames are sent for real in test_attacks.py, and counted for these reasons.

    Nobody is attached to trudy, so what its counters count would be these.
    """
    me, you = lan.members["trudy"], lan.members["alice"]
    to = [lan.members["bob"].mac, lan.members["outside"].mac, attacks.BROADCAST]
    before = lan.vif("trudy")["counters"]

    for attack in attacks.ATTACKS:
        frames = attacks.frames(attack, me, you, b"<mark>", to)
        traces = trace(lan, "trudy", frames)

        assert {one["verdict"] for one in traces} == {attack.reason}, attack
        assert all(one["receivers"] == [] for one in traces)
        assert all(f"drop: {attack.reason}: " in one["steps"][-1]["text"] for one in traces)
    after = lan.vif("trudy")["counters"]
    assert (after["rx_frames"], after["drops"]) == (before["rx_frames"], before["drops"])


def test_a_lawful_frame_is_said_to_reach_whom_it_reaches(lan: Lan) -> None:
    me, bob = lan.members["mallory"], lan.members["bob"]
    asks = Ether(src=me.mac, dst=attacks.BROADCAST) / ARP(
        hwsrc=me.mac, psrc=me.ipv4, pdst=bob.ipv4
    )
    to_bob = Ether(src=me.mac, dst=bob.mac, type=0x0806) / ARP(
        op=2, hwsrc=me.mac, psrc=me.ipv4, hwdst=bob.mac, pdst=bob.ipv4
    )
    to_wire = attacks.lawful(me, lan.members["outside"], b"<mark>")

    asked, told, flooded = trace(lan, "mallory", [bytes(asks), bytes(to_bob), bytes(to_wire)])

    only_bob = [{"kind": "vif", "name": "bob", "drop": None}]
    assert (asked["verdict"], asked["receivers"]) == ("pass", only_bob)
    assert "bound 10.77.0.13/32" in asked["steps"][1]["text"]
    assert (told["verdict"], told["receivers"]) == ("pass", only_bob)
    assert {(to["kind"], to["name"]) for to in flooded["receivers"]} == {
        ("vif", "alice"),
        ("vif", "bob"),
        ("uplink", "wire"),
    }


def test_a_vif_without_a_stack_is_said_to_drop_it(lan: Lan) -> None:
    me, trudy = lan.members["mallory"], lan.members["trudy"]
    frame = Ether(src=me.mac, dst=trudy.mac, type=0x0806) / ARP(
        op=2, hwsrc=me.mac, psrc=me.ipv4, hwdst=trudy.mac, pdst=trudy.ipv4
    )

    (told,) = lan.lab.query("trace", "mallory", "--hex", bytes(frame).hex())["traces"]

    assert told["receivers"] == [{"kind": "vif", "name": "trudy", "drop": "detached"}]


def test_a_user_traces_a_capture_on_an_own_vif_and_learns_no_names(lan: Lan) -> None:
    me, bob = lan.members["mallory"], lan.members["bob"]
    user = lan.lab.user(MALLORY)
    user.make_home()
    capture = lan.lab.root / "frames.pcap"
    lawful = Ether(src=me.mac, dst=bob.mac, type=0x0806) / ARP(
        op=2, hwsrc=me.mac, psrc=me.ipv4, hwdst=bob.mac, pdst=bob.ipv4
    )
    wrpcap(str(capture), [lawful] * 40)
    capture.chmod(0o644)

    told = user.pfinet("trace", "mallory", "--pcap", str(capture))
    as_json = json.loads(user.pfinet("trace", "mallory", "--pcap", str(capture), "--json").stdout)

    assert told.stdout.count("receiver another vif\n") == 40
    assert "bob" not in told.stdout
    assert len(as_json["traces"]) == 40
    assert as_json["traces"][0]["receivers"] == [{"kind": "vif", "name": None, "drop": None}]


def test_a_user_cannot_trace_on_a_vif_of_others(lan: Lan) -> None:
    done = lan.lab.user(MALLORY).pfinet("trace", "alice", "--hex", "00", check=False)

    assert done.returncode != 0
    assert done.stderr == 'pfinet: there is no vif "alice"\n'


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "there is no frame to trace, wanted --hex or --pcap"),
        (("--hex", "xyz"), 2, "'xyz' is no frame, wanted pairs of hexadecimal digits"),
        (("--pcap", "/nowhere"), 1, "/nowhere: No such file or directory"),
        (("--pcap", "/etc/passwd"), 2, "/etc/passwd: no pcap file"),
    ],
)
def test_what_cannot_be_traced_is_refused(
    lan: Lan, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = lan.lab.multiplexerctl("trace", "alice", *arguments, check=False)

    assert (done.returncode, done.stderr) == (status, f"multiplexerctl: {message}\n")


def test_top_prints_rates_where_there_is_no_terminal(lan: Lan) -> None:
    text = lan.lab.multiplexerctl("top", "--interval", "0.1", "--count", "2").stdout
    lines = lan.lab.multiplexerctl("top", "--interval", "0.1", "--count", "2", "--json").stdout

    assert text.count("FROM frame/s") == 2
    for name in (*OWNERS, "wire (uplink)"):
        assert text.count(f"\n{name} ") == 2
    for line in lines.splitlines():
        assert {port["name"] for port in json.loads(line)} == {*OWNERS, "wire"}


@contextmanager
def top_on_a_terminal(lan: Lan) -> Iterator[tuple[subprocess.Popen[str], int]]:
    ours, theirs = pty.openpty()
    resize(theirs, 24, 100)
    process = lan.lab.host.popen(
        *("setsid", "--ctty"),
        *interpreter().module("multiplexer.cli", "top", "--interval", "3600"),
        stdin=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        end(process)
        os.close(ours)


def resize(terminal: int, lines: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class Screen:
    """What was written to a terminal so far."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._text = ""

    def shows(self, text: str) -> bool:
        self._text += os.read(self._terminal, 65536).decode()
        return text in self._text

    def forget(self) -> None:
        self._text = ""


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_fills_the_terminal_follows_its_size_and_quits(lan: Lan, key: bytes) -> None:
    with top_on_a_terminal(lan) as (process, terminal):
        before = termios.tcgetattr(terminal)
        screen = Screen(terminal)
        eventually(partial(screen.shows, "mallory"), "top shows all vifs")
        screen.forget()
        resize(terminal, 7, 100)
        process.send_signal(signal.SIGWINCH)
        eventually(partial(screen.shows, "more than fit here"), "top follows the new size")
        os.write(terminal, key)
        eventually(partial(screen.shows, "\x1b[?1049l"), "top gives the screen back")

        assert process.wait(20) == 0
        assert termios.tcgetattr(terminal) == before
