"""The handshake as a client speaks it, with a daemon that says what a test wants."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pfinet_client.attachment import Attachment, VifRefused, connect_attach
from pfinet_proto.attach import (
    MAX_MESSAGE_BYTES,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Transport,
    Update,
    Welcome,
    decode_untrusted,
    encode,
)
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from tests.client.fake_daemon import binding
from tests.client.one_client import Listen, Serve, one_client

HELLO = Hello(offload=Offload.CSUM, client="test")
WELCOME = Welcome(1, Transport.STREAM, Offload.CSUM, bytes(16), binding(1))
#: A daemon may take longer; a test that fails shall not.
TIMEOUT_S = 10.0


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def listen(tmp_path: Path, no_descriptor_is_left: None) -> Iterator[Listen]:
    """Listens at a path and serves one client by the function given."""
    with one_client(tmp_path / "attach", socket.SOCK_SEQPACKET) as listen:
        yield listen


def answering(answer: bytes, fds: Sequence[int] = ()) -> Serve:
    def serve(client: socket.socket) -> None:
        client.recv(MAX_MESSAGE_BYTES)
        socket.send_fds(client, [answer], fds)

    return serve


def welcoming(then: Serve = lambda client: None) -> Serve:
    """Answers as a daemon does; *then* speaks on."""

    def serve(client: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            answering(encode(WELCOME), [theirs.fileno()])(client)
            ours.send(b"data")
            then(client)

    return serve


def test_attaching_gives_the_binding_and_a_stream(listen: Listen) -> None:
    attachment = connect_attach(listen(welcoming()), HELLO, TIMEOUT_S)

    assert attachment.welcome == WELCOME
    assert attachment.data.type == socket.SOCK_STREAM
    assert attachment.data.recv(4) == b"data"
    attachment.close()


def test_the_daemon_gets_the_hello_as_it_is(listen: Listen) -> None:
    heard = []

    def serve(client: socket.socket) -> None:
        heard.append(decode_untrusted(client.recv(MAX_MESSAGE_BYTES)))

    with pytest.raises(RemoteProtocolError, match="without an answer"):
        connect_attach(listen(serve), HELLO, TIMEOUT_S)
    assert heard == [HELLO]


def test_neither_socket_is_inherited(listen: Listen) -> None:
    attachment = connect_attach(listen(welcoming()), HELLO, TIMEOUT_S)

    assert not attachment.sock.get_inheritable()
    assert not attachment.data.get_inheritable()
    attachment.close()


def test_both_sockets_block_whatever_the_default_of_the_program(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket.setdefaulttimeout(5)
    try:
        attachment = connect_attach(listen(welcoming()), HELLO, TIMEOUT_S)
    finally:
        socket.setdefaulttimeout(None)

    for sock in (attachment.sock, attachment.data):
        assert sock.gettimeout() is None
        assert os.get_blocking(sock.fileno())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)
    attachment.close()


def test_a_refusal_is_raised_with_its_code_and_text(listen: Listen) -> None:
    refused = Refused(RefusedCode.TAKEN, "vif v1 is held by uid 1000, pid 42")

    with pytest.raises(VifRefused, match="held by uid 1000, pid 42") as caught:
        connect_attach(listen(answering(encode(refused))), HELLO, TIMEOUT_S)
    assert caught.value.code is RefusedCode.TAKEN


def test_a_refusal_without_a_text_is_told_by_its_code(listen: Listen) -> None:
    refused = encode(Refused(RefusedCode.NOT_READY))

    with pytest.raises(VifRefused, match="refused: not_ready"):
        connect_attach(listen(answering(refused)), HELLO, TIMEOUT_S)


def test_a_refusal_that_does_not_wait_for_us_is_read(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon may say its limit is reached, and close, before our first word."""
    gone = threading.Event()
    real_send = socket.socket.send

    def serve(client: socket.socket) -> None:
        real_send(client, encode(Refused(RefusedCode.LIMIT, "too many")))
        client.close()
        gone.set()

    def send_late(self: socket.socket, *arguments: object) -> int:
        gone.wait()
        return real_send(self, *arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(socket.socket, "send", send_late)
    with pytest.raises(VifRefused, match="too many"):
        connect_attach(listen(serve), HELLO, TIMEOUT_S)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"junk", "begin a message"),
        (encode(WELCOME) + bytes(MAX_MESSAGE_BYTES), "more than 16384 bytes"),
    ],
)
def test_an_answer_that_is_no_message_is_a_bad_one(
    listen: Listen, answer: bytes, wrong: str
) -> None:
    with pytest.raises(BadMessage, match=wrong):
        connect_attach(listen(answering(answer)), HELLO, TIMEOUT_S)


