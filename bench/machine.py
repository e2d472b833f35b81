"""Which machine the numbers are of, and how busy it is."""

import os
import platform
import time
from pathlib import Path
from typing import Any


def field(text: str, name: str) -> str:
    """Return the first value of *name* in one of /proc's lists of fields."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def describe(cpuinfo: str, meminfo: str, kernel: str, cpus: int) -> dict[str, Any]:
    """Return the machine as the results file has it."""
    memory_kib = field(meminfo, "MemTotal").split()[0]
    return {
        "kernel": kernel,
        "cpus": cpus,
        "model": field(cpuinfo, "model name"),
        "memory_mib": int(memory_kib) // 1024 if memory_kib.isdigit() else None,
    }


def this_machine() -> dict[str, Any]:
    """Return the machine that we run on."""
    return describe(
        Path("/proc/cpuinfo").read_text(),
        Path("/proc/meminfo").read_text(),
        platform.release(),
        len(os.sched_getaffinity(0)),
    )


def waited_s(stat: str, ticks_per_s: int) -> float:
    """Return how long all processors together had nothing to do, or were not ours, since boot.

    From /proc/stat (proc(5)): idle, waiting for a disk, and taken by a hypervisor.
    """
    for line in stat.splitlines():
        name, *ticks = line.split()
        if name == "cpu":
            return (int(ticks[3]) + int(ticks[4]) + int(ticks[7])) / ticks_per_s
    raise LookupError("/proc/stat has no line of all processors")


def busy_s() -> float:
    """Return the processor time that the machine has spent; only differences mean something.

    It is what is left beside waiting, which the kernel measures; what it says of
    programs and interrupts are counts of ticks.
    """
    stat = Path("/proc/stat").read_text()
    cpus = sum(line.startswith("cpu") for line in stat.splitlines()) - 1
    return cpus * time.monotonic() - waited_s(stat, os.sysconf("SC_CLK_TCK"))
