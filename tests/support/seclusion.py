"""Private namespaces for a whole program, so that it leaves nothing behind.

The caller stays outside and only waits.  Its child is process 1 of a new PID
namespace: when it ends, for whatever reason, the kernel kills everything that
was started inside, and with the last process go its mounts and interfaces.
The child dies with the caller, SIGKILL included.  So nothing that happens
inside needs to be undone.

        caller        waits, passes on SIGINT, SIGTERM and SIGHUP
          +- init     process 1: reaps orphans, passes signals on
               +- the program, which seclude() returns None to

Inside, /run is empty, /dev/net/tun is a node of our own that everybody may
open (the machine's may be root's alone), and the only interface is lo.
"""

import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from . import linux

PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WAITED_FOR: Final = (*PASSED_ON, signal.SIGCHLD)

# si_code of a signal that the terminal sent: the program, which is in the
# same process group, has it already.
SI_KERNEL: Final = 0x80

TUN_NODE: Final = Path("/dev/net/tun")
TUN_DEVICE: Final = os.makedev(10, 200)


def seclude() -> int | None:
    """Go on in namespaces of our own: mount, PID, network, IPC and UTS.

    Like fork(): returns None in the secluded program, and in the caller, when
    that has ended, its exit status (128 + n if signal n ended it).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    alive_r, alive_w = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    linux.unshare(linux.CLONE_NEWPID)
    init = os.fork()
    if init == 0:
        os.close(alive_w)
        linux.die_with_parent(signal.SIGKILL)
        _exit_if_orphaned(alive_r)
        linux.unshare(
            linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
        )
        _furnish()
        program = os.fork()
        if program == 0:
            os.close(alive_r)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return None
        os._exit(_wait_for(program))
    os.close(alive_r)
    status = _wait_for(init)
    os.close(alive_w)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return status


def _exit_if_orphaned(alive: int) -> None:
    """Exit if the parent died before die_with_parent() took effect."""
    os.set_blocking(alive, False)
    with suppress(BlockingIOError):
        os.read(alive, 1)
        os._exit(1)


def _wait_for(child: int) -> int:
    """Reap every child, pass signals on to *child*, and return its exit status."""
    while True:
        info = signal.sigwaitinfo(WAITED_FOR)
        if info.si_signo == signal.SIGCHLD:
            for pid, status in _reap():
                if pid == child:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
        elif info.si_code != SI_KERNEL:
            os.kill(child, info.si_signo)


def _reap() -> list[tuple[int, int]]:
    ended = []
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            ended.append(found)
    return ended


def _furnish() -> None:
    """Mount what the secluded program needs, for every user to reach."""
    os.umask(0o022)
    linux.mount("none", Path("/"), flags=linux.MS_REC | linux.MS_PRIVATE)
    harmless = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", Path("/proc"), "proc", harmless)
    linux.mount("tmpfs", Path("/run"), "tmpfs", linux.MS_NOSUID, "mode=0755")
    _furnish_tun()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _furnish_tun() -> None:
    node = Path("/run/tun")
    os.mknod(node, stat.S_IFCHR | 0o666, TUN_DEVICE)
    node.chmod(0o666)
    if not TUN_NODE.exists():
        _furnish_dev()
    linux.mount(str(node), TUN_NODE, flags=linux.MS_BIND)


def _furnish_dev() -> None:
    """Replace /dev by links to its own entries, and room for the missing node."""
    dev, behind = Path("/dev"), Path("/run/dev")
    behind.mkdir()
    linux.mount(str(dev), behind, flags=linux.MS_BIND | linux.MS_REC)
    names = [entry.name for entry in dev.iterdir() if entry != TUN_NODE.parent]
    linux.mount("tmpfs", dev, "tmpfs", linux.MS_NOSUID, "mode=0755")
    for name in names:
        (dev / name).symlink_to(behind / name)
    TUN_NODE.parent.mkdir()
    TUN_NODE.touch()
