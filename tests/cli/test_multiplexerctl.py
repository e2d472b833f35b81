"""The command line: what it asks of the daemon, what it says, and how it exits."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from multiplexer.cli import main
from multiplexer.cli.client import ControlClient, DaemonUnreachable, control_path
from pfinet_proto.control import (
    MAX_REQUEST_BYTES,
    ControlError,
    Deleted,
    ErrorCode,
    FrameDecoder,
    NetworkList,
    Networks,
    NetworkShow,
    OwnLimitsInfo,
    Reload,
    Reloaded,
    Reply,
    Request,
    Result,
    SetChange,
    SetCreate,
    SetDelete,
    SetInfo,
    Status,
    TrustChange,
    UplinkList,
    Uplinks,
    UplinkShow,
    VifCreate,
    VifDelete,
    VifList,
    Vifs,
    VifSet,
    VifShow,
    decode_request_untrusted,
    encode_reply,
)
from pfinet_proto.framing import encode_record
from pfinet_proto.values import MacAddress, VifName
from tests.cli.test_render import LAN, STATUS, VIF, WIRE

ONE = VifName.parse("one")


class FakeDaemon:
    """Answers each connection's requests with *answer*, and remembers them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[Request[object] | ControlError] = []
        self.answer: Result | ControlError | bytes = Deleted()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._serve_connection(connection)

    def _serve_connection(self, connection: socket.socket) -> None:
        decoder = FrameDecoder(MAX_REQUEST_BYTES)
        while data := connection.recv(65536):
            for body in decoder.feed(data):
                call = decode_request_untrusted(body)
                self.asked.append(call.request)
                if isinstance(self.answer, bytes):
                    connection.sendall(self.answer)
                    return
                connection.sendall(encode_reply(Reply(call.id, self.answer)))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with closing(FakeDaemon(tmp_path / "control")) as daemon:
        monkeypatch.setenv("MULTIPLEXER_CONTROL", str(daemon.path))
        yield daemon


