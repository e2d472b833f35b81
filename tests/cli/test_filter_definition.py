"""Filters defined at a daemon: from files, and in an editor until they are right."""

import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from multiplexer.cli import main
from multiplexer.cli.exit_status import FORBIDDEN
from multiplexer.cli.filter_definition import editor
from tests.daemon.siblings import ALICE, Place, running
from tests.support.plain import acting_as

RULE = "<rule action='drop' direction='in'/>"
WEB = f"<filter name='web'>{RULE}</filter>\n"


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


@asynccontextmanager
async def daemon(
    place: Place, monkeypatch: pytest.MonkeyPatch, extra: str = ""
) -> AsyncIterator[None]:
    monkeypatch.setenv("MULTIPLEXER_CONTROL", str(place.run_dir / "control"))
    async with running(place, extra):
        yield


async def ctl(*words: str | Path) -> int:
    return await trio.to_thread.run_sync(main, list(map(str, words)))


async def test_a_filter_in_a_file_is_defined_shown_and_undefined(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "web.xml"
    file.write_text(WEB)
    async with daemon(place, monkeypatch):
        assert await ctl("filter", "define", "--validate", file) == 0
        assert capsys.readouterr().out.startswith("filter  web\n")
        assert await ctl("filter", "list", "--json") == 0
        listed = {each["name"] for each in json.loads(capsys.readouterr().out)["filters"]}
        assert {"web", "clean-traffic"} < listed
        assert await ctl("filter", "dumpxml", "web") == 0
        assert "<rule action='drop' direction='in' priority='500'/>" in capsys.readouterr().out
        assert await ctl("filter", "undefine", "web") == 0
        assert await ctl("filter", "dumpxml", "web") == 1
        assert capsys.readouterr().err == "multiplexerctl: there is no filter 'web'\n"


async def test_what_stands_where_in_a_file_is_told(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "web.xml"
    file.write_text("<filter name='web'>\n  <rul/>\n</filter>\n")
    async with daemon(place, monkeypatch):
        assert await ctl("filter", "define", file) == 1
        assert capsys.readouterr().err.startswith(f"multiplexerctl: {file}:2:3: ")
        assert await ctl("filter", "define", "--lenient", file) == 0
        assert await ctl("filter", "define", "--lenient", "--validate", file) == 1
        assert "are opposites" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (WEB.encode("utf-16"), ": no UTF-8 at byte 0"),
        (
            b"<filter\n name='w\x1b[2J'/>",
            "web.xml:2:9: '\\x1b' is no character of a document",
        ),
        (b" " * 4_194_305, ": longer than 4194304 bytes"),
    ],
)
async def test_what_is_no_text_is_told(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    octets: bytes,
    why: str,
) -> None:
    file = tmp_path / "web.xml"
    file.write_bytes(octets)
    async with daemon(place, monkeypatch):
        assert await ctl("filter", "define", file) == 1
    said = capsys.readouterr().err
    assert why in said
    assert said.strip().isprintable()


async def test_a_file_is_named_as_well_as_its_name_can_be_said(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "we\udcffb.xml"
    async with daemon(place, monkeypatch):
        file.write_text("<filter name='web'>\n  <rul/>\n</filter>\n")
        assert await ctl("filter", "define", file) == 1
        assert "/we\\xffb.xml:2:3: " in capsys.readouterr().err
        file.write_text(WEB)
        assert await ctl("filter", "define", file) == 0


async def test_others_than_administrators_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_alice() -> int:
        with acting_as(ALICE):
            return main(["filter", "list"])

    async with daemon(place, monkeypatch):
        assert await trio.to_thread.run_sync(as_alice) == FORBIDDEN


def an_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *edits: tuple[str, str]) -> Path:
    """Be the caller's editor, which replaces text, each time the next; return what it saw."""
    saw = tmp_path / "saw"
    script = tmp_path / "editor.py"
    script.write_text(
        f"""
import pathlib, sys
saw, edits = pathlib.Path({str(saw)!r}), {edits!r}
path = pathlib.Path(sys.argv[2])
text = path.read_text()
with saw.open("a") as log:
    log.write(sys.argv[1] + " " + str(path) + "\\n")
old, new = edits[len(saw.read_text().splitlines()) - 1]
if not old:
    sys.exit(1)
assert old in text
path.write_text(text.replace(old, new))
"""
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script} --wait")
    monkeypatch.delenv("VISUAL", raising=False)
    return saw


async def defined(tmp_path: Path, text: str = WEB) -> None:
    file = tmp_path / "web.xml"
    file.write_text(text)
    assert await ctl("filter", "define", file) == 0


