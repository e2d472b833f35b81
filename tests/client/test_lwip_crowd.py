"""lwIP and peers that begin connections and never go on."""

import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether

from pfinet_proto.stream import encode_frames
from tests.client.client_user import TIMEOUT_S, ClientUser
from tests.client.fake_daemon import FakeDaemon
from tests.client.test_lwip_router import ALICE, daemon
from tests.client.test_stack import SERVER, program

__all__ = ["daemon"]

BOB = "02:00:00:00:00:02"
#: More than are kept.
BEGUN = 2000
SYN, RESET, PUSH, ACKNOWLEDGE = 2, 4, 8, 16


def segment(port: int, flags: int, seq: int = 0, ack: int = 0, data: bytes = b"") -> bytes:
    return bytes(
        Ether(src=BOB, dst=ALICE)
        / IP(src="10.9.0.2", dst="10.9.0.1")
        / TCP(sport=port, dport=80, flags=flags, seq=seq, ack=ack)
        / data
    )


class Answers:
    """The last of alice's segments to each port of bob's, of those with flags: sequence number."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon
        self._found: dict[tuple[int, int], int] = {}
        daemon.wire = self

    def __call__(self, records: list[bytes]) -> list[bytes]:
        for record in records:
            if record[12:14] == b"\x08\x00" and record[23] == 6:
                port, seq = struct.unpack_from("!2xHI", record, 34)
                for flag in (SYN, RESET, PUSH):
                    if record[47] & flag:
                        self._found[port, flag] = seq
        return records

    def wait(self, port: int, flag: int) -> int:
        with self._daemon.changed:
            assert self._daemon.changed.wait_for(lambda: (port, flag) in self._found, TIMEOUT_S)
        return self._found[port, flag]

    def inject(self, *frames: bytes) -> None:
        self._daemon.inject("v1", encode_frames(frames, vnet=False))


@pytest.mark.usefixtures("lwip_build")
def test_of_many_the_oldest_go_and_the_newest_are_served(daemon: FakeDaemon) -> None:
    answers = Answers(daemon)
    with ClientUser(20001, daemon).program(program("v1", SERVER, "lwip")):
        asked = ARP(op=1, hwsrc=BOB, psrc="10.9.0.2", pdst="10.9.0.1")
        answers.inject(bytes(Ether(src=BOB, dst="ff:ff:ff:ff:ff:ff") / asked))
        answers.inject(*(segment(port, SYN) for port in range(1, BEGUN + 1)))
        newest = answers.wait(BEGUN, SYN)
        oldest = answers.wait(1, SYN)
        answers.inject(segment(BEGUN, PUSH | ACKNOWLEDGE, 1, newest + 1, b"hello"))
        answers.inject(segment(1, PUSH | ACKNOWLEDGE, 1, oldest + 1, b"hello"))

        answers.wait(BEGUN, PUSH)
        answers.wait(1, RESET)
