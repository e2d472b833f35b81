"""`pfinet serve`: a stack for all programs of its user, and `connect_stack`."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from pfinet_proto.attach import GoodbyeCode, Update, encode
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon
from tests.client.test_stack import program, server
from tests.support.waiting import eventually


@contextmanager
def served(user: ClientUser, *where: str, name: str = "stack") -> Iterator[str]:
    """Serve a stack in a directory of the user's own; yield the path of its socket."""
    folder = user.daemon.directory / f"home-{user.uid}"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, user.uid, user.uid)
    path = folder / name
    process = user.popen("serve", *where, "--socket", str(path))
    try:
        eventually(
            lambda: is_listened_to(path) or process.poll() is not None, "the socket is there"
        )
        assert process.poll() is None, process.communicate(timeout=TIMEOUT_S)
        yield str(path)
    finally:
        process.terminate()
        out, error = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, error) == (-signal.SIGTERM, "", "")
    assert not path.exists()


def is_listened_to(path: Path) -> bool:
    """Whether a server listens there: one that was killed leaves its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def on_served(path: str, body: str) -> str:
    """Return a program on the stack that is served at *path*."""
    return (
        program("v1", body)
        .replace("open_stack('v1', 'kernel')", f"connect_stack({path!r})")
        .replace("import StackError, open_stack", "import StackError, connect_stack")
    )


CLIENT = """
stream = await trio.open_tcp_stream("10.9.0.2", 80)
await stream.send_all(b"hello")
say((await stream.receive_some()).decode())
"""


def test_several_programs_use_one_stack(alice: ClientUser, bob: ClientUser) -> None:
    holder = """
listener = trio.socket.socket()
await listener.bind(("10.9.0.1", 80))
say("up")
await trio.sleep_forever()
"""
    conflict = """
import errno
try:
    await trio.socket.socket().bind(("10.9.0.1", 80))
except OSError as error:
    say(errno.errorcode[error.errno])
"""
    with (
        server(bob, "v2"),
        served(alice) as path,
        alice.program(on_served(path, holder)),
    ):
        assert alice.run_program(on_served(path, CLIENT)).stdout == "10.9.0.1 HELLO\n"
        assert alice.run_program(on_served(path, conflict)).stdout == "EADDRINUSE\n"


def test_a_stack_on_a_network_has_a_vif_for_as_long(alice: ClientUser) -> None:
    with served(alice, "--network", "lab") as path:
        done = alice.run_program(on_served(path, "say(stack.binding.vif)"))
        assert (done.stdout, done.stderr) == ("borrowed\n", "")

    assert alice.daemon.borrowed == ["lab"]
    assert "borrowed" not in alice.daemon.ports


def test_a_client_follows_the_binding(alice: ClientUser) -> None:
    follow = """
say("up")
while stack.binding.mtu == 1500:
    await trio.sleep(0.01)