async def test_an_edit_is_corrected_until_it_is_a_filter(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saw = an_editor(tmp_path, monkeypatch, ("'drop'", "'drup'"), ("'drup'", "'reject'"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    async with daemon(place, monkeypatch):
        await defined(tmp_path)
        assert await ctl("filter", "edit", "web") == 0
        said = capsys.readouterr()
        assert "multiplexerctl: filter.xml:3:" in said.err
        assert await ctl("filter", "dumpxml", "web") == 0
        assert "action='reject'" in capsys.readouterr().out

    edited = [line.split(" ") for line in saw.read_text().splitlines()]
    assert [option for option, _ in edited] == ["--wait", "--wait"]
    assert not Path(edited[0][1]).parent.exists()


async def test_who_gives_up_keeps_what_was_written(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    an_editor(tmp_path, monkeypatch, ("'drop'", "'drup'"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    async with daemon(place, monkeypatch):
        await defined(tmp_path)
        assert await ctl("filter", "edit", "web") == 1
        kept = capsys.readouterr().err.rpartition("what you wrote is in ")[2].strip()
        assert await ctl("filter", "dumpxml", "web") == 0
        assert "action='drop'" in capsys.readouterr().out
        assert "'drup'" in await trio.Path(kept).read_text()


async def test_what_an_editor_leaves_beside_the_file_goes_with_it(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Most keep a copy of the text as it was."""
    saw = tmp_path / "saw"
    script = tmp_path / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "path.with_name('filter.xml~').write_text(path.read_text())\n"
        "path.write_text(path.read_text().replace('drop', 'reject'))\n"
        f"pathlib.Path({str(saw)!r}).write_text(str(path))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    async with daemon(place, monkeypatch):
        await defined(tmp_path)
        assert await ctl("filter", "edit", "web") == 0
        assert await ctl("filter", "dumpxml", "web") == 0
    assert "action='reject'" in capsys.readouterr().out
    assert not Path(saw.read_text()).parent.exists()


async def test_an_editor_that_fails_changes_nothing_and_leaves_nothing(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saw = an_editor(tmp_path, monkeypatch, ("", ""))
    async with daemon(place, monkeypatch):
        await defined(tmp_path)
        assert await ctl("filter", "edit", "web") == 1
    assert "the editor failed" in capsys.readouterr().err
    assert not Path(saw.read_text().split()[1]).parent.exists()


async def test_an_editor_that_removes_the_file_leaves_nothing(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "rm")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "drafts"))
    (tmp_path / "drafts").mkdir()
    async with daemon(place, monkeypatch):
        await defined(tmp_path)
        assert await ctl("filter", "edit", "web") == 1
    assert "filter.xml: No such file or directory" in capsys.readouterr().err
    assert list((tmp_path / "drafts").iterdir()) == []


async def test_a_filter_that_changed_meanwhile_is_left_alone(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    an_editor(tmp_path, monkeypatch, ("'drop'", "'reject'"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    other = tmp_path / "other.xml"
    other.write_text(WEB.replace("'drop'", "'accept'"))
    script = tmp_path / "editor.py"
    text = script.read_text()
    script.write_text(
        text + "from multiplexer.cli import main\n"
        f"assert main(['filter', 'define', {str(other)!r}]) == 0\n"
    )
    async with daemon(place, monkeypatch):
        await defined(tmp_path)
        assert await ctl("filter", "edit", "web") == 1
        assert "filter 'web' was changed meanwhile" in capsys.readouterr().err
        assert await ctl("filter", "dumpxml", "web") == 0
        assert "action='accept'" in capsys.readouterr().out


async def test_a_stock_filter_is_not_edited(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with daemon(place, monkeypatch):
        assert await ctl("filter", "edit", "clean-traffic") == 1
    assert "'clean-traffic' is a stock filter" in capsys.readouterr().err


def test_an_editor_with_quotes_that_do_not_match_is_told() -> None:
    with pytest.raises(ValueError, match=r"^VISUAL is .*, whose quotes do not match$"):
        editor({"VISUAL": "vi 'x"})


def test_the_editor_is_the_callers() -> None:
    assert editor({"VISUAL": "code --wait", "EDITOR": "ed"}) == ["code", "--wait"]
    assert editor({"VISUAL": "", "EDITOR": "ed"}) == ["ed"]
    assert editor({"VISUAL": " ", "EDITOR": "\t"}) == ["vi"]
    assert editor({}) == ["vi"]
