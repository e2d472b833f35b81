"""Real programs remapped to a served stack, with the outside host at the other end."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from demo import web
from tests.support.accounts import accounts
from tests.support.lab import CHECKOUT, Daemon, Lab, User, end, interpreter
from tests.support.programs import ping, running
from tests.support.waiting import eventually

ALICE = 20001
OUTSIDE = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}
OWN = {"ipv4": "10.77.0.11", "ipv6": "fd77::11"}

family = pytest.mark.parametrize("family", OWN)

#: Answers for web.example, and shows who asks.
NAME_SERVER = """
import socket
import dns.message, dns.rrset

ZONE = {"A": "10.77.0.1", "AAAA": "fd77::1"}
with socket.socket(type=socket.SOCK_DGRAM) as server:
    server.bind(("10.77.0.1", 53))
    print("ready", flush=True)
    while True:
        question, asker = server.recvfrom(2000)
        query = dns.message.from_wire(question)
        reply = dns.message.make_response(query)
        name, kind = query.question[0].name, query.question[0].rdtype.name
        if str(name) == "web.example." and kind in ZONE:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, ZONE[kind]))
        print(asker[0], flush=True)
        server.sendto(reply.to_wire(), asker)
"""


@attrs.frozen
class Remapped:
    """Alice, whose stack is served where her programs look for it."""

    user: User
    daemon: Daemon

    def command(self, *argv: str) -> list[str]:
        return interpreter().module("pfinet_client", "remap", "--", *argv)

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.user.run(*self.command(*argv), check=check)

    def popen(
        self, *argv: str, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[str]:
        return self.user.popen(*self.command(*argv), stdout=stdout, stderr=stderr)


@pytest.fixture(scope="module")
def remapped() -> Iterator[Remapped]:
    with Lab("remap") as lab:
        lab.configure({"alice": ALICE})
        text = lab.config.read_text()
        names = 'gateways = ["10.77.0.1", "fd77::1"]\ndns = ["10.77.0.1"]\n'
        lab.config.write_text(text.replace('gateways = ["10.77.0.1", "fd77::1"]\n', names))
        with lab.daemon() as daemon, accounts({"alice": ALICE}, lab.root):
            user = lab.user(ALICE)
            server = user.popen(*interpreter().module("pfinet_client", "serve", "--vif", "alice"))
            socket = user.home / "run" / "pfinet"
            eventually(socket.exists, "the stack is served")
            yield Remapped(user, daemon)
            end(server)
            assert not socket.exists()


def lab_of(remapped: Remapped) -> Lab:
    return remapped.user.lab


# Clients.


@family
def test_curl_is_seen_at_the_address_of_the_vif(remapped: Remapped, family: str) -> None:
    address = OUTSIDE[family]
    script = str(lab_of(remapped).publish(Path(web.__file__)))
    host = f"[{address}]" if ":" in address else address
    with running(
        lab_of(remapped).outside, interpreter().executable, script, address, until="ready"
    ):
        done = remapped.run("curl", "-sS", f"http://{host}/")

    assert done.stdout == OWN[family]


@family
def test_curl_finds_a_name_by_the_name_server_of_the_vif(remapped: Remapped, family: str) -> None:
    """Its question, too, is seen at the address of the vif."""
    script = str(lab_of(remapped).publish(Path(web.__file__)))
    outside, python = lab_of(remapped).outside, interpreter().executable
    option = {"ipv4": "-4", "ipv6": "-6"}[family]
    with (
        running(outside, python, script, OUTSIDE[family], until="ready"),
        running(outside, python, "-c", NAME_SERVER, until="ready") as names,
    ):
        done = remapped.run("curl", "-sS", option, "http://web.example/")
        assert names.stdout is not None
        assert names.stdout.readline() == "10.77.0.11\n"

    assert done.stdout == OWN[family]


def test_ssh_is_what_it_is(remapped: Remapped) -> None:
    assert remapped.run("ssh", "-V").stderr.startswith("OpenSSH_")


#: Greets as a server does, shows who came, and goes.
GREETING = """
import socket
with socket.create_server(("10.77.0.1", 22)) as server:
    print("ready", flush=True)
    client, (address, _) = server.accept()
    client.sendall(b"SSH-2.0-brief\\r\\n")
    print(address, client.recv(12), flush=True)
    client.close()