say(stack.binding.mtu)
"""
    with served(alice) as path, alice.program(on_served(path, follow)) as running:
        port = alice.daemon.ports["v1"]
        assert port.attach is not None
        port.attach.send(encode(Update(attrs.evolve(port.binding, mtu=1400))))

        assert running.read_line() == "1400"


def test_exec_enters_the_stack_too(alice: ClientUser) -> None:
    with served(alice) as path:
        # Which waits until the stack is there.
        alice.run_program(on_served(path, "pass"))
        done = alice.pfinet("exec", "v1", "--", "ip", "-br", "address", "show", "pfinet0")

    assert "10.9.0.1/24" in done.stdout


def test_other_users_are_kept_out_even_where_they_reach_the_socket(
    alice: ClientUser, bob: ClientUser
) -> None:
    """The mode keeps them out; were it lost, they would be let go without a word."""
    with served(alice) as path:
        assert alice.run_program(on_served(path, "say('there')")).stdout == "there\n"
        os.chmod(os.path.dirname(path), 0o755)
        by_mode = bob.run_program(on_served(path, "say('there')"))
        os.chmod(path, 0o666)
        by_uid = bob.run_program(on_served(path, "say('there')"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as root:
            root.settimeout(TIMEOUT_S)
            root.connect(path)
            assert root.recv(1) == b""

    assert (by_mode.stdout, by_uid.stdout) == ("", "")
    assert "PermissionError" in by_mode.stderr
    assert "served by uid 20001, you are uid 20002" in by_uid.stderr


def test_a_stack_that_cannot_be_is_said_and_leaves_no_socket(alice: ClientUser) -> None:
    folder = alice.daemon.directory / "home"
    folder.mkdir()
    os.chown(folder, alice.uid, alice.uid)

    done = alice.pfinet("serve", "--vif", "v9", "--socket", f"{folder}/stack")

    assert (done.returncode, done.stderr) == (125, "pfinet: no vif v9\n")
    assert [each.name for each in folder.iterdir()] == ["stack.lock"]


def test_a_second_server_in_one_place_is_refused(alice: ClientUser) -> None:
    with served(alice) as path:
        done = alice.pfinet("serve", "--socket", path)

    assert done.returncode == 125
    assert "another `pfinet serve` serves a stack there" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ended_can_be_followed_by_another(
    alice: ClientUser, number: signal.Signals
) -> None:
    folder = alice.daemon.directory / "home-20001"
    folder.mkdir()
    os.chown(folder, alice.uid, alice.uid)
    with alice.popen("serve", "--socket", f"{folder}/stack") as process:
        assert alice.daemon.ports["v1"].attached.wait(TIMEOUT_S)
        process.send_signal(number)
        process.wait(TIMEOUT_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert alice.daemon.ports["v1"].detached.wait(TIMEOUT_S)

    with served(alice) as path:
        assert alice.run_program(on_served(path, "say('there')")).stdout == "there\n"


def test_a_vif_that_is_lost_for_good_ends_the_server(
    daemon: FakeDaemon, alice: ClientUser
) -> None:
    folder = daemon.directory / "home"
    folder.mkdir()
    os.chown(folder, alice.uid, alice.uid)
    process = alice.popen("serve", "--socket", f"{folder}/stack")
    assert daemon.ports["v1"].attached.wait(TIMEOUT_S)
    daemon.say_goodbye("v1", GoodbyeCode.DELETED, "vif v1 was deleted")

    _, error = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == -signal.SIGHUP
    assert "vif v1 was deleted; the stack is disconnected" in error


def test_a_command_joins_a_served_stack(alice: ClientUser) -> None:
    """It lives where the server's child does, as root there, and knows its vif."""
    link = "readlink /proc/self/ns/net; id -u; echo $PFINET_VIF; ip -brief -4 address show up"
    with served(alice, "--vif", "v1") as path:
        joined = alice.pfinet("run", "--socket", path, "--", "sh", "-c", link)
        entered = alice.pfinet("exec", "v1", "--", "sh", "-c", link)
    assert joined.stdout == entered.stdout
    namespace, uid, vif, *addresses = joined.stdout.splitlines()
    assert (namespace == os.readlink("/proc/self/ns/net"), uid, vif) == (False, "0", "v1")
    assert any("10.9.0.1/24" in line for line in addresses)


def test_nobody_joins_where_none_is_served(alice: ClientUser) -> None:
    done = alice.pfinet("run", "--socket", "/nowhere/stack", "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "pfinet: /nowhere/stack: no stack is served there: is `pfinet serve` running?\n"
    )


def test_who_joins_one_stack_names_no_vif(alice: ClientUser) -> None:
    done = alice.pfinet("run", "--served", "--vif", "v1", "--", "true")
    assert done.returncode == 125
    assert "not allowed with argument" in done.stderr


def test_nobody_joins_the_stack_of_another_user(alice: ClientUser) -> None:
    """Root of the host may connect there; it is refused nevertheless."""
    with served(alice, "--vif", "v1") as path:
        line = alice.command("run", "--socket", path, "--", "true")
        done = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 125
    assert done.stderr == f"pfinet: {path}: who serves there is uid {alice.uid}, you are uid 0\n"
