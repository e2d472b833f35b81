"""Accounts that exist for a while, for whoever is in our mount namespace."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from . import linux

SUBUIDS: Final = 65536


@contextmanager
def accounts(users: Mapping[str, int], folder: Path) -> Iterator[None]:
    """Have an account for each of *users*, with subordinate uids of its own.

    Changed copies of the machine's files are kept in *folder*, and lie on the
    originals.
    """
    passwd, group, subids = "", "", ""
    for number, (name, uid) in enumerate(users.items()):
        passwd += f"{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n"
        group += f"{name}:x:{uid}:\n"
        subids += f"{name}:{1_000_000 + number * SUBUIDS}:{SUBUIDS}\n"
    with ExitStack() as until_end:
        for file, lines in (
            (Path("/etc/passwd"), passwd),
            (Path("/etc/group"), group),
            (Path("/etc/subuid"), subids),
            (Path("/etc/subgid"), subids),
        ):
            changed = folder / file.name
            changed.write_text(file.read_text() + lines)
            changed.chmod(0o644)
            linux.mount(str(changed), file, flags=linux.MS_BIND)
            until_end.callback(linux.unmount, file)
        yield
