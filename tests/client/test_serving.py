"""The server of a stack's sockets and its clients, in one process and on the host's own stack."""

import errno
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_client.errors import StackError
from pfinet_client.serving import place
from pfinet_client.serving.client import StackConnection, connect
from pfinet_client.serving.protocol import (
    MAX_MESSAGE_BYTES,
    Bound,
    Failed,
    Message,
    SocketMade,
    SocketWanted,
    decode_untrusted,
    encode,
)
from pfinet_client.serving.server import Inside
from pfinet_proto.errors import BadMessage
from tests.client.fake_daemon import binding

TIMEOUT_S = 60

# The protocol.

int32 = st.integers(-(2**31), 2**31 - 1)
messages = st.one_of(
    st.builds(SocketWanted, int32, int32, int32),
    st.builds(SocketMade, int32),
    st.builds(Failed, st.text(max_size=100)),
    st.integers(1, 9).map(lambda number: Bound(binding(number))),
)


@given(messages)
def test_what_is_said_is_understood(message: Message) -> None:
    assert decode_untrusted(encode(message)) == message


@given(messages.filter(lambda message: not isinstance(message, Failed)), st.binary(min_size=1))
def test_neither_less_nor_more_is_a_message(message: Message, tail: bytes) -> None:
    packet = encode(message)

    for wrong in (packet + tail, packet[: -len(tail)]):
        with suppress(BadMessage):
            assert decode_untrusted(wrong) != message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(packet: bytes) -> None:
    with suppress(BadMessage):
        decode_untrusted(packet)


def test_a_text_that_is_too_long_is_cut() -> None:
    packet = encode(Failed("x" * 2 * MAX_MESSAGE_BYTES))

    assert len(packet) == MAX_MESSAGE_BYTES


# The server.


class Server:
    """A server in a thread, as the process inside a stack runs it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "stack")
        self.news, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._place = place.listener(self.path)
        inside = Inside(self._place.__enter__(), theirs, binding(1))
        self._thread = threading.Thread(target=inside.serve)
        self._thread.start()

    def close(self) -> None:
        self.news.close()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        self._place.__exit__(None, None, None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.close()


@contextmanager
def client(server: Server) -> Iterator[StackConnection]:
    connection = connect(server.path)
    yield connection
    connection.close()


def raw_client(server: Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(TIMEOUT_S)
    sock.connect(server.path)
    assert decode_untrusted(sock.recv(MAX_MESSAGE_BYTES)) == Bound(binding(1))
    return sock


def test_a_client_is_given_what_it_asks_for(server: Server) -> None:
    with client(server) as connection:
        made = connection.open_socket(
            socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP
        )

        assert connection.binding == binding(1)
        assert not os.get_inheritable(made)
        assert not os.get_blocking(made)
        with socket.socket(fileno=made) as sock:
            assert (sock.family, sock.type) == (socket.AF_INET6, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("family", "kind", "proto", "error"),
    [
        (socket.AF_INET, socket.SOCK_SEQPACKET, 0, errno.ESOCKTNOSUPPORT),
        (socket.AF_INET, 0x7F, 0, errno.EINVAL),
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP, errno.EPROTONOSUPPORT),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, errno.EAFNOSUPPORT),
        (-1, -1, -1, errno.EAFNOSUPPORT),
    ],
)
def test_what_is_refused_is_an_error_and_the_next_wish_is_granted(
    server: Server, family: int, kind: int, proto: int, error: int
) -> None:
    with client(server) as connection:
        with pytest.raises(OSError) as refused:  # noqa: PT011 - the errno is checked
            connection.open_socket(family, kind, proto)
        made = connection.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        os.close(made)

    assert refused.value.errno == error


def test_every_client_hears_of_a_change(server: Server) -> None:
    changed = attrs.evolve(binding(1), mtu=1400)
    with client(server) as one, client(server) as other:
        server.news.send(encode(Bound(changed)))
        for connection in (one, other):
            os.close(connection.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0))

            assert connection.binding.mtu == 1400


def test_who_does_not_read_hears_the_last_when_it_does(server: Server) -> None:
    """And costs nobody else anything meanwhile."""
    with raw_client(server) as deaf, client(server) as other:
        for number in range(1000):
            server.news.send(encode(Bound(attrs.evolve(binding(1), mtu=1000 + number))))
        while other.binding.mtu != 1999:
            os.close(other.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0))
        mtus = [0]
        while mtus[-1] != 1999:
            message = decode_untrusted(deaf.recv(MAX_MESSAGE_BYTES))
            assert isinstance(message, Bound)
            mtus.append(message.binding.mtu)

    assert mtus == sorted(mtus)


@pytest.mark.parametrize(
    "packet",
    [b"w", b"x" * 13, b"w" + bytes(13), encode(SocketMade(0)), bytes(100_000)],
    ids=["short", "unknown", "long", "wrong way", "huge"],
)
def test_who_talks_nonsense_is_let_go_and_nobody_else(server: Server, packet: bytes) -> None:
    with client(server) as other, raw_client(server) as hostile:
        hostile.send(packet)

        assert hostile.recv(MAX_MESSAGE_BYTES) == b""
        os.close(other.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0))


def test_who_asks_without_reading_is_let_go(server: Server) -> None:
    with client(server) as other, raw_client(server) as greedy:
        wish = encode(SocketWanted(socket.AF_INET, socket.SOCK_DGRAM, 0))
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                greedy.send(wish, socket.MSG_NOSIGNAL)

        os.close(other.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0))


def test_descriptors_that_come_along_are_not_kept(server: Server) -> None:
    read, write = os.pipe()
    with raw_client(server) as sock:
        wish = encode(SocketWanted(socket.AF_INET, socket.SOCK_DGRAM, 0))
        socket.send_fds(sock, [wish], [write])
        assert decode_untrusted(sock.recv(MAX_MESSAGE_BYTES)) == SocketMade(0)
        os.close(write)

        assert os.read(read, 1) == b""
    os.close(read)


class Interrupted(Exception):
    """What a handler of signals raises, as Python's own of SIGINT does."""


