"""The command line of `pfinet`: usage, tables, messages, and the examples of its page."""

import json
import re
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from attrs import evolve

from pfinet_client.cli import main, parser
from pfinet_client.render import vif_page, vif_table
from pfinet_proto.control import (
    Counters,
    FilterBindingInfo,
    Holder,
    LearnedInfo,
    OwnLimitsInfo,
    VifCreate,
    VifInfo,
)
from pfinet_proto.values import MacAddress, VifName
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon

PAGE = Path(__file__).parents[2] / "man" / "pfinet.1"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    lab1 = binding(1, vif=VifName("lab1"))
    with fake_daemon((lab1, 20001), (binding(2), 20002)) as running:
        yield running


def test_list_shows_the_users_own_vifs(alice: ClientUser) -> None:
    done = alice.pfinet("list")

    assert done.returncode == 0
    assert done.stdout == (
        "VIF   NETWORK  ADDRESSES                HELD BY\n"
        "lab1  lab      10.9.0.1/24, fd09::1/64  -\n"
    )


def test_list_json_is_a_list_of_results_of_the_protocol(alice: ClientUser) -> None:
    (shown,) = json.loads(alice.pfinet("list", "--json").stdout)

    assert shown["name"] == "lab1"
    assert shown["addresses"] == ["10.9.0.1/24", "fd09::1/64"]


def test_show_names_the_holder_and_the_drops(alice: ClientUser) -> None:
    with alice.stack("lab1", "read line") as stack:
        shown = alice.pfinet("show", "lab1").stdout

    held = f"pid {stack.process.pid}, uid 20001, by stream with csum tso4 tso6 ecn uso, for 0 s"
    assert re.search(rf"^held by +{held}$", shown, re.M)
    assert re.search(r"^dropped +ipv4_src +5\n +src_mac +7$", shown, re.M)
    assert "10.9.0.1 claimed by" in shown
    assert re.search(r"^sockets +/\S+/attach$", shown, re.M)


def test_show_json_is_the_result_of_the_protocol(alice: ClientUser) -> None:
    shown = json.loads(alice.pfinet("show", "--json", "lab1").stdout)

    assert shown["counters"]["drops"] == {"ipv4_src": 5, "src_mac": 7}


def test_create_asks_for_what_was_said_and_shows_what_came_of_it(alice: ClientUser) -> None:
    options = ("--network", "lab", "--prefix", "10.9.0.64/28", "--frames-per-s", "0")
    addresses = ("--address", "10.9.0.9/24", "--address", "fd09::9/64")

    done = alice.pfinet("create", "mine", *options, *addresses)

    assert (done.returncode, done.stderr) == (0, "")
    assert "made by      you, by grant students" in done.stdout
    assert "addresses    10.9.0.9/24, fd09::9/64" in done.stdout
    assert alice.daemon.created == [
        VifCreate(
            VifName("mine"),
            addresses=(ip_interface("10.9.0.9/24"), ip_interface("fd09::9/64")),
            prefixes=(ip_network("10.9.0.64/28"),),
            network="lab",
            limits=OwnLimitsInfo(frames_per_s=0),
        )
    ]


def test_create_leaves_to_the_daemon_what_was_not_said(alice: ClientUser) -> None:
    shown = json.loads(alice.pfinet("create", "--json", "mine").stdout)

    assert alice.daemon.created == [VifCreate(VifName("mine"))]
    assert (shown["name"], shown["grant"]) == ("mine", "students")


def test_delete_takes_a_vif_away_without_a_word(alice: ClientUser) -> None:
    alice.pfinet("create", "mine")

    done = alice.pfinet("delete", "mine")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert alice.pfinet("delete", "mine").stderr == "pfinet: no vif mine\n"


def test_run_on_a_network_has_a_vif_for_as_long_as_the_command_runs(alice: ClientUser) -> None:
    done = alice.pfinet("run", "--network", "lab", "sh", "-c", "echo $PFINET_VIF; exit 7")

    assert (done.returncode, done.stdout, done.stderr) == (7, "borrowed\n", "")
    assert alice.daemon.borrowed == ["lab"]
    assert "borrowed" not in alice.daemon.ports


