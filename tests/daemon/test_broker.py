"""multiplexerd as a process, with puppets for control and engine.

A control that a test drives stands for one that was broken into: what the
broker does for it, and what it refuses, is seen on the system itself.
"""

import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from multiplexer.daemon import broker, channel, privileges
from multiplexer.daemon.restarts import RestartBudget
from pfinet_proto.values import MacAddress
from tests.support.netns import NetworkNamespace, run
from tests.support.plain import connected

CONTROL_UID, ENGINE_UID = 901, 902
OWNER_UID = 1234
VIF_ID = "0123456789abcdef" * 2
STATION = MacAddress.parse("52:54:00:00:00:05")
TIMEOUT_S = 20

KEPT = channel.Kept(
    VIF_ID,
    64,
    3,
    channel.Session("attach", "stream", 7, OWNER_UID, 100, 4711, 2**62, bytes(range(16))),
)

Make = Callable[[int], channel.Message]

PLAIN = """
[network.lab]
prefixes = ["10.9.0.0/24"]
"""
WITH_NIC = """
[uplink.lan]
kind = "nic"
interface = "nic"
external = ["10.9.0.0/24"]

[network.lab]
uplink = "lan"
prefixes = ["10.9.0.0/24"]
"""


@attrs.frozen
class Report:
    """What a puppet heard: from whom, what, and the sockets that came with it."""

    by: str
    message: channel.Message
    sockets: list[tuple[int, str]]


class Puppet:
    """A connection to the control puppet."""

    def __init__(self, path: Path) -> None:
        self.socket = connected(path, 0)
        self.socket.settimeout(TIMEOUT_S)
        self.lines = self.socket.makefile("rb")
        self.requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()

    def next(self) -> Report:
        tree = json.loads(self.lines.readline())
        message = channel.decode(json.dumps(tree["message"]).encode())
        return Report(tree["by"], message, [(kind, name) for kind, name in tree["sockets"]])

    def next_of(self, kind: type | tuple[type, ...]) -> Report:
        while not isinstance((report := self.next()).message, kind):
            pass
        return report

    def each_of(self, *kinds: type) -> list[Report]:
        """Return the next of each kind; two connections bring them, in either order."""
        found: dict[type, Report] = {}
        while len(found) < len(kinds):
            report = self.next()
            for kind in kinds:
                if isinstance(report.message, kind):
                    found.setdefault(kind, report)
        return [found[kind] for kind in kinds]

    def say(self, line: bytes) -> None:
        self.socket.sendall(line + b"\n")

    def ask(self, make: Callable[[int], channel.Message]) -> Report:
        self.requests += 1
        self.say(channel.encode(make(self.requests)))
        while True:
            report = self.next_of(channel.Done)
            assert isinstance(report.message, channel.Done)
            if report.message.request == self.requests:
                return report

    def error_of(self, make: Callable[[int], channel.Message]) -> str | None:
        message = self.ask(make).message
        assert isinstance(message, channel.Done)
        return message.error

    def open_vif(self, vif_id: str = VIF_ID, uid: int = OWNER_UID) -> Report:
        kinds = ("attach", "stream", "bess")
        return self.ask(lambda request: channel.OpenVifSockets(request, vif_id, uid, kinds))


class Daemon:
    """A running multiplexerd, and the directory that it lives in."""

    def __init__(self, place: "Place", process: subprocess.Popen[str]) -> None:
        self.place = place
        self.process = process
        self.log = ""
        self.told: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    def puppet(self) -> Puppet:
        return Puppet(self.place.run_dir / "control")

    def roles(self) -> dict[str, int]:
        """Return the pids of the roles, by name."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        found = {}
        for pid in children:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found[words[words.index("--role") + 1]] = int(pid)
        return found

    def status_of(self, pid: int) -> dict[str, str]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def wait_log(self, text: str) -> None:
        """Wait until it says *text*; what it said before counts only if not yet read."""
        assert self.process.stderr is not None
        said = ""
        while text not in said:
            ready = select.select([self.process.stderr], [], [], TIMEOUT_S)[0]
            # Around the file's own buffer, which select() cannot see.
            more = os.read(self.process.stderr.fileno(), 4096).decode() if ready else ""
            assert more, f"{text!r} is not in\n{self.log}"
            said += more
            self.log += more

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for its end and return its exit status; `log` is then complete."""
        self.log += self.process.communicate(timeout=TIMEOUT_S)[1]
        while select.select([self.place.notified], [], [], 0)[0]:
            self.told.append(self.place.notified.recv(4096).decode())
        return self.process.returncode


