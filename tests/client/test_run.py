"""`pfinet run` and `pfinet exec` by unprivileged uids, against a fake daemon."""

import json
import os
import pty
import selectors
import signal
import socket
import subprocess
from ipaddress import ip_interface, ip_network
from pathlib import Path

import attrs
import pytest

from pfinet_client.watch import Watch
from pfinet_proto.attach import GoodbyeCode, Offload
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.support.lab import interpreter

NO_OFFLOAD = Offload(0)


def run(user: ClientUser, *command: str) -> subprocess.CompletedProcess[str]:
    return user.pfinet("run", "--", *command)


# What the stack is.


def test_the_interface_is_as_the_binding_says(alice: ClientUser) -> None:
    (link,) = json.loads(run(alice, "ip", "-j", "address", "show", "pfinet0").stdout)

    assert link["address"] == "52:54:00:00:00:01"
    assert link["mtu"] == 1500
    assert {"UP", "LOWER_UP"} <= set(link["flags"])
    addresses = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"]}
    assert addresses == {"10.9.0.1/24", "fd09::1/64", "fe80::5054:ff:fe00:1/64"}


def test_default_routes_go_by_the_gateways(alice: ClientUser) -> None:
    shown = run(alice, "sh", "-c", "ip route show default; ip -6 route show default").stdout

    assert "default via 10.9.0.254 dev pfinet0" in shown
    assert "default via fd09::254 dev pfinet0" in shown


def test_a_gateway_may_lie_outside_the_prefixes() -> None:
    lonely = binding(1, addresses=(ip_interface("10.9.0.1/32"),))
    with fake_daemon((lonely, 20001)) as daemon:
        shown = run(ClientUser(20001, daemon), "ip", "route", "get", "192.0.2.1").stdout

    assert "via 10.9.0.254" in shown


def test_two_stacks_ping_each_other_with_their_first_packet(
    alice: ClientUser, bob: ClientUser
) -> None:
    with alice.stack("v1", "read end"):
        for address in ("10.9.0.1", "fd09::1"):
            done = run(bob, "ping", "-c", "1", "-W", "5", address)
            assert "1 received" in done.stdout


def test_it_sends_nothing_at_start_that_the_daemon_would_drop(
    alice: ClientUser, bob: ClientUser
) -> None:
    """No duplicate address detection, no router solicitation, no address but the bound ones."""
    with alice.stack("v1", "read end"):
        run(bob, "ping", "-c", "1", "-W", "5", "fd09::1")

        frames = [record[10:] for record in alice.daemon.ports["v1"].records]
        bound = {
            socket.inet_pton(socket.AF_INET6, text)
            for text in ("::", "fd09::1", "fe80::5054:ff:fe00:1")
        }
        assert frames
        for frame in frames:
            assert frame[6:12] == binding(1).mac.packed
            if frame[12:14] == b"\x86\xdd":
                assert frame[22:38] in bound
                assert not is_icmpv6(frame, 133)
                assert not (is_icmpv6(frame, 135) and frame[22:38] == bytes(16))


def is_icmpv6(frame: bytes, kind: int) -> bool:
    return frame[20] == socket.IPPROTO_ICMPV6 and frame[54] == kind


def test_neighbours_are_told_who_has_the_addresses_now(alice: ClientUser) -> None:
    with alice.stack("v1", "read line; exec cat") as stack:
        stack.say("")
        wait_for_frames(alice.daemon, "v1", announcements=2)


def wait_for_frames(daemon: FakeDaemon, name: str, announcements: int) -> None:
    """Wait until the stack has sent a gratuitous ARP and an unsolicited advertisement."""
    with daemon.changed:
        assert daemon.changed.wait_for(
            lambda: sum(map(is_announcement, daemon.ports[name].records)) >= announcements,
            TIMEOUT_S,
        )


def is_announcement(record: bytes) -> bool:
    frame = record[10:]
    if frame[12:14] == b"\x08\x06":
        return frame[28:32] == frame[38:42]
    return frame[12:14] == b"\x86\xdd" and is_icmpv6(frame, 136) and frame[38] == 0xFF


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_tcp_goes_in_unsegmented_frames_where_offload_is_negotiated(
    alice: ClientUser, bob: ClientUser, family: str
) -> None:
    transfer(alice, bob, "10.9.0.1" if family == "IPv4" else "fd09::1")

    assert bob.daemon.ports["v2"].longest_bytes > 10 * 1514


