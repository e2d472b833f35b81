"""Wait for what only shows when one looks."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    """Wait until *holds*, which asks another process and cannot be told by it.

    Raises:
        AssertionError: if it does not within *timeout_s*.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
