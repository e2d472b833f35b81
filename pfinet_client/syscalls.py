"""System calls of Linux that the standard library of Python 3.11 lacks.

Each raises OSError with the errno of the call.
"""

import os

from pfinet_client._pump import ffi, lib

CLONE_NEWNS = 0x00020000  # linux/sched.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 2  # linux/mount.h
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19


def unshare(flags: int) -> None:
    """Leave the namespaces of *flags* for fresh ones, as unshare(2)."""
    _check(lib.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that *fd* is, which must be of *kind* (a CLONE_NEW* flag)."""
    _check(lib.setns(fd, kind))


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """Mount as mount(2) does; *kind* is None for a bind or a change of propagation."""
    _check(
        lib.mount(
            os.fsencode(source),
            os.fsencode(target),
            ffi.NULL if kind is None else kind.encode(),
            flags,
            data.encode() if data else ffi.NULL,
        ),
        target,
    )


def unmount(target: str) -> None:
    """Unmount what is on top at *target*."""
    _check(lib.umount2(os.fsencode(target), 0), target)


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send *signal* to this process when the thread that forked it ends.

    Kept over execve of an ordinary program, not over fork (PR_SET_PDEATHSIG).
    """
    _check(lib.pfinet_set_parent_death_signal(signal))


def pretend_setgroups() -> None:
    """Have setgroups(2) do nothing, successfully, in this process and all its descendants."""
    _check(lib.pfinet_pretend_setgroups())


def _check(result: int, path: str | None = None) -> None:
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno), path)
