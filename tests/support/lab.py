"""One LAN for tests, demo and benchmarks: an outside host, a NIC, a daemon, users.

        outside namespace             host namespace
        lan0 10.77.0.1/24   -veth-    nic0: multiplexerd's, no address
             fd77::1/64                  users' stacks, each in its own namespace

Everything is made inside seclude() and needs no account: users are bare uids.
The programs of the product run from the environment that the caller runs in.
Since an unprivileged user may not be able to reach that (a checkout in /root),
it is also mounted at a place that everybody can.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, Final, Self

import attrs

from . import linux, plain
from .netns import CommandFailed, NetworkNamespace, run
from .waiting import eventually
from .wire import Listener

ROOT: Final = Path("/run/lab")
#: Which root can read, and others perhaps cannot.
CHECKOUT: Final = Path(__file__).parents[2]

CONTROL_UID: Final = 20090
ENGINE_UID: Final = 20091

LAN: Final = "lan0"
# Kept over plug_in(), since neighbours remember it.
LAN_MAC: Final = "02:00:00:77:00:01"
NIC: Final = "nic0"
CABLE: Final = "cable0"

START_TIMEOUT_S: Final = 30
STOP_TIMEOUT_S: Final = 20

CONFIG: Final = """\
[daemon]
run_dir = "{run_dir}"
state_dir = "{state_dir}"
control_user = "20090"
engine_user = "20091"
owner_uids = ["20001-20089"]

[uplink.wire]
kind = "nic"
interface = "nic0"
external = ["10.77.0.0/24", "fd77::/64"]