@pytest.mark.parametrize(
    "answer", [encode(Update(binding(1))), encode(Goodbye(GoodbyeCode.DELETED)), encode(HELLO)]
)
def test_an_answer_out_of_turn_is_the_daemon_s_fault(listen: Listen, answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="while offered"):
        connect_attach(listen(answering(answer)), HELLO, TIMEOUT_S)


@pytest.mark.parametrize("count", [0, 2, 8, 20])
def test_a_welcome_comes_with_exactly_one_descriptor(listen: Listen, count: int) -> None:
    """All that came are closed: `no_descriptor_is_left` sees it."""
    end, other = socket.socketpair()
    with end, other:
        path = listen(answering(encode(WELCOME), [end.fileno()] * count))
        with pytest.raises((RemoteProtocolError, BadMessage), match=r"descriptors |surplus fds"):
            connect_attach(path, HELLO, TIMEOUT_S)


def test_a_refusal_comes_with_no_descriptor(listen: Listen) -> None:
    end, other = socket.socketpair()
    with end, other:
        path = listen(answering(encode(Refused(RefusedCode.GONE)), [end.fileno()]))
        with pytest.raises(RemoteProtocolError, match="1 descriptors beside Refused"):
            connect_attach(path, HELLO, TIMEOUT_S)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_descriptor_that_is_another_socket_is_refused(
    listen: Listen, kind: socket.SocketKind
) -> None:
    end, other = socket.socketpair(socket.AF_UNIX, kind)
    with end, other, pytest.raises(RemoteProtocolError, match="is no stream"):
        connect_attach(listen(answering(encode(WELCOME), [end.fileno()])), HELLO, TIMEOUT_S)


def test_a_descriptor_that_is_no_socket_is_refused(listen: Listen) -> None:
    with open(os.devnull) as null, pytest.raises(RemoteProtocolError, match="is no stream"):
        connect_attach(listen(answering(encode(WELCOME), [null.fileno()])), HELLO, TIMEOUT_S)


def test_a_daemon_that_says_nothing_is_given_up(listen: Listen) -> None:
    done = threading.Event()

    def serve(client: socket.socket) -> None:
        done.wait()

    path = listen(serve)
    try:
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.05 s"):
            connect_attach(path, HELLO, 0.05)
    finally:
        done.set()


def test_a_daemon_that_takes_no_connection_is_given_up(tmp_path: Path) -> None:
    path = str(tmp_path / "attach")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first,
    ):
        listener.bind(path)
        listener.listen(0)
        first.connect(path)

        with pytest.raises(TimeoutError, match="takes no connection"):
            connect_attach(path, HELLO, 0.05)


def test_no_socket_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "attach")):
        connect_attach(str(tmp_path / "attach"), HELLO, TIMEOUT_S)


def received(attachment: Attachment) -> Update | Goodbye | None:
    """Wait for the daemon's next word."""
    while True:
        attachment.sock.recv(1, socket.MSG_PEEK)
        # What woke us may be a word to skip.
        with contextlib.suppress(BlockingIOError):
            return attachment.receive_nowait()


def test_what_the_daemon_says_later_is_received_in_order(listen: Listen) -> None:
    words: list[Update | Goodbye] = [
        Update(binding(2)),
        Update(binding(3)),
        Goodbye(GoodbyeCode.DELETED, "deleted"),
    ]

    def speak(client: socket.socket) -> None:
        client.send(encode(words[0]))
        client.send(b"PFIN\x77\x77\0\0later")
        for word in words[1:]:
            client.send(encode(word))

    attachment = connect_attach(listen(welcoming(speak)), HELLO, TIMEOUT_S)
    assert [received(attachment) for _ in range(4)] == [*words, None]
    attachment.close()


def test_nothing_said_would_block(listen: Listen) -> None:
    done = threading.Event()

    def say_nothing(client: socket.socket) -> None:
        done.wait()

    attachment = connect_attach(listen(welcoming(say_nothing)), HELLO, TIMEOUT_S)

    with pytest.raises(BlockingIOError):
        attachment.receive_nowait()
    done.set()
    attachment.close()
