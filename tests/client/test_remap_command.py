"""`pfinet remap` as whoever starts it sees it: files, signals, status, what is refused."""

import signal
from ipaddress import ip_address

import attrs
import pytest

from pfinet_proto.attach import Update, encode
from tests.client.client_user import ClientUser
from tests.client.remapped import Remapped


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