class Place:
    """A directory for one daemon, short enough for socket paths."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.state_dir = directory / "state"
        self.config = directory / "multiplexer.toml"
        self.namespace: NetworkNamespace | None = None
        self.running: list[Daemon] = []
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(directory / "notify"))
        self.notified.settimeout(TIMEOUT_S)
        self.configure()

    def configure(self, text: str = PLAIN, **keys: object) -> None:
        daemon = {
            "run_dir": str(self.run_dir),
            "state_dir": str(self.state_dir),
            "control_user": str(CONTROL_UID),
            "engine_user": str(ENGINE_UID),
            **keys,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in daemon.items()]
        self.config.write_text("\n".join(["[daemon]", *lines, text]))

    def launch(self, *arguments: str, wrapper: Sequence[str] = ()) -> Daemon:
        """Start the daemon, and do not wait."""
        script = Path(__file__).with_name("run_with_puppets.py")
        command = [*wrapper, sys.executable, str(script), "--config", str(self.config), *arguments]
        if self.namespace is not None:
            command = self.namespace.command(command)
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify")}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        daemon = Daemon(self, process)
        self.running.append(daemon)
        return daemon

    def start(self, wrapper: Sequence[str] = ()) -> Daemon:
        """Start the daemon, and wait until it says that it is ready."""
        daemon = self.launch(wrapper=wrapper)
        self.wait_notified(daemon)
        assert self.notified.recv(4096) == b"READY=1\nSTATUS=Running"
        return daemon

    def wait_notified(self, daemon: Daemon) -> None:
        """Wait until it tells the service manager something, and fail if it ends first."""
        pidfd = os.pidfd_open(daemon.pid)
        try:
            select.select([self.notified.fileno(), pidfd], [], [], TIMEOUT_S)
        finally:
            os.close(pidfd)
        if not select.select([self.notified], [], [], 0)[0]:
            daemon.process.kill()
            daemon.end()
            raise AssertionError(f"ended without a notification:\n{daemon.log}")

    def fail(self, *arguments: str, wrapper: Sequence[str] = ()) -> str:
        """Start a daemon that ends with exit status 1, and return what it said."""
        daemon = self.launch(*arguments, wrapper=wrapper)
        assert daemon.end() == 1, daemon.log
        return daemon.log

    def close(self) -> None:
        for daemon in self.running:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.process.communicate()
        self.notified.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def place() -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(dir="/run"))
    directory.chmod(0o755)
    place = Place(directory)
    yield place
    place.close()


@pytest.fixture
def lan(place: Place) -> Iterator[NetworkNamespace]:
    """A network namespace for the daemon, with the configuration of a NIC that is not there."""
    place.namespace = NetworkNamespace.create("brokered")
    place.configure(WITH_NIC)
    yield place.namespace
    place.namespace.delete()


def ip(namespace: NetworkNamespace, command: str) -> None:
    run(namespace.command(["ip", *command.split()]))


def plug(namespace: NetworkNamespace, mtu: int = 1500) -> None:
    ip(namespace, f"link add nic mtu {mtu} type veth peer name wire")
    ip(namespace, "link set wire up")
    ip(namespace, "link set nic up")


def modes_below(directory: Path) -> dict[str, str]:
    """Return type, mode and owner of all that is in a directory, by relative path."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(directory))] = (
            f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        )
    return found


# The command line


def check(place: Place, *arguments: str) -> tuple[int, str, str]:
    daemon = place.launch(*arguments)
    out, err = daemon.process.communicate(timeout=TIMEOUT_S)
    return daemon.process.returncode, out, err


