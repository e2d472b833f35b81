"""A frame in one line, whatever its bytes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.observe.frames import describe
from tests.datapath.frames import ARP, BROADCAST, ICMP, ethernet, ipv4, ipv6, tcp, u16, udp

A, B = bytes.fromhex("525400000001"), bytes.fromhex("525400000002")
HEAD = "52:54:00:00:00:01 to 52:54:00:00:00:02"


def arp(operation: int) -> bytes:
    body = b"\0\1\x08\0\6\4" + u16(operation) + A + b"\x0a\0\1\5" + bytes(6) + b"\x0a\0\1\6"
    return ethernet(body, dst=BROADCAST, src=A, ethertype=ARP)


@pytest.mark.parametrize(
    ("frame", "proto", "offset", "words"),
    [
        (b"", None, None, "0 bytes"),
        (bytes(13), None, None, "13 bytes"),
        (
            arp(1),
            None,
            None,
            "42 bytes, 52:54:00:00:00:01 to ff:ff:ff:ff:ff:ff, ARP, 10.0.1.5 asks for 10.0.1.6",
        ),
        (
            arp(2),
            None,
            None,
            "42 bytes, 52:54:00:00:00:01 to ff:ff:ff:ff:ff:ff,"
            " ARP, 10.0.1.5 is at 52:54:00:00:00:01",
        ),
        (
            arp(9),
            None,
            None,
            "42 bytes, 52:54:00:00:00:01 to ff:ff:ff:ff:ff:ff, ARP, operation 9",
        ),
        (B + A + u16(ARP), None, None, f"14 bytes, {HEAD}, ARP, cut short"),
        (
            ethernet(
                ipv4(udp(b"", sport=1, dport=53), src="10.0.1.5", dst="10.0.1.6"), dst=B, src=A
            ),
            17,
            34,
            f"42 bytes, {HEAD}, IPv4 10.0.1.5 to 10.0.1.6, UDP port 1 to 53",
        ),
        (
            ethernet(
                ipv6(tcp(b"", sport=1, dport=80), src="fd00::5", dst="fd00::6"), dst=B, src=A
            ),
            6,
            54,
            f"74 bytes, {HEAD}, IPv6 fd00::5 to fd00::6, TCP port 1 to 80",
        ),
        (B + A + u16(0x0800), None, None, f"14 bytes, {HEAD}, EtherType 0x0800"),
        (B + A + u16(0x88CC), None, None, f"14 bytes, {HEAD}, EtherType 0x88cc"),
        (B + A + u16(38), None, None, f"14 bytes, {HEAD}, 802.3 length"),
    ],
)
def test_a_frame_is_told_with_what_the_datapath_found(
    frame: bytes, proto: int | None, offset: int | None, words: str
) -> None:
    assert describe(frame, proto, offset) == words


def test_a_ping_is_told_by_its_type() -> None:
    head = ethernet(ipv4(udp(b"", sport=1, dport=2), src="10.0.1.5", dst="10.0.1.6"), dst=B, src=A)

    assert describe(head[:34] + bytes([8]) + bytes(7), ICMP, 34).endswith("10.0.1.6, ICMP type 8")


def test_neighbour_discovery_is_told_with_its_target() -> None:
    packet = ipv6(udp(b"", sport=1, dport=2), src="fd00::5", dst="ff02::1:ff00:6")
    body = ethernet(packet, dst=BROADCAST, src=A)[:54]
    target = bytes.fromhex("fd00" + "00" * 13 + "06")

    text = describe(body + bytes([135]) + bytes(7) + target, 58, 54)

    assert text.endswith("IPv6 fd00::5 to ff02::1:ff00:6, neighbour solicitation for fd00::6")


@given(st.binary(max_size=120))
def test_any_bytes_have_words(frame: bytes) -> None:
    assert describe(frame, None, None).startswith(f"{len(frame)} bytes")