def test_tcp_goes_in_plain_frames_where_it_is_not() -> None:
    with fake_daemon((binding(1), 20001), (binding(2), 20002), offload=NO_OFFLOAD) as daemon:
        transfer(ClientUser(20001, daemon), ClientUser(20002, daemon), "10.9.0.1")

        assert daemon.ports["v2"].longest_bytes == 1514


_SERVE = """
import socket
with socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("listening", flush=True)
    client, _ = server.accept()
    total = 0
    while data := client.recv(1 << 20):
        total += len(data)
    print(total, flush=True)
    client.close()
"""
_SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 80)) as server:
    server.sendall(bytes(1 << 24))
    server.shutdown(socket.SHUT_WR)
    server.recv(1)
"""


def transfer(server: ClientUser, client: ClientUser, address: str) -> None:
    """Send 16 MiB from the stack of *client* to that of *server*."""
    python = interpreter().executable
    with server.stack("v1", f"exec {python} -c '{_SERVE}'") as stack:
        assert stack.read_line() == "listening"
        done = run(client, python, "-c", _SEND, address)
        assert done.returncode == 0, done.stderr
        assert stack.read_line() == str(1 << 24)


def test_the_mtu_is_that_of_the_binding() -> None:
    with fake_daemon((binding(1, mtu=9000), 20001)) as daemon:
        shown = run(ClientUser(20001, daemon), "cat", "/sys/class/net/pfinet0/mtu")

    assert shown.stdout == "9000\n"


def test_sys_shows_the_interfaces_of_the_stack(alice: ClientUser) -> None:
    assert run(alice, "ls", "/sys/class/net").stdout.split() == ["lo", "pfinet0"]


def test_router_advertisements_are_ignored_unless_a_prefix_is_bound() -> None:
    prefixes = (ip_network("fd09:5::/64"),)
    plain, routed = binding(1), binding(2, prefixes=prefixes)
    setting = "/proc/sys/net/ipv6/conf/pfinet0/accept_ra"
    with fake_daemon((plain, 20001), (routed, 20002)) as daemon:
        shown = [run(ClientUser(uid, daemon), "cat", setting).stdout for uid in (20001, 20002)]

    assert shown == ["0\n", "1\n"]


# Names.


def test_resolv_conf_is_that_of_the_binding(alice: ClientUser) -> None:
    here = Path("/etc/resolv.conf").read_text()

    assert run(alice, "cat", "/etc/resolv.conf").stdout == (
        "# vif v1, network lab\nnameserver 10.9.0.53\nnameserver fd09::53\nsearch lab.example\n"
    )
    assert Path("/etc/resolv.conf").read_text() == here


def test_resolv_conf_is_covered_where_it_is_a_link_of_systemd_resolved(
    alice: ClientUser, tmp_path: Path
) -> None:
    """And stays so when the daemon of the host writes it anew, by rename."""
    script = (
        f"cp -a /etc/. {tmp_path} && mount --bind {tmp_path} /etc && rm -f /etc/resolv.conf"
        " && ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
        " && mkdir -p /run/systemd/resolve && cd /run/systemd/resolve"
        ' && echo "nameserver 127.0.0.53" > stub-resolv.conf && touch io.systemd.Resolve'
        ' && "$@" && cat /etc/resolv.conf'
    )
    tmp_path.chmod(0o755)
    shown = "cat /etc/resolv.conf; ls /run/systemd/resolve"
    done = alice.pfinet(
        "run", "--", "sh", "-c", shown, prefix=("unshare", "-m", "sh", "-c", script, "sh")
    )

    assert done.stdout.splitlines() == [
        "# vif v1, network lab",
        "nameserver 10.9.0.53",
        "nameserver fd09::53",
        "search lab.example",
        "resolv.conf",
        "stub-resolv.conf",
        "nameserver 127.0.0.53",
    ]


def test_caches_that_answer_by_the_hosts_network_are_out_of_reach(alice: ClientUser) -> None:
    nscd = Path("/run/nscd")
    nscd.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as cache:
        cache.bind(str(nscd / "socket"))
        shown = run(alice, "ls", "-A", "/run/nscd")
    (nscd / "socket").unlink()
    nscd.rmdir()

    assert (shown.returncode, shown.stdout) == (0, "")


# Users.


def test_the_user_is_root_inside_and_alone(alice: ClientUser) -> None:
    shown = run(alice, "sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/setgroups")

    assert shown.stdout.split() == ["0", "0", "0", "20001", "1", "deny"]


def test_granted_ids_follow_where_newuidmap_gives_them(alice: ClientUser, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\nalice:x:20001:20001::/:/bin/sh\n")
    (tmp_path / "grants").write_text("bob:1:1\nalice:300000:1000\n20001:400000:10\n")
    script = (
        f"cd {tmp_path} && mount --bind passwd /etc/passwd && mount --bind grants /etc/subuid"
        ' && mount --bind grants /etc/subgid && cd / && exec "$@"'
    )
    done = alice.pfinet(
        *("run", "--", "cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups"),
        prefix=("unshare", "-m", "sh", "-c", script, "sh"),
    )

    wanted = ["0", "20001", "1", "1", "300000", "1000", "1001", "400000", "10"]
    assert done.stderr == ""
    assert done.stdout.split() == [*wanted, *wanted, "allow"]


def test_without_a_passwd_entry_newuidmap_fails_and_the_user_is_told(
    alice: ClientUser, tmp_path: Path
) -> None:
    (tmp_path / "grants").write_text("20001:400000:10\n")
    script = (
        f"cd {tmp_path} && mount --bind grants /etc/subuid"
        ' && mount --bind grants /etc/subgid && cd / && exec "$@"'
    )
    done = alice.pfinet(
        *("run", "--", "id", "-u"), prefix=("unshare", "-m", "sh", "-c", script, "sh")
    )

    assert (done.returncode, done.stdout) == (0, "0\n")
    assert "only your own uid exists in this stack" in done.stderr


def test_a_low_port_and_a_raw_socket_are_allowed_inside(alice: ClientUser) -> None:
    script = (
        "import socket; socket.create_server(('10.9.0.1', 80)).close();"
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()"
    )
    done = run(alice, interpreter().executable, "-c", script)

    assert done.returncode == 0, done.stderr


def test_tcpdump_that_stays_root_captures_where_there_is_one_user(alice: ClientUser) -> None:
    """It calls setgroups, which the kernel denies in a user namespace of one uid."""
    ping = "ping -q -c 1 127.0.0.1 >/dev/null"
    capture = "tcpdump -Z root -l -c 1 -ni lo icmp"
    script = (
        f'{capture} 2>&1 | while read line; do echo "$line";'
        f" case $line in listening*) {ping};; esac; done"
    )
    with alice.stack("v1", "read line"):
        entered = alice.pfinet("exec", "v1", "sh", "-c", script)
    started = run(alice, "sh", "-c", script)

    for done in (entered, started):
        assert "IP 127.0.0.1 > 127.0.0.1: ICMP echo request" in done.stdout


# The command.


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_the_exit_status_is_passed_through(alice: ClientUser, status: int) -> None:
    assert run(alice, "sh", "-c", f"exit {status}").returncode == status


@attrs.frozen
class Told:
    """Signals that are read all at once."""

    wakeup: int
    numbers: tuple[signal.Signals, ...]

    def read_nowait(self) -> tuple[signal.Signals, ...]:
        return self.numbers


def test_the_exit_status_is_kept_when_programs_that_set_up_the_stack_ended_as_well() -> None:
    """newuidmap and newgidmap are children too; each has its SIGCHLD."""
    child = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    numbers = (signal.SIGCHLD, signal.SIGCHLD, signal.SIGCHLD, signal.SIGTERM)
    with open("/dev/zero", "rb") as readable, selectors.SelectSelector() as selector:
        watch = Watch(child.pid, Told(readable.fileno(), numbers), selector)  # type: ignore[arg-type]
        status = watch.wait_end()
    child.returncode = 7

    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV])
def test_a_command_that_a_signal_ends_takes_pfinet_along(
    alice: ClientUser, number: signal.Signals
) -> None:
    assert run(alice, "sh", "-c", f"kill -{number} $$").returncode == -number


def test_a_command_without_a_name_is_not_found(alice: ClientUser) -> None:
    done = run(alice, "")

    assert (done.returncode, done.stderr) == (127, "pfinet: : not found\n")


def test_a_command_that_is_not_found_is_127(alice: ClientUser) -> None:
    done = run(alice, "no-such-command")

    assert (done.returncode, done.stderr) == (127, "pfinet: no-such-command: not found\n")


def test_a_command_that_cannot_be_run_is_126(alice: ClientUser) -> None:
    done = run(alice, "/etc/passwd")

    assert (done.returncode, done.stderr) == (126, "pfinet: /etc/passwd: Permission denied\n")


def test_the_shell_is_run_if_no_command_is_given(alice: ClientUser) -> None:
    done = alice.pfinet("run", env={**alice.environment, "SHELL": "/usr/bin/env"})

    assert "PFINET_VIF=v1\n" in done.stdout


def test_the_command_inherits_no_descriptor_and_pythons_ignored_signals_not(
    alice: ClientUser,
) -> None:
    shown = run(alice, "sh", "-c", "ls /proc/self/fd | wc -l; grep Sig[BI] /proc/self/status")

    # Three, and the one that ls has open on the directory.
    descriptors, *masks = shown.stdout.splitlines()
    assert descriptors == "4"
    blocked, ignored = (int(mask.split()[1], 16) for mask in masks)
    assert blocked == 0
    # What whoever started the tests ignores is none of ours.
    assert ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "USR2"])
def test_a_signal_to_pfinet_is_passed_on(alice: ClientUser, name: str) -> None:
    script = f"trap 'echo got; exit 3' {name}; echo ready; while :; do read line; done"
    with alice.stack("v1", script) as stack:
        assert stack.read_line() == "ready"

        stack.process.send_signal(signal.Signals[f"SIG{name}"])

        assert stack.read_line() == "got"
        assert stack.wait() == 3


def test_a_command_whose_pfinet_is_killed_gets_sighup(alice: ClientUser) -> None:
    script = "trap 'echo hung up; exit' HUP; echo ready; while :; do read line; done"
    with alice.stack("v1", script) as stack:
        assert stack.read_line() == "ready"

        stack.process.kill()

        assert stack.read_line() == "hung up"


# The terminal.

_SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(job, os.WUNTRACED)
while os.WIFSTOPPED(status):
    os.tcsetpgrp(0, os.getpgrp())
    print("job stopped", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
    _, status = os.waitpid(job, os.WUNTRACED)
print("job ended", os.waitstatus_to_exitcode(status), flush=True)
"""