def test_check_says_ok_and_makes_nothing(place: Place) -> None:
    assert check(place, "--check") == (0, "ok\n", "")
    assert not place.run_dir.exists()
    assert not place.state_dir.exists()


def test_check_says_all_that_is_wrong(place: Place) -> None:
    place.configure('[network.lab]\nmode = "router"\nprefixes = ["10.9.0.0/33"]\n')

    status, out, err = check(place, "--check")

    assert (status, out) == (1, "")
    assert f"{place.config}:7: network.lab.mode" in err
    assert f"{place.config}:8: network.lab.prefixes" in err


def test_what_is_wrong_in_the_file_stops_the_start_too(place: Place) -> None:
    place.configure("[network.lab]\nprefixes = 5\n")

    assert f"{place.config}:7: network.lab.prefixes" in place.fail()
    assert not place.run_dir.exists()


def test_a_file_that_is_absent_or_no_text_or_too_long_is_named(place: Place) -> None:
    place.config.unlink()
    assert f"{place.config}: No such file or directory" in place.fail("--check")

    place.config.write_bytes(b"[daemon]\n# \xff\n")
    assert f"{place.config}:2: not UTF-8" in place.fail("--check")

    place.config.write_text("#" * channel.MAX_MESSAGE_BYTES)
    assert f"{place.config}: longer than" in place.fail("--check")


def test_a_file_that_is_too_long_to_reload_is_too_long_to_start(place: Place) -> None:
    """A reload tells control of every NIC together with the file."""
    nics = "".join(f'[uplink.u{n}]\nkind = "nic"\ninterface = "nic{n}"\n' for n in range(64))
    place.configure(nics + PLAIN)
    assert check(place, "--check") == (0, "ok\n", "")

    room = channel.MAX_MESSAGE_BYTES - 4000 - len(place.config.read_bytes())
    place.configure(nics + PLAIN + "#" * room)
    assert f"{place.config}: longer than" in place.fail("--check")


def test_wrong_usage_has_exit_status_2(place: Place) -> None:
    assert check(place, "--nonsense")[0] == 2


# Start


def test_when_it_is_ready_all_is_in_its_place(place: Place) -> None:
    place.start()

    assert modes_below(place.run_dir) == {
        "control": "srw-rw-rw- 0:0",
        "lock": "-rw------- 0:0",
        "vif": "drwx--x--x 0:0",
    }
    state = place.state_dir.stat()
    assert (stat.filemode(state.st_mode), state.st_uid) == ("drwx------", CONTROL_UID)


def test_control_is_given_the_file_and_the_features_of_the_kernel(place: Place) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet:
        start = puppet.next().message

    assert isinstance(start, channel.Start)
    assert start.config_text == place.config.read_text()
    assert start.filename == str(place.config)
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    assert start.features.passrights == (release >= (6, 16))


