"""The namespaces of a stack, seen from inside.

A stack is the kernel's own TCP/IP in a fresh network namespace, owned by a
fresh user namespace, in which the caller is root; nothing here needs a
privilege outside.  A mount namespace comes with it, for resolv.conf, the masks
of `resolv`, and a /sys that shows the stack's interfaces.

The order is the kernel's: the user namespace gives the privileges for the
rest; the tap belongs to the network namespace in which /dev/net/tun was
opened; what must hold before the first packet (no router solicitation, no
temporary or stable-privacy address, which the daemon would drop) is set before
the interface goes up.
"""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pfinet_client import rtnetlink, syscalls, tap
from pfinet_client.configuration import INTERFACE, Configuration, start
from pfinet_client.errors import StackError
from pfinet_client.resolv import cover_names
from pfinet_client.settings import Settings
from pfinet_proto.attach import Offload

NAMESPACES = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET
#: In the order in which they must be entered, with the names of /proc/PID/ns.
KINDS = (
    ("user", syscalls.CLONE_NEWUSER),
    ("mnt", syscalls.CLONE_NEWNS),
    ("net", syscalls.CLONE_NEWNET),
)


def leave_host(namespaces: int = NAMESPACES) -> None:
    """Put the calling process, which must have one thread, into fresh *namespaces*.

    Until another process has written its id maps it is nobody there.

    Raises:
        StackError: if the system forbids user namespaces.
    """
    try:
        syscalls.unshare(namespaces)
    except OSError as error:
        raise StackError(why_forbidden(error.errno or 0, _read_sysctl)) from error


def make_mounts(resolv_conf: str) -> int | None:
    """Make the stack's own view of names, as `make_names`, and of /sys."""
    descriptor = make_names(resolv_conf)
    _mount_sysfs()
    return descriptor


def make_names(resolv_conf: str) -> int | None:
    """Make the caller's own view of names, in its own mount namespace.

    Returns a descriptor of its resolv.conf, whose text is *resolv_conf*, or
    None where the host has none that could be covered.

    Raises:
        StackError: if mounting is forbidden here.
    """
    try:
        # Mounts made on the host later still appear here; ours never there.
        syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        # /sys as the staging place: there on every system.
        return cover_names(resolv_conf, "/sys")
    except OSError as error:
        raise StackError(
            f"cannot mount on {error.filename}: {error.strerror}{_restriction(_read_sysctl)}"
        ) from error


def make_interface(
    configuration: Configuration, offload: Offload, resolv_conf: int | None
) -> tuple[int, Settings]:
    """Make, configure and start the interface; return the tap's descriptor and its settings.

    When this returns, the addresses are usable: duplicate address detection is
    off, for the daemon lets no other vif use them, and a foreign host on the
    wire that does shows as an address conflict, but cannot make the stack give
    way.  The announcement that detection would have been is sent instead
    (arp_notify, ndisc_notify), so that neighbours forget an earlier holder.

    Raises:
        StackError: if there is no tun device, or the kernel refuses a setting.
    """
    descriptor = tap.open_tap(INTERFACE, offload)
    settings = Settings.open_here(resolv_conf)
    try:
        with rtnetlink.RouteSocket() as route:
            route.do(rtnetlink.link_change(socket.if_nametoindex("lo"), up=True))
        for action in start(configuration):
            settings.apply(action)
    except OSError as error:
        os.close(descriptor)
        settings.close()
        what = error.filename or INTERFACE
        raise StackError(f"cannot configure {what}: {error.strerror}") from error
    return descriptor, settings


def soften_one_user() -> None:
    """Where only one uid exists, let programs that make sure to be root go on.

    They call setgroups(2), which the kernel denies there; `tcpdump -Z root` is
    one.  Without support for system call filters they fail, as documented.
    """
    if Path("/proc/self/setgroups").read_text().strip() == "deny":
        with suppress(OSError):
            syscalls.pretend_setgroups()


def open_namespaces() -> tuple[int, ...]:
    """Return descriptors of the caller's own namespaces, in the order of KINDS."""
    return tuple(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind, _ in KINDS)


def why_forbidden(code: int, read_sysctl: Callable[[str], str | None]) -> str:
    """Say why unshare(2) failed with errno *code*, and who can change it.

    *read_sysctl* returns the value of a path under /proc/sys, None if there is none.
    """
    who = "the administrator"
    if code == errno.ENOSPC:
        for name in ("user", "mnt", "net"):
            limit = read_sysctl(f"user/max_{name}_namespaces")
            if limit == "0":
                return f"user namespaces are forbidden: {who} set user.max_{name}_namespaces to 0"
        return (
            "there are too many namespaces: one of user.max_user_namespaces, "
            "user.max_mnt_namespaces and user.max_net_namespaces is reached"
        )
    if code == errno.EPERM:
        if read_sysctl("kernel/unprivileged_userns_clone") == "0":
            return (
                "user namespaces are forbidden to users: "
                f"{who} allows them by kernel.unprivileged_userns_clone=1 in /etc/sysctl.d"
            )
        return "user namespaces are forbidden here" + (
            _restriction(read_sysctl) or ": by a container's seccomp filter, or in a chroot"
        )
    if code in (errno.EINVAL, errno.ENOSYS):
        return "this kernel was built without user, mount or network namespaces"
    return f"cannot make namespaces: {os.strerror(code)}"


def _restriction(read_sysctl: Callable[[str], str | None]) -> str:
    """Return the clause that names Ubuntu's AppArmor restriction, if it is on.

    It lets unshare(2) pass and takes the privileges away, so that a later step fails.
    """
    if read_sysctl("kernel/apparmor_restrict_unprivileged_userns") != "1":
        return ""
    return (
        ": AppArmor restricts user namespaces; the administrator allows them to pfinet by a "
        "profile with `userns,`, or to all by kernel.apparmor_restrict_unprivileged_userns=0"
    )


def _read_sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _mount_sysfs() -> None:
    """Mount the sysfs of the new network namespace, if the kernel permits, cgroups included.

    It does not where the sysfs that is there is partly covered, as in containers
    (mount_too_revealing in fs/namespace.c); then /sys/class/net shows the host's.
    """
    try:
        groups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        groups = -1
    restrictions = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    with suppress(OSError):
        syscalls.mount("sysfs", "/sys", "sysfs", restrictions)
        if groups >= 0:
            bind = syscalls.MS_BIND | syscalls.MS_REC
            syscalls.mount(f"/proc/self/fd/{groups}", "/sys/fs/cgroup", None, bind)
    if groups >= 0:
        os.close(groups)
