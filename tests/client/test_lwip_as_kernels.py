"""What both kinds of stack do alike, where lwIP's own way would be another."""

from tests.client.client_user import ClientUser
from tests.client.fake_daemon import binding, fake_daemon
from tests.client.test_lwip import PLAIN
from tests.client.test_stack import program, server


def said(kind: str, body: str) -> str:
    """Return what a program says on a stack of *kind*, beside a server on a kernel's."""
    with (
        fake_daemon((binding(1), 20001), (binding(2), 20002), offload=PLAIN) as daemon,
        server(ClientUser(20002, daemon), "v2"),
    ):
        done = ClientUser(20001, daemon).run_program(program("v1", body, kind))
    assert done.stderr == ""
    return done.stdout


def test_nothing_is_sent_at_once(each_kind: str) -> None:
    nothing = """
sock = trio.socket.socket()
await sock.connect(("10.9.0.2", 80))
with trio.fail_after(30):
    say(await sock.send(b""), await sock.send(b"hello"))
"""
    assert said(each_kind, nothing) == "0 5\n"


def test_options_outlast_each_other(each_kind: str) -> None:
    options = """
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    sock = trio.socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    say(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
    try:
        await sock.connect(("::ffff:10.9.0.2", 80))
    except OSError as error:
        say("refused")
    sock = trio.socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    await sock.connect(("::ffff:10.9.0.2", 80))
    say(sock.getpeername()[0])
"""
    assert said(each_kind, options) == "1\nrefused\n::ffff:10.9.0.2\n" * 2


def test_who_has_gone_before_it_was_accepted_has_an_address(each_kind: str) -> None:
    late = """
listener = trio.socket.socket()
await listener.bind(("10.9.0.1", 7))
listener.listen()
sock = trio.socket.socket()
await sock.bind(("10.9.0.1", 999))
await sock.connect(("10.9.0.1", 7))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
sock.close()
with trio.fail_after(30):
    accepted, peer = await listener.accept()
    try:
        say(peer, await accepted.recv(10))
    except ConnectionResetError:
        say(peer)
"""
    assert said(each_kind, late) == "('10.9.0.1', 999)\n"


def test_a_datagram_may_be_as_long_as_its_header_can_say(each_kind: str) -> None:
    longest = """
sock = trio.socket.socket(type=socket.SOCK_DGRAM)
await sock.bind(("127.0.0.1", 0))
for length in (65507, 65508):
    try:
        say(await sock.sendto(bytes(length), ("127.0.0.1", 9)))
    except OSError as error:
        say(error.errno == 90)
"""
    assert said(each_kind, longest) == "65507\nTrue\n"