def test_each_process_has_its_own_uid_and_the_broker_few_capabilities(
    place: Place, lan: NetworkNamespace
) -> None:
    daemon = place.start()
    roles = daemon.roles()

    uids = {name: daemon.status_of(pid)["Uid"].split() for name, pid in roles.items()}
    assert uids == {"control": [str(CONTROL_UID)] * 4, "engine": [str(ENGINE_UID)] * 4}
    status = daemon.status_of(daemon.pid)
    wanted = broker.NEEDED | broker.NEEDED_BY_NIC | broker.USEFUL
    assert [int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd")] == [wanted] * 3
    assert status["NoNewPrivs"] == "1"


def test_without_a_nic_the_broker_keeps_no_capability_over_the_network(place: Place) -> None:
    daemon = place.start()

    held = int(daemon.status_of(daemon.pid)["CapPrm"], 16)

    assert held == broker.NEEDED | broker.USEFUL


def test_what_a_dead_predecessor_left_is_removed(place: Place) -> None:
    first = place.start()
    with first.puppet() as puppet:
        puppet.open_vif()
    first.stop(signal.SIGKILL)
    assert (place.run_dir / "vif" / VIF_ID / "attach").exists()

    place.start()

    assert sorted(modes_below(place.run_dir)) == ["control", "lock", "vif"]


def test_a_living_predecessor_is_left_alone_and_named(place: Place) -> None:
    first = place.start()

    said = place.fail()

    assert f"{place.run_dir} is in use by another multiplexerd, process {first.pid}" in said
    with first.puppet() as puppet:
        assert puppet.open_vif().message == channel.Done(1)


def test_the_state_directory_of_an_earlier_account_is_refused(place: Place) -> None:
    place.state_dir.mkdir()
    os.chown(place.state_dir, OWNER_UID, 0)

    assert f"{place.state_dir} belongs to uid {OWNER_UID}" in place.fail()
    assert not place.run_dir.exists()


def test_a_state_directory_of_ours_is_kept_with_what_is_in_it(place: Place) -> None:
    place.start().stop()
    place.state_dir.mkdir(exist_ok=True)
    os.chown(place.state_dir, CONTROL_UID, CONTROL_UID)
    (place.state_dir / "state.db").touch()

    assert place.start().stop() == 0

    assert (place.state_dir / "state.db").exists()


def make_link(place: Place) -> None:
    (place.directory / "real").mkdir()
    place.run_dir.symlink_to(place.directory / "real")


def make_foreign(place: Place) -> None:
    place.run_dir.mkdir()
    os.chown(place.run_dir, OWNER_UID, 0)


def make_writable(place: Place) -> None:
    place.run_dir.mkdir()
    place.run_dir.chmod(0o775)


def make_parent_writable(place: Place) -> None:
    place.directory.chmod(0o757)


def make_sticky(place: Place) -> None:
    place.run_dir.mkdir()
    place.run_dir.chmod(0o1777)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (make_link, "run is not a directory, or a symbolic link"),
        (make_foreign, "run belongs to uid 1234"),
        (make_writable, "mode 0775: others than root could replace"),
        (make_parent_writable, "mode 0757: others than root could replace"),
        (make_sticky, "mode 1777: others than root could replace"),
    ],
)
def test_a_run_time_directory_that_others_can_change_is_refused(
    place: Place, make: Callable[[Place], None], why: str
) -> None:
    make(place)

    assert why in place.fail()
    assert not place.state_dir.exists()


def test_a_sticky_directory_above_is_safe(place: Place) -> None:
    place.directory.chmod(0o1777)

    assert place.start().stop() == 0


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"control_user": "nouser"}, 'daemon.control_user: there is no user "nouser"'),
        ({"control_user": "daemon", "engine_user": "1"}, "are both uid 1"),
        ({"engine_user": "1500"}, 'daemon.engine_user: user "1500" has uid 1500, which'),
    ],
)
def test_accounts_that_would_not_separate_are_refused(
    place: Place, keys: dict[str, str], why: str
) -> None:
    place.configure(**keys)

    assert why in place.fail()
    assert not place.run_dir.exists()


def test_a_processor_that_is_not_ours_is_refused(place: Place) -> None:
    place.configure(cpu=8191)

    assert "daemon.cpu: 8191 is no processor of ours, which are " in place.fail()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(place: Place, mode: int) -> None:
    place.config.chmod(mode)

    assert "writable by nobody else" in place.fail()


def test_without_root_or_a_capability_it_says_what_is_missing(
    place: Place, lan: NetworkNamespace
) -> None:
    place.directory.chmod(0o1777)
    as_user = ["setpriv", "--reuid", "1", "--regid", "1", "--clear-groups"]
    with_less = ["setpriv", "--bounding-set=-net_raw,-kill", "--inh-caps=-net_raw,-kill"]

    assert "must be started by root, not by uid 1" in place.fail(wrapper=as_user)
    assert "lacks the capabilities cap_kill, cap_net_raw" in place.fail(wrapper=with_less)


def test_if_control_does_not_start_nothing_is_left(place: Place) -> None:
    place.configure("# control does not start\n" + PLAIN)

    said = place.fail()

    assert "control ended with exit status 7" in said
    assert "start-up failed" in said
    assert not place.run_dir.exists()
    assert not place.state_dir.exists()