"""


def test_ssh_speaks_to_a_server_outside(remapped: Remapped) -> None:
    with running(
        lab_of(remapped).outside, interpreter().executable, "-c", GREETING, until="ready"
    ) as server:
        done = remapped.run("ssh", "-F", "/dev/null", "root@10.77.0.1", "true", check=False)
        assert done.returncode == 255
        assert "10.77.0.1 port 22" in done.stderr
        assert server.stdout is not None
        assert server.stdout.readline() == "10.77.0.11 b'SSH-2.0-Open'\n"


def test_ping_needs_no_privilege(remapped: Remapped) -> None:
    assert ping(remapped, "10.77.0.1")


# Servers.


@family
def test_python_serves_the_outside_host(remapped: Remapped, family: str) -> None:
    """And sees who it is."""
    address = OWN[family]
    host = f"[{address}]" if ":" in address else address
    served = ("-u", "-m", "http.server", "--bind", address, "--directory", "/etc", "80")
    with running(remapped, "python3", *served, until="Serving HTTP") as server:
        done = lab_of(remapped).outside.run("curl", "-sS", f"http://{host}/hostname")
        assert server.stdout is not None
        log = server.stdout.readline()

    assert done.stdout == Path("/etc/hostname").read_text()
    assert log.startswith(OUTSIDE[family])


NGINX = """
daemon {daemon};
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
worker_processes 2;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 80;
        listen [::]:80;
        location / {{ return 200 "$remote_addr"; }}
        location /back {{ proxy_pass http://10.77.0.1:80/; }}
    }}
}}
"""


def nginx(remapped: Remapped, daemon: str) -> tuple[str, ...]:
    """Return the command of an nginx in alice's home; `make test` has unpacked it."""
    folder = remapped.user.home
    remapped.user.make_home()
    program = folder / "nginx"
    shutil.copy(CHECKOUT / "build" / "nginx" / "usr" / "sbin" / "nginx", program)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(daemon=daemon, folder=folder))
    config.chmod(0o644)
    return (str(program), "-e", f"{folder}/error.log", "-c", str(config))


def stop_nginx(remapped: Remapped) -> None:
    pid_file = remapped.user.home / "nginx.pid"
    remapped.user.run("kill", "-QUIT", pid_file.read_text().strip())
    eventually(lambda: not pid_file.exists(), "nginx has ended")


@family
def test_nginx_serves_the_outside_host(remapped: Remapped, family: str) -> None:
    host = f"[{OWN[family]}]" if family == "ipv6" else OWN[family]
    process = remapped.popen(*nginx(remapped, "off"))
    eventually((remapped.user.home / "nginx.pid").exists, "nginx runs")
    done = lab_of(remapped).outside.run(
        "curl", "-sS", "--retry", "5", "--retry-connrefused", f"http://{host}/"
    )
    stop_nginx(remapped)

    assert done.stdout == OUTSIDE[family]
    assert process.wait(20) == 0


def test_nginx_in_the_background_goes_on_opening_sockets(remapped: Remapped) -> None:
    """As a proxy it opens one for each request, long after its first process has ended."""
    script = str(lab_of(remapped).publish(Path(web.__file__)))
    outside = lab_of(remapped).outside
    assert remapped.run(*nginx(remapped, "on")).returncode == 0
    with running(outside, interpreter().executable, script, "10.77.0.1", until="ready"):
        done = outside.run(
            "curl", "-sS", "--retry", "5", "--retry-connrefused", "http://10.77.0.11/back"
        )
    stop_nginx(remapped)

    assert done.stdout == "10.77.0.11"


# The daemon.


def test_connections_survive_the_daemons_engine(remapped: Remapped) -> None:
    """As they do in `pfinet run`."""
    script = """
import socket, sys
with socket.create_server(("10.77.0.1", 7)) as server:
    print("ready", flush=True)
    client, (address, _) = server.accept()
    while data := client.recv(100):
        client.sendall(address.encode() + b" " + data)
"""
    talk = """
import socket, sys
sock = socket.create_connection(("10.77.0.1", 7))
for line in sys.stdin:
    sock.sendall(line.encode())
    print(sock.recv(100).decode(), end="", flush=True)
"""
    outside, python = lab_of(remapped).outside, interpreter().executable
    with running(outside, python, "-c", script, until="ready"):
        process = remapped.user.popen(
            *remapped.command(python, "-c", talk), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def exchange(word: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            return process.stdout.readline()

        assert exchange("one") == "10.77.0.11 one\n"
        engine = remapped.daemon.processes()["engine"]
        lab_of(remapped).host.run("kill", f"-{signal.SIGKILL}", str(engine))
        assert exchange("two") == "10.77.0.11 two\n"
        end(process)
