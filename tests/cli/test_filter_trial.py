"""`multiplexerctl filter test`: a filter in a file, captures, and what the datapath says."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from multiplexer.cli import main
from multiplexer.datapath.gate import Gate
from pfinet_proto import control
from pfinet_proto.jsonform import to_json
from tests.datapath.frames import ARP, arp, dhcp, ethernet, ipv4, ipv6, option, raw, udp

MAC = "52:54:00:00:00:01"
OURS, THEIRS = bytes.fromhex("525400000001"), bytes.fromhex("525400000002")

ANSWERS_ONLY = """<filter name='answers-only' chain='ipv4'>
  <rule action='accept' direction='out'>
    <udp dstportstart='53'/>
  </rule>
  <rule action='drop' direction='inout'><all/></rule>
</filter>
"""


def pcap(*frames: tuple[float, bytes], magic: int = 0xA1B2C3D4) -> bytes:
    """Return a capture of frames at their times in seconds."""
    unit = 1_000_000_000 if magic == 0xA1B23C4D else 1_000_000
    records = b"".join(
        struct.pack("<IIII", int(at), round(at % 1 * unit), len(frame), len(frame)) + frame
        for at, frame in frames
    )
    return struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 65535, 1) + records


def query(port: int = 53) -> bytes:
    packet = ipv4(udp(b"?", sport=40000, dport=port), src="10.0.0.1", dst="10.0.0.2")
    return ethernet(packet, src=OURS, dst=THEIRS)


def answer() -> bytes:
    packet = ipv4(udp(b"!", sport=53, dport=40000), src="10.0.0.2", dst="10.0.0.1")
    return ethernet(packet, src=THEIRS, dst=OURS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a filter, and no daemon anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MULTIPLEXER_CONTROL", str(tmp_path / "nobody"))
    (tmp_path / "f.xml").write_text(ANSWERS_ONLY)
    return tmp_path


def tried(capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    """Return what is said of frames by f.xml."""
    assert main(["filter", "test", "f.xml", "--mac", MAC, "--json", *more]) == 0
    frames: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["frames"]
    return frames


def test_captures_of_both_directions_are_merged_by_time_and_share_connections(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "in").write_bytes(pcap((1.5, answer()), (2.5, answer()), (200, answer())))
    (folder / "out").write_bytes(pcap((2, query()), (2.1, query(54)), magic=0xA1B23C4D))

    said = tried(capsys, "--pcap-in", "in", "--pcap-out", "out")

    assert [(each["direction"], each["verdict"]) for each in said] == [
        ("in", "drop"),
        ("out", "accept"),
        ("out", "drop"),
        ("in", "accept"),
        ("in", "drop"),
    ]
    assert [each["number"] for each in said] == [1, 2, 3, 4, 5]
    assert [each["network"]["rule"]["line"] for each in said] == [5, 2, 5, 2, 5]
    assert said[1]["network"]["rule"] == {
        "position": 0,
        "filter": "answers-only",
        "line": 2,
        "action": "accept",
        "direction": "out",
        "priority": 500,
    }
    assert said[0]["frame"].endswith("IPv4 10.0.0.2 to 10.0.0.1, UDP port 53 to 40000")


def test_a_person_is_told_each_frame_its_verdict_and_the_rules(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoofed = ethernet(
        arp(1, sender_mac=OURS, sender="10.0.0.9", target="10.0.0.2"),
        src=OURS,
        dst=THEIRS,
        ethertype=ARP,
    )
    (folder / "c").write_bytes(pcap((1, spoofed), (2, query())))
    (folder / "f.xml").write_text(
        "<filter name='mine'><filterref filter='clean-traffic'/></filter>"
    )
    arguments = ["--param", "IP=10.0.0.1", "--direction", "out", "--pcap", "c"]

    assert main(["filter", "test", "f.xml", "--mac", MAC, *arguments]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1  out 42 bytes, 52:54:00:00:00:01 to 52:54:00:00:00:02, ARP")
    assert lines[1] == "   drop"
    assert lines[2].startswith("   link     drop out by filter 'no-arp-ip-spoofing', line ")
    assert lines[2].endswith(" in chain arp-ip")
    assert lines[4] == "   accept"
    assert lines[5].startswith("   link     accept out by filter 'clean-traffic', line ")
    assert lines[6] == "   network  no rule decides"


def test_a_chain_that_ends_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "f.xml").write_text(
        "<filter name='f' chain='ipv4'><rule action='drop' direction='out'>"
        "<ip protocol='tcp'/></rule></filter>"
    )
    (folder / "c").write_bytes(pcap((1, query())))

    assert (
        main(["filter", "test", "f.xml", "--mac", MAC, "--direction", "out", "--pcap", "c"]) == 0
    )
    assert "   link     no rule decides in chain ipv4, whose end accepts\n" in (
        capsys.readouterr().out
    )


def test_filters_of_a_folder_stand_before_the_stock_ones(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "x.xml").write_text(
        "<filter name='clean-traffic'><rule action='drop' direction='inout'/></filter>"
    )
    (folder / "more" / "notes.txt").write_text("no filter")
    (folder / "f.xml").write_text("<filter name='f'><filterref filter='clean-traffic'/></filter>")
    (folder / "c").write_bytes(pcap((1, query())))

    (said,) = tried(capsys, "--filters", "more", "--direction", "out", "--pcap", "c")

    assert (said["verdict"], said["link"]["rule"]["filter"]) == ("drop", "clean-traffic")


NAMING = """<filter name='naming'>
  <rule action='drop' direction='out'>
    <all ipset='bad' ipsetflags='{flags}'/>
  </rule>
