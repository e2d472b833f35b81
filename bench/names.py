"""Every name that a row may have: its work, its system, and its unit.

`README.md` explains each of them.
"""

from typing import Final

WORKS: Final = (
    "frames_60",
    "frames_1514",
    "tcp_1",
    "tcp_4",
    "cpu_per_gbit",
    "rtt_kernel",
    "rtt_kernel_one_core",
    "rtt_raw",
    "rtt_raw_one_core",
    "uplink_out",
    "uplink_in",
    "memcpy_1514",
    "wakeup_us",
    "scale_100",
    "scale_1000",
    "idle_1000",
    "fairness",
    "filtered_60",
    "trio_tcp",
    "trio_rtt",
    "hostile_neighbour",
    "survival",
)

PEERS: Final = (
    "bridge_veth",
    "bridge_tap",
    "macvlan",
    "vde_switch",
    "ovs_userspace",
    "slirp4netns",
    "passt",
    "trio_veth",
)
OURS: Final = (
    "multiplexer_stream",
    "multiplexer_ring",
    "multiplexer_run",
    "multiplexer_trusted_tap",
    "trio_run",
    "trio_kernel",
    "trio_lwip",
    "trio_lwip_source",
)
#: What no system can do better than.
FLOOR: Final = "machine"
SYSTEMS: Final = (*PEERS, *OURS, FLOOR)

RATE: Final = "Mframe/s"
GBIT: Final = "Gbit/s"
GBIT_OUT: Final = "Gbit/s, out"
GBIT_IN: Final = "Gbit/s, in"
CPU_PER_GBIT: Final = "CPU s/Gbit"
MICROSECONDS: Final = "us"
MICROSECONDS_P99: Final = "us, 99th percentile"
ONE_CORE: Final = "us, one core"
TWO_CORES: Final = "us, two cores"
SECONDS: Final = "s"
MIB: Final = "MiB"
OF_TWO: Final = "of the rate with 2"
CORE: Final = "% of a core"

#: What hostile clients do, and how fast their neighbours go.
HOSTILE: Final = ("forging", "flooding", "never reading", "connecting")
AT_1_GBIT: Final = "at 1 Gbit/s"
AT_FULL_SPEED: Final = "at full speed"

#: As how many processes each hostile client is busy, where that is all it costs.
BUSY: Final = {"forging": 1, "flooding": 2, "never reading": 1}

#: How many flood beside one who has something to send.
FLOODING: Final = (1, 3)
OF_HALF_THE_WIRE: Final = "of half of alone, 1 flooding the wire"

#: What frames are judged by, beside what is always checked, and of how many connections they are.
NO_FILTER: Final = "no filter"
CLEAN_TRAFFIC: Final = "clean-traffic"
MANY_RULES: Final = "1,000 rules"
FILTERS: Final = (CLEAN_TRAFFIC, MANY_RULES)
FLOWS: Final = (1, 256)

#: What a vif is limited to.
LIMITED: Final = ("frames_per_s", "bytes_per_s")

#: Which process is killed, and what flows meanwhile.
KILLED: Final = ("control", "engine", "broker")
STREAMS: Final = ("TCP", "datagrams")


def of_the_kernel_kind(unit: str) -> str:
    """Return the unit of a rate of a stack as part of the kernel kind's, which has *unit*."""
    return f"of the kernel kind, {unit.rpartition(' ')[2]}"


def beside(kind: str, speed: str) -> str:
    """Return the unit of a rate beside a client that does *kind*, as part of the rate alone."""
    return f"of alone, {kind}, {speed}"


def beside_busy(kind: str) -> str:
    """Return the unit of that rate as part of the one beside as many processes that only spin."""
    return f"of beside {BUSY[kind]} spinning, {kind}"


def fair_share(flooding: int) -> str:
    """Return the unit of a rate beside *flooding* vifs, as part of an equal share of all."""
    return f"of its fair share, {flooding} flooding"


def filtered(filter_: str, flows: int) -> str:
    """Return the unit of the rate of frames of *flows* connections that a filter judges."""
    return f"{RATE}, {filter_}, {_counted(flows)}"


def of_unfiltered(filter_: str, flows: int) -> str:
    """Return the unit of that rate as part of the one without a filter."""
    return f"of {NO_FILTER}, {filter_}, {_counted(flows)}"


def _counted(flows: int) -> str:
    return f"{flows} flow{'s' if flows > 1 else ''}"


def of_limit(limit: str) -> str:
    """Return the unit of the rate of a vif with *limit*, as part of that limit."""
    return f"of {limit}"


def pause(stream: str, role: str) -> str:
    """Return the unit of the longest pause of *stream* when *role* is killed."""
    return f"s without {stream}, {role} killed"