class Terminal:
    """A terminal with a job-control shell's minimum, which runs one job."""

    def __init__(self, user: ClientUser, *arguments: str) -> None:
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.setgroups([])
            os.setgid(user.uid)
            os.setuid(user.uid)
            argv = [interpreter().executable, "-c", _SHELL, *user.command(*arguments)]
            os.execve(argv[0], argv, user.environment)
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def read_until(self, text: str) -> None:
        while text not in self._seen:
            piece = os.read(self._master, 4096).decode()
            assert piece, self._seen
            self._seen += piece
        self._seen = self._seen.split(text, 1)[1]

    def close(self) -> None:
        # Hanging up ends what still runs.
        os.close(self._master)
        os.waitpid(self._pid, 0)


def test_control_c_reaches_the_command_and_ends_both_if_it_ends_by_it(alice: ClientUser) -> None:
    terminal = Terminal(alice, "run", "--", "sh", "-c", "echo up; read line")
    terminal.read_until("up")

    terminal.type("\x03")

    terminal.read_until(f"job ended -{signal.SIGINT.value}")
    terminal.close()


def test_control_c_leaves_a_command_that_handles_it_in_peace(alice: ClientUser) -> None:
    script = "trap 'echo caught' INT; echo up; read line; read line; exit 5"
    terminal = Terminal(alice, "run", "--", "sh", "-c", script)
    terminal.read_until("up")

    terminal.type("\x03")
    terminal.read_until("caught")
    terminal.type("\n\n")

    terminal.read_until("job ended 5")
    terminal.close()