</filter>
"""


def test_a_rule_asks_the_sets_that_are_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in a file as `set show --json` prints it."""
    (folder / "f.xml").write_text(NAMING.format(flags="dst"))
    (folder / "c").write_bytes(pcap((1, query()), (2, query())))
    verdicts = []
    for members in (("10.0.0.0-10.0.0.3", "fd00::/64"), ("10.0.0.1",), ()):
        shown = control.SetMembers("bad", members)
        (folder / "bad.json").write_text(json.dumps(to_json(shown), indent=2))
        said = tried(capsys, "--set", "bad.json", "--direction", "out", "--pcap", "c")
        verdicts.append([each["verdict"] for each in said])

    assert verdicts == [["drop"] * 2, ["accept"] * 2, ["accept"] * 2]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "f.xml: filter 'naming', line 2: there is no set 'bad'"),
        ({"a": '{"name": "other", "members": []}'}, "line 2: there is no set 'bad'"),
        ({"a": None}, "a: No such file or directory"),
        ({"a": "10.0.0.1"}, "a: not JSON: "),
        ({"a": '{"name": "bad"}'}, "a: set.members is missing"),
        ({"a": '{"name": "b/d", "members": []}'}, "a: 'b/d'"),
        ({"a": '{"name": "bad", "members": ["x"]}'}, "a: 'x' is not a member of a set"),
        (
            dict.fromkeys("ab", '{"name": "bad", "members": []}'),
            "b: set 'bad' is given already",
        ),
    ],
)
def test_sets_that_are_no_good_are_told(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, str | None],
    complaint: str,
) -> None:
    (folder / "f.xml").write_text(NAMING.format(flags="dst"))
    (folder / "c").write_bytes(pcap((1, query())))
    for name, text in given.items():
        if text is not None:
            (folder / name).write_text(text)
    sets = [word for name in given for word in ("--set", name)]

    assert main(["filter", "test", "f.xml", "--mac", MAC, "--pcap-in", "c", *sets]) == 1
    said, complained = capsys.readouterr()
    assert said == ""
    assert complaint in complained


