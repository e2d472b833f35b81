"""A small disk that a test may fill to its last byte."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support import linux

PAGE_BYTES: Final = 4096


@contextmanager
def small_disk(path: Path, size_bytes: int, mode: int = 0o755) -> Iterator[Path]:
    """Have a disk of *size_bytes* at *path*, a directory that is made if it is not there."""
    path.mkdir(exist_ok=True)
    linux.mount("none", path, "tmpfs", options=f"size={size_bytes},mode={mode:o}")
    try:
        yield path
    finally:
        linux.unmount(path)


def free_bytes(disk: Path) -> int:
    """Return how much room there is on *disk*."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def fill(disk: Path) -> None:
    """Leave no room on *disk*."""
    with open(disk / "filling", "ab", buffering=0) as file:
        while left := free_bytes(disk):
            file.write(bytes(min(left, PAGE_BYTES)))
