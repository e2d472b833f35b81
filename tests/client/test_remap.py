"""`pfinet remap`: unchanged programs whose sockets are a served stack's."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest

from pfinet_proto.attach import Update, encode
from tests.client.client_user import TIMEOUT_S, ClientUser, RunningStack
from tests.client.fake_daemon import FakeDaemon
from tests.client.test_serve import is_listened_to, served
from tests.client.test_stack import children, program, server
from tests.client.test_stack_names import beside_name_server
from tests.support import linux
from tests.support.lab import interpreter
from tests.support.waiting import eventually


@attrs.frozen
class Remapped:
    """A user whose stack is served."""

    user: ClientUser
    path: str

    def command(self, *command: str) -> list[str]:
        return self.user.command("remap", "--socket", self.path, "--", *command)

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.user.run_to_end(self.command(*command), **options)

    def python(self, script: str, *arguments: str) -> str:
        """Return what a Python program prints, which must not fail."""
        done = self.run(interpreter().executable, "-c", script, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @contextmanager
    def program(self, script: str) -> Iterator[RunningStack]:
        """Run a Python program, from when it has said `up` until it is ended."""
        command = self.command(interpreter().executable, "-c", script)
        process = self.user.start(command)
        running = RunningStack(process)
        try:
            assert running.read_line() == "up", process.communicate(timeout=TIMEOUT_S)
            yield running
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)


@pytest.fixture
def remapped(alice: ClientUser) -> Iterator[Remapped]:
    with served(alice) as path:
        yield Remapped(alice, path)


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


def compiled(source: str, folder: Path, *options: str) -> str:
    """Return the path of a program that every user can run."""
    (folder / "program.c").write_text(source)
    program = folder / "program"
    subprocess.run(["gcc", "-O1", *options, "-o", program, folder / "program.c"], check=True)
    program.chmod(0o755)
    return str(program)


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
for arguments in ((2, 5, 0), (10, 1, 200), (2, 0x7F, 0), (43, 1, 0), (33, 2, 2), (21, 5, 0)):
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


# What cannot be.


def test_no_program_gains_privilege(remapped: Remapped) -> None:
    """Outside, the same file does make its user root."""
    folder = remapped.user.daemon.directory / "programs"
    folder.mkdir()
    linux.mount("programs", folder, "tmpfs", options="mode=0755")
    program = Path(shutil.copy(shutil.which("id") or "", folder))
    program.chmod(0o4755)

    assert remapped.user.run_to_end([str(program), "-u"]).stdout == "0\n"
    assert remapped.run(str(program), "-u").stdout == "20001\n"
    status = remapped.run("cat", "/proc/self/status").stdout
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status


def test_io_uring_cannot_open_sockets_past_the_filter(remapped: Remapped) -> None:
    script = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(425, 1, bytes(120)), errno.errorcode[ctypes.get_errno()])
"""
    assert remapped.python(script) == "-1 ENOSYS\n"