def test_control_z_stops_the_job_as_the_shell_sees_it_and_fg_resumes_it(
    alice: ClientUser,
) -> None:
    terminal = Terminal(alice, "run", "--", "sh", "-c", "echo up; read line; exit 6")
    terminal.read_until("up")

    terminal.type("\x1a")
    terminal.read_until("job stopped")
    terminal.type("\n")
    terminal.type("more\n")

    terminal.read_until("job ended 6")
    terminal.close()


# Losing what it stands on.


def test_a_deleted_vif_is_told_and_hangs_the_command_up(alice: ClientUser) -> None:
    script = "trap 'echo hung up; exit 4' HUP; echo ready; while :; do read line; done"
    with alice.stack("v1", script) as stack:
        assert stack.read_line() == "ready"

        alice.daemon.say_goodbye("v1", GoodbyeCode.DELETED, "vif v1 was deleted by root")

        assert stack.read_line() == "hung up"
        assert stack.read_error_line() == (
            "pfinet: vif v1: vif v1 was deleted by root; the stack is disconnected"
        )
        assert stack.wait() == 4


def test_an_interface_that_the_user_deletes_disconnects_and_frees_the_vif(
    alice: ClientUser,
) -> None:
    with alice.stack("v1", "ip link delete pfinet0; read line") as stack:
        assert stack.read_error_line() == (
            "pfinet: vif v1: the interface was deleted; the stack is disconnected"
        )
        assert alice.daemon.ports["v1"].detached.wait(TIMEOUT_S)


