"""Which machine the numbers are of."""

import os
import platform
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
