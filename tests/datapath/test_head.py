"""Where a frame is told by its head, nothing behind its headers changes what becomes of it.

Of such a frame only the head is in private memory while it is judged: what the core
would read behind it is of another frame, or just being changed by a client.
"""

from collections import Counter

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from multiplexer.datapath._dp import ffi, lib

from tests.reference import Reason, World

from . import traffic
from .core import Core
from .frames import (
    DESTINATION_OPTIONS,
    TCP,
    UDP,
    Upper,
    ethernet,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    raw,
    tcp,
    udp,
)

ETHERNET, IPV6_HEADER, TCP_HEADER = 14, 40, 20


def frame(packet: bytes, ethertype: int | None = None) -> bytes:
    return ethernet(packet, src=b"\2\0\0\0\0\1", dst=b"\2\0\0\0\0\2", ethertype=ethertype)


def over_ipv4(upper: Upper, options: bytes = b"") -> bytes:
    return frame(ipv4(upper, src="10.0.0.1", dst="10.0.0.2", options=options))


def over_ipv6(upper: Upper, *extensions: Upper) -> bytes:
    return frame(ipv6(upper, src="fd00::1", dst="fd00::2", extensions=extensions))


def is_told_by_head(data: bytes) -> bool:
    return bool(lib.dp_frame_is_told_by_head(ffi.from_buffer(data.ljust(lib.DP_HEAD_LEN, b"\0"))))


def headers_end(data: bytes) -> int:
    """Return where the longest header ends that is read, of a frame that its head tells."""
    if data[12:14] == b"\x08\x00":
        return ETHERNET + (data[ETHERNET] & 0x0F) * 4 + TCP_HEADER
    return ETHERNET + IPV6_HEADER + TCP_HEADER


def test_what_follows_the_headers_of_such_a_frame_decides_nothing() -> None:
    """The run must also have seen such frames pass, and be dropped for all sorts of reasons."""
    seen: Counter[Reason | None] = Counter()

    @settings(
        max_examples=1000,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(traffic.traffic())
    def compare(given: tuple[World, list[traffic.Event]]) -> None:
        world, events = given
        core = Core(world)
        for event in events:
            data = event.frame.data
            end = headers_end(data) if len(data) > ETHERNET else len(data)
            if event.from_uplink or len(data) <= end or not is_told_by_head(data):
                continue
            found = core.traced(event.port, event.frame, 1)
            for rest in (bytes(len(data) - end), bytes(b ^ 0xFF for b in data[end:])):
                changed = evolve(event.frame, data=data[:end] + rest)
                assert core.traced(event.port, changed, 1) == found, event
            seen[found.reason] += 1

    compare()

    assert {None, Reason.SRC_MAC, Reason.IPV4_SRC, Reason.IPV6_SRC} <= set(seen)
    assert len(seen) > 8, seen


def test_only_tcp_and_udp_right_behind_ip_are_told_by_the_head() -> None:
    request = udp(b"x", sport=68, dport=67)
    for upper, told in (
        (tcp(b"x"), True),
        (udp(b"x", sport=1, dport=2), True),
        (request, False),
        (raw(TCP - 1, bytes(20)), False),
        (raw(UDP + 1, bytes(20)), False),
        (raw(253, bytes(20)), False),
    ):
        assert is_told_by_head(over_ipv4(upper)) == told
        assert is_told_by_head(over_ipv4(upper, b"\1" * 40)) == told
        assert is_told_by_head(over_ipv6(upper)) == told
    assert not is_told_by_head(over_ipv4(icmp(3)))
    assert not is_told_by_head(over_ipv6(icmpv6(128)))
    options = Upper(DESTINATION_OPTIONS, bytes((0, 0, 1, 4, 0, 0, 0, 0)))
    assert not is_told_by_head(over_ipv6(tcp(b"x"), options))
    assert not is_told_by_head(frame(bytes(60), 0x0806))