# End


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_removes_all_and_succeeds(place: Place, number: int) -> None:
    daemon = place.start()
    roles = daemon.roles()
    with daemon.puppet() as puppet:
        puppet.open_vif()

    assert daemon.stop(number) == 0

    assert daemon.told == ["STOPPING=1"]
    assert not place.run_dir.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in roles.values())
    assert daemon.log.count("ended") == 0


def test_a_run_time_directory_that_was_there_before_stays(place: Place) -> None:
    place.run_dir.mkdir()

    assert place.start().stop() == 0

    assert modes_below(place.run_dir) == {}


def test_when_the_broker_is_killed_no_role_lives_on(place: Place) -> None:
    daemon = place.start()
    pidfds = [os.pidfd_open(pid) for pid in daemon.roles().values()]

    daemon.stop(signal.SIGKILL)

    for pidfd in pidfds:
        assert select.select([pidfd], [], [], TIMEOUT_S)[0]
        os.close(pidfd)


# Restarts


def kill_role(daemon: Daemon, role: str) -> None:
    """Kill a role, and wait until it is noticed."""
    os.kill(daemon.roles()[role], signal.SIGKILL)
    daemon.wait_log(f"audit: restarted role={role}")
    assert f"{role} ended with signal SIGKILL" in daemon.log


def replace_role(daemon: Daemon, role: str) -> tuple[dict[str, int], dict[str, int]]:
    """Kill a role, wait until control is started afresh, and return all pids before and after."""
    before = daemon.roles()
    kill_role(daemon, role)
    with daemon.puppet() as puppet:
        puppet.next_of(channel.Start)
    return before, daemon.roles()


def test_control_is_started_again_alone(place: Place) -> None:
    daemon = place.start()
    inode = (place.run_dir / "control").stat().st_ino

    before, after = replace_role(daemon, "control")

    assert after["engine"] == before["engine"]
    assert after["control"] != before["control"]
    assert (place.run_dir / "control").stat().st_ino == inode


def test_a_dead_engine_takes_control_along_and_both_come_back(place: Place) -> None:
    daemon = place.start()
    inode = (place.run_dir / "control").stat().st_ino

    before, after = replace_role(daemon, "engine")

    assert sorted(after) == ["control", "engine"]
    assert not set(before.values()) & set(after.values())
    assert (place.run_dir / "control").stat().st_ino == inode


def test_a_control_that_cannot_take_over_takes_the_engine_along(place: Place) -> None:
    """What it finds in the engine, or is given by the broker, may be why."""
    place.configure("# control does not take over\n" + PLAIN)
    daemon = place.start()
    before = daemon.roles()

    os.kill(before["control"], signal.SIGKILL)
    daemon.wait_log("control ended with exit status 7")
    with daemon.puppet() as puppet:
        start = puppet.next_of(channel.Start).message

    assert isinstance(start, channel.Start)
    assert start.restarts == channel.Restarts(control=1, engine=1)
    assert not set(before.values()) & set(daemon.roles().values())


@pytest.mark.parametrize("way", ["attach", "stream"])
def test_what_control_kept_is_given_to_the_next_one_and_its_client_sees_no_end(
    place: Place, way: str
) -> None:
    kept = attrs.evolve(KEPT, session=attrs.evolve(KEPT.session, way=way))
    place.configure(f"# control opens {VIF_ID}\n{PLAIN}")
    daemon = place.start()
    path = place.run_dir / "vif" / VIF_ID / "attach"
    with daemon.puppet() as puppet:
        puppet.open_vif()
        client = connected(path, OWNER_UID, socket.SOCK_SEQPACKET)
        assert puppet.error_of(lambda request: channel.Keep(request, kept)) is None

    kill_role(daemon, "control")
    with daemon.puppet() as puppet, client:
        start = puppet.next_of(channel.Start).message
        given = puppet.next_of(channel.Inherited)
        goes_on = not select.select([client], [], [], 0)[0]

    assert isinstance(start, channel.Start)
    assert (start.inherited, start.restarts) == (1, channel.Restarts(control=1))
    assert given.message == channel.Inherited(kept)
    assert given.sockets == [(socket.SOCK_SEQPACKET, str(path))] * (way == "attach")
    assert goes_on


