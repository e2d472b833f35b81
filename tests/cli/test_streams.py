"""Standard streams that are closed, or take nothing."""

import subprocess
import sys

import pytest


def multiplexerctl(line: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of sh(1), in which "ctl" is multiplexerctl."""
    ctl = f"{sys.executable} -m multiplexer.cli"
    return subprocess.run(
        ["sh", "-c", line.replace("ctl", ctl)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_who_closed_a_stream_gets_no_traceback(closed: str) -> None:
    done = multiplexerctl(f"ctl completion bash {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_nothing_can_be_written_is_told() -> None:
    done = multiplexerctl("ctl completion bash >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "multiplexerctl: standard output: No space left on device\n"