def test_a_borrowed_vif_goes_too_where_the_command_was_killed(alice: ClientUser) -> None:
    done = alice.pfinet("run", "--network", "lab", "sh", "-c", "kill -9 $$")

    assert done.returncode == -9
    assert "borrowed" not in alice.daemon.ports


def test_a_vif_is_named_or_borrowed_and_not_both(alice: ClientUser) -> None:
    done = alice.pfinet("run", "--vif", "lab1", "--network", "lab", "true")

    assert done.returncode == 125
    assert "argument --network: not allowed with argument --vif" in done.stderr


def test_one_vif_is_named_and_not_two(alice: ClientUser) -> None:
    done = alice.pfinet("run", "--vif", "lab1", "--vif", "lab2", "true")

    assert done.returncode == 125
    assert done.stderr.endswith("argument --vif: is lab1 and lab2, wanted one of them\n")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--address=10.9.0.9", "'10.9.0.9' has no prefix length, wanted one as in 10.0.1.5/24"),
        ("--prefix=fd09::", "'fd09::' has no prefix length, wanted one as in fd00:5::/64"),
        ("--bytes-per-s=-1", "'-1' is no rate, wanted an integer from 0 on"),
    ],
)
def test_what_create_cannot_ask_for_is_wrong_usage(
    alice: ClientUser, option: str, message: str
) -> None:
    done = alice.pfinet("create", "mine", option)

    assert done.returncode == 125
    assert done.stderr.endswith(f"argument {option.split('=')[0]}: {message}\n")


def test_a_vif_that_does_not_exist_is_said_and_125(alice: ClientUser) -> None:
    for arguments in (("show", "no-such"), ("run", "--vif", "no-such", "true")):
        done = alice.pfinet(*arguments)
        assert (done.returncode, done.stderr) == (125, "pfinet: no vif no-such\n")


def test_a_name_that_is_none_is_said_and_125(alice: ClientUser) -> None:
    done = alice.pfinet("show", "No Such")

    assert done.returncode == 125
    assert done.stderr.startswith("pfinet: 'No Such' is not a vif name")


def test_a_daemon_that_is_not_there_is_said_and_125(alice: ClientUser) -> None:
    done = alice.pfinet("--control", "/nonexistent/control", "list")

    assert done.returncode == 125
    assert done.stderr == (
        "pfinet: /nonexistent/control: no daemon listens there: is multiplexerd running?\n"
    )


@pytest.mark.parametrize("arguments", [(), ("dance",), ("show",), ("run", "--fast")])
def test_wrong_usage_is_125_for_a_command_may_return_2(
    alice: ClientUser, arguments: tuple[str, ...]
) -> None:
    done = alice.pfinet(*arguments)

    assert done.returncode == 125
    assert done.stderr.startswith("usage: pfinet")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("run", []),
        ("run --", ["--"]),
        ("run ls -l --json", ["ls", "-l", "--json"]),
        ("run --vif lab1 -- ls --vif x", ["--", "ls", "--vif", "x"]),
        ("run -- -- x", ["--", "--", "x"]),
    ],
)
def test_options_end_where_the_command_begins(line: str, command: list[str]) -> None:
    assert parser().parse_args(line.split()).command == command


INFO = VifInfo(
    name=VifName("lab1"),
    id="00" * 16,
    owner_uid=20001,
    owner_name="alice",
    network="lab",
    mac=MacAddress.parse("52:54:00:00:00:01"),
    addresses=(),
    prefixes=(),
    source="dynamic",
    attached=None,
    counters=Counters(0, 0, 0, 0, {}),
    conflicts=(),
)


