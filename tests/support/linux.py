"""The few system calls of namespaces and mounts that Python 3.11 does not offer."""

import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x4_0000

MNT_DETACH: Final = 0x2

PR_SET_PDEATHSIG: Final = 1

#: The same on x86-64 and arm64.
SYS_PIDFD_GETFD: Final = 438

PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
SYS_SENDTO: Final = {"x86_64": 44, "aarch64": 206}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the caller (for a PID namespace: its next children) to new namespaces."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread to the namespace that *fd* is open on."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount *source* on *target*, as mount(2)."""
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _check(result, f"mount {source} on {target}")


def unmount(target: Path) -> None:
    """Take off what is mounted on *target*, busy or not."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def take_fd(pid: int, fd: int) -> int:
    """Return a descriptor of ours for what *fd* is in process *pid* (pidfd_getfd(2))."""
    pidfd = os.pidfd_open(pid)
    try:
        taken = _libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
        _check(min(taken, 0), f"pidfd_getfd {pid} {fd}")
    finally:
        os.close(pidfd)
    return int(taken)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send *signal_number* to this process when its parent dies."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl")


def fail_to_send(fd: int, error: int) -> None:
    """Let every sendto(2) on *fd* fail with *error* in this thread, for as long as it lives."""
    allow, fail = 0x7FFF_0000, 0x0005_0000 | error
    load, is_equal, answer = 0x20, 0x15, 0x06  # BPF_LD+BPF_ABS, BPF_JMP+BPF_JEQ, BPF_RET
    filter_ = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 0),  # seccomp_data.nr
            (is_equal, 0, 3, SYS_SENDTO[platform.machine()]),
            (load, 0, 0, 16),  # the lower half of seccomp_data.args[0]
            (is_equal, 0, 1, fd),
            (answer, 0, 0, fail),
            (answer, 0, 0, allow),
        )
    )
    code = ctypes.create_string_buffer(filter_, len(filter_))
    program = struct.pack("@HP", len(filter_) // 8, ctypes.addressof(code))
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0), "seccomp")