def keep_one(place: Place, puppet: Puppet) -> socket.socket:
    """Attach a client and have it kept; return its end."""
    puppet.open_vif()
    path = place.run_dir / "vif" / VIF_ID / "attach"
    client = connected(path, OWNER_UID, socket.SOCK_SEQPACKET)
    assert puppet.error_of(lambda request: channel.Keep(request, KEPT)) is None
    return client


@pytest.mark.parametrize(
    "ask",
    [
        lambda request: channel.Forget(request, VIF_ID),
        lambda request: channel.CloseVifSockets(request, VIF_ID),
    ],
    ids=["forget", "close the sockets"],
)
def test_what_is_forgotten_is_closed_and_may_be_kept_anew(place: Place, ask: Make) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet, keep_one(place, puppet) as client:
        assert puppet.error_of(ask) is None
        assert client.recv(1) == b""
        keep_one(place, puppet).close()


def test_a_second_attachment_of_a_vif_is_not_kept(place: Place) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet, keep_one(place, puppet):
        path = place.run_dir / "vif" / VIF_ID / "attach"
        with connected(path, OWNER_UID, socket.SOCK_SEQPACKET) as second:
            error = puppet.error_of(lambda request: channel.Keep(request, KEPT))
            assert second.recv(1) == b""

    assert error == f"vif {VIF_ID} has an attachment already"


def test_with_the_engine_goes_all_that_was_kept(place: Place) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet:
        client = keep_one(place, puppet)
    kill_role(daemon, "engine")
    with daemon.puppet() as puppet, client:
        start = puppet.next_of(channel.Start).message
        client.settimeout(TIMEOUT_S)
        assert client.recv(1) == b""

    assert isinstance(start, channel.Start)
    assert (start.inherited, start.restarts) == (0, channel.Restarts(engine=1))


def test_sockets_of_vifs_survive_control_and_those_not_asked_for_again_go(place: Place) -> None:
    other_id = "f" * 32
    place.configure(f"# control opens {VIF_ID}\n{PLAIN}")
    daemon = place.start()
    with daemon.puppet() as puppet:
        puppet.open_vif(other_id)
    path = place.run_dir / "vif" / VIF_ID / "stream"
    inode = path.stat().st_ino

    with connected(path, OWNER_UID) as waiting:
        replace_role(daemon, "control")
        with daemon.puppet() as puppet:
            puppet.open_vif()
        waits = not select.select([waiting], [], [], 0)[0]

    assert waits
    assert path.stat().st_ino == inode
    assert not (place.run_dir / "vif" / other_id).exists()


def test_it_gives_up_when_restarts_do_not_help(place: Place) -> None:
    daemon = place.start()
    for _ in range(5):
        replace_role(daemon, "engine")

    os.kill(daemon.roles()["engine"], signal.SIGKILL)

    assert daemon.end() == 1
    assert "giving up: 5 restarts in 60 s were not enough" in daemon.log
    assert not place.run_dir.exists()


def test_the_budget_of_restarts_renews_itself() -> None:
    budget = RestartBudget(limit=2, period_s=60)

    spent = [budget.spend(now) for now in (0, 59, 59.5, 60, 61, 119, 120)]

    assert spent == [True, True, False, True, False, True, True]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"type":"Ack","request":1,"error":null}',
        channel.encode(channel.SetUplink(1, 0, False, False)),
    ],
)
def test_a_control_that_breaks_the_protocol_is_killed_and_replaced(
    place: Place, line: bytes
) -> None:
    daemon = place.start()
    before = daemon.roles()

    with daemon.puppet() as puppet:
        puppet.next()
        puppet.say(line)
        daemon.wait_log("control broke the protocol")
    with daemon.puppet() as puppet:
        puppet.next_of(channel.Start)

    after = daemon.roles()
    assert after["control"] != before["control"]
    assert after["engine"] == before["engine"]


