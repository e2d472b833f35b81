"""The frames of the benchmarks are what a stack would send."""

from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from bench.frames import EXPERIMENTAL, HostAddress, tcp_frame, udp_frame
from pfinet_proto.values import MacAddress

A = HostAddress(MacAddress.parse("52:54:00:00:00:01"), IPv4Address("10.0.0.1"))
B = HostAddress(MacAddress.parse("52:54:00:00:00:02"), IPv4Address("10.0.0.2"))


@pytest.mark.parametrize("size", [60, 1514])
def test_a_frame_is_a_whole_datagram_of_that_size(size: int) -> None:
    frame = udp_frame(A, B, size)

    parsed = Ether(frame)
    assert len(frame) == size
    assert (parsed.src, parsed.dst) == (str(A.mac), str(B.mac))
    assert (parsed[IP].src, parsed[IP].dst, parsed[IP].len) == ("10.0.0.1", "10.0.0.2", size - 14)
    assert parsed[UDP].len == size - 34
    checksum = parsed[IP].chksum
    del parsed[IP].chksum
    assert Ether(bytes(parsed))[IP].chksum == checksum


def test_with_another_ethertype_the_rest_is_the_same() -> None:
    ours, theirs = udp_frame(A, B, 60), udp_frame(A, B, 60, EXPERIMENTAL)

    assert theirs == ours[:12] + b"\x88\xb5" + ours[14:]


@pytest.mark.parametrize("port", [1024, 1279])
def test_a_segment_from_another_port_has_the_same_checksum(port: int) -> None:
    frame = tcp_frame(A, B, (port, 10_999))

    parsed = Ether(frame)
    assert len(frame) == 60
    assert (parsed[TCP].sport, parsed[TCP].dport, parsed[TCP].flags) == (port, 10_999, "A")
    checksum = parsed[TCP].chksum
    assert checksum == Ether(tcp_frame(A, B, (1024, 10_999)))[TCP].chksum
    del parsed[TCP].chksum
    assert Ether(bytes(parsed))[TCP].chksum == checksum