def test_the_vif_is_free_when_the_command_has_ended(alice: ClientUser) -> None:
    for _ in range(2):
        assert run(alice, "true").returncode == 0
        assert alice.daemon.ports["v1"].detached.wait(TIMEOUT_S)


# What the system may forbid.


def test_a_taken_vif_is_refused_with_the_daemons_word(alice: ClientUser) -> None:
    with alice.stack("v1", "read line"):
        done = run(alice, "true")

    assert (done.returncode, done.stderr) == (125, "pfinet: vif v1 is held by uid 20001\n")


def test_a_tun_node_of_roots_alone_is_explained(alice: ClientUser, tmp_path: Path) -> None:
    script = (
        f"mknod -m 0600 {tmp_path}/tun c 10 200 && mount --bind {tmp_path}/tun /dev/net/tun"
        ' && exec "$@"'
    )
    done = alice.pfinet("run", "--", "true", prefix=("unshare", "-m", "sh", "-c", script, "sh"))

    assert done.returncode == 125
    assert done.stderr.startswith("pfinet: /dev/net/tun may not be opened, its mode is 0600: ")


def test_a_missing_tun_node_is_explained(alice: ClientUser, tmp_path: Path) -> None:
    script = f'mount --bind {tmp_path} /dev/net && exec "$@"'
    tmp_path.chmod(0o755)
    done = alice.pfinet("run", "--", "true", prefix=("unshare", "-m", "sh", "-c", script, "sh"))

    assert done.returncode == 125
    assert done.stderr.startswith("pfinet: /dev/net/tun is missing: ")


def test_forbidden_user_namespaces_are_explained(alice: ClientUser) -> None:
    """The limit is set in a user namespace of the test's own, where it holds for the nested."""
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    process = subprocess.run(
        [*prefix, *alice.command("run", "--vif", "v1", "--", "true")],
        env=alice.environment,
        user=alice.uid,
        group=alice.uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )

    assert process.returncode == 125
    assert process.stderr == (
        "pfinet: user namespaces are forbidden: "
        "the administrator set user.max_user_namespaces to 0\n"
    )


# Entering a stack.


def test_exec_enters_the_stack_in_the_same_directory(alice: ClientUser) -> None:
    script = "pwd; id -u; echo $PFINET_VIF; cat /etc/resolv.conf; ip -br -4 address"
    with alice.stack("v1", "read line"):
        done = alice.pfinet("exec", "v1", "--", "sh", "-c", script, cwd="/usr")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == ["/usr", "0", "v1", "# vif v1, network lab"]
    assert "10.9.0.1/24" in lines[-1]


