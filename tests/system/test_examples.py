"""The programs of examples/, as an ordinary user runs them."""

import subprocess
from pathlib import Path

import pytest

from demo import web
from tests.support.lab import CHECKOUT, Lab, interpreter
from tests.support.lan import Lan
from tests.support.programs import running

TRUDY = 20004
README = CHECKOUT / "README.md"


def example(lan: Lan, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example as trudy, who has a vif and no stack."""
    script = lan.lab.publish(CHECKOUT / "examples" / name)
    user = lan.lab.user(TRUDY)
    return user.run(interpreter().executable, str(script), *arguments, check=False)


@pytest.mark.parametrize("address", ["10.77.0.1", "fd77::1"])
def test_ping_says_who_is_there(lan: Lan, address: str) -> None:
    assert example(lan, "ping.py", address).stdout == f"{address} is there\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("10.77.0.99",), "does not answer within 5 s"),
        (("--vif", "none", "10.77.0.1"), 'no vif "none"'),
        (("--vif", "alice", "10.77.0.1"), "alice"),
        (("example.com",), "the vif has no name server"),
    ],
)
def test_ping_says_why_not(lan: Lan, arguments: tuple[str, ...], why: str) -> None:
    done = example(lan, "ping.py", *arguments)

    assert done.returncode == 1
    assert done.stdout == ""
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["10.77.0.1", "[fd77::1]"])
def test_fetch_prints_what_is_there(lan: Lan, host: str) -> None:
    """Which is the address of who asks."""
    script = str(lan.lab.publish(Path(web.__file__)))
    address = host.strip("[]")
    with running(lan.lab.outside, interpreter().executable, script, address, until="ready"):
        done = example(lan, "fetch.py", f"http://{host}/")

    seen = lan.members["trudy"].ipv6 if ":" in address else lan.members["trudy"].ipv4
    assert (done.stdout, done.stderr) == (f"{seen}\n", "")


def test_fetch_says_why_not(lan: Lan) -> None:
    done = example(lan, "fetch.py", "http://10.77.0.1:81/")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_one_program_serves_and_asks_on_two_stacks(lab: Lab) -> None:
    lab.configure({"one": TRUDY, "two": TRUDY})
    script = str(lab.publish(CHECKOUT / "examples" / "web.py"))
    with lab.daemon():
        done = lab.user(TRUDY).run(interpreter().executable, script, "one", "two")

    assert (done.stdout, done.stderr) == ("you are 10.77.0.12\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one", "one"), "vif one "),
        (("ONE", "two"), "ONE"),
        (("one", "none"), "none"),
    ],
)
def test_what_keeps_two_stacks_from_being_is_said_in_a_line(
    lab: Lab, arguments: tuple[str, str], said: str
) -> None:
    lab.configure({"one": TRUDY, "two": TRUDY})
    script = str(lab.publish(CHECKOUT / "examples" / "web.py"))
    with lab.daemon():
        done = lab.user(TRUDY).run(interpreter().executable, script, *arguments, check=False)

    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert said in line


def test_the_example_of_the_readme_runs(lan: Lan) -> None:
    """With its address replaced by one that answers here."""
    _, _, rest = README.read_text().partition("```python\n")
    code, _, _ = rest.partition("```")
    script = str(lan.lab.publish(Path(web.__file__)))
    assert "http://10.0.1.6/" in code
    with running(lan.lab.outside, interpreter().executable, script, "10.77.0.1", until="ready"):
        done = lan.lab.user(TRUDY).run(
            interpreter().executable, "-c", code.replace("10.0.1.6", "10.77.0.1")
        )

    assert (done.stdout, done.stderr) == (f"{lan.members['trudy'].ipv4}\n", "")