@pytest.mark.parametrize(
    ("line", "request_", "answer"),
    [
        ("status", Status(), STATUS),
        ("network list", NetworkList(), Networks((LAN,))),
        ("network show lan", NetworkShow("lan"), LAN),
        ("uplink list", UplinkList(), Uplinks((WIRE,))),
        ("uplink show wire", UplinkShow("wire"), WIRE),
        ("vif list", VifList(), Vifs((VIF,))),
        ("vif show one", VifShow(ONE), VIF),
        ("vif delete one", VifDelete(ONE), Deleted()),
        ("reload", Reload(), Reloaded(applied=True)),
        ("reload --dry-run", Reload(dry_run=True), Reloaded(applied=False)),
        (
            "vif create one --owner alice --address 10.0.1.5/24",
            VifCreate(ONE, "alice", (ip_interface("10.0.1.5/24"),)),
            VIF,
        ),
        (
            "vif create one --owner 20001 --address 10.0.1.5/24 --address fd00::5/64"
            " --prefix fd00:5::/64 --mac 52:54:00:00:00:01 --network lan --force",
            VifCreate(
                ONE,
                "20001",
                (ip_interface("10.0.1.5/24"), ip_interface("fd00::5/64")),
                (ip_network("fd00:5::/64"),),
                MacAddress.parse("52:54:00:00:00:01"),
                "lan",
                force=True,
            ),
            VIF,
        ),
        (
            "vif create one --owner alice --address 10.0.1.5/24 --filter default"
            " --param PORT=80 --param IP=10.0.1.5 --param PORT=443",
            VifCreate(
                ONE,
                "alice",
                (ip_interface("10.0.1.5/24"),),
                filter="default",
                parameters={"PORT": ("80", "443"), "IP": ("10.0.1.5",)},
            ),
            VIF,
        ),
        ("set create bad", SetCreate("bad"), SetInfo("bad", 0)),
        (
            "set create bad 10.0.0.1 10.0.0.8-10.0.0.15",
            SetCreate("bad", ("10.0.0.1", "10.0.0.8-10.0.0.15")),
            SetInfo("bad", 2),
        ),
        ("set add bad fd00::/64", SetChange("bad", add=("fd00::/64",)), SetInfo("bad", 3)),
        ("set remove bad 10.0.0.1", SetChange("bad", remove=("10.0.0.1",)), SetInfo("bad", 2)),
        ("set delete bad", SetDelete("bad"), Deleted()),
        ("vif set one --filter default", VifSet(ONE, filter="default"), VIF),
        ("vif set one --no-filter", VifSet(ONE, defaults=("filter",)), VIF),
        ("vif set one --owner a --owner a", VifSet(ONE, owner="a"), VIF),
        (
            "vif set one --trusted-tap --trusted-tap",
            VifSet(ONE, trust=TrustChange(trusted_tap=True)),
            VIF,
        ),
        ("vif set one --param A=b=c", VifSet(ONE, parameters={"A": ("b=c",)}), VIF),
        (
            "vif set one --owner bob --mac default --frames-per-s 5 --bytes-per-s default"
            " --role router --ethertype none --link-local default --no-trusted-tap",
            VifSet(
                ONE,
                owner="bob",
                limits=OwnLimitsInfo(frames_per_s=5),
                trust=TrustChange(roles=("router",), ethertypes=(), trusted_tap=False),
                defaults=("mac", "bytes_per_s", "link_local"),
            ),
            VIF,
        ),
        (
            "vif set one --address 10.0.1.5/24 --prefix none --add-address 10.0.1.6/24"
            " --add-prefix fd00:5::/64 --remove-address 10.0.1.7/24 --remove-prefix fd00:6::/64"
            " --mac 52:54:00:00:00:01 --trusted-tap --link-local eui64 --copies-per-s 0",
            VifSet(
                ONE,
                addresses=(ip_interface("10.0.1.5/24"),),
                prefixes=(),
                add_addresses=(ip_interface("10.0.1.6/24"),),
                add_prefixes=(ip_network("fd00:5::/64"),),
                remove_addresses=(ip_interface("10.0.1.7/24"),),
                remove_prefixes=(ip_network("fd00:6::/64"),),
                mac=MacAddress.parse("52:54:00:00:00:01"),
                limits=OwnLimitsInfo(copies_per_s=0),
                trust=TrustChange(link_local="eui64", trusted_tap=True),
            ),
            VIF,
        ),
    ],
)
def test_each_command_is_one_request(
    daemon: FakeDaemon, line: str, request_: Request[object], answer: Result
) -> None:
    daemon.answer = answer

    assert main(line.split()) == 0
    assert daemon.asked == [request_]


def test_a_file_that_is_wrong_is_a_failure_that_says_so(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = Reloaded(applied=False, errors=("m.toml:1: a", "m.toml:2: b"))

    assert main(["reload"]) == 1
    assert "m.toml:2: b" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["--json vif show one", "vif show one --json"])
def test_json_may_stand_before_or_after_the_command(
    daemon: FakeDaemon, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = VIF

    assert main(line.split()) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "one"


def test_the_path_may_stand_before_or_after_the_command(daemon: FakeDaemon) -> None:
    daemon.answer = STATUS
    path = str(daemon.path)
    del os.environ["MULTIPLEXER_CONTROL"]

    assert main(["--control", path, "status"]) == 0
    assert main(["status", "--control", path]) == 0


def test_the_option_goes_before_the_environment_and_that_before_the_usual() -> None:
    variable = {"MULTIPLEXER_CONTROL": "/b"}

    assert control_path("/a", variable) == "/a"
    assert control_path(None, variable) == "/b"
    assert control_path(None, {}) == "/run/multiplexer/control"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.FORBIDDEN, 4),
        *((code, 1) for code in ErrorCode if code is not ErrorCode.FORBIDDEN),
    ],
)
def test_a_refusal_is_told_and_is_an_exit_code(
    daemon: FakeDaemon, code: ErrorCode, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = ControlError(code, 'there is a vif "one" already')

    assert main(["vif", "delete", "one"]) == status
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", 'multiplexerctl: there is a vif "one" already\n')


@pytest.mark.parametrize("was_killed", [False, True])
def test_a_daemon_that_is_not_there_is_named_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], was_killed: bool
) -> None:
    path = str(tmp_path / "control")
    if was_killed:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)

    assert main(["--control", path, "status"]) == 3
    assert capsys.readouterr().err == (
        f"multiplexerctl: {path}: no daemon listens there: is multiplexerd running?\n"
    )


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (b"", 3, "the daemon closed the connection"),
        (encode_record(b"junk"), 1, "the daemon broke the protocol"),
        (b"\xff\xff\xff\xff", 1, "the daemon broke the protocol"),
        (encode_record(b"{}") * 2, 1, "more than one reply"),
    ],
)
def test_a_daemon_that_answers_junk_is_an_error(
    daemon: FakeDaemon,
    answer: bytes,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.answer = answer

    assert main(["status"]) == status
    assert message in capsys.readouterr().err


def test_a_daemon_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(path))
        listener.listen()
        with (
            ControlClient(str(path), timeout_s=0.01) as client,
            pytest.raises(DaemonUnreachable, match="timed out"),
        ):
            client.ask(Status())


