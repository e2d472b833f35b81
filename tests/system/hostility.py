"""What hostile clients do, on each socket that they have.

Each takes what it may connect to, and a function to say with that it has done
all of it once.  Then it does so again, or stays as it is, until it is killed.
"""

import mmap
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from pfinet_client.attachment import Attachment, VifRefused, connect_attach
from pfinet_proto.attach import Hello, Transport, encode
from pfinet_proto.ring import (
    CONTROL_BYTES,
    LINE_BYTES,
    USUAL_BYTES,
    Producer,
    Which,
    memory_bytes,
)
from tests.support import linux
from tests.support.plain import LENGTH, acting_as, connected

SEED: Final = 20261126
KINDS: Final[Mapping[str, socket.SocketKind]] = {
    "control": socket.SOCK_STREAM,
    "attach": socket.SOCK_SEQPACKET,
    "stream": socket.SOCK_STREAM,
    "bess": socket.SOCK_SEQPACKET,
}
N_CONNECTS: Final = 10_000
ROUND: Final = 100

REQUEST: Final = b'{"v":1,"id":1,"op":"vif.list","args":{}}'

Done = Callable[[], None]


@attrs.frozen
class Targets:
    """The sockets that *uid* may connect to, by kind; *broadcast* is a lawful frame of its vif.

    *frame_to_us* is one for it, which *accomplice_uid* may send on the socket *accomplice*.
    """

    uid: int
    paths: Mapping[str, Path]
    broadcast: bytes
    accomplice_uid: int
    accomplice: Path
    frame_to_us: bytes

    def connect(self, kind: str) -> socket.socket:
        return connected(self.paths[kind], self.uid, KINDS[kind])

    def try_send(self, kind: str, *pieces: bytes) -> None:
        """Send on a connection of its own; that the daemon ends it is no error."""
        with self.connect(kind) as sock, suppress(ConnectionError):
            for piece in pieces:
                sock.sendall(piece)

    def attach(self) -> tuple[socket.socket, socket.socket]:
        """Return the connection and the data socket of an attachment, as soon as one is had."""
        while True:
            with suppress(VifRefused), acting_as(self.uid):  # the last one is not gone yet
                attachment = connect_attach(str(self.paths["attach"]), Hello(), 20)
                return attachment.sock, attachment.data

    def attach_by_ring(self) -> tuple[Attachment, mmap.mmap]:
        """Return an attachment by rings with their memory, as soon as one is had."""
        hello = Hello(transports=(Transport.RING,))
        while True:
            with suppress(VifRefused), acting_as(self.uid):
                attachment = connect_attach(str(self.paths["attach"]), hello, 20)
                assert attachment.memory is not None
                return attachment, mmap.mmap(attachment.memory, memory_bytes(USUAL_BYTES))


def stay(done: Done) -> None:
    done()
    signal.pause()


def send_garbage(targets: Targets, done: Done) -> None:
    numbers = random.Random(SEED)
    while True:
        for kind in KINDS:
            for _ in range(ROUND):
                targets.try_send(kind, numbers.randbytes(numbers.randrange(1, 2000)))
        done()


def send_mutated_hellos(targets: Targets, done: Done) -> None:
    numbers = random.Random(SEED)
    hello = encode(Hello())
    while True:
        for _ in range(ROUND):
            changed = bytearray(hello)
            for _ in range(numbers.randrange(1, 4)):
                changed[numbers.randrange(len(changed))] = numbers.randrange(256)
            targets.try_send("attach", bytes(changed), bytes(changed))
        done()


def leave_halves(targets: Targets, done: Done) -> None:
    """Half a request, no hello, and half the longest record, for as long as it lasts."""
    held = []
    for _ in range(8):
        for kind in ("control", "attach"):
            sock = targets.connect(kind)
            if kind == "control":
                sock.sendall(LENGTH.pack(60000) + b"{" * 30000)
            held.append(sock)
    sock = targets.connect("stream")
    sock.sendall(LENGTH.pack(65000) + bytes(64000))
    held.append(sock)
    stay(done)


