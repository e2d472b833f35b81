"""Enter a stack that another process of the same user runs.

`pfinet run` holds descriptors of its stack's namespaces; the kernel shows them
as links in /proc/PID/fd to whoever may trace that process, which is the same
user, and lets only the user namespace's owner enter.  The daemon tells no more
than the process id.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pfinet_client import netns, syscalls
from pfinet_client.command import become
from pfinet_client.errors import StackError
from pfinet_proto.control import VifInfo

_LINK = re.compile(r"(user|mnt|net):\[(\d+)\]")


def enter_and_become(vif: VifInfo, command: Sequence[str]) -> int:
    """Enter the stack that runs on *vif* and become *command* there.

    Returns only if the command cannot be run: the status to exit with.

    Raises:
        StackError: if no stack runs on the vif, or the caller may not enter it.
    """
    namespaces = open_namespaces(vif)
    directory = _current_directory()
    try:
        for descriptor, (_, kind) in zip(namespaces, netns.KINDS, strict=True):
            syscalls.setns(descriptor, kind)
    except OSError as error:
        raise StackError(f"cannot enter the stack on vif {vif.name}: {error.strerror}") from error
    finally:
        for descriptor in namespaces:
            os.close(descriptor)
    netns.soften_one_user()
    # Entering a mount namespace leads to its root.
    with suppress(OSError):
        os.chdir(directory)
    return become(command, str(vif.name))


def open_namespaces(vif: VifInfo) -> tuple[int, ...]:
    """Return descriptors of the namespaces of the stack on *vif*, in the order of netns.KINDS.

    Raises:
        StackError: as `enter_and_become`.
    """
    holder = vif.attached
    if holder is None:
        raise StackError(f"no stack runs on vif {vif.name}")
    if holder.uid != os.getuid():
        raise StackError(
            f"the stack on vif {vif.name} belongs to uid {holder.uid}, you are uid {os.getuid()}"
        )
    try:
        found = dict(_namespace_links(Path(f"/proc/{holder.pid}/fd")))
    except OSError as error:
        raise StackError(
            f"cannot look into process {holder.pid}, which holds vif {vif.name}: {error.strerror}"
        ) from error
    if set(found) != {kind for kind, _ in netns.KINDS}:
        raise StackError(
            f"vif {vif.name} is held by process {holder.pid}, which is not a `pfinet run`"
        )
    return tuple(os.open(found[kind], os.O_RDONLY | os.O_CLOEXEC) for kind, _ in netns.KINDS)


def _namespace_links(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the kind and path of each namespace that is not the caller's own."""
    for link in directory.iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        match = _LINK.fullmatch(target)
        if match and target != os.readlink(f"/proc/self/ns/{match[1]}"):
            yield match[1], link


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
