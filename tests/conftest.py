"""Every test runs in namespaces of its session's own, and leaves nothing behind."""

import os
import signal

import pytest

from tests.support.seclusion import seclude


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Go on in seclusion, where root is needed to make what the tests need."""
    if os.geteuid() != 0:
        raise pytest.UsageError("run the tests as root: they make namespaces and interfaces")
    # Who runs us in the background has these ignored, and tests type them at terminals.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    return seclude()