def claim_huge_lengths(targets: Targets, done: Done) -> None:
    while True:
        for length in (0, 65_600, 1 << 31, (1 << 32) - 1):
            for kind in ("control", "stream"):
                for _ in range(ROUND // 4):
                    targets.try_send(kind, LENGTH.pack(length) + bytes(100))
        done()


def connect_often(targets: Targets, done: Done) -> None:
    """Ten thousand connections, as many of them at once as the daemon lets be."""
    held: list[socket.socket] = []
    for number in range(N_CONNECTS):
        held.append(targets.connect("control" if number % 2 else "stream"))
        if len(held) > 500:
            held.pop(0).close()
    stay(done)


def never_read(targets: Targets, done: Done) -> None:
    """Ask for answers and be sent frames that nobody reads."""
    control, data = targets.attach()
    asking = targets.connect("control")
    asking.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            asking.send(LENGTH.pack(len(REQUEST)) + REQUEST)
    record = LENGTH.pack(len(targets.frame_to_us)) + targets.frame_to_us
    with control, data, connected(targets.accomplice, targets.accomplice_uid) as sock:
        while True:
            for _ in range(ROUND):
                sock.sendall(record * ROUND)
            done()


def send_descriptors(targets: Targets, done: Done) -> None:
    """The kernel of these tests refuses them."""
    with socket.socket() as snag:
        while True:
            for kind in KINDS:
                with targets.connect(kind) as sock:
                    _send_descriptor(sock, snag)
            for sock in targets.attach():
                _send_descriptor(sock, snag)
                sock.close()
            done()


def _send_descriptor(sock: socket.socket, snag: socket.socket) -> None:
    try:
        socket.send_fds(sock, [LENGTH.pack(60)], [snag.fileno()])
    except (PermissionError, ConnectionError):
        return
    raise AssertionError("the kernel has let a descriptor through")


def flood_broadcasts(targets: Targets, done: Done) -> None:
    record = LENGTH.pack(len(targets.broadcast)) + targets.broadcast
    with targets.connect("stream") as sock:
        while True:
            for _ in range(ROUND):
                sock.sendall(record * ROUND)
            done()


def flood_requests(targets: Targets, done: Done) -> None:
    """As many connections as there may be, each asking without end."""
    request = LENGTH.pack(len(REQUEST)) + REQUEST
    asking = [targets.connect("control") for _ in range(60)]
    for sock in asking:
        sock.setblocking(False)
    while True:
        for sock in asking:
            with suppress(BlockingIOError):
                sock.send(request)
            with suppress(BlockingIOError):
                sock.recv(65536)
        done()


def come_and_go(targets: Targets, done: Done) -> None:
    while True:
        for _ in range(ROUND):
            for sock in targets.attach():
                sock.close()
        done()


def scribble(targets: Targets, done: Done) -> None:
    """Write anything anywhere in the memory of the rings, between frames and instead of them."""
    numbers = random.Random(SEED)
    while True:
        attachment, mapping = targets.attach_by_ring()
        attachment.data.setblocking(False)
        with suppress(ConnectionError):
            for _ in range(numbers.randrange(1, 200)):
                _scribble_once(memoryview(mapping), targets.broadcast, numbers)
                with suppress(BlockingIOError):
                    attachment.data.send(b"k")
        attachment.close()
        done()


def _scribble_once(memory: memoryview, frame: bytes, numbers: random.Random) -> None:
    up = Producer(memory, Which.UP)
    up.index = up.own.index & ~7
    up.put_all([frame] * numbers.randrange(60))
    places = (
        LINE_BYTES * numbers.randrange(4),
        CONTROL_BYTES + up.index % up.bytes,
        numbers.randrange(len(memory)),
    )
    for _ in range(numbers.randrange(3)):
        size = numbers.choice((4, 8, 8, 200, 1 << 16))
        at = min(numbers.choice(places), len(memory) - size)
        memory[at : at + size] = numbers.randbytes(size)


ACTS: Final = (
    send_garbage,
    send_mutated_hellos,
    leave_halves,
    claim_huge_lengths,
    connect_often,
    never_read,
    send_descriptors,
    flood_broadcasts,
    flood_requests,
    come_and_go,
    scribble,
)


def kill_and_keep_tap(pid: int) -> int:
    """Kill process *pid*, and return its tap, which lives on."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(entry) == "/dev/net/tun":
                tap = linux.take_fd(pid, int(entry.name))
                os.kill(pid, signal.SIGKILL)
                return tap
    raise AssertionError(f"process {pid} has no tap")
