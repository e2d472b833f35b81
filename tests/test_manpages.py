"""The manual says what the programs do: options and commands both ways, and each drop reason."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import attrs
import pytest
import trio

from multiplexer.cli import main as multiplexerctl
from multiplexer.cli.commands import parser as multiplexerctl_parser
from multiplexer.daemon.audit import Event
from multiplexer.daemon.broker import main as multiplexerd
from multiplexer.datapath.verdicts import VERDICTS
from pfinet_client.cli import parser as pfinet_parser
from tests.daemon.siblings import Place, siblings, system

MAN = Path(__file__).parent.parent / "man"

PAGES = {
    "multiplexer-filter.5",
    "multiplexer.7",
    "multiplexer-protocol.7",
    "multiplexer.toml.5",
    "multiplexerctl.8",
    "multiplexerd.8",
    "pfinet.1",
}

#: What the examples of multiplexerctl(8) are about.
EXAMPLE_CONFIG = """\
[daemon]
run_dir = "{run_dir}"
state_dir = "{state_dir}"

[network.lan]
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
"""


def multiplexerd_parser() -> argparse.ArgumentParser:
    """Return the parser that multiplexerd(8) makes when it starts."""
    made: list[argparse.ArgumentParser] = []

    def parse_args(parser: argparse.ArgumentParser, *_: object) -> None:
        made.append(parser)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(SystemExit):
            multiplexerd([])
    return made[0]


PROGRAMS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "multiplexerctl.8": multiplexerctl_parser,
    "multiplexerd.8": multiplexerd_parser,
    "pfinet.1": pfinet_parser,
}


@attrs.frozen
class Interface:
    """What can be typed: options without their dashes, and commands of one or more words."""

    options: frozenset[str]
    commands: frozenset[str]


def interface_of(parser: argparse.ArgumentParser) -> Interface:
    options: set[str] = set()
    commands: set[str] = set()

    def look(below: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
        groups = [a for a in below._actions if isinstance(a, argparse._SubParsersAction)]
        options.update(
            option.lstrip("-") for action in below._actions for option in action.option_strings
        )
        for group in groups:
            for word, command in group.choices.items():
                look(command, (*words, word))
        if words and not groups:
            commands.add(" ".join(words))

    look(parser, ())
    return Interface(frozenset(options), frozenset(commands))


def itemized(page: str) -> Interface:
    """Return the options and commands that have an item of a list to themselves."""
    lines = [line for line in page.splitlines() if line.startswith(".It Fl ")]
    options = [option for line in lines for option in re.findall(r"\bFl -?([a-z-]+)", line)]
    commands = re.findall(r"^\.It (?:Xo\n\.)?Cm ((?:[a-z]+ ?)+)", page, re.MULTILINE)
    return Interface(frozenset(options), frozenset(words.strip() for words in commands))


def mentioned(page: str) -> Interface:
    """Return the long options and the commands that occur in macros anywhere."""
    macros = "\n".join(line for line in page.splitlines() if line.startswith("."))
    options = re.findall(r"\bFl -([a-z][a-z-]*)", macros)
    commands = re.findall(r"\bCm ((?:[a-z]+ ?)+)", macros)
    return Interface(frozenset(options), frozenset(words.strip() for words in commands))


def section(page: str, title: str) -> str:
    (found,) = re.findall(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", page, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def test_every_page_is_there() -> None:
    assert {path.name for path in MAN.iterdir()} == PAGES


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_is_clean_mdoc(page: str) -> None:
    command = ["mandoc", "-T", "lint", "-W", "warning", str(MAN / page)]
    linted = subprocess.run(command, check=False, capture_output=True, text=True)

    assert (linted.stdout, linted.returncode) == ("", 0)


def test_the_whole_picture_is_two_printed_pages() -> None:
    command = ["mandoc", "-T", "ps", "-O", "paper=a4", str(MAN / "multiplexer.7")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert len(re.findall(r"^%%Page: ", printed, re.MULTILINE)) == 2


@pytest.mark.parametrize("page", sorted(PROGRAMS))
def test_a_page_has_every_option_and_command_and_no_others(page: str) -> None:
    real = interface_of(PROGRAMS[page]())
    text = (MAN / page).read_text()

    assert itemized(text) == real
    assert mentioned(text).options <= real.options
    assert mentioned(text).commands <= real.commands


def synopses(page: str) -> dict[str, Interface]:
    """Return what the synopsis of each command of *page* mentions."""
    forms = section(page, "SYNOPSIS").split(".Nm\n")
    return {command: mentioned(form) for form in forms for command in mentioned(form).commands}


def parsers(
    parser: argparse.ArgumentParser, *words: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command below *parser* and the parser of its own."""
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for group in groups:
        for word, below in group.choices.items():
            yield from parsers(below, *words, word)
    if not groups:
        yield " ".join(words), parser


@pytest.mark.parametrize("page", ["multiplexerctl.8", "pfinet.1"])
def test_the_synopsis_has_every_command_and_its_options(page: str) -> None:
    found = synopses((MAN / page).read_text())
    real = dict(parsers(PROGRAMS[page]()))

    assert found.keys() == real.keys()
    for command, parser in real.items():
        # vif set has too many for a summary; it says "change ...".
        if command != "vif set":
            options = interface_of(parser).options - {"h", "help", "json", "control"}
            assert options <= found[command].options, command


def test_every_drop_reason_has_its_line_in_the_order_of_trying() -> None:
    reasons = section((MAN / "multiplexerctl.8").read_text(), "DROP REASONS")

    assert re.findall(r"^\.It Li (\S+)$", reasons, re.MULTILINE) == list(VERDICTS[1:])


def test_every_exit_code_has_its_line() -> None:
    codes = section((MAN / "multiplexerctl.8").read_text(), "EXIT STATUS")

    assert re.findall(r"^\.It (\d+)$", codes, re.MULTILINE) == ["0", "1", "2", "3", "4", "130"]


def test_the_page_of_the_daemon_tells_of_every_audit_event_and_of_no_other() -> None:
    _, _, log = (MAN / "multiplexerd.8").read_text().partition(".Ss Log\n")
    events, _, _ = log.partition(".Sh ")
    items = re.findall(r"^\.It Li (.*)$", events, re.MULTILINE)
    assert {event for item in items for event in item.split(" , ")} == set(get_args(Event))


def examples(page: str) -> Iterator[list[str]]:
    """Yield the command lines of the examples, without what they are piped into."""
    command = ["mandoc", "-T", "utf8", "-O", "width=500", str(MAN / page)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    plain = re.sub(r".\x08", "", shown)
    for line in plain.splitlines():
        prompt, _, rest = line.strip().partition(" ")
        if prompt == "#":
            yield shlex.split(rest.partition(" | ")[0])


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def test_the_examples_of_multiplexerctl_work_one_after_the_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = list(examples("multiplexerctl.8"))
    config = EXAMPLE_CONFIG.format(run_dir=place.run_dir, state_dir=place.state_dir)
    monkeypatch.setenv("MULTIPLEXER_CONTROL", str(place.run_dir / "control"))
    statuses = []
    async with siblings(place, system({"alice": 20001})) as made:
        await made.broker.start(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.control.run)
            await made.wait_serving()
            for _, *arguments in lines:
                statuses.append(await trio.to_thread.run_sync(multiplexerctl, arguments))
            made.control.stop()

    assert len(lines) == 7
    assert {program for program, *_ in lines} == {"multiplexerctl"}
    assert statuses == [0] * len(lines)