def test_frames_that_cannot_be_judged_are_dropped_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = ethernet(ipv4(raw(17, bytes(4)), src="1.1.1.1", dst="2.2.2.2"), src=OURS, dst=THEIRS)
    longest = ethernet(ipv6(raw(17, bytes(9)), src="::1", dst="::2"), src=OURS, dst=THEIRS)
    frames = (b"short", broken, longest.ljust(66000, b"\0"))
    (folder / "c").write_bytes(pcap(*((1, frame) for frame in frames)))

    said = tried(capsys, "--direction", "in", "--pcap", "c")

    assert [(each["verdict"], each["why"]) for each in said] == [
        ("drop", "runt"),
        ("drop", "ipv4_malformed"),
        ("drop", "oversize"),
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pcap-in", "/dev/zero"], "/dev/zero: longer than 4096 bytes"),
        (["--pcap-in", "c", "--set", "/dev/zero"], "/dev/zero: longer than 4096 bytes"),
        (["--pcap-in", "gone"], "gone: No such file or directory"),
        (["--pcap-in", "f.xml"], "f.xml: no pcap file"),
        (["--pcap-in", "c", "--filters", "gone"], "gone: No such file or directory"),
    ],
)
def test_what_is_no_good_is_told(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.setattr("multiplexer.cli.filter_trial.MAX_CAPTURE_BYTES", 4096)
    monkeypatch.setattr("multiplexer.cli.set_files.MAX_REPLY_BYTES", 4096)
    (folder / "c").write_bytes(pcap((1, query())))

    assert main(["filter", "test", "f.xml", "--mac", MAC, *arguments]) == 1
    assert capsys.readouterr() == ("", f"{complaint}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pcap", "c"], "--pcap and --direction go together"),
        ([], "there is no frame to judge, wanted --pcap, --pcap-in or --pcap-out"),
        (
            ["--pcap-in", "-", "--pcap-out", "-"],
            "--pcap-in and --pcap-out are both standard input, wanted two files",
        ),
    ],
)
def test_captures_that_say_nothing_to_do_are_wrong_use(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert main(["filter", "test", "f.xml", "--mac", MAC, *arguments]) == 2
    assert capsys.readouterr() == ("", f"multiplexerctl: {complaint}\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<filter/>", "f.xml:1:1: "),
        (
            "<filter name='f'><filterref filter='clean-traffic'/></filter>",
            "f.xml: parameters are missing: 'IP'",
        ),
        ("<filter name='f'><filterref filter='g'/></filter>", "f.xml: filters are missing: 'g'"),
        (
            "<filter name='f'><filterref filter='f'/></filter>",
            "f.xml: filters refer to",
        ),
    ],
)
def test_a_filter_that_cannot_be_bound_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    (folder / "f.xml").write_text(text)
    (folder / "c").write_bytes(pcap((1, query())))

    assert main(["filter", "test", "f.xml", "--mac", MAC, "--pcap-in", "c"]) == 1
    said, complained = capsys.readouterr()
    assert said == ""
    assert complained.startswith(complaint)


def test_a_parameter_without_a_value_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["filter", "test", "f.xml", "--mac", MAC, "--param", "IP"])
    assert "'IP' is no parameter, wanted NAME=VALUE" in capsys.readouterr().err


def test_a_table_that_does_not_fit_together_is_no_gate() -> None:
    with pytest.raises(ValueError, match="does not fit together"):
        Gate(b"", OURS)


# ---- an address that is learned ----

CLEAN = "<filter name='f'><filterref filter='clean-traffic'/></filter>"
LEASING = """<filter name='f'>
  <filterref filter='no-ip-spoofing'/>
  <rule action='accept' direction='in' priority='-710'><ip protocol='udp'/></rule>
</filter>
"""
RELEASE, ACK = 7, 5


def sent(source: str) -> bytes:
    packet = ipv4(udp(b"?", sport=40000, dport=53), src=source, dst="10.0.0.2")
    return ethernet(packet, src=OURS, dst=THEIRS)


