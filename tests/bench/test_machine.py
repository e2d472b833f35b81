"""Which machine the numbers are of, from what the kernel says."""

import pytest

from bench.machine import describe, field, waited_s

CPUINFO = """\
processor\t: 0
model name\t: Some CPU: fast
processor\t: 1
model name\t: Some CPU: fast
"""
MEMINFO = "MemTotal:       24684000 kB\nMemFree:        100 kB\n"


def test_a_machine_is_its_kernel_cpus_model_and_memory() -> None:
    assert describe(CPUINFO, MEMINFO, "6.1.0", 2) == {
        "kernel": "6.1.0",
        "cpus": 2,
        "model": "Some CPU: fast",
        "memory_mib": 24105,
    }


def test_what_the_kernel_does_not_say_is_unknown() -> None:
    """Not every architecture has a model name."""
    assert field("processor: 0\n", "model name") == "unknown"
    assert describe("", "", "6.1.0", 2)["memory_mib"] is None


STAT = """\
cpu  100 0 50 700 20 0 5 30 0 0
cpu0 50 0 25 350 10 0 2 15 0 0
cpu1 50 0 25 350 10 0 3 15 0 0
intr 12345
"""


def test_processors_wait_when_they_are_idle_wait_for_a_disk_or_are_taken_away() -> None:
    assert waited_s(STAT, 100) == 7.5


def test_without_a_line_of_all_processors_nothing_is_made_up() -> None:
    with pytest.raises(LookupError, match="no line of all processors"):
        waited_s("intr 1\n", 100)
