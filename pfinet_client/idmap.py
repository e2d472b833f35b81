"""Which users and groups exist inside a stack's user namespace.

The caller is always root (0) there.  Where the administrator granted
subordinate ids (subuid(5), subgid(5)) they follow as 1, 2, 3..., written by
the set-user-ID programs newuidmap and newgidmap; else the caller's one uid and
gid are all there is, which any process may write for itself.
"""

import os
import pwd
import shutil
from pathlib import Path

from attrs import frozen

from pfinet_client.errors import StackError


@frozen
class Extent:
    """*count* ids, from *inside* on in the namespace and from *outside* on here."""

    inside: int
    outside: int
    count: int

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.count}"


def parse_grants(text: str, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return (first, count) of each line of a subuid(5) file for one of *names*.

    *names* are the user's name and uid as text.  Malformed lines are skipped,
    as newuidmap skips them.
    """
    grants = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            first, count = int(fields[1]), int(fields[2])
            if count:
                grants.append((first, count))
    return tuple(grants)


def extents(own: int, grants: tuple[tuple[int, int], ...]) -> tuple[Extent, ...]:
    """Map *own* to 0, and the ids of *grants* to 1 and on, in their order."""
    result = [Extent(0, own, 1)]
    inside = 1
    for first, count in grants:
        result.append(Extent(inside, first, count))
        inside += count
    return tuple(result)


def write_maps(pid: int) -> tuple[str, ...]:
    """Give the fresh user namespace of the child *pid* its users and groups.

    Returns what the user should know: why the granted ids could not be used.

    Raises:
        StackError: if the kernel refuses even the one-id map.
    """
    users = _grants("/etc/subuid")
    groups = _grants("/etc/subgid")
    programs = shutil.which("newuidmap"), shutil.which("newgidmap")
    if users and groups and programs[0] and programs[1]:
        failure = _run_setuid(programs[0], pid, extents(os.getuid(), users)) or _run_setuid(
            programs[1], pid, extents(os.getgid(), groups)
        )
        if failure is None:
            return ()
        notes: tuple[str, ...] = (f"{failure}; only your own uid exists in this stack",)
    else:
        notes = ()
    _write_single(pid)
    return notes


def _grants(path: str) -> tuple[tuple[int, int], ...]:
    uid = os.getuid()
    try:
        names: tuple[str, ...] = (pwd.getpwuid(uid).pw_name, str(uid))
    except KeyError:
        names = (str(uid),)
    try:
        return parse_grants(Path(path).read_text(encoding="utf-8", errors="replace"), names)
    except OSError:
        return ()


def _run_setuid(program: str, pid: int, ids: tuple[Extent, ...]) -> str | None:
    """Run newuidmap or newgidmap and return why it failed, if it did."""
    import subprocess  # only here, for it takes longer to import than all else in this file

    words = [word for extent in ids for word in str(extent).split()]
    done = subprocess.run(
        [program, str(pid), *words], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"{program} failed with status {done.returncode}"


def stay_oneself(uid: int, gid: int) -> None:
    """Map *uid* and *gid*, the caller's before it made its user namespace, to themselves.

    Raises:
        StackError: if the kernel refuses.
    """
    _write(str(os.getpid()), Extent(uid, uid, 1), Extent(gid, gid, 1))


def _write_single(pid: int) -> None:
    """Map the caller's uid and gid, as far as a program has not written a map already."""
    _write(str(pid), Extent(0, os.getuid(), 1), Extent(0, os.getgid(), 1))


def _write(pid: str, user: Extent, group: Extent) -> None:
    # An unprivileged gid_map needs setgroups denied first (user_namespaces(7)).
    for name, text in (("uid_map", str(user)), ("setgroups", "deny"), ("gid_map", str(group))):
        path = Path(f"/proc/{pid}/{name}")
        if name == "uid_map" and path.read_text():
            continue
        try:
            path.write_text(text)
        except OSError as error:
            raise StackError(f"cannot write {path}: {error.strerror}") from error
