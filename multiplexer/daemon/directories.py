"""Directories that root relies on: made with care, opened only if nobody else can touch them."""

import os
import stat
from typing import Final

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeDirectory(Exception):
    """A directory cannot be used; the text says which part of its path, and why."""


def make_directory(path: str, mode: int) -> bool:
    """Make *path* with *mode* whatever the umask is; False if it is there."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    os.chmod(path, mode)
    return True


def open_safely(path: str, *, sticky: bool = False) -> int:
    """Open a directory, each part of whose path only root can replace.

    With *sticky*, others may add to the directory itself, but replace nothing in it.

    Raises:
        UnsafeDirectory: if somebody else could.
    """
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        raise UnsafeDirectory(f"{path} is not a plain absolute path")
    fd = os.open("/", OPEN_DIRECTORY)
    done = ""
    for part in path.split("/")[1:]:
        done += f"/{part}"
        try:
            below = os.open(part, OPEN_DIRECTORY, dir_fd=fd)
        except NotADirectoryError:
            raise UnsafeDirectory(f"{done} is not a directory, or a symbolic link") from None
        finally:
            os.close(fd)
        fd = below
        status = os.fstat(fd)
        # What root has made in a sticky directory nobody else can replace.
        shared = status.st_mode & stat.S_ISVTX and (sticky or done != path)
        if status.st_uid != 0 or (status.st_mode & 0o022 and not shared):
            os.close(fd)
            raise UnsafeDirectory(
                f"{done} belongs to uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}: "
                "others than root could replace what is in it"
            )
    return fd


def make_private(path: str, uid: int, gid: int) -> bool:
    """Make *path* a directory of that owner alone, mode 0700; False if it was there.

    Raises:
        UnsafeDirectory: if it is there and somebody else's, or somebody else
            could replace it.
    """
    parent, name = os.path.split(path)
    made = make_directory(path, 0o700)
    directory = open_safely(parent, sticky=True)
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            raise UnsafeDirectory(f"{path} is not a directory, or a symbolic link")
        if status.st_uid not in (0, uid):
            raise UnsafeDirectory(
                f"{path} belongs to uid {status.st_uid}, not to root or uid {uid}"
            )
        is_right = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (
            uid,
            gid,
            0o700,
        )
        if not is_right:
            _give(name, directory, uid, gid)
    finally:
        os.close(directory)
    return made


def _give(name: str, directory: int, uid: int, gid: int) -> None:
    # Without the capabilities to override modes, only an owner may open and change it.
    os.chown(name, 0, 0, dir_fd=directory, follow_symlinks=False)
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    try:
        os.fchmod(fd, 0o700)
        os.fchown(fd, uid, gid)
    finally:
        os.close(fd)
