"""Tell the same user's processes which stack a process runs, also while the daemon is away.

Who runs a stack holds an empty memory file that is named after the vif and the
daemon.  The kernel shows the name in /proc/PID/fd to whoever may trace the
process, which is the same user, and the file goes with the process, however
it ends: nothing is left behind that could be stale.

A program that is set-uid keeps the files of who started it, so a process is
one's own only if it was never anybody else's.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pfinet_proto.values import VifName

# linux/memfd.h; 6.3 and later may insist on it (sysctl vm.memfd_noexec).
_MFD_NOEXEC_SEAL = 0x8

#: As the kernel shows what _name() says.
_LIGHT = re.compile(r"/memfd:pfinet ([a-z0-9-]+) /.* \(deleted\)")


def light(vif: VifName, control: str) -> int:
    """Return a descriptor that tells, while it is open, that its process runs a stack on *vif*.

    *control* is the path of the control socket of the vif's daemon.
    """
    name = _name(vif, control)
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


def find(vif: VifName, control: str) -> tuple[int, ...]:
    """Return the ids of the caller's own processes that run a stack on *vif*."""
    wanted = f"/memfd:{_name(vif, control)} (deleted)"
    return tuple(pid for pid in _own_processes() if wanted in _open_files(pid))


def vif_of(pid: int) -> VifName | None:
    """Return the vif on which *pid*, a process of the caller's own, runs a stack, if it does."""
    for link in _open_files(pid):
        match = _LIGHT.fullmatch(link)
        if match:
            return VifName.parse(match[1])
    return None


def _name(vif: VifName, control: str) -> str:
    return f"pfinet {vif} {os.path.abspath(control)}"


def _own_processes() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        # One that ends meanwhile has no file, or one that cannot be read (ESRCH).
        with suppress(OSError):
            if entry.name.isdigit() and _uids(entry) == {os.getuid()}:
                yield int(entry.name)


def _uids(process: Path) -> set[int]:
    """Return the real, effective, saved and file system uid of *process*."""
    (line,) = re.findall(r"^Uid:(.*)$", (process / "status").read_text(), re.MULTILINE)
    return {int(uid) for uid in line.split()}


def _open_files(pid: int) -> Iterator[str]:
    # Processes end meanwhile, and some of one's own may not be looked into (prctl(2)).
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                yield os.readlink(link)