FOREIGN = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
static int call(int number, int one, int two, int three)
{
	__asm__ volatile("int $0x80" : "+a"(number) : "b"(one), "c"(two), "d"(three) : "memory");
	return number;
}
int main(void)
{
	unsigned long cookie = 0;
	socklen_t len = sizeof(cookie);
	int direct = call(359, AF_INET, SOCK_STREAM, 0);
	printf("%d %d %d", direct >= 0, call(102, 1, 0, 0) == -ENOSYS, call(425, 1, 0, 0) == -ENOSYS);
	getsockopt(direct, SOL_SOCKET, 71, &cookie, &len);
	printf(" %lu\n", cookie);
	return 0;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls as i386 does")
def test_system_calls_of_32_bits_are_no_way_round(remapped: Remapped) -> None:
    program = compiled(FOREIGN, remapped.user.daemon.directory)
    script = "import socket; print(int.from_bytes(socket.socket().getsockopt(1, 71, 8), 'little'))"

    *answers, cookie = remapped.run(program).stdout.split()

    assert answers == ["1", "1", "1"]
    assert cookie == remapped.python(script).strip()


def test_a_remapped_program_cannot_be_remapped_again(remapped: Remapped) -> None:
    done = remapped.run(*remapped.command("true"))

    assert done.returncode == 125
    assert done.stderr == "pfinet: this program's sockets are another's to make already\n"


# What the program sees.


def test_the_user_stays_who_it_is_with_its_files(remapped: Remapped) -> None:
    file = remapped.user.daemon.directory / "home-20001" / "file"

    done = remapped.run("sh", "-c", f"id -u; id -g; umask 077; echo mine >{file}; cat {file}")

    assert done.stdout == "20001\n20001\nmine\n"
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (20001, 0o600)


def test_resolv_conf_is_the_vifs_and_follows_it(remapped: Remapped) -> None:
    script = """
import pathlib, sys
file = pathlib.Path("/etc/resolv.conf")
print("up", flush=True)
while "10.9.0.77" not in file.read_text():
    pass
print(file.read_text().split()[-3:], flush=True)
"""
    shown = remapped.run("cat", "/etc/resolv.conf").stdout
    assert "nameserver 10.9.0.53" in shown
    with remapped.program(script) as running:
        port = remapped.user.daemon.ports["v1"]
        assert port.attach is not None
        changed = attrs.evolve(port.binding, dns=(ip_address("10.9.0.77"),), search=())
        port.attach.send(encode(Update(changed)))

        assert "'nameserver', '10.9.0.77'" in running.read_line()


@pytest.mark.parametrize("status", [0, 7])
def test_the_exit_status_is_passed_through(remapped: Remapped, status: int) -> None:
    assert remapped.run("sh", "-c", f"exit {status}").returncode == status


def test_a_signal_that_ends_the_command_ends_pfinet(remapped: Remapped) -> None:
    assert remapped.run("sh", "-c", "kill -USR1 $$").returncode == -signal.SIGUSR1


def test_signals_are_passed_on(remapped: Remapped) -> None:
    script = """
import signal
print("up", flush=True)
print(signal.sigwait({signal.SIGUSR1}).name, flush=True)
"""
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    with remapped.program(blocked + script) as running:
        running.process.send_signal(signal.SIGUSR1)

        assert running.read_line() == "SIGUSR1"


def test_a_command_that_is_not_there_is_said(remapped: Remapped) -> None:
    done = remapped.run("no-such-command")

    assert (done.returncode, done.stderr) == (127, "pfinet: no-such-command: not found\n")


def test_the_command_knows_the_name_of_the_vif(remapped: Remapped) -> None:
    assert remapped.run("sh", "-c", "echo $PFINET_VIF").stdout == "v1\n"


def test_without_a_served_stack_that_is_said(alice: ClientUser) -> None:
    done = alice.pfinet("remap", "--socket", "/run/none", "--", "true")

    assert done.returncode == 125
    assert done.stderr == (
        "pfinet: /run/none: no stack is served there: is `pfinet serve` running?\n"
    )


# Beginnings and ends.

AGAIN = """
import errno, socket, sys
print("up", flush=True)
while sys.stdin.readline():
    try:
        socket.socket().close()
        print("made", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""


def supervisor_of(running: RunningStack) -> int:
    (supervisor,) = (pid for pid in children(running.process.pid) if os.getsid(pid) == pid)
    return supervisor


def test_without_its_supervisor_a_program_gets_errors_and_does_not_hang(
    remapped: Remapped,
) -> None:
    with remapped.program(AGAIN) as running:
        supervisor = supervisor_of(running)
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: is_dead(supervisor), "the supervisor has ended")
        running.say("")

        assert running.read_line() == "ENOSYS"


def is_dead(pid: int) -> bool:
    """Whether *pid* has ended, even if nobody has waited for it."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_network_is_down_while_no_stack_is_served_and_up_with_the_next(
    daemon: FakeDaemon,
) -> None:
    user = ClientUser(20001, daemon)
    with ExitStack() as ends:
        with served(user) as path:
            running = ends.enter_context(Remapped(user, path).program(AGAIN))
            running.say("")
            assert running.read_line() == "made"
        running.say("")
        assert running.read_line() == "ENETDOWN"
        assert daemon.ports["v1"].detached.wait(TIMEOUT_S)
        with served(user):
            running.say("")
            assert running.read_line() == "made"


def test_what_a_command_leaves_behind_has_its_supervisor_and_then_nobody(
    remapped: Remapped,
) -> None:
    """As a daemon does that puts itself into the background."""
    fifo = remapped.user.daemon.directory / "home-20001" / "fifo"
    os.mkfifo(fifo)
    os.chown(fifo, 20001, 20001)
    script = f"""
import os, socket

if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    with open({str(fifo)!r}) as reading:
        line = reading.readline()
    with open({str(fifo)!r}, "w") as writing:
        writing.write(str(socket.socket().type))
"""
    before = set(sessions("remap"))
    done = remapped.run(interpreter().executable, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (supervisor,) = set(sessions("remap")) - before
    fifo.write_text("go\n")

    assert fifo.read_text() == "1"
    eventually(lambda: is_dead(supervisor), "the supervisor has ended")


def sessions(word: str) -> Iterator[int]:
    """Yield the leaders of sessions that have *word* on their command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if word.encode() in words and os.getsid(int(entry.name)) == int(entry.name):
                    yield int(entry.name)


ECHO = """
async def echo(stream):
    async for data in stream:
        await stream.send_all(data)

async with trio.open_nursery() as nursery:
    for host in ("0.0.0.0", "::"):
        await nursery.start(partial(trio.serve_tcp, echo, 7, host=host))
    say("up")
"""

HELD = """
import errno, socket
sock = socket.create_connection((HOST, 7))
sock.sendall(b"hello")
assert sock.recv(100) == b"hello"
print("up", flush=True)
try:
    print(sock.recv(100), flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""


@pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_connections_end_with_the_server_however_it_ends(
    alice: ClientUser, bob: ClientUser, number: signal.Signals, host: str
) -> None:
    """Nothing would ever come, not even an error, from a stack that lost its interface."""
    with ExitStack() as ends:
        ends.enter_context(bob.program(program("v2", ECHO)))
        folder = alice.daemon.directory / "home-20001"
        folder.mkdir()
        os.chown(folder, alice.uid, alice.uid)
        serving = ends.enter_context(alice.popen("serve", "--socket", f"{folder}/stack"))
        eventually(lambda: is_listened_to(folder / "stack"), "the socket is there")
        remapped = Remapped(alice, f"{folder}/stack")
        running = ends.enter_context(remapped.program(HELD.replace("HOST", repr(host))))
        serving.send_signal(number)

        assert running.read_line() == "ECONNABORTED"
        assert serving.wait(TIMEOUT_S) == -number
