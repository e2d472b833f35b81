"""`multiplexerctl filter validate` and `canonical`: files alone, no daemon."""

import io
import json
from pathlib import Path

import pytest

from multiplexer.cli import main
from multiplexer.stock import stock_text

GOOD = "<filter name='good'>\n  <rule action='drop' direction='in'><tcp/></rule>\n</filter>\n"
TYPO = "<filter name='typo'>\n  <rule action='drop' direction='in'>\n    <tpc/></rule></filter>\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a good filter and one with a typo, and no daemon anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MULTIPLEXER_CONTROL", str(tmp_path / "nobody"))
    (tmp_path / "good.xml").write_text(GOOD)
    (tmp_path / "typo.xml").write_text(TYPO)
    return tmp_path


def refers(name: str, to: str) -> str:
    return f"<filter name='{name}'>\n <filterref filter='{to}'/></filter>"


def test_a_filter_is_valid(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["filter", "validate", "good.xml"])

    assert (status, *capsys.readouterr()) == (0, "good.xml: filter 'good' is valid\n", "")


def test_what_is_wrong_is_told_by_file_line_and_column(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["filter", "validate", "typo.xml", "good.xml", "gone.xml"])

    said, complained = capsys.readouterr()
    assert status == 1
    assert said == "good.xml: filter 'good' is valid\n"
    first, second = complained.splitlines()
    assert first.startswith("typo.xml:3:5: unknown element 'tpc' in <rule>, wanted a protocol: ")
    assert second == "gone.xml: No such file or directory"


def test_lenient_takes_what_libvirt_takes(folder: Path) -> None:
    assert main(["filter", "validate", "--lenient", "typo.xml"]) == 0


def test_verdicts_are_json_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["filter", "validate", "--json", "typo.xml", "good.xml", "gone.xml"])

    typo, good, gone = json.loads(capsys.readouterr().out)["files"]
    assert status == 1
    assert good == {"file": "good.xml", "valid": True, "name": "good"}
    assert (typo["valid"], typo["line"], typo["column"]) == (False, 3, 5)
    assert gone == {"file": "gone.xml", "valid": False, "error": "No such file or directory"}


def test_standard_input_is_a_file_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TYPO.encode())))

    assert main(["filter", "validate", "-"]) == 1
    assert capsys.readouterr().err.startswith("-:3:5: ")


def test_standard_input_is_read_once_however_often_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"<filter name='f'/>")))

    assert main(["filter", "validate", "-", "-"]) == 0


def test_what_is_referred_to_may_be_missing_and_may_be_a_stock_filter(folder: Path) -> None:
    (folder / "ref.xml").write_text(refers("ref", "clean-traffic"))
    (folder / "early.xml").write_text(refers("early", "not-yet"))

    assert main(["filter", "validate", "ref.xml", "early.xml"]) == 0


def test_a_loop_is_told_at_the_references_that_make_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "self.xml").write_text(refers("self", "self"))
    (folder / "a.xml").write_text(refers("a", "b"))
    (folder / "b.xml").write_text(refers("b", "a"))
    (folder / "into.xml").write_text(refers("into", "a"))

    assert main(["filter", "validate", "a.xml"]) == 0
    capsys.readouterr()
    status = main(["filter", "validate", "self.xml", "a.xml", "b.xml", "into.xml"])

    said, complained = capsys.readouterr()
    assert (status, said) == (1, "into.xml: filter 'into' is valid\n")
    assert complained.splitlines() == [
        "self.xml:2:2: filters refer to each other in a loop: 'self' -> 'self'",
        "a.xml:2:2: filters refer to each other in a loop: 'a' -> 'b' -> 'a'",
        "b.xml:2:2: filters refer to each other in a loop: 'b' -> 'a' -> 'b'",
    ]


def test_two_files_are_not_one_filter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "twin.xml").write_text(GOOD)

    assert main(["filter", "validate", "good.xml", "twin.xml"]) == 1
    assert capsys.readouterr() == (
        "good.xml: filter 'good' is valid\n",
        "twin.xml:1:1: filter 'good' is in good.xml too\n",
    )


def test_the_canonical_text_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "stock.xml").write_text(stock_text("no-mac-spoofing"))

    assert main(["filter", "canonical", "stock.xml"]) == 0
    assert capsys.readouterr().out == (
        "<filter name='no-mac-spoofing' chain='mac' priority='-800'>\n"
        "  <rule action='return' direction='out' priority='500'>\n"
        "    <mac srcmacaddr='$MAC'/>\n"
        "  </rule>\n"
        "  <rule action='drop' direction='out' priority='500'>\n"
        "    <mac/>\n"
        "  </rule>\n"
        "</filter>\n"
    )


def test_the_canonical_text_is_json_for_programs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["filter", "canonical", "--json", "--lenient", "typo.xml"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["name"] == "typo"
    assert said["xml"].startswith("<filter name='typo' chain='root'>\n  <rule action='drop'")


def test_what_is_no_filter_has_no_canonical_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["filter", "canonical", "typo.xml"])

    said, complained = capsys.readouterr()
    assert (status, said) == (1, "")
    assert complained.startswith("typo.xml:3:5: ")


def test_a_file_without_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "validate", "/dev/zero"]) == 1
    assert "/dev/zero: longer than 4194304 bytes" in capsys.readouterr().err


ROW = "<rule action='drop' direction='in'/>"


@pytest.mark.parametrize(
    ("octets", "complaint"),
    [
        (f"<filter name='f'>{ROW * 100_000}</filter>".encode(), "more than 65536 rules"),
        (
            f"<filter name='f'><!--{'x' * 5_000_000}--></filter>".encode(),
            "longer than 4194304 bytes",
        ),
        (
            f"<filter name='f'>{ROW.replace('/>', '><tcp/></rule>') * 65000}</filter>".encode(),
            "bytes as it is kept, wanted at most 4194304",
        ),
        ("<filter name='f'/>".encode("utf-16"), "no UTF-8 at byte 0"),
    ],
    ids=["rules", "length", "kept", "encoding"],
)
def test_what_could_not_be_defined_is_not_valid(
    folder: Path, capsys: pytest.CaptureFixture[str], octets: bytes, complaint: str
) -> None:
    (folder / "f.xml").write_bytes(octets)

    assert main(["filter", "validate", "f.xml"]) == 1
    assert complaint in capsys.readouterr().err
