"""Stacks whose daemon goes away under them, and their established connections."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.conversation import echo_program, talk_program
from tests.support.lab import Daemon, Lab, Stack, interpreter
from tests.support.programs import ping, running
from tests.support.waiting import eventually

OWNERS = {"alice": 20001, "bob": 20002}

BOB = "10.77.0.12"


class Conversation:
    """A TCP connection between two stacks."""

    def __init__(self, talk: subprocess.Popen[str]) -> None:
        self._talk = talk

    def say(self, word: str) -> None:
        assert self._talk.stdin is not None
        self._talk.stdin.write(word + "\n")
        self._talk.stdin.flush()

    def hear(self) -> str:
        assert self._talk.stdout is not None
        return self._talk.stdout.readline().rstrip("\n")


@contextmanager
def conversation(client: Stack, server: Stack) -> Iterator[Conversation]:
    python = interpreter().executable
    with running(server, python, "-c", echo_program(BOB), until="listening"):
        talk = client.popen(
            *(python, "-c", talk_program(BOB)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        yield Conversation(talk)
        assert talk.stdin is not None
        talk.stdin.write("\n")
        talk.stdin.close()


@pytest.mark.parametrize("end", [Daemon.stop, Daemon.kill], ids=["stopped", "killed"])
def test_a_connection_survives_a_daemon_that_was(
    lab: Lab, end: Callable[[Daemon], object]
) -> None:
    lab.configure(OWNERS)
    first = Daemon(lab)
    with ExitStack() as stacks:
        alice, bob = (
            stacks.enter_context(lab.user(uid).stack(name)) for name, uid in OWNERS.items()
        )
        talk = stacks.enter_context(conversation(alice, bob))
        talk.say("before")
        assert talk.hear() == "before"

        end(first)
        talk.say("meanwhile")

        with lab.daemon():
            assert talk.hear() == "meanwhile"
            assert ping(alice, "10.77.0.1")
            assert lab.query("vif", "show", "alice")["attached"]["pid"] == alice.process.pid


def test_a_stack_takes_on_what_changed_of_the_file_while_the_daemon_was_away(lab: Lab) -> None:
    lab.configure(OWNERS)
    with ExitStack() as closing:
        with lab.daemon():
            alice = closing.enter_context(lab.user(20001).stack("alice"))
        lab.configure({"nobody": 20009, **OWNERS}, mtu=1400)
        with lab.daemon():
            eventually(lambda: "10.77.0.12/24" in shown(alice), "the stack has its new address")

            assert "mtu 1400" in shown(alice)
            assert "10.77.0.11/24" not in shown(alice)
            assert ping(alice, "10.77.0.1")


def shown(stack: Stack) -> str:
    return stack.run("ip", "address", "show", stack.interface).stdout