def test_who_was_interrupted_in_waiting_is_not_given_it_the_next_time() -> None:
    """The answer comes later, and is not the next wish's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def answer(made: socket.socket) -> None:
        with made:
            socket.send_fds(theirs, [encode(SocketMade(0))], [made.fileno()])

    def interrupt_then_serve() -> None:
        assert isinstance(decode_untrusted(theirs.recv(MAX_MESSAGE_BYTES)), SocketWanted)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        assert isinstance(decode_untrusted(theirs.recv(MAX_MESSAGE_BYTES)), SocketWanted)
        answer(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        answer(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    theirs.send(encode(Bound(binding(1))))
    connection = StackConnection(ours)
    thread = threading.Thread(target=interrupt_then_serve)
    thread.start()
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(Interrupted):
            connection.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        made = connection.open_socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
        thread.join(TIMEOUT_S)

        with socket.socket(fileno=made) as sock:
            assert sock.type == socket.SOCK_DGRAM
        assert len(os.listdir("/proc/self/fd")) == descriptors
    finally:
        signal.signal(signal.SIGUSR1, before)
        connection.close()
        theirs.close()


def test_a_client_without_room_for_one_more_descriptor_is_told_so(server: Server) -> None:
    with client(server) as connection:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(each) for each in os.listdir("/proc/self/fd"))
        held = [os.dup(0) for _ in range(highest)]  # so that the next number is beyond the limit
        try:
            # Python's own listing above had the last of them.
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, limits[1]))
            with pytest.raises(OSError) as refused:  # noqa: PT011 - the errno is checked
                connection.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for each in held:
                os.close(each)
        made = connection.open_socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        os.close(made)

    assert refused.value.errno == errno.EMFILE


# The place.


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "stack"
    with place.listener(str(path)):
        assert path.stat().st_mode & 0o777 == 0o600

    assert not path.exists()


def test_two_servers_cannot_have_one_place(tmp_path: Path) -> None:
    path = str(tmp_path / "stack")
    with place.listener(path):
        with pytest.raises(StackError, match="another `pfinet serve`"), place.listener(path):
            pass
        connect_only(path)


def test_what_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "stack")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(path)

    with place.listener(path):
        connect_only(path)


def connect_only(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "stack"
    path.write_text("precious")

    with pytest.raises(StackError, match="no socket"), place.listener(str(path)):
        pass

    assert path.read_text() == "precious"


def test_a_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    long = str(tmp_path / ("x" * 150))
    with pytest.raises(OSError, match="longer") as failure, place.listener(long):
        pass

    assert failure.value.filename == long


def test_where_no_server_is_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="is `pfinet serve` running"):
        connect(str(tmp_path / "stack"))


def test_the_usual_place_is_the_run_time_directory(tmp_path: Path) -> None:
    folder = {"XDG_RUNTIME_DIR": str(tmp_path)}

    assert place.socket_path("/given", {"PFINET_SOCKET": "/other"}) == "/given"
    assert place.socket_path(None, {**folder, "PFINET_SOCKET": "/other"}) == "/other"
    assert place.socket_path(None, folder) == f"{tmp_path}/pfinet"
    with pytest.raises(StackError, match="--socket"):
        place.socket_path(None, {"XDG_RUNTIME_DIR": f"{tmp_path}/none"})
