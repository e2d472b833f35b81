"""trio's own tests, from where it is installed, over a served kernel stack.

They prove that its sockets are as good as trio's own in every way that trio's
authors thought of.  The exceptions, each with its reason, are the plug-in's: they
are none of the stack's doing, but would be any factory's.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.client.client_user import ClientUser
from tests.client.test_serve import served
from tests.support.lab import interpreter

FILES = (
    "test_highlevel_socket",
    "test_ssl",
    "test_highlevel_ssl_helpers",
    "test_testing",
    "test_highlevel_open_tcp_stream",
    "test_highlevel_open_tcp_listeners",
    "test_socket",
)


def run_on_stack(
    user: ClientUser, kind: str, *modules: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run test modules of trio as *user* does, on a stack of that *kind*."""
    plugins = user.daemon.directory / "plugins"
    plugins.mkdir()
    plugins.chmod(0o755)
    copy = Path(shutil.copy(Path(__file__).with_name("trio_on_stack.py"), plugins))
    copy.chmod(0o644)
    options = ("-p", "trio._tests.pytest_plugin", "-p", "trio_on_stack", "-p", "no:cacheprovider")
    inherited = user.environment.get("PYTHONPATH")
    environment = {
        **user.environment,
        **more,
        "STACK_KIND": kind,
        "PYTHONPATH": ":".join(filter(None, (str(plugins), inherited))),
    }
    argv = interpreter().module("pytest", *options, "-q", "-rxX", "--run-slow", "--pyargs")
    names = [f"trio._tests.{name}" for name in modules]
    return user.run_to_end([*argv, *names], env=environment)


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    made = re.search(r"^(\d+) sockets were the stack's$", done.stdout, re.MULTILINE)
    assert made is not None
    assert int(made[1]) > 0


@pytest.mark.parametrize("module", FILES)
def test_trios_own_tests_pass_on_the_kernels(alice: ClientUser, module: str) -> None:
    with served(alice) as path:
        check(run_on_stack(alice, "kernel", module, PFINET_SOCKET=path))


@pytest.mark.usefixtures("lwip_build")
@pytest.mark.parametrize("module", FILES)
def test_trios_own_tests_pass_on_lwip(alice: ClientUser, module: str) -> None:
    check(run_on_stack(alice, "lwip", module))


def test_remapped_they_pass_without_any_exception(alice: ClientUser) -> None:
    """There, Python's own sockets are the stack's as well."""
    names = [f"trio._tests.{name}" for name in FILES]
    options = ("-p", "trio._tests.pytest_plugin", "-p", "no:cacheprovider", "-q", "--run-slow")
    with served(alice) as path:
        remap = alice.command("remap", "--socket", path, "--")
        argv = interpreter().module("pytest", *options, "--pyargs", *names)
        done = alice.run_to_end([*remap, *argv])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "xfailed" not in done.stdout


def test_a_run_without_a_socket_of_the_stack_fails(alice: ClientUser) -> None:
    done = run_on_stack(alice, "lwip", "test_channel")

    assert "0 sockets were the stack's" in done.stdout
    assert " failed" not in done.stdout
    assert done.returncode == 1