# What control may have


def test_a_vifs_sockets_are_its_owners_alone(place: Place) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet:
        report = puppet.open_vif()

    directory = place.run_dir / "vif" / VIF_ID
    assert report.message == channel.Done(1)
    assert report.sockets == [
        (socket.SOCK_SEQPACKET, str(directory / "attach")),
        (socket.SOCK_STREAM, str(directory / "stream")),
        (socket.SOCK_SEQPACKET, str(directory / "bess")),
    ]
    assert modes_below(directory) == {
        "attach": f"srw------- {OWNER_UID}:0",
        "stream": f"srw------- {OWNER_UID}:0",
        "bess": f"srw------- {OWNER_UID}:0",
    }
    assert stat.filemode(directory.stat().st_mode) == "drwx--x--x"
    connected(directory / "attach", OWNER_UID, socket.SOCK_SEQPACKET).close()
    with pytest.raises(PermissionError):
        connected(directory / "stream", OWNER_UID + 1)


def test_a_client_cannot_send_descriptors_where_the_kernel_can_refuse_them(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        start = puppet.next().message
        puppet.open_vif()
    assert isinstance(start, channel.Start)
    stream = connected(place.run_dir / "vif" / VIF_ID / "stream", OWNER_UID)
    control = connected(place.run_dir / "control", OWNER_UID)

    for sock in (stream, control):
        with sock:
            if start.features.passrights:
                with pytest.raises(PermissionError):
                    socket.send_fds(sock, [b"x"], [0])
            else:
                assert socket.send_fds(sock, [b"x"], [0]) == 1


def test_asking_again_for_the_same_sockets_gives_the_same(place: Place) -> None:
    daemon = place.start()
    path = place.run_dir / "vif" / VIF_ID / "stream"

    with daemon.puppet() as puppet:
        first = puppet.open_vif()
        inode = path.stat().st_ino
        second = puppet.open_vif()
        same = path.stat().st_ino == inode
        queued = connected(path, OWNER_UID)
        third = puppet.open_vif(uid=OWNER_UID + 1)
        stays = path.stat().st_ino == inode
    queued.close()

    assert same
    assert stays
    assert first.sockets == second.sockets == third.sockets
    assert set(modes_below(path.parent).values()) == {f"srw------- {OWNER_UID + 1}:0"}


def test_closing_removes_them_and_may_be_asked_twice(place: Place) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet:
        puppet.open_vif()
        errors = [
            puppet.error_of(lambda request: channel.CloseVifSockets(request, VIF_ID))
            for _ in range(2)
        ]

    assert errors == [None, None]
    assert modes_below(place.run_dir / "vif") == {}


FORBIDDEN: dict[str, tuple[Make, str]] = {
    "a socket for root": (
        lambda request: channel.OpenVifSockets(request, VIF_ID, 0, ("attach",)),
        "uid 0 is not in",
    ),
    "a socket elsewhere": (
        lambda request: channel.OpenVifSockets(request, "../../../tmp", 1234, ("attach",)),
        "vif id is",
    ),
    "removing another directory": (
        lambda request: channel.CloseVifSockets(request, ".."),
        "vif id is",
    ),
    "a socket of another name": (
        lambda request: channel.OpenVifSockets(request, VIF_ID, 1234, ("../control",)),
        "kind is",
    ),
    "another interface": (
        lambda request: channel.SetMemberships(request, "eth0", ()),
        "not a nic",
    ),
    "a group address": (
        lambda request: channel.SetMemberships(request, "lan", (MacAddress(b"\xff" * 6),)),
        "station",
    ),
}


def test_what_the_file_does_not_allow_is_refused_and_in_the_audit_log(
    place: Place, lan: NetworkNamespace
) -> None:
    daemon = place.start()

    with daemon.puppet() as puppet:
        errors = {name: puppet.error_of(make) for name, (make, _) in FORBIDDEN.items()}

    for name, (_, why) in FORBIDDEN.items():
        assert why in (errors[name] or "granted"), name
    assert modes_below(place.run_dir / "vif") == {}
    daemon.stop()
    assert daemon.log.count("audit: request-refused by=control why=") == len(FORBIDDEN)


# Uplinks


def state(report: Report) -> dict[str, Any]:
    assert isinstance(report.message, channel.UplinkState)
    return attrs.asdict(report.message, filter=lambda field, _: field.name in ("present", "up"))


def test_a_nic_is_opened_for_the_engine_and_described_to_control(
    place: Place, lan: NetworkNamespace
) -> None:
    plug(lan)
    daemon = place.start()

    with daemon.puppet() as puppet:
        described, given = puppet.each_of(channel.UplinkState, channel.SetUplink)

    assert described.message == channel.UplinkState(
        "lan", True, True, MacAddress(lan.mac("nic")), 1500, None
    )
    assert isinstance(given.message, channel.SetUplink)
    assert (given.message.port, given.message.present, given.message.up) == (0, True, True)
    assert [kind for kind, _ in given.sockets] == [socket.SOCK_RAW]
    assert "'nic'" in given.sockets[0][1]


def test_a_nic_may_be_absent_at_start_come_go_and_come_again(
    place: Place, lan: NetworkNamespace
) -> None:
    daemon = place.start()
    daemon.wait_log('there is no interface "nic" yet')

    with daemon.puppet() as puppet:

        def wait_uplink(present: bool, up: bool) -> list[tuple[int, str]]:
            """Return the sockets that the engine was given until it was told so."""
            sockets = []
            while True:
                report = puppet.next_of(channel.SetUplink)
                message = report.message
                assert isinstance(message, channel.SetUplink)
                sockets += report.sockets
                if (message.present, message.up) == (present, up):
                    return sockets

        assert wait_uplink(present=False, up=False) == []
        assert (
            puppet.error_of(lambda request: channel.SetMemberships(request, "lan", (STATION,)))
            is None
        )
        plug(lan)
        assert len(wait_uplink(present=True, up=True)) == 1
        fdb = run(lan.command(["bridge", "fdb", "show", "dev", "nic"])).stdout
        assert str(STATION) in fdb
        ip(lan, "link delete nic")
        assert wait_uplink(present=False, up=False) == []
        plug(lan)
        assert len(wait_uplink(present=True, up=True)) == 1


def test_a_restarted_engine_gets_a_fresh_socket(place: Place, lan: NetworkNamespace) -> None:
    plug(lan)
    daemon = place.start()

    kill_role(daemon, "engine")

    with daemon.puppet() as puppet:
        given = puppet.next_of(channel.SetUplink)
    assert [kind for kind, _ in given.sockets] == [socket.SOCK_RAW]


def test_an_interface_with_too_small_an_mtu_is_an_error_of_the_file(
    place: Place, lan: NetworkNamespace
) -> None:
    plug(lan, mtu=1400)

    said = place.fail()

    assert f'{place.config}:9: uplink.lan.interface: interface "nic" has MTU 1400' in said
    assert not place.run_dir.exists()
    assert not place.state_dir.exists()


def test_an_interface_that_is_not_ethernet_is_an_error_of_the_file(
    place: Place, lan: NetworkNamespace
) -> None:
    place.configure(WITH_NIC.replace('"nic"\nexternal', '"lo"\nexternal'))

    assert 'interface "lo" is not Ethernet' in place.fail()


def test_the_units_capabilities_are_those_needed_and_enough_for_a_second_start(
    place: Place, lan: NetworkNamespace
) -> None:
    unit = (Path(__file__).parents[2] / "packaging/multiplexerd.service").read_text()
    (line,) = re.findall("^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    names = line.lower().split()
    keep = ",".join(["-all", *(name.replace("cap_", "+") for name in names)])
    plug(lan)

    for _ in range(2):
        daemon = place.start(wrapper=["setpriv", f"--bounding-set={keep}"])
        assert daemon.stop() == 0

    assert privileges.bits(*names) == broker.NEEDED | broker.NEEDED_BY_NIC