def test_exec_passes_the_exit_status_through(alice: ClientUser) -> None:
    with alice.stack("v1", "read line"):
        assert alice.pfinet("exec", "v1", "sh", "-c", "exit 8").returncode == 8
        assert alice.pfinet("exec", "v1", "no-such-command").returncode == 127


def test_exec_says_that_no_stack_runs(alice: ClientUser) -> None:
    done = alice.pfinet("exec", "v1", "true")

    assert (done.returncode, done.stderr) == (125, "pfinet: no stack runs on vif v1\n")


def test_exec_enters_a_stack_whose_daemon_is_away(alice: ClientUser) -> None:
    with alice.stack("v1", "read line") as stack:
        alice.daemon.close()
        assert "attaching again" in stack.read_error_line()
        done = alice.pfinet("exec", "v1", "--", "ip", "-br", "-4", "address")

    assert done.returncode == 0, done.stderr
    assert "10.9.0.1/24" in done.stdout


def test_exec_asks_the_daemon_which_of_two_stacks_is_attached(alice: ClientUser) -> None:
    """The first has lost the vif to the second, and waits to get it back."""
    port = alice.daemon.ports["v1"]
    with alice.stack("v1", "read line") as first:
        port.turns_away_returning = True
        alice.daemon.close()
        alice.daemon.start()
        assert "attaching again" in first.read_error_line()
        with alice.stack("v1", "readlink /proc/self/ns/net; read line") as second:
            done = alice.pfinet("exec", "v1", "readlink", "/proc/self/ns/net")

            assert done.stdout.strip() == second.read_line(), done.stderr


def test_exec_knows_the_stacks_of_another_daemon_apart(alice: ClientUser) -> None:
    with fake_daemon((binding(1), 20001)) as other, alice.stack("v1", "read line"):
        done = ClientUser(20001, other).pfinet("exec", "v1", "true")

    assert (done.returncode, done.stderr) == (125, "pfinet: no stack runs on vif v1\n")


def test_exec_is_for_the_same_user(alice: ClientUser, bob: ClientUser) -> None:
    with alice.stack("v1", "read line"):
        done = bob.pfinet("exec", "v1", "true")

    assert done.returncode == 125
    assert done.stderr == "pfinet: the stack on vif v1 belongs to uid 20001, you are uid 20002\n"


_BAIT = """
import os, sys
for kind in ("user", "mnt", "net"):
    os.open(f"/proc/{sys.argv[1]}/ns/{kind}", os.O_RDONLY)
os.memfd_create(f"pfinet v1 {sys.argv[2]}")
print("lit", flush=True)
sys.stdin.readline()
"""


def test_exec_by_root_does_not_enter_what_another_user_made(
    alice: ClientUser, daemon: FakeDaemon
) -> None:
    """There, root's uid on the host would be at the mercy of that user's mounts."""
    root = ClientUser(0, daemon)
    with alice.stack("v1", "echo $$; read line") as stack:
        holder = subprocess.Popen(
            [interpreter().executable, "-c", _BAIT, stack.read_line(), str(daemon.control)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "lit\n"
        done = root.pfinet("exec", "v1", "id")
        holder.communicate("\n", timeout=TIMEOUT_S)

    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"pfinet: process {holder.pid} holds for vif v1 namespaces that are not yours\n"
    )


_HOLD = """
import sys
from pfinet_client.attachment import connect_attach
from pfinet_proto.attach import Hello
attachment = connect_attach(sys.argv[1], Hello(), 10)
print("attached", flush=True)
sys.stdin.readline()
"""


def test_exec_says_that_the_holder_is_another_program(alice: ClientUser) -> None:
    path = alice.daemon.directory / "v1" / "attach"
    holder = subprocess.Popen(
        [interpreter().executable, "-c", _HOLD, str(path)],
        env=alice.environment,
        user=alice.uid,
        group=alice.uid,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "attached\n"
    done = alice.pfinet("exec", "v1", "true")
    holder.communicate("\n", timeout=TIMEOUT_S)

    assert done.returncode == 125
    assert done.stderr == (
        f"pfinet: vif v1 is held by process {holder.pid}, which is not a `pfinet run`\n"
    )
