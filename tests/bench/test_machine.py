"""Which machine the numbers are of, from what the kernel says."""

from bench.machine import describe, field

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
