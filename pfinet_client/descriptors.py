"""The descriptors of a process that goes on, after fork(), as another program without exec()."""

import os
import resource
from contextlib import suppress

_MAX_DESCRIPTOR = 2**31 - 1


def close_all_but(*kept: int) -> None:
    """Close all but the standard ones and *kept*: what the parent has open would stay open here.

    Objects of the parent's that hold one must not be used or deleted any more.
    """
    before = 2
    for descriptor in (*sorted(kept), _MAX_DESCRIPTOR):
        os.closerange(before + 1, descriptor)
        before = descriptor


def allow_many() -> None:
    """Raise the limit of open descriptors as far as this process may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
