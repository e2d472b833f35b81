"""Trying to attach again in a thread, as far as a caller sees it."""

import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.reattach import Pauses
from pfinet_client.tries import Tries
from pfinet_proto.attach import RefusedCode
from tests.client.test_vif import make_attachment

TIMEOUT_S = 20


@pytest.fixture
def made() -> Iterator[tuple[Attachment, socket.socket]]:
    """An attachment, and the daemon's end of its attach socket."""
    attachment, sock, data = make_attachment()
    with sock, data:
        yield attachment, sock
        attachment.close()


def is_done(tries: Tries) -> bool:
    readable, _, _ = select.select([tries.done], [], [], TIMEOUT_S)
    return bool(readable)


def has_ended(sock: socket.socket) -> bool:
    """Return whether the client has closed its end."""
    sock.settimeout(TIMEOUT_S)
    return sock.recv(1) == b""


def answering(*answers: Attachment | Exception | None) -> Callable[[], Attachment | None]:
    """Return what gives or raises *answers*, one at each try."""
    waiting = list(answers)

    def attach_again() -> Attachment | None:
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return attach_again


def test_it_tries_until_there_is_an_attachment(made: tuple[Attachment, socket.socket]) -> None:
    tries = Tries(answering(None, None, None, made[0]), Pauses())

    assert is_done(tries)
    assert tries.take() is made[0]
    tries.close()
    assert made[0].sock.fileno() >= 0


def test_a_final_refusal_ends_it() -> None:
    tries = Tries(answering(None, VifRefused(RefusedCode.GONE, "gone for good")), Pauses())

    assert is_done(tries)
    with pytest.raises(VifRefused, match="gone for good"):
        tries.take()
    tries.close()


def test_an_attachment_that_nobody_takes_is_closed(
    made: tuple[Attachment, socket.socket],
) -> None:
    tries = Tries(answering(made[0]), Pauses())
    assert is_done(tries)

    tries.close()
    tries.close()

    assert has_ended(made[1])


def test_an_attachment_that_comes_after_the_end_is_closed(
    made: tuple[Attachment, socket.socket],
) -> None:
    """And the end does not wait for the try that is under way."""
    trying, go = threading.Event(), threading.Event()

    def attach_late() -> Attachment:
        trying.set()
        go.wait(TIMEOUT_S)
        return made[0]

    tries = Tries(attach_late, Pauses())
    assert trying.wait(TIMEOUT_S)
    tries.close()
    go.set()

    assert has_ended(made[1])