def asked(source: str) -> bytes:
    packet = arp(1, sender_mac=OURS, sender=source, target="10.0.0.2")
    return ethernet(packet, src=OURS, dst=THEIRS, ethertype=ARP)


def assigned(address: str, lease_s: int, server: str = "10.0.0.2") -> bytes:
    options = option(53, bytes((ACK,))) + option(51, struct.pack(">I", lease_s)) + b"\xff"
    message = dhcp(OURS, op=2, yours=address, options=options)
    packet = ipv4(udp(message, sport=67, dport=68), src=server, dst=address)
    return ethernet(packet, src=THEIRS, dst=OURS)


def released(address: str) -> bytes:
    message = dhcp(OURS, client=address, options=option(53, bytes((RELEASE,))) + b"\xff")
    packet = ipv4(udp(message, sport=68, dport=67), src=address, dst="10.0.0.2")
    return ethernet(packet, src=OURS, dst=THEIRS)


def known(said: list[dict[str, Any]]) -> list[tuple[str, list[str] | None]]:
    return [(each["verdict"], each["learned"]) for each in said]


@pytest.mark.parametrize("first", [sent, asked])
def test_the_first_address_of_the_prefix_is_learned(
    folder: Path, capsys: pytest.CaptureFixture[str], first: Any
) -> None:
    (folder / "f.xml").write_text(CLEAN)
    frames = (sent("10.0.1.1"), first("10.0.0.5"), sent("10.0.0.6"), sent("10.0.0.5"))
    (folder / "c").write_bytes(pcap(*enumerate(frames, 1)))

    said = tried(capsys, "--prefix", "10.0.0.0/28", "--direction", "out", "--pcap", "c")

    assert known(said) == [
        ("accept", []),
        ("accept", []),
        ("drop", ["10.0.0.5"]),
        ("accept", ["10.0.0.5"]),
    ]
    assert said[1]["link"]["rule"]["filter"] == "learning-any"
    assert said[2]["link"]["rule"]["filter"] == "no-ip-spoofing"


def test_leases_of_believed_servers_are_learned_for_their_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "f.xml").write_text(LEASING)
    frames_in = (
        (1, assigned("10.0.0.4", 3600, server="10.0.0.3")),
        (2, assigned("10.0.0.5", 10)),
        (4, assigned("10.0.0.6", 0xFFFFFFFF)),
    )
    frames_out = (
        (1.5, sent("10.0.0.4")),
        (3, sent("10.0.0.5")),
        (5, sent("10.0.0.6")),
        (13, sent("10.0.0.5")),
        (14, released("10.0.0.6")),
        (15, sent("10.0.0.6")),
    )
    (folder / "in").write_bytes(pcap(*frames_in))
    (folder / "out").write_bytes(pcap(*frames_out))
    by_dhcp = ("--param", "CTRL_IP_LEARNING=DHCP", "--param", "DHCPSERVER=10.0.0.2")

    said = tried(capsys, *by_dhcp, "--pcap-in", "in", "--pcap-out", "out")

    assert known(said) == [
        ("drop", []),
        ("drop", []),
        ("accept", []),
        ("accept", ["10.0.0.5"]),
        ("accept", ["10.0.0.5"]),
        ("accept", ["10.0.0.5", "10.0.0.6"]),
        ("drop", ["10.0.0.6"]),
        ("accept", ["10.0.0.6"]),
        ("drop", []),
    ]


