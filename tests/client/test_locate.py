"""The control socket as a client speaks it, with a daemon that says what a test wants."""

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pfinet_client.locate import ControlClient, control_path, locate_vif
from pfinet_proto.control import (
    MAX_REQUEST_BYTES,
    Call,
    ControlError,
    Deleted,
    ErrorCode,
    FrameDecoder,
    Located,
    Reply,
    Result,
    VifDelete,
    VifLocate,
    decode_request_untrusted,
    encode_reply,
)
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.framing import encode_record
from pfinet_proto.values import VifName
from tests.client.one_client import one_client

LAB = VifName("lab")
LOCATED = Located(LAB, "/run/multiplexer/vif/0123", ("attach", "stream"))
TIMEOUT_S = 10.0

#: Makes the bytes to answer a call with; None: hang until the test is over.
Answer = Callable[[Call], bytes | None]
Listen = Callable[[Answer], str]


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    """Listens at a path and serves one client by the function given."""
    over = threading.Event()

    def serve(client: socket.socket, answer: Answer) -> None:
        decoder = FrameDecoder(MAX_REQUEST_BYTES)
        while data := client.recv(65536):
            for body in decoder.feed(data):
                said = answer(decode_request_untrusted(body))
                if said is None:
                    over.wait()
                elif not said:
                    return
                else:
                    client.sendall(said)

    with one_client(tmp_path / "control", socket.SOCK_STREAM) as serve_by:
        yield lambda answer: serve_by(partial(serve, answer=answer))
        over.set()


def replying(outcome: Result | ControlError) -> Answer:
    return lambda call: encode_reply(Reply(call.id, outcome))


@pytest.mark.parametrize(
    ("given", "environ", "path"),
    [
        ("/a", {"MULTIPLEXER_CONTROL": "/b"}, "/a"),
        (None, {"MULTIPLEXER_CONTROL": "/b"}, "/b"),
        (None, {"MULTIPLEXER_CONTROL": ""}, "/run/multiplexer/control"),
        (None, {}, "/run/multiplexer/control"),
    ],
)
def test_the_control_socket_is_given_or_of_the_environment_or_the_usual_one(
    given: str | None, environ: dict[str, str], path: str
) -> None:
    assert control_path(given, environ) == path


def test_a_vif_is_located(listen: Listen) -> None:
    assert locate_vif(LAB, listen(replying(LOCATED)), TIMEOUT_S) == LOCATED


@pytest.mark.parametrize("name", [LAB, None])
def test_the_daemon_is_asked_for_the_name_or_for_the_only_one(
    listen: Listen, name: VifName | None
) -> None:
    asked = []

    def answer(call: Call) -> bytes:
        asked.append(call.request)
        return encode_reply(Reply(call.id, LOCATED))

    locate_vif(name, listen(answer), TIMEOUT_S)
    assert asked == [VifLocate(name)]


def test_the_environment_names_the_socket(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIPLEXER_CONTROL", listen(replying(LOCATED)))

    assert locate_vif(None) == LOCATED


def test_many_requests_go_over_one_connection(listen: Listen) -> None:
    ids = []

    def answer(call: Call) -> bytes:
        ids.append(call.id)
        located = isinstance(call.request, VifLocate)
        return encode_reply(Reply(call.id, LOCATED if located else Deleted()))

    with ControlClient(listen(answer), TIMEOUT_S) as client:
        assert client.ask(VifLocate(LAB)) == LOCATED
        assert client.ask(VifDelete(LAB)) == Deleted()
        assert client.ask(VifLocate(LAB)) == LOCATED
    assert len(set(ids)) == 3


def test_an_error_is_raised_and_the_connection_goes_on(listen: Listen) -> None:
    outcomes: Iterator[Result | ControlError] = iter(
        [ControlError(ErrorCode.NOT_FOUND, "no vif lab"), LOCATED]
    )
    path = listen(lambda call: encode_reply(Reply(call.id, next(outcomes))))

    with ControlClient(path, TIMEOUT_S) as client:
        with pytest.raises(ControlError, match="no vif lab") as caught:
            client.ask(VifLocate(LAB))
        assert caught.value.code is ErrorCode.NOT_FOUND
        assert client.ask(VifLocate(LAB)) == LOCATED


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda call: b"", RemoteProtocolError),
        (lambda call: encode_record(b"junk"), BadMessage),
        (lambda call: bytes(4), BadMessage),
        (lambda call: b"HTTP/1.1 400 Bad Request\r\n", BadMessage),
        (lambda call: encode_reply(Reply(call.id + 1, LOCATED)), BadMessage),
        (lambda call: encode_reply(Reply(call.id, LOCATED)) * 2, RemoteProtocolError),
        (lambda call: encode_reply(Reply(call.id, LOCATED)) + b"\0", RemoteProtocolError),
        (lambda call: encode_reply(Reply(call.id, Deleted())), BadMessage),
    ],
    ids=["closed", "no JSON", "no length", "HTTP", "other id", "twice", "tail", "other result"],
)
def test_what_is_no_reply_is_the_daemon_s_fault(
    listen: Listen, answer: Answer, error: type[Exception]
) -> None:
    with pytest.raises(error):
        locate_vif(LAB, listen(answer), TIMEOUT_S)


@pytest.mark.parametrize("said", [None, b"\0\0"])
def test_a_daemon_that_does_not_finish_its_reply_is_given_up(
    listen: Listen, said: bytes | None
) -> None:
    with pytest.raises(TimeoutError, match=r"did not answer within 0\.05 s"):
        locate_vif(LAB, listen(lambda call: said), 0.05)


def test_no_daemon_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "control")):
        locate_vif(LAB, str(tmp_path / "control"))


def test_a_daemon_that_is_gone_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)

    with pytest.raises(ConnectionRefusedError, match=path):
        locate_vif(LAB, path)