def test_a_vif_with_nothing_to_tell_is_told_without_gaps() -> None:
    assert vif_page(INFO).splitlines() == [
        "vif          lab1",
        "network      lab",
        "MAC address  52:54:00:00:00:01",
        "addresses    -",
        "prefixes     -",
        "made by      the administrator",
        "held by      nobody",
        "sent         0 frames, 0 bytes",
        "received     0 frames, 0 bytes",
        "dropped      nothing",
        "conflicts    none",
    ]
    torn = evolve(INFO, host_conflicts=(ip_address("10.9.0.9"),))
    assert "conflicts    10.9.0.9 is the host's now, too" in vif_page(torn)
    assert "made by      the configuration file" in vif_page(evolve(INFO, source="static"))
    filtered = FilterBindingInfo("web", {"PORT": ("80", "443")}, {"IP": ("10.9.0.1",)})
    assert "filter       web PORT=80 PORT=443" in vif_page(evolve(INFO, filter=filtered))
    assert "may use" not in vif_page(evolve(INFO, filter=filtered))
    looking = evolve(filtered, learning="dhcp")
    assert "may use      the first address by dhcp" in vif_page(evolve(INFO, filter=looking))
    found = evolve(looking, learned=(LearnedInfo(ip_address("10.9.0.7")),))
    assert vif_page(evolve(INFO, filter=found)).endswith("may use      10.9.0.7")
    assert vif_table([INFO]).splitlines()[1] == "lab1  lab      -          -"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3600 + 120 + 3, "1 h 2 min"),
        (86400 * 400 + 5, "400 d 0 h"),
    ],
)
def test_how_long_a_vif_is_held_is_told_by_two_units(seconds: int, told: str) -> None:
    held = evolve(INFO, attached=Holder(20001, 42, "stream", 0, seconds))

    assert f"by stream, for {told}\n" in vif_page(held)


# The manual.


def examples() -> list[list[str]]:
    """Return the commands of each of the page's EXAMPLES.

    Those of a served stack need somebody to talk to: tests/system/test_remap.py runs them.
    """
    section = PAGE.read_text().split(".Sh EXAMPLES\n")[1].split(".Sh ")[0]
    blocks = re.split(r"^\.(?:Pp|Bd|Ed)", section, flags=re.M)
    found = [re.findall(r"^(?:\.Dl )?\$ (.*)$", block, re.M) for block in blocks]
    return [lines for lines in found if lines and "serve" not in lines[0]]


@pytest.mark.parametrize("lines", examples(), ids=lambda lines: lines[0])
def test_an_example_of_the_page_works(alice: ClientUser, lines: list[str]) -> None:
    """A line that ends in `&` runs beside the next ones; one that waits a minute is cut short."""
    folder = alice.daemon.directory / "bin"
    folder.mkdir()
    program = folder / "pfinet"
    program.write_text('#!/bin/sh\nexec {} "$@"\n'.format(" ".join(alice.command())))
    program.chmod(0o755)
    background: list[subprocess.Popen[bytes]] = []
    try:
        for line in lines:
            process = start(alice, line.removesuffix("&").replace("timeout 60", "timeout 1"))
            if line.endswith("&"):
                background.append(process)
                assert alice.daemon.ports["lab1"].attached.wait(TIMEOUT_S)
            else:
                # 124 is that of timeout(1).
                assert process.wait(TIMEOUT_S) == (124 if "timeout" in line else 0)
    finally:
        for process in background:
            process.terminate()
            process.wait(TIMEOUT_S)


def start(user: ClientUser, line: str) -> subprocess.Popen[bytes]:
    path = f"{user.daemon.directory}/bin:{user.environment['PATH']}"
    return subprocess.Popen(
        ["sh", "-c", f"exec {line}"],
        env={**user.environment, "PATH": path},
        user=user.uid,
        group=user.uid,
        extra_groups=[],
        stdout=subprocess.DEVNULL,
    )


def test_a_capture_without_end_is_not_read_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pfinet_client.cli.MAX_CAPTURE_BYTES", 4096)

    assert main(["trace", "lab1", "--pcap", "/dev/zero"]) == 125
    assert capsys.readouterr().err == "pfinet: /dev/zero: longer than 4096 bytes\n"
