"""The QEMU of this machine, and which one it is."""

import glob
import os
import platform
import shutil
import subprocess

from pfinet_client.errors import StackError
from pfinet_client.qemu import QemuVersion

#: It prints a line and ends.
_TIMEOUT_S = 10


def find_qemu() -> str:
    """Return the path of the first qemu-system-* in PATH, that of this machine before others.

    Raises:
        StackError: if there is none.
    """
    own = shutil.which(f"qemu-system-{platform.machine()}")
    if own is not None:
        return own
    for folder in os.get_exec_path():
        for path in sorted(glob.glob("qemu-system-*", root_dir=folder)):
            found = shutil.which(path, path=folder)
            if found is not None:
                return found
    raise StackError(
        "there is no qemu-system-* in PATH: name one by --qemu, or its version by --qemu-version"
    )


def ask_version(program: str) -> QemuVersion:
    """Return the version of the QEMU *program*, by running it.

    Raises:
        StackError: if it cannot be run, or is no QEMU.
    """
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except OSError as error:
        raise StackError(f"{program}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise StackError(f"{program} --version takes more than {_TIMEOUT_S} s") from None
    said = done.stdout.decode(errors="replace")
    version = QemuVersion.of_report(said)
    if version is None:
        first = said.partition("\n")[0]
        raise StackError(f"{program} --version says {first!r}, not which QEMU it is")
    return version
