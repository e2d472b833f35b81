"""Clients that send descriptors, on a kernel that does not refuse them for the daemon.

Each descriptor holds up whoever discards it: by lingering, or for ever.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from pfinet_client.attachment import connect_attach
from pfinet_proto.attach import Hello
from tests.support import old_kernel
from tests.support.lan import Lan, running_lan
from tests.support.plain import LENGTH, acting_as, connected
from tests.support.programs import ping
from tests.support.snags import HungFile, LingeringSocket, holding
from tests.support.transfer import transfer
from tests.support.waiting import eventually

#: The sockets that a client has with the daemon, and the type of those that it connects.
WAYS: Final = {
    "control": socket.SOCK_STREAM,
    "attach": socket.SOCK_SEQPACKET,
    "stream": socket.SOCK_STREAM,
    "bess": socket.SOCK_SEQPACKET,
    "held attach": None,
    "data": None,
}
SNAGS: Final = ("lingering", "hung")

#: A hostile user for each, since each is shut out.
HOSTILE: Final = {
    (way, snag): 20020 + number
    for number, (way, snag) in enumerate((way, snag) for snag in SNAGS for way in WAYS)
}
INNOCENT_UID: Final = 20050
TRUSTED_UID: Final = 20060


def vif_of(uid: int) -> str:
    return f"of-{uid}"


def vif_table(uid: int) -> str:
    return f"""
[vif.{vif_of(uid)}]
owner = "{uid}"
network = "lan"
addresses = ["10.77.0.{uid - 20000 + 100}/24"]
"""


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    extra = "".join(map(vif_table, (*HOSTILE.values(), INNOCENT_UID, TRUSTED_UID)))
    extra += "trusted_tap = true\n"
    with running_lan("oldkernel", extra=extra, daemon_module=old_kernel.MODULE) as running:
        yield running


def make(snag: str, place: Path) -> HungFile | LingeringSocket:
    return HungFile(place) if snag == "hung" else LingeringSocket()


@contextmanager
def client(lan: Lan, way: str, uid: int) -> Iterator[socket.socket]:
    """Be a client of *uid* on one of its sockets."""
    kind = WAYS[way]
    if way == "control":
        path = lan.lab.run_dir / "control"
    else:
        path = lan.lab.socket_of(vif_of(uid), way if kind else "attach")
    if kind is not None:
        with connected(path, uid, kind) as sock:
            yield sock
        return
    with acting_as(uid):
        attachment = connect_attach(str(path), Hello(), 20)
    with attachment.sock, attachment.data:
        sock = attachment.data if way == "data" else attachment.sock
        sock.settimeout(20)
        yield sock


def wait_for_end(sock: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while sock.recv(65536):
            pass


def send(sock: socket.socket, data: bytes, fd: int, flags: int = 0) -> None:
    socket.send_fds(sock, [data], [fd], flags)


def open_fds(lan: Lan, role: str) -> int:
    return len(list(Path(f"/proc/{lan.daemon.processes()[role]}/fd").iterdir()))


@pytest.mark.parametrize("snag", SNAGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_descriptor_ends_its_client_and_holds_up_nobody(
    lan: Lan, tmp_path: Path, way: str, snag: str
) -> None:
    uid = HOSTILE[way, snag]
    shut_out = lan.lab.ask("status")["shut_out"]
    kept = open_fds(lan, "engine")

    def attack(fd: int) -> None:
        with client(lan, way, uid) as sock:
            send(sock, LENGTH.pack(60) + bytes(30), fd)
            wait_for_end(sock)

    with (
        transfer(lan.stacks["alice"], lan.stacks["bob"], lan.members["bob"].ipv4),
        holding(make(snag, tmp_path), attack),
    ):
        eventually(
            lambda: bool(lan.lab.ask("status")["shut_out"] == shut_out + 1),
            "the user is shut out",
        )
        eventually(lambda: lan.vif(vif_of(uid))["attached"] is None, "the vif is free")
        assert open_fds(lan, "engine") <= kept + 1
        with pytest.raises((EOFError, ConnectionError)):
            lan.lab.ask("status", uid=uid)

    assert f"uid {uid} " in lan.daemon.log.read_text().rpartition("sent descriptors")[0]


def test_what_waits_unread_when_its_vif_is_deleted_holds_up_nobody(
    lan: Lan, tmp_path: Path
) -> None:
    """Nobody accepts the connections of a user who is shut out: the broker has to end them."""
    uid = HOSTILE["data", "lingering"]
    address = "10.77.0.99/24"
    lan.lab.multiplexerctl("vif", "create", "brief", "--owner", str(uid), "--address", address)
    path = lan.lab.socket_of("brief", "stream")
    clients: list[socket.socket] = []

    def attack(fd: int) -> None:
        clients.extend(connected(path, uid) for _ in range(5))
        for sock in clients:
            send(sock, b"x", fd)

    with (
        transfer(lan.stacks["alice"], lan.stacks["bob"], lan.members["bob"].ipv4),
        holding(HungFile(tmp_path), attack),
    ):
        lan.lab.multiplexerctl("vif", "delete", "brief")
        assert lan.lab.ask("status")["vifs"] > 0


def test_an_urgent_byte_hides_no_descriptor(lan: Lan) -> None:
    uid = INNOCENT_UID + 1

    def attack(fd: int) -> None:
        with connected(lan.lab.run_dir / "control", uid) as sock:
            send(sock, b"x", fd, socket.MSG_OOB)
            wait_for_end(sock)

    with holding(LingeringSocket(), attack), pytest.raises((EOFError, ConnectionError)):
        lan.lab.ask("status", uid=uid)


def test_thousands_of_connections_with_a_descriptor_each_are_disposed_of(lan: Lan) -> None:
    """The user is shut out after the first; the others are never read."""
    uid = INNOCENT_UID + 2

    def attack(fd: int) -> None:
        for _ in range(2000):
            with (
                connected(lan.lab.run_dir / "control", uid) as sock,
                suppress(BrokenPipeError, ConnectionResetError),
            ):
                send(sock, b"x", fd)

    with holding(LingeringSocket(), attack):
        assert lan.lab.ask("status", uid=INNOCENT_UID)["vifs"] > 0
        eventually(lambda: open_fds(lan, "control") < 400, "control has let them go")


def test_root_is_not_shut_out(lan: Lan) -> None:
    def attack(fd: int) -> None:
        with connected(lan.lab.run_dir / "control", 0) as sock:
            send(sock, b"x", fd)
            wait_for_end(sock)

    with holding(LingeringSocket(), attack):
        assert lan.lab.ask("status")["passrights"] is False


@pytest.mark.parametrize("way", WAYS)
def test_who_sends_none_is_served_as_ever(lan: Lan, way: str) -> None:
    with client(lan, way, INNOCENT_UID):
        pass
    eventually(lambda: lan.vif(vif_of(INNOCENT_UID))["attached"] is None, "the vif is free")
    with lan.lab.user(INNOCENT_UID).stack(vif_of(INNOCENT_UID)) as stack:
        assert ping(stack, lan.members["bob"].ipv4)


def test_a_trusted_stack_lends_no_tap_and_has_a_ring(lan: Lan) -> None:
    """Who could send a tap could send anything."""
    with lan.lab.user(TRUSTED_UID).stack(vif_of(TRUSTED_UID)) as stack:
        assert ping(stack, "10.77.0.1")
        shown = lan.lab.ask("vif.show", name=vif_of(TRUSTED_UID))

    assert shown["attached"]["transport"] == "ring"
