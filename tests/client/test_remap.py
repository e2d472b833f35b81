"""`pfinet remap`: unchanged programs whose sockets are a served stack's."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.remapped import Remapped, compiled, supervisor_of
from tests.client.test_serve import served
from tests.client.test_stack import children, server
from tests.client.test_stack_names import beside_name_server
from tests.support.waiting import eventually

CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], 80)) as sock:
    sock.sendall(b"hello")
    print(sock.recv(100).decode())
"""


# Whose sockets they are.


@pytest.mark.parametrize(
    ("host", "seen"), [("10.9.0.2", "10.9.0.1"), ("fd09::2", "fd09::1")], ids=["IPv4", "IPv6"]
)
def test_python_talks_over_the_vif(
    remapped: Remapped, bob: ClientUser, host: str, seen: str
) -> None:
    with server(bob, "v2"):
        assert remapped.python(CONNECT, host) == f"{seen} HELLO\n"


STATIC = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
	char text[100] = {0};
	int sock = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, argv[argc - 1], &to.sin_addr);
	if (connect(sock, (struct sockaddr *)&to, sizeof(to)) < 0)
		return 1;
	write(sock, "hello", 5);
	read(sock, text, sizeof(text) - 1);
	puts(text);
	return 0;
}
"""


def test_a_static_program_talks_over_the_vif(remapped: Remapped, bob: ClientUser) -> None:
    program = compiled(STATIC, bob.daemon.directory, "-static")
    with server(bob, "v2"):
        done = remapped.run(program, "10.9.0.2")

    assert (done.returncode, done.stdout) == (0, "10.9.0.1 HELLO\n")


GO = """
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	conn, err := net.Dial("tcp", net.JoinHostPort(os.Args[1], "80"))
	if err != nil {
		panic(err)
	}
	conn.Write([]byte("hello"))
	text := make([]byte, 100)
	n, _ := conn.Read(text)
	fmt.Println(string(text[:n]))
}
"""


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with Go's own system calls and resolver, without libc."""
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO)
    home = {"GOCACHE": str(folder / "cache"), "HOME": str(folder), "GOFLAGS": "-mod=mod"}
    command = ["go", "build", "-tags", "netgo", "-o", "program", "main.go"]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **home, "CGO_ENABLED": "0"})
    return folder / "program"


def test_a_go_program_talks_over_the_vif_by_a_name(go_program: Path) -> None:
    with beside_name_server() as user, served(user) as path:
        program = Path(shutil.copy(go_program, user.daemon.directory))
        program.chmod(0o755)
        done = Remapped(user, path).run(str(program), "server")

    assert (done.returncode, done.stdout, done.stderr) == (0, "10.9.0.1 HELLO\n", "")


def test_libcs_resolver_asks_the_name_servers_of_the_vif() -> None:
    with beside_name_server() as user, served(user) as path:
        remapped = Remapped(user, path)

        assert remapped.run("getent", "ahostsv4", "four").stdout.split()[0] == "10.9.0.4"
        assert remapped.run("getent", "hosts", "10.9.0.1").stdout.split()[1] == "me.lab.example"


def test_what_addresses_there_are_is_the_stacks(remapped: Remapped) -> None:
    """libc asks that by netlink, and looks up only what it could reach."""
    shown = remapped.run("ip", "-br", "address").stdout

    assert "10.9.0.1/24" in shown
    assert "pfinet0" in shown


def test_unix_sockets_and_other_netlink_are_the_hosts(remapped: Remapped) -> None:
    """SO_NETNS_COOKIE tells the network namespaces of sockets apart."""
    script = """
import socket
def cookie(*arguments):
    with socket.socket(*arguments) as made:
        return made.getsockopt(socket.SOL_SOCKET, 71, 8)
inet, route = cookie(socket.AF_INET), cookie(socket.AF_NETLINK, socket.SOCK_RAW, 0)
unix, events = cookie(socket.AF_UNIX), cookie(socket.AF_NETLINK, socket.SOCK_RAW, 15)
print(inet == route, unix == events, inet == unix)
"""
    assert remapped.python(script) == "True True False\n"


def test_any_port_can_be_bound_and_ping_works(remapped: Remapped, bob: ClientUser) -> None:
    script = "import socket; print(socket.create_server(('10.9.0.1', 80)).getsockname())"
    with server(bob, "v2"):
        assert remapped.python(script) == "('10.9.0.1', 80)\n"
        assert "1 received" in remapped.run("ping", "-c1", "-W5", "10.9.0.2").stdout


# How they are given.


