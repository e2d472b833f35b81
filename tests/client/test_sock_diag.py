"""Connections are ended by their network namespace: one of the test's own, with a loopback."""

import subprocess
import sys

from tests.support.lab import CHECKOUT

#: BODY sees `pair(host)`, the two ends of a connection, and `end_connections`.
SCRIPT = """
import errno, socket, subprocess
from pfinet_client.sock_diag import end_connections

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)

def pair(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ours = socket.socket(family)
    ours.connect((host, 80))
    return ours, listener.accept()[0]

def read(sock):
    try:
        return sock.recv(100)
    except OSError as error:
        return errno.errorcode[error.errno]
"""


def run(body: str) -> list[str]:
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", SCRIPT + body],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_both_ends_of_each_connection_fail_at_once() -> None:
    """More than one packet of netlink tells of; who accepts of IPv4 has an IPv6 socket."""
    body = """
for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
    ends = [end for _ in range(200) for end in pair(host)]
    end_connections()
    print({read(end) for end in ends} <= {"ECONNABORTED", "ECONNRESET"}, len(ends))
"""
    assert run(body) == ["True 400"] * 3


def test_who_waits_to_be_answered_fails_too() -> None:
    body = """
import select
subprocess.run(["ip", "link", "add", "veth0", "type", "veth", "peer", "veth1"], check=True)
subprocess.run(["ip", "address", "add", "10.0.0.1/24", "dev", "veth0"], check=True)
for name in ("veth0", "veth1"):
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
waiting = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
print(errno.errorcode[waiting.connect_ex(("10.0.0.2", 80))])
end_connections()
print(errno.errorcode[waiting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
"""
    assert run(body) == ["EINPROGRESS", "ECONNABORTED"]


def test_listeners_datagrams_and_what_was_closed_are_left_alone() -> None:
    body = """
one, other = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
one.bind(("127.0.0.1", 53))
other.connect(("127.0.0.1", 53))
said = socket.create_connection(("127.0.0.1", 80))
said.sendall(b"hello")
said.close()
end_connections()
other.send(b"x")
heard, _ = listener.accept()
print(read(one), read(heard), read(heard))
"""
    assert run(body) == ["b'x' b'hello' b''"]
