"""Names inside a stack: its own resolv.conf, and nobody who answers by the host's network.

glibc reads /etc/resolv.conf, but before that it asks caches of the host over
Unix sockets, which network namespaces do not separate: nscd, systemd-resolved
(nss-resolve speaks varlink to it) and avahi (nss-mdns).  Their directories are
covered by empty ones; libraries then fall back to resolv.conf.  The D-Bus
socket stays: no lookup goes through it, only an explicit `resolvectl`.

Directories are covered rather than sockets, because a daemon that restarts
unlinks its socket, and unlinking a mount point takes the mount away.  For the
same reason a resolv.conf that is a link into /run is replaced together with
its directory, where daemons rewrite it by rename.
"""

import os
from pathlib import Path

from attrs import frozen

from pfinet_client import syscalls

RESOLV_CONF = "/etc/resolv.conf"
MASKED_DIRS = ("/run/nscd", "/var/run/nscd", "/run/systemd/resolve", "/run/avahi-daemon")
# Both names that /etc/resolv.conf may point to (systemd-resolved.service(8)).
_RESOLVED_NAMES = ("resolv.conf", "stub-resolv.conf")


@frozen
class Plan:
    """What to cover: *directories* by ones with just *files* in them, *file* by one file."""

    directories: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    """(directory, name) of each resolv.conf in a covered directory."""
    file: str | None


def plan(target: str, existing_dirs: frozenset[str], target_exists: bool) -> Plan:
    """Decide what to cover on a host whose resolv.conf resolves to *target*.

    *existing_dirs* are those of MASKED_DIRS, and of the parent of *target*,
    that are there, by their real paths.
    """
    directories = set(existing_dirs)
    parent, name = os.path.split(target)
    # Only directories of daemons under /run are covered whole: /run itself and
    # /etc hold other people's files.
    if parent in existing_dirs and parent.startswith("/run/"):
        names = set(_RESOLVED_NAMES if parent == "/run/systemd/resolve" else ()) | {name}
        files = tuple((parent, each) for each in sorted(names))
        return Plan(tuple(sorted(directories)), files, None)
    directories.discard(parent)
    return Plan(tuple(sorted(directories)), (), target if target_exists else None)


def host_plan() -> Plan:
    """Return the plan for this host as it is now."""
    target = os.path.realpath(RESOLV_CONF)
    candidates = {os.path.realpath(each) for each in (*MASKED_DIRS, os.path.dirname(target))}
    existing = frozenset(each for each in candidates if os.path.isdir(each))
    return plan(target, existing, os.path.exists(target))


def cover_names(text: str, staging: str) -> int | None:
    """Give the caller's mount namespace *text* as resolv.conf and mask the host's caches.

    *staging* is a directory that may be mounted over meanwhile; when this
    returns it is as before.  Returns a descriptor of the one file that
    resolv.conf is by all its names, to write it anew; None if it is not covered,
    where the host has none that could be.
    """
    what = host_plan()
    syscalls.mount(
        "pfinet", staging, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755,size=1m"
    )
    original = Path(staging, "resolv.conf")
    original.write_text(text, encoding="utf-8")
    original.chmod(0o644)  # whatever the caller's umask
    for number, directory in enumerate(what.directories):
        source = Path(staging, str(number))
        source.mkdir(0o755)
        for _, name in (each for each in what.files if each[0] == directory):
            (source / name).hardlink_to(original)
        syscalls.mount(str(source), directory, None, syscalls.MS_BIND)
    if what.file is not None:
        syscalls.mount(str(original), what.file, None, syscalls.MS_BIND)
    # The binds hold the file system; the staging mount itself has done its work.
    syscalls.unmount(staging)
    names = [what.file] if what.file else [os.path.join(*each) for each in what.files]
    return os.open(names[0], os.O_RDWR | os.O_CLOEXEC) if names else None


def rewrite_names(descriptor: int, text: str) -> None:
    """Let *text* be what the file of `cover_names` says from now on."""
    # Programs that read it meanwhile see whole lines, empty ones at the end.
    data = text.encode()
    size = os.fstat(descriptor).st_size
    os.pwrite(descriptor, data.ljust(size, b"\n"), 0)
    os.ftruncate(descriptor, len(data))