def test_flags_of_the_type_are_kept(remapped: Remapped) -> None:
    script = """
import ctypes, fcntl, os
libc = ctypes.CDLL(None)
for flags in (0, os.O_NONBLOCK, os.O_CLOEXEC, os.O_NONBLOCK | os.O_CLOEXEC):
    sock = libc.socket(2, 1 | flags, 0)
    print(
        bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK),
        bool(fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC),
    )
"""
    assert remapped.python(script).splitlines() == [
        "False False",
        "True False",
        "False True",
        "True True",
    ]


def test_what_the_stack_refuses_is_refused_with_its_own_error(remapped: Remapped) -> None:
    script = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((2, 5, 0), (10, 1, 200), (2, 0x7F, 0), (43, 1, 0), (33, 2, 2), (21, 5, 0),
                  (2, -1, 0), (2, 1, -1)):
    print(libc.socket(*arguments), errno.errorcode[ctypes.get_errno()])
print(os.listdir("/proc/self/fd"))
"""
    *errors, descriptors = remapped.python(script).splitlines()

    assert errors == [
        "-1 ESOCKTNOSUPPORT",
        "-1 EPROTONOSUPPORT",
        "-1 EINVAL",
        "-1 EAFNOSUPPORT",
        "-1 EAFNOSUPPORT",
        "-1 EAFNOSUPPORT",
        "-1 EINVAL",
        "-1 EINVAL",
    ]
    assert len(re.findall(r"'\d+'", descriptors)) == 4


def test_a_process_without_room_for_one_more_descriptor_is_told_so(remapped: Remapped) -> None:
    script = """
import errno, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))
made = []
try:
    while True:
        made.append(socket.socket())
except OSError as error:
    print(errno.errorcode[error.errno])
made.pop().close()
socket.socket().close()
"""
    assert remapped.python(script) == "EMFILE\n"


def test_many_children_at_once_are_all_served(remapped: Remapped) -> None:
    one = "import socket; print(len([socket.socket() for _ in range(20)]))"
    script = f"""
import subprocess, sys
children = [
    subprocess.Popen([sys.executable, "-Sc", {one!r}], stdout=subprocess.PIPE) for _ in range(40)
]
print(sum(int(child.communicate()[0]) for child in children))
"""
    assert remapped.python(script) == "800\n"


def server_inside(path: str) -> int:
    """Return the pid of the process that makes the sockets of the stack at *path*."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(path)
        # It listens before that process is there, which turns root away.
        assert sock.recv(1) == b""
        outside, _, _ = struct.unpack(
            "=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
    (inside,) = children(outside)
    return inside


def waits_in_socket(pid: int) -> bool:
    return "seccomp" in Path(f"/proc/{pid}/wchan").read_text()


def test_who_is_killed_while_it_waits_delays_nobody(remapped: Remapped) -> None:
    script = """
import os, signal, socket, sys
print("up", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    socket.socket()
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print("killed", flush=True)
sys.stdin.readline()
print(socket.socket().type, flush=True)
"""
    inside = server_inside(remapped.path)
    with remapped.program(script) as running:
        os.kill(inside, signal.SIGSTOP)
        try:
            running.say("")
            child = int(running.read_line())
            eventually(partial(waits_in_socket, child), "the child waits for the supervisor")
            running.say("")
            killed = running.read_line()
        finally:
            os.kill(inside, signal.SIGCONT)
        running.say("")

        assert (killed, running.read_line()) == ("killed", "1")


def test_a_signal_does_not_interrupt_who_waits_behind_another(remapped: Remapped) -> None:
    """No program expects EINTR of socket(2); Python's handlers have no SA_RESTART."""
    script = """
import os, signal, socket, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
print("up", flush=True)
children = []
for _ in range(2):
    sys.stdin.readline()
    child = os.fork()
    if child == 0:
        try:
            socket.socket()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    children.append(child)
    print(child, flush=True)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""
    inside = server_inside(remapped.path)
    with remapped.program(script) as running:
        supervisor = supervisor_of(running)
        os.kill(inside, signal.SIGSTOP)
        try:
            for _ in range(2):
                running.say("")
                child = int(running.read_line())
                eventually(partial(waits_in_socket, child), "the child waits for the supervisor")
            # Its waiting has woken who takes it.
            eventually(
                lambda: states(supervisor) == {"S"}, "the supervisor has taken the second, too"
            )
            os.kill(child, signal.SIGUSR1)
            eventually(lambda: states(child) != {"S"}, "it waits for a kill only, or has ended")
        finally:
            os.kill(inside, signal.SIGCONT)

        assert running.read_line() == "0 0"


def states(pid: int) -> set[str]:
    """Return the states of the threads of *pid* (proc(5))."""
    return {
        (task / "stat").read_text().rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
