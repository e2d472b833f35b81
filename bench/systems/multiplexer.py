"""Ourselves: one daemon, with raw clients on two vifs, and `pfinet run` on the others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from typing import Final

import attrs

from pfinet_proto.values import MacAddress
from tests.support.lab import LAN, Lab

from ..frames import IPV4, HostAddress
from ..traffic.program import Traffic
from .networks import wire_at
from .system import RawEnd, StackEnd, System, Wire

OWNERS: Final = {"raw0": 20001, "raw1": 20002, "run0": 20003, "run1": 20004}
FIRST_ADDRESS: Final = 11

#: How a raw client carries its frames, and the socket of a vif that it opens for that.
RAW_SOCKETS: Final = {"stream": "stream", "ring": "attach"}

#: The users whom the administrator trusts, and their vifs.
TRUSTED: Final = {"trust0": 20005, "trust1": 20006}
TRUSTED_ADDRESSES: Final = {"trust0": "10.77.0.21", "trust1": "10.77.0.22"}
TRUSTED_VIF: Final = """
[vif.{name}]
owner = "{uid}"
network = "lan"
addresses = ["{address}/24"]
trusted_tap = true
"""


def configure(lab: Lab) -> None:
    """Write a configuration with the vifs of all systems here."""
    trusted = (
        TRUSTED_VIF.format(name=name, uid=uid, address=TRUSTED_ADDRESSES[name])
        for name, uid in TRUSTED.items()
    )
    lab.configure(OWNERS, extra="".join(trusted))


def checked_by(lab: Lab, *vifs: str) -> Callable[[], int]:
    """Return what returns how many frames from *vifs* the daemon has checked so far."""

    def read() -> int:
        shown = [lab.ask("vif.show", name=vif) for vif in vifs]
        return sum(int(vif["counters"]["rx_frames"]) for vif in shown)

    return read


def wire(lab: Lab) -> Wire:
    """Return the far end of the daemon's NIC, and what the daemon has checked of it."""

    def read() -> int:
        return int(lab.ask("uplink.show", name="wire")["counters"]["rx_frames"])

    return attrs.evolve(wire_at(lab.outside, LAN, "10.77.0.99"), checked=read)


def nobody_on(lab: Lab, *vifs: str) -> Callable[[], bool]:
    """Return what returns whether no client is attached to *vifs*."""

    def read() -> bool:
        return all(lab.ask("vif.show", name=vif)["attached"] is None for vif in vifs)

    return read


def address_of(vif: str) -> str:
    return f"10.77.0.{FIRST_ADDRESS + list(OWNERS).index(vif)}"


def raw_end(lab: Lab, vif: str, kind: str) -> RawEnd:
    """Return the end that a raw client of *vif* is, one of RAW_SOCKETS."""
    shown = lab.ask("vif.show", name=vif)
    what = f"{kind}:{lab.socket_of(vif, RAW_SOCKETS[kind])}:{shown['owner_uid']}"
    address = IPv4Address(shown["addresses"][0].partition("/")[0])
    return RawEnd(lab.host, what, HostAddress(MacAddress.parse(shown["mac"]), address))


def between(lab: Lab, first: str, second: str, kind: str) -> System:
    """Return the system whose ends are raw clients of two vifs; the lab's daemon runs."""
    return System(
        f"multiplexer_{kind}",
        raw=(raw_end(lab, first, kind), raw_end(lab, second, kind)),
        wire=wire(lab),
        ethertype=IPV4,
        checked=checked_by(lab, first, second),
        is_free=nobody_on(lab, first, second),
    )


@contextmanager
def multiplexer_stream(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Give the ends of two vifs; the lab's daemon runs."""
    yield between(lab, "raw0", "raw1", "stream")


@contextmanager
def multiplexer_ring(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Give the ends of two vifs, over memory that the daemon shares; the lab's daemon runs."""
    yield between(lab, "raw0", "raw1", "ring")


@contextmanager
def multiplexer_run(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run two `pfinet run` on two vifs; the lab's daemon runs."""
    with (
        lab.user(OWNERS["run0"]).stack("run0") as first,
        lab.user(OWNERS["run1"]).stack("run1") as second,
    ):
        ends = (StackEnd(first, address_of("run0")), StackEnd(second, address_of("run1")))
        yield System("multiplexer_run", stacks=ends, checked=checked_by(lab, "run0", "run1"))


@contextmanager
def multiplexer_trusted_tap(lab: Lab, _traffic: Traffic) -> Iterator[System]:
    """Run two `pfinet run` whose taps the engine itself reads; the lab is as `configure` says."""
    with ExitStack() as until_end:
        ends = []
        for name, uid in TRUSTED.items():
            stack = until_end.enter_context(lab.user(uid).stack(name))
            found = lab.query("vif", "show", name)["attached"]
            assert found["transport"] == "tap", f"{name} is attached by {found['transport']}"
            ends.append(StackEnd(stack, TRUSTED_ADDRESSES[name]))
        yield System(
            "multiplexer_trusted_tap",
            stacks=(ends[0], ends[1]),
            checked=checked_by(lab, *TRUSTED),
        )