[network.lan]
mode = "{mode}"
uplink = "wire"
prefixes = ["10.77.0.0/24", "fd77::/64"]
gateways = ["10.77.0.1", "fd77::1"]
mtu = {mtu}
"""

VIF: Final = """
[vif.{name}]
owner = "{owner}"
network = "lan"
addresses = ["10.77.0.{number}/24", "fd77::{number}/64"]
"""


@attrs.frozen
class Interpreter:
    """The Python of this environment as every user can run it."""

    executable: str
    search_path: tuple[str, ...]

    def module(self, name: str, *arguments: str) -> list[str]:
        return [self.executable, "-m", name, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        if not self.search_path:
            return {}
        return {"PYTHONPATH": ":".join(self.search_path)}


@cache
def interpreter() -> Interpreter:
    """Mount this environment, and each folder of $PYTHONPATH, where all users can reach them."""

    executable = Path(sys.executable)
    if sys.prefix != sys.base_prefix:
        executable = _mount_reachable(sys.prefix, "venv") / executable.relative_to(sys.prefix)
    folders = [entry for entry in os.environ.get("PYTHONPATH", "").split(":") if entry]
    return Interpreter(
        str(executable),
        tuple(str(_mount_reachable(folder, f"path{n}")) for n, folder in enumerate(folders)),
    )


@cache
def package_with_lwip_source() -> str:
    """Return where every user finds the package with lwIP built from its source."""
    built = CHECKOUT / "build" / "lwip-site"
    assert built.is_dir(), f"{built} is missing: make test makes it"
    return str(_mount_reachable(str(built), "lwip"))


def _mount_reachable(folder: str, name: str) -> Path:
    target = ROOT / name
    target.mkdir(parents=True)
    linux.mount(folder, target, flags=linux.MS_BIND | linux.MS_REC)
    return target


@attrs.frozen
class User:
    """An unprivileged uid in the host namespace, with a home of its own, and in some groups."""

    uid: int
    lab: "Lab"
    groups: tuple[int, ...] = ()

    @property
    def home(self) -> Path:
        return self.lab.root / "home" / str(self.uid)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.lab.environment,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
        }

    def make_home(self) -> None:
        for folder in (self.home, self.home / "run"):
            if not folder.exists():
                folder.mkdir(parents=True, mode=0o700)
                os.chown(folder, self.uid, self.uid)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs *argv* as this user."""
        namespace = f"--net={self.lab.host.namespace.path}"
        if not self.groups:
            return ["nsenter", namespace, f"-S{self.uid}", f"-G{self.uid}", "--", *argv]
        groups = ",".join(map(str, self.groups))
        identity = [f"--reuid={self.uid}", f"--regid={self.uid}", f"--groups={groups}"]
        return ["nsenter", namespace, "--", "setpriv", *identity, "--", *argv]

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run *argv* as this user to its end; its output is captured."""
        self.make_home()
        return run(self.command(argv), check=check, env=self.environment, timeout_s=timeout_s)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start *argv* as this user; the lab ends it if nobody else does."""
        self.make_home()
        return self.lab.popen(self.command(argv), env=self.environment, **options)

    def pfinet(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command `pfinet`."""
        return self.run(*interpreter().module("pfinet_client", *arguments), check=check)

    def show(self, vif: str) -> dict[str, Any]:
        """Return what `pfinet show --json` says of *vif*."""
        shown: dict[str, Any] = json.loads(self.pfinet("show", "--json", vif).stdout)
        return shown

    def vifs(self) -> list[str]:
        """Return the names that `pfinet list` says."""
        return [vif["name"] for vif in json.loads(self.pfinet("list", "--json").stdout)]

    @contextmanager
    def stack(self, vif: str, *command: str) -> Iterator["Stack"]:
        """Run `pfinet run` for a while, with *command* (or a mere wait) in it."""
        with self._stack(("--vif", vif), *command) as stack:
            yield stack

    @contextmanager
    def borrowed_stack(self, network: str, *command: str) -> Iterator["Stack"]:
        """As `stack`, on a vif that is made for it in *network*."""
        with self._stack(("--network", network), *command) as stack:
            yield stack

    @contextmanager
    def _stack(self, where: tuple[str, str], *command: str) -> Iterator["Stack"]:
        script = 'echo $$ $PFINET_VIF; exec "$@"'
        process = self.popen(
            *interpreter().module("pfinet_client", "run", *where, "--"),
            *("sh", "-c", script, "sh", *(command or ("cat",))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                _, error = process.communicate(timeout=STOP_TIMEOUT_S)
                words = " ".join(where)
                raise CommandFailed(f"pfinet run {words}: {process.returncode}\n{error}")
            pid, vif = line.split()
            yield Stack(self, vif, process, int(pid))
        finally:
            end(process)


@attrs.frozen
class Stack:
    """A running `pfinet run`; *pid* is a process inside."""

    user: User
    vif: str
    process: subprocess.Popen[str]
    pid: int

    @property
    def namespace(self) -> NetworkNamespace:
        return NetworkNamespace.of_process(self.pid)

    @property
    def interface(self) -> str:
        """The name of the vif's interface inside."""
        with self.namespace.entered():
            (name,) = (name for _, name in socket.if_nameindex() if name != "lo")
        return name

    @property
    def mac(self) -> bytes:
        return self.namespace.mac(self.interface)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs *argv* inside, as root of the stack."""
        return ["nsenter", f"-t{self.pid}", "-U", "-n", "-m", "--", *argv]

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(self.command(argv), check=check)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        return self.user.lab.popen(self.command(argv), env=self.user.environment, **options)

    def exec(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run *argv* inside by `pfinet exec`, as its user would."""
        return self.user.pfinet("exec", self.vif, "--", *argv, check=check)

    def listener(self) -> Listener:
        return Listener(self.namespace, self.interface)


@attrs.frozen
class Host:
    """A namespace of the lab in which root runs programs."""

    namespace: NetworkNamespace
    lab: "Lab"

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(self.namespace.command(argv), check=check, env=self.lab.environment)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        command = self.namespace.command(argv)
        return self.lab.popen(command, env=self.lab.environment, **options)

    def mac(self, interface: str) -> bytes:
        return self.namespace.mac(interface)

    def listener(self, interface: str) -> Listener:
        return Listener(self.namespace, interface)


class Daemon:
    """A running multiplexerd."""

    def __init__(self, lab: "Lab", wrapper: Sequence[str] = ()) -> None:
        self._lab = lab
        self.log = lab.root / "multiplexerd.log"
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify = lab.root / "notify"
        notify.unlink(missing_ok=True)
        ready.bind(str(notify))
        ready.settimeout(0.2)
        with ready, self.log.open("a") as log:
            self.process = lab.popen(
                lab.host.namespace.command([*wrapper, *lab.daemon_command()]),
                env={**lab.environment, "NOTIFY_SOCKET": str(notify)},
                stderr=log,
            )
            self._wait_until_ready(ready)

    def _wait_until_ready(self, ready: socket.socket) -> None:
        for _ in range(START_TIMEOUT_S * 5):
            try:
                if b"READY=1" in ready.recv(4096).split(b"\n"):
                    return
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        end(self.process)
        raise CommandFailed(
            f"multiplexerd did not start: {self.process.returncode}\n{self.log.read_text()}"
        )

    def processes(self) -> dict[str, int]:
        """Return the pid of each of the daemon's processes by its role."""
        pids = {"broker": self.process.pid}
        for pid in children(self.process.pid):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"--role" in argv:  # else it was forked just now, or has ended
                pids[argv[argv.index(b"--role") + 1].decode()] = pid
        return pids

    def stop(self) -> int:
        """Stop it as an administrator would, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)


class Lab:
    """The LAN of the picture above, under a name of its own, until it is closed."""

    def __init__(
        self,
        name: str = "lab",
        *,
        mtu: int = 1500,
        nic: str = "veth",
        daemon_module: str = "multiplexer.daemon",
    ) -> None:
        self.name = name
        self._daemon_module = daemon_module
        self._mtu = mtu
        self._nic = nic
        self.root = ROOT / name
        self.root.mkdir(parents=True)
        self.run_dir = self.root / "multiplexer"
        self.config = self.root / "multiplexer.toml"
        self._processes: list[subprocess.Popen[str]] = []
        self._closing = ExitStack()
        self._closing.callback(shutil.rmtree, self.root)
        self.host = self._host("host")
        self.outside = self._host("outside")
        self._closing.callback(self._end_processes)
        self.plug_in()

    def _host(self, role: str) -> Host:
        namespace = NetworkNamespace.create(f"{self.name}-{role}")
        self._closing.callback(namespace.delete)
        return Host(namespace, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing.close()

    def _end_processes(self) -> None:
        for process in reversed(self._processes):
            end(process)

    def plug_in(self) -> None:
        """Make the cable between outside host and NIC.

        The NIC is the cable's end itself, or a macvlan on it that receives
        nothing but what it is asked to: it filters as hardware does.
        """
        host, outside = self.host.namespace.path.name, self.outside.namespace.path.name
        end = NIC if self._nic == "veth" else CABLE
        lines = [
            f"link add {LAN} address {LAN_MAC} netns {outside} mtu {self._mtu} type veth"
            f" peer name {end} netns {host} mtu {self._mtu}",
            f"-n {outside} address add 10.77.0.1/24 dev {LAN}",
            f"-n {outside} address add fd77::1/64 dev {LAN} nodad",
            f"-n {outside} link set {LAN} up",
            f"-n {host} link set {end} up",
        ]
        if self._nic == "macvlan":
            lines += [
                f"-n {host} link add link {CABLE} name {NIC} mtu {self._mtu}"
                " type macvlan mode passthru nopromisc",
                f"-n {host} link set {NIC} up",
            ]
        for line in lines:
            run(["ip", *line.split()])
        for namespace, interface in ((self.host.namespace, NIC), (self.outside.namespace, LAN)):
            eventually(partial(namespace.is_up, interface), f"{interface} is up")

    @property
    def environment(self) -> dict[str, str]:
        """What every program of the lab finds in its environment."""
        return {
            **interpreter().environment,
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "MULTIPLEXER_CONTROL": str(self.run_dir / "control"),
        }

    def configure(
        self,
        owners: Mapping[str, int],
        *,
        mode: str = "switch",
        mtu: int = 1500,
        host: bool = False,
        extra: str = "",
    ) -> None:
        """Write a configuration where each vif in *owners* belongs to that uid.

        Their addresses are 10.77.0.11 and fd77::11, and so on in order.
        """
        text = CONFIG.format(
            run_dir=self.run_dir,
            state_dir=self.root / "state",
            mode=mode,
            mtu=mtu,
        )
        if host:
            text += "host = true\n"
        for number, (name, owner) in enumerate(owners.items(), start=11):
            text += VIF.format(name=name, owner=owner, number=number)
        self.config.write_text(text + extra)

    def daemon_command(self) -> list[str]:
        command = interpreter().module(self._daemon_module, "--config", str(self.config))
        if self._daemon_module.startswith("tests."):
            return ["env", f"PYTHONPATH={CHECKOUT}", *command]
        return command

    @contextmanager
    def daemon(self, wrapper: Sequence[str] = ()) -> Iterator[Daemon]:
        """Run multiplexerd for a while; it is ready at the start and must stop cleanly.

        It is run by the command *wrapper*, which becomes it.
        """
        daemon = Daemon(self, wrapper)
        try:
            yield daemon
        finally:
            if daemon.process.poll() is None:
                status = daemon.stop()
                assert status == 0, f"multiplexerd: {status}\n{daemon.log.read_text()}"

    def user(self, uid: int, *groups: int) -> User:
        return User(uid, self, groups)

    def publish(self, script: Path) -> Path:
        """Copy *script* to where every user can read it."""
        copy = self.root / script.name
        copy.write_text(script.read_text())
        copy.chmod(0o644)
        return copy

    def multiplexerctl(
        self, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `multiplexerctl` as root."""
        return self.host.run(*interpreter().module("multiplexer.cli", *arguments), check=check)

    def query(self, *arguments: str) -> Any:
        """Return what `multiplexerctl … --json` answers."""
        return json.loads(self.multiplexerctl(*arguments, "--json").stdout)

    def ask(self, op: str, uid: int = 0, **arguments: Any) -> Any:
        """Return the daemon's answer to a request that *uid* makes."""
        return plain.ask(self.run_dir / "control", op, uid, **arguments)

    def restarts(self) -> tuple[int, int] | None:
        """Return how often control alone, and all, were started again; None: nobody answers."""
        try:
            status = self.ask("status")
        except (OSError, EOFError, plain.Refused):
            return None
        return status["control_restarts"], status["engine_restarts"]

    def socket_of(self, vif: str, kind: str) -> Path:
        """Return the path of a vif's socket of that kind."""
        return self.run_dir / "vif" / str(self.ask("vif.show", name=vif)["id"]) / kind

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program that ends with the lab at the latest."""
        process = subprocess.Popen(
            argv, env=env, cwd="/", stdin=stdin, stdout=stdout, stderr=stderr, text=True
        )
        self._processes.append(process)
        return process


def children(pid: int) -> list[int]:
    """Return the pids of the children of every thread of *pid*."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def end(process: subprocess.Popen[str]) -> None:
    """End *process* if it still runs: by the end of its input, SIGTERM, or SIGKILL."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    for attempt in (process.terminate, process.kill):
        if process.poll() is None:
            attempt()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
    process.wait(STOP_TIMEOUT_S)
