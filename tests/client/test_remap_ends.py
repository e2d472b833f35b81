"""What becomes of remapped programs when one of those ends that they depend on."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon
from tests.client.remapped import Remapped, supervisor_of
from tests.client.test_serve import is_listened_to, served
from tests.client.test_stack import program
from tests.support.lab import interpreter
from tests.support.waiting import eventually

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
    """Also where the place was named by its way from the directory of the command."""
    user = ClientUser(20001, daemon)
    with ExitStack() as ends:
        with served(user) as path:
            folder, name = os.path.split(path)
            remapped = Remapped(user, f"./{name}")
            running = ends.enter_context(remapped.program(AGAIN, cwd=folder))
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
