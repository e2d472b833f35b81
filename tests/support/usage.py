"""What the daemon's processes use: memory, descriptors, processor time."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Usage:
    """Of one process: what it alone has of memory and its part of what is shared, and so on."""

    pss_mib: float
    fds: int
    cpu_s: float


def usage_of(pid: int) -> Usage:
    """Return what process *pid* uses now, and has used of the processor since it began."""
    proc = Path(f"/proc/{pid}")
    pss = re.findall(r"^Pss: +(\d+) kB", (proc / "smaps_rollup").read_text(), re.MULTILINE)
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return Usage(
        int(pss[0]) / 1024,
        len(list((proc / "fd").iterdir())),
        (int(fields[11]) + int(fields[12])) / _TICKS_PER_S,  # proc(5): utime, stime
    )


def usages(processes: Mapping[str, int]) -> dict[str, Usage]:
    """Return what each of *processes*, by role, uses."""
    return {role: usage_of(pid) for role, pid in processes.items()}
