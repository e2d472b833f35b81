"""The shells complete both commands: words, options, and the names of vifs."""

import subprocess
from collections.abc import Callable, Mapping

import pytest
import shtab

from multiplexer.cli import main as multiplexerctl
from multiplexer.cli.commands import parser as multiplexerctl_parser
from pfinet_client.cli import main as pfinet
from pfinet_client.cli import parser as pfinet_parser

MAINS: Mapping[str, Callable[[list[str]], int]] = {
    "multiplexerctl": multiplexerctl,
    "pfinet": pfinet,
}
PARSERS = {"multiplexerctl": multiplexerctl_parser, "pfinet": pfinet_parser}

#: Stands for the command itself, which lists vifs for the names.
LISTS = """() {
  case "$1" in
    filter) printf 'UUID FILTER\\n1 web-2\\n2 webs\\n3 other\\n' ;;
    *) printf 'VIF OWNER\\nalice 1\\nalbert 2\\nbob 3\\n' ;;
  esac
}"""

COMPLETE = r"""
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')"
printf '%s\n' "${COMPREPLY[@]}"
"""


def completions(*words: str) -> set[str]:
    """Return what bash offers for the last of *words*."""
    program = words[0]
    script = shtab.complete(PARSERS[program](), "bash") + f"\n{program}{LISTS}\n{COMPLETE}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("multiplexerctl", "vif", "cr"), {"create"}),
        (("multiplexerctl", "vif", "show", "al"), {"alice", "albert"}),
        (("multiplexerctl", "filter", "val"), {"validate"}),
        (("multiplexerctl", "filter", "edit", "web"), {"web-2", "webs"}),
        (("multiplexerctl", "filter", "canonical", "--len"), {"--lenient"}),
        (("multiplexerctl", "filter", "binding", "cr"), {"create"}),
        (("multiplexerctl", "filter", "binding", "show", "al"), {"alice", "albert"}),
        (("multiplexerctl", "vif", "create", "x", "--filter", "o"), {"other"}),
        (("multiplexerctl", "trace", "b"), {"bob"}),
        (("multiplexerctl", "vif", "create", "x", "--role", ""), {"router", "dhcp-server"}),
        (("pfinet", "sh"), {"show"}),
        (("pfinet", "show", "al"), {"alice", "albert"}),
        (("pfinet", "run", "--vif", "b"), {"bob"}),
        (("pfinet", "trace", "b"), {"bob"}),
    ],
)
def test_bash_offers_what_fits(words: tuple[str, ...], offered: set[str]) -> None:
    assert completions(*words) == offered


@pytest.mark.parametrize("program", PARSERS)
def test_a_script_is_printed_for_each_shell(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for shell in ("bash", "zsh", "tcsh"):
        assert MAINS[program](["completion", shell]) == 0
        assert program in capsys.readouterr().out
