"""A vif is its owner's, and one client's at a time."""

import socket
from contextlib import suppress

import pytest

from multiplexer.daemon.rundir import KINDS
from pfinet_client.attachment import connect_attach
from pfinet_proto.attach import Hello
from tests.support.lan import OWNERS, Lan
from tests.support.plain import LENGTH, Refused, StreamClient, acting_as, connected
from tests.support.waiting import eventually

from .attacks import lawful

FAILED = 125


def test_a_second_stack_is_refused_with_the_holders_uid_and_pid(lan: Lan) -> None:
    alice = lan.lab.user(OWNERS["alice"])
    holder = lan.vif("alice")["attached"]

    done = alice.pfinet("run", "--vif", "alice", "--", "true", check=False)

    assert done.returncode == FAILED
    assert holder["uid"] == OWNERS["alice"]
    assert f"uid {holder['uid']}" in done.stderr
    assert f"pid {holder['pid']}" in done.stderr


def test_a_second_client_of_the_stream_socket_is_closed(lan: Lan) -> None:
    path = lan.lab.socket_of("alice", "stream")
    with StreamClient(path, OWNERS["alice"]) as client, pytest.raises((EOFError, OSError)):
        client.receive()


def test_the_vif_is_free_again_when_its_client_has_gone(lan: Lan) -> None:
    path = lan.lab.socket_of("trudy", "stream")
    for number in range(3):
        sign = f"<client {number}>".encode()
        with StreamClient(path, OWNERS["trudy"]) as client:
            client.send([bytes(lawful(lan.members["trudy"], lan.members["bob"], sign))])
            assert sign in lan.listeners["bob"].frames_until(sign)[-1]
        eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy's vif is free")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("uid", [OWNERS["bob"], 20077, 65534])
def test_the_sockets_of_a_vif_open_to_its_owner_alone(lan: Lan, kind: str, uid: int) -> None:
    path = lan.lab.socket_of("trudy", kind)

    with pytest.raises(PermissionError):
        connected(path, uid, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_root_may_connect_and_is_refused(lan: Lan, kind: str) -> None:
    """File modes do not stop root; the daemon asks the kernel who is there."""
    path = lan.lab.socket_of("trudy", kind)

    with connected(path, 0, KINDS[kind]) as sock:
        data = sock.recv(4096)

    assert lan.vif("trudy")["attached"] is None
    assert data == b"" or kind == "attach"


@pytest.mark.parametrize("name", ["alice", "no-such-vif"])
def test_a_user_learns_nothing_of_the_vifs_of_others(lan: Lan, name: str) -> None:
    """Whether it exists is not told either."""
    for op in ("vif.show", "vif.locate"):
        with pytest.raises(Refused, match=r"not_found|forbidden") as refused:
            lan.lab.ask(op, uid=OWNERS["bob"], name=name)
        assert name in str(refused.value)
        assert str(OWNERS["alice"]) not in str(refused.value)


def test_a_user_lists_only_what_is_his(lan: Lan) -> None:
    shown = lan.lab.ask("vif.list", uid=OWNERS["bob"])["vifs"]

    assert [vif["name"] for vif in shown] == ["bob"]


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("vif.create", {"name": "mine", "owner": "20002", "addresses": ["10.77.0.99/24"]}),
        ("vif.delete", {"name": "bob"}),
    ],
)
def test_a_user_may_not_administrate(lan: Lan, op: str, arguments: dict[str, object]) -> None:
    with pytest.raises(Refused, match="forbidden"):
        lan.lab.ask(op, uid=OWNERS["bob"], **arguments)


def test_a_record_of_four_gigabytes_ends_the_client_and_nothing_else(lan: Lan) -> None:
    path = lan.lab.socket_of("trudy", "stream")
    with StreamClient(path, OWNERS["trudy"]) as client:
        client.send_raw(LENGTH.pack(0xFFFFFFFF) + b"x" * 100)
        client.receive_to_end()

    assert lan.vif("alice")["attached"] is not None


@pytest.mark.parametrize("kind", ["control", *KINDS])
def test_a_client_cannot_hand_over_a_descriptor(lan: Lan, kind: str) -> None:
    """Closing a hostile one could block: it is not let in, or ends the connection."""
    path = lan.lab.run_dir / "control" if kind == "control" else lan.lab.socket_of("trudy", kind)
    type_ = KINDS.get(kind, socket.SOCK_STREAM)
    with connected(path, OWNERS["trudy"], type_) as sock, socket.socket() as hostile:
        if lan.lab.ask("status")["passrights"]:
            with pytest.raises(PermissionError):
                socket.send_fds(sock, [b"\0\0\0\0"], [hostile.fileno()])
        else:
            socket.send_fds(sock, [b"\0\0\0\0"], [hostile.fileno()])
            with suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy's vif is free")


def test_the_data_socket_of_an_attachment_takes_no_descriptor(lan: Lan) -> None:
    path = str(lan.lab.socket_of("trudy", "attach"))
    with acting_as(OWNERS["trudy"]):
        attachment = connect_attach(path, Hello(), 20)
    with socket.socket() as hostile:
        for sock in (attachment.data, attachment.sock):
            if lan.lab.ask("status")["passrights"]:
                with pytest.raises(PermissionError):
                    socket.send_fds(sock, [b"\0\0\0\0"], [hostile.fileno()])
    attachment.close()
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy's vif is free")
