"""What the system gives too little of, said by name and number: descriptors, memory, room.

A start that would run out in its middle is refused at its beginning, where what
is wanted can be said; what runs out later says what it was for, and the limit.

Each vif has listening sockets in broker and in control, and the broker keeps three
descriptors of a client that is attached by a ring; no process has more.
"""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from typing import Final

from multiplexer.daemon.rundir import KINDS
from multiplexer.model import Config, UplinkKind

#: Of a process without a vif or an interface, with room for those that are open for a moment;
#: the broker has about twenty.
OWN_FILES: Final = 64
FILES_PER_VIF: Final = len(KINDS)
FILES_PER_CLIENT: Final = 3
#: A NIC, or the host's tap in a network.
FILES_PER_INTERFACE: Final = 8

#: Address space that control takes with its threads and the engine with its tables, before
#: there is a vif: with half of it neither starts.
ADDRESS_SPACE_BYTES: Final = 128 * 2**20

_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_MEMORY: Final = frozenset({errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
_SHORTAGES: Final = _FILES | _MEMORY | {errno.ENOSPC, errno.EDQUOT}


class Shortage(Exception):
    """The system does not give what it takes; the text says of what, and how much."""


def raise_limit() -> None:
    """Let this process, and those it starts, have as many descriptors as they may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def wanted_files(config: Config, vifs: int, *, attached: bool = False) -> int:
    """Return how many descriptors a process may need, perhaps with each vif *attached*."""
    each = FILES_PER_VIF + attached * FILES_PER_CLIENT
    nics = sum(uplink.kind is UplinkKind.NIC for uplink in config.uplinks)
    taps = sum(network.host for network in config.networks)
    return OWN_FILES + vifs * each + (nics + taps) * FILES_PER_INTERFACE


def check_files(config: Config, vifs: int) -> str | None:
    """Return what is to be warned of: that not all of so many *vifs* can be attached at once.

    Raises:
        Shortage: if there are too few descriptors even to offer them.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < (least := wanted_files(config, vifs)):
        raise Shortage(
            f"the sockets of {vifs} vifs: RLIMIT_NOFILE is {limit} open files,"
            f" wanted at least {least}"
        )
    if limit < (most := wanted_files(config, vifs, attached=True)):
        return (
            f"not all of {vifs} vifs can be attached at once: RLIMIT_NOFILE is {limit} open files,"
            f" wanted {most}"
        )
    return None


def check_memory() -> None:
    """Raise `Shortage` if a process may not have the memory that each of ours begins with."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE_BYTES:
        raise Shortage(
            f"memory: RLIMIT_AS is {limit} bytes, wanted at least {ADDRESS_SPACE_BYTES}"
        )


def explained(error: Exception) -> str:
    """Return what *error* says, and the limit where it is that of a shortage."""
    if not isinstance(error, OSError):
        return str(error)
    why = error.strerror or str(error)
    if error.filename is not None:
        why = f"{os.fsdecode(error.filename)}: {why}"
    limit = _limit(error)
    return why if limit is None else f"{why} ({limit})"


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Have a shortage in the context say that it is of *what*; other errors pass.

    Raises:
        Shortage: if there is one.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _SHORTAGES:
            raise
        raise Shortage(f"{what}: {explained(error)}") from error


def _limit(error: OSError) -> str | None:
    if error.errno == errno.ENFILE:
        return "of the whole system, see fs.file-max"
    if error.errno in _FILES:
        return _said("RLIMIT_NOFILE", resource.RLIMIT_NOFILE)
    if error.errno in _MEMORY:
        return _said("RLIMIT_AS", resource.RLIMIT_AS)
    return None


def _said(name: str, which: int) -> str:
    limit, _ = resource.getrlimit(which)
    return f"{name} is {'unlimited' if limit == resource.RLIM_INFINITY else limit}"
