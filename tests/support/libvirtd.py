"""A real libvirtd with nothing but its network filters, private to the session.

It sees an empty configuration and an empty run-time directory of its own, so
what it is asked leaves nothing behind, and a machine that has another libvirtd
does not notice.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from . import linux
from .lab import end
from .waiting import eventually

PROGRAM: Final = "/usr/sbin/libvirtd"
DRIVER: Final = "connection-driver/libvirt_driver_nwfilter.so"
CONFIGURATION: Final = Path("/etc/libvirt")

SETTINGS: Final = """\
unix_sock_dir = "{folder}"
auth_unix_rw = "none"
log_outputs = "3:stderr"
"""


class Refused(Exception):
    """libvirtd refused what it was asked; the text is what it said."""


@attrs.frozen
class Libvirtd:
    """A running libvirtd whose sockets, and what it says, are in *folder*."""

    folder: Path

    def virsh(self, *commands: str) -> str:
        """Return what virsh says to *commands*, given to one session one after the other.

        Raises:
            Refused: if the first that fails is refused.
        """
        uri = f"nwfilter+unix:///system?socket={self.folder / 'libvirt-sock'}"
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, "; ".join(commands)],
            check=False,
            capture_output=True,
            text=True,
        )
        # Commands after one that failed are done, and the exit status is the last one's.
        if errors := re.findall(r"^error: (.*)$", done.stderr, re.MULTILINE):
            raise Refused("; ".join(errors))
        return done.stdout

    def dump(self, document: str, uuid: str, option: str = "") -> str:
        """Return what dumpxml prints of a filter, which is gone again then.

        *option* may be --validate.

        Raises:
            Refused: if it cannot be defined.
        """
        path = self.folder / "filter.xml"
        path.write_text(document)
        said = self.virsh(
            f"nwfilter-define {option} {path}",
            f"nwfilter-dumpxml {uuid}",
            f"nwfilter-undefine {uuid}",
        )
        first, last = said.index("<filter "), said.rindex(">") + 1
        return said[first:last] + "\n"


@contextmanager
def running_libvirtd(folder: Path) -> Iterator[Libvirtd]:
    """Run libvirtd for a while; it keeps its sockets in *folder*."""
    (driver,) = Path("/usr/lib").glob(f"*/libvirt/{DRIVER}")
    drivers = folder / "drivers"
    drivers.mkdir()
    (drivers / driver.name).symlink_to(driver)
    linux.mount("tmpfs", CONFIGURATION, "tmpfs")
    settings = folder / "libvirtd.conf"
    settings.write_text(SETTINGS.format(folder=folder))
    made = Libvirtd(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "--config", str(settings), "--pid-file", str(folder / "pid")],
            stderr=log,
            text=True,
            env={**os.environ, "LIBVIRT_DRIVER_DIR": str(drivers)},
        )
    try:
        eventually((folder / "libvirt-sock").exists, "libvirtd has its socket")
        yield made
    finally:
        end(process)
        linux.unmount(CONFIGURATION)