def test_a_lease_with_which_the_filter_cannot_be_bound_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the daemon: the second has no port beside it."""
    (folder / "f.xml").write_text(
        "<filter name='f'><rule action='drop' direction='out'>"
        "<tcp srcipaddr='$IP' dstportstart='$PORT'/></rule></filter>"
    )
    frames = (assigned("10.0.0.5", 60), assigned("10.0.0.6", 60), assigned("10.0.0.5", 60))
    (folder / "c").write_bytes(pcap(*enumerate(frames, 1)))
    given = ("--param", "CTRL_IP_LEARNING=dhcp", "--param", "PORT=22")

    said = tried(capsys, *given, "--direction", "in", "--pcap", "c")

    assert known(said) == [("accept", []), *[("accept", ["10.0.0.5"])] * 2]


def test_where_nothing_is_learned_none_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address that is given, or is all of the prefix, is the address."""
    (folder / "f.xml").write_text(CLEAN)
    (folder / "c").write_bytes(pcap((1, sent("10.0.0.5")), (2, sent("10.0.0.6"))))
    ways = (
        ("--param", "IP=10.0.0.5", "--prefix", "10.0.0.0/24"),
        ("--prefix", "10.0.0.5/32"),
        ("--param", "IP=10.0.0.5", "--param", "CTRL_IP_LEARNING=any"),
    )
    for given in ways:
        said = tried(capsys, *given, "--direction", "out", "--pcap", "c")
        assert known(said) == [("accept", None), ("drop", None)]


def test_a_person_is_told_what_was_learned(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "f.xml").write_text(CLEAN)
    (folder / "c").write_bytes(pcap((1, sent("10.0.0.5")), (2, sent("10.0.0.5"))))
    given = ("--param", "CTRL_IP_LEARNING=any", "--direction", "out", "--pcap", "c")

    assert main(["filter", "test", "f.xml", "--mac", MAC, *given]) == 0

    lines = [line for line in capsys.readouterr().out.splitlines() if "learned " in line]
    assert lines == ["   learned  no address yet", "   learned  10.0.0.5"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            ("CTRL_IP_LEARNING=often",),
            "f.xml: parameter CTRL_IP_LEARNING is 'often', wanted one of any, dhcp, none\n",
        ),
        (
            ("CTRL_IP_LEARNING=any", "CTRL_IP_LEARNING=dhcp"),
            "f.xml: parameter CTRL_IP_LEARNING is 'any dhcp', wanted one of any, dhcp, none\n",
        ),
        (
            ("CTRL_IP_LEARNING=none",),
            "f.xml: parameters are missing: 'IP'; the vif is bound to no single address that"
            " could be IP, and CTRL_IP_LEARNING is none, so give it as a parameter\n",
        ),
        (
            ("CTRL_IP_LEARNING=dhcp", "DHCPSERVER=fe80::1"),
            "f.xml: filter 'learning-dhcp', line 5: srcipaddr: parameter DHCPSERVER: 'fe80::1' is"
            " not an IPv4 address such as 10.1.2.3\n",
        ),
    ],
)
def test_learning_that_cannot_be_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], complaint: str
) -> None:
    (folder / "f.xml").write_text(CLEAN)
    (folder / "c").write_bytes(pcap((1, query())))
    words = [word for each in given for word in ("--param", each)]

    arguments = ["--prefix", "10.0.0.0/24", "--pcap-in", "c", *words]
    assert main(["filter", "test", "f.xml", "--mac", MAC, *arguments]) == 1
    assert capsys.readouterr() == ("", complaint)


def test_a_prefix_that_is_none_of_ipv4_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("10.0.0.1/24", "fd00::/64", "x"):
        with pytest.raises(SystemExit):
            main(["filter", "test", "f.xml", "--mac", MAC, "--prefix", text])
        assert f"'{text}'" in (said := capsys.readouterr().err)
        assert "wanted an IPv4 prefix" in said


def test_a_folder_with_two_filters_of_a_name_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of them a rule refers to nobody could say."""
    (folder / "more").mkdir()
    for name in ("a.xml", "b.xml"):
        (folder / "more" / name).write_text("<filter name='same'/>")
    (folder / "c").write_bytes(pcap((1, query())))
    arguments = ["--filters", "more", "--pcap-in", "c"]

    assert main(["filter", "test", "f.xml", "--mac", MAC, *arguments]) == 1
    assert capsys.readouterr() == ("", "more/b.xml: filter 'same' is in more/a.xml too\n")