BOTH = "{} and {} contradict each other, wanted one of them"
NO_TAP = "--no-trusted-tap"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "required: COMMAND"),
        ("vif", "required: COMMAND"),
        ("vif show", "required: NAME"),
        ("vif show ONE", "'ONE' is not a vif name"),
        ("vif create one", "required: --owner"),
        ("vif create one --owner a --address 10.0.1.5", "'10.0.1.5' has no prefix length"),
        ("vif create one --owner a --address 10.0.1.500/24", "10.0.1.500"),
        ("vif create one --owner a --prefix fd00::5/64", "has host bits set"),
        ("vif create one --owner a --mac 52:54", "'52:54' is not a MAC address"),
        ("vif set one --frames-per-s many", "'many' is no rate"),
        ("vif set one --role none --role king", "invalid choice: 'king'"),
        ("vif set one --add-address none", "'none' has no prefix length"),
        ("vif shave one", "invalid choice: 'shave'"),
        ("vif set one --trusted-tap --no-trusted-tap", BOTH.format("--trusted-tap", NO_TAP)),
        ("vif set one --no-trusted-tap --trusted-tap", BOTH.format("--trusted-tap", NO_TAP)),
        ("vif set one --owner a --owner b", "argument --owner: is a and b, wanted one of them"),
        ("vif set one --mac default --mac 52:54:00:00:00:01", "argument --mac: is default and 52"),
        ("vif create one --owner a --frames-per-s 5 --frames-per-s 6", "-s: is 5 and 6, wanted"),
        ("top --interval 1 --interval 2", "argument --interval: is 1.0 and 2.0, wanted one"),
        ("--control /a status --control /b", "argument --control: is /a and /b, wanted one"),
    ],
)
def test_wrong_usage_asks_nothing(
    daemon: FakeDaemon, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(line.split())

    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("vif set one", "nothing to set is given"),
        ("vif set one --role none --role router", "--role none stands alone"),
        ("vif set one --no-filter --filter web", BOTH.format("--filter", "--no-filter")),
        ("vif set one --no-filter --param A=1", BOTH.format("--param", "--no-filter")),
        (
            "vif set one --add-address 10.0.1.7/24 --remove-address 10.0.1.7/24",
            BOTH.format("--add-address 10.0.1.7/24", "--remove-address 10.0.1.7/24"),
        ),
        (
            "vif set one --prefix fd00:5::/64 --remove-prefix fd00:5::/64",
            BOTH.format("--prefix fd00:5::/64", "--remove-prefix fd00:5::/64"),
        ),
    ],
)
def test_a_change_of_nothing_or_against_itself_asks_nothing(
    daemon: FakeDaemon, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err
    assert daemon.asked == []


def test_a_capture_without_end_is_not_read_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multiplexer.cli.trace_request.MAX_CAPTURE_BYTES", 4096)

    assert main(["trace", "alice", "--pcap", "/dev/zero"]) == 1
    assert capsys.readouterr().err == "multiplexerctl: /dev/zero: longer than 4096 bytes\n"
