"""Control is killed while clients come and go: nobody loses a vif, and nothing is left."""

import os
import random
import select
import signal
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from pfinet_proto.attach import Hello, Welcome, decode_untrusted, encode
from tests.support.lab import Daemon, Lab
from tests.support.plain import connected
from tests.support.waiting import eventually

SEED: Final = 20261126
#: One less than the daemon bears in a minute.
KILLS: Final = 4
OWNERS: Final = {f"u{number}": 20001 + number for number in range(8)}
#: Turns of an idle loop until the kill: some of a handshake's steps are done by then.
MOST_TURNS: Final = 200_000
TIMEOUT_S: Final = 20


@attrs.define
class Client:
    """A client of one vif's `attach` socket, while it lasts."""

    path: Path
    uid: int
    control: socket.socket | None = None
    data: socket.socket | None = None

    def arrive(self) -> None:
        """Connect and say hello, and do not wait for the answer."""
        self.control = connected(self.path, self.uid, socket.SOCK_SEQPACKET)
        self.control.send(encode(Hello()))

    def leave(self) -> None:
        for sock in (self.control, self.data):
            if sock is not None:
                sock.close()
        self.control = self.data = None

    def hear(self) -> None:
        """Take the answer, if it has not come yet; leave if it is another than a welcome."""
        if self.control is None or self.data is not None:
            return
        try:
            answer, fds, _, _ = socket.recv_fds(self.control, 65536, 1)
        except ConnectionResetError:
            answer, fds = b"", []
        if answer and isinstance(decode_untrusted(answer), Welcome):
            self.data = socket.socket(fileno=fds[0])
        else:
            self.leave()

    def is_attached(self) -> bool:
        """Whether it was welcomed, and has not seen the end of its stream."""
        if self.data is None:
            return False
        return not select.select([self.data], [], [], 0)[0] or bool(
            self.data.recv(1, socket.MSG_PEEK)
        )


def are_held(lab: Lab, wanted: Mapping[str, bool]) -> bool:
    """Whether just the *wanted* vifs have a client."""
    vifs = lab.ask("vif.list")["vifs"]
    return {vif["name"]: vif["attached"] is not None for vif in vifs} == wanted


def has_restarted(lab: Lab, times: int) -> bool:
    return lab.restarts() == (times, 0)


def descriptors(daemon: Daemon) -> dict[str, int]:
    """Return how many descriptors broker and engine have."""
    pids = daemon.processes()
    return {role: len(os.listdir(f"/proc/{pids[role]}/fd")) for role in ("broker", "engine")}


def come_or_go(chance: random.Random, clients: Mapping[str, Client]) -> None:
    """Have some clients leave and others arrive, in any order."""
    for name in chance.sample(sorted(clients), len(clients)):
        client = clients[name]
        if client.control is None:
            client.arrive()
        elif chance.random() < 0.5:
            client.leave()


def test_whoever_was_welcomed_has_its_vif_and_whoever_has_left_leaves_nothing(lab: Lab) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    lab.configure(OWNERS)
    with lab.daemon() as daemon:
        clients = {
            name: Client(lab.socket_of(name, "attach"), uid) for name, uid in OWNERS.items()
        }
        before = descriptors(daemon)
        for kills in range(1, KILLS + 1):
            come_or_go(chance, clients)
            for _ in range(chance.randrange(MOST_TURNS)):
                pass
            os.kill(daemon.processes()["control"], signal.SIGKILL)
            eventually(partial(has_restarted, lab, kills), "another control is there")
            for client in clients.values():
                client.hear()

            attached = {name: client.is_attached() for name, client in clients.items()}
            what = f"those have their vifs who were welcomed: {attached}"
            eventually(partial(are_held, lab, attached), what)
            for name, client in clients.items():
                if not attached[name]:
                    client.leave()

        for client in clients.values():
            client.leave()
        eventually(partial(are_held, lab, dict.fromkeys(OWNERS, False)), "all vifs are free")
        eventually(lambda: descriptors(daemon) == before, "nothing is left of anybody")
