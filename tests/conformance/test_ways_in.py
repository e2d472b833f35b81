"""The daemon's ways in, through the suite: `attach` by stream and ring, `stream`, `bess`."""

import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address

import pytest
import trio

from pfinet_client.attachment import Attachment, VifRefused, connect_attach
from pfinet_client.frames import StreamEnded
from pfinet_client.ring import RingFrames
from pfinet_proto.attach import NO_OFFLOAD, Hello, Offload, Transport
from pfinet_proto.values import MacAddress
from tests.conformance.way_in import (
    CHECKS,
    ETHERNET_LEN,
    MESSAGE_CHECKS,
    STREAM_CHECKS,
    Check,
    End,
    MessageEnd,
    Refused,
    Side,
    StreamEnd,
    WayIn,
    run_check,
)
from tests.support.lab import Lab
from tests.support.plain import acting_as, connected

OWNERS = {"left": 20001, "right": 20002}

#: Without an uplink, so that nobody but the suite sends a frame.
NETWORK = """
[network.quiet]
mode = "switch"
prefixes = ["10.78.0.0/24"]
mtu = {mtu}

[vif.left]
owner = "20001"
network = "quiet"
addresses = ["10.78.0.1/24"]

[vif.right]
owner = "20002"
network = "quiet"
addresses = ["10.78.0.2/24"]
"""

IPV4_LEN = 20
#: "For experimentation and testing" (RFC 3692, section 2.1).
PROTOCOL = 253

ATTACH_TIMEOUT_S = 10.0


class RingEnd(End):
    """An attachment by rings, whose memory the client's own C reads and writes."""

    def __init__(self, attachment: Attachment, *, vnet: bool) -> None:
        assert attachment.memory is not None
        self._attachment = attachment
        self._frames = RingFrames(attachment.data, attachment.memory, vnet=vnet)
        self._received: list[bytes] = []

    async def send(self, data: bytes) -> None:
        raise NotImplementedError("a ring has no bytes but those of frames")

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await self._frames.send(list(frames))
        except StreamEnded as error:
            raise trio.BrokenResourceError from error

    async def receive_frames(self, count: int = 1) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        while len(self._received) < count:
            self._received += await self._frames.receive()
        frames, self._received = self._received[:count], self._received[count:]
        return frames

    async def wait_detached(self) -> None:
        with suppress(StreamEnded):
            while True:
                await self._frames.receive()

    async def send_descriptor(self, frame: bytes) -> None:
        socket.send_fds(self._attachment.data, [b"k"], [self._attachment.data.fileno()])
        await self.send_frames([frame])

    async def aclose(self) -> None:
        trio.lowlevel.notify_closing(self._attachment.data)
        self._attachment.close()
        await trio.lowlevel.checkpoint()


class DaemonWay(WayIn):
    """Two vifs of a running daemon; *offload* is what clients of `attach` can do.

    *kind* is that of the socket, or `ring`: `attach` by that.
    """

    smallest_frame = ETHERNET_LEN + IPV4_LEN

    def __init__(self, lab: Lab, kind: str, mtu: int, offload: Offload = NO_OFFLOAD) -> None:
        self.mtu = mtu
        self.vnet = bool(offload)
        self.messages = kind == "bess"
        self._kind = kind
        self._offload = offload
        way = "attach" if kind == "ring" else kind
        self._paths = {side: lab.socket_of(side.value, way) for side in Side}
        shown = {side: lab.ask("vif.show", name=side.value) for side in Side}
        self._macs = {side: MacAddress.parse(shown[side]["mac"]).packed for side in Side}
        self._addresses = {
            side: IPv4Address(shown[side]["addresses"][0].split("/")[0]).packed for side in Side
        }

    async def connect(self, side: Side) -> End:
        await trio.lowlevel.checkpoint()
        uid = OWNERS[side.value]
        if self._kind == "stream":
            return StreamEnd(connected(self._paths[side], uid))
        if self._kind == "bess":
            return MessageEnd(connected(self._paths[side], uid, socket.SOCK_SEQPACKET))
        transport = Transport.RING if self._kind == "ring" else Transport.STREAM
        hello = Hello(offload=self._offload, transports=(transport,))
        try:
            with acting_as(uid):
                attachment = connect_attach(str(self._paths[side]), hello, ATTACH_TIMEOUT_S)
        except VifRefused as refused:
            raise Refused(str(refused)) from refused
        if transport is Transport.RING:
            return RingEnd(attachment, vnet=self.vnet)
        return StreamEnd(attachment.data, attachment.sock, vnet=self.vnet)

    def ethernet(self, source: Side, size: int, number: int) -> bytes:
        header = struct.pack(
            "!BBHHHBBH4s4s",
            *(0x45, 0, size - ETHERNET_LEN, number, 0, 64, PROTOCOL, 0),
            *(self._addresses[source], self._addresses[source.other]),
        )
        header = header[:10] + checksum(header) + header[12:]
        content = number.to_bytes(4, "big") * (size // 4 + 1)
        frame = self._macs[source.other] + self._macs[source] + b"\x08\x00" + header + content
        return frame[:size]


def checksum(header: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")


@pytest.fixture(scope="module", params=[1500, 9000])
def lab(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, int]]:
    """A running daemon with the two vifs."""
    mtu = request.param
    with Lab(f"ways-in-{mtu}", mtu=mtu) as running:
        running.configure({}, mtu=mtu, extra=NETWORK.format(mtu=mtu))
        with running.daemon():
            yield running, mtu


WAYS = {
    "stream": ("stream", NO_OFFLOAD, STREAM_CHECKS),
    "attach": ("attach", NO_OFFLOAD, STREAM_CHECKS),
    "attach-with-offload": ("attach", Offload.CSUM | Offload.TSO4, STREAM_CHECKS),
    "bess": ("bess", NO_OFFLOAD, MESSAGE_CHECKS),
    "ring": ("ring", NO_OFFLOAD, CHECKS),
    "ring-with-offload": ("ring", Offload.CSUM | Offload.TSO4, CHECKS),
}


@pytest.mark.parametrize(
    ("kind", "offload", "check"),
    [
        pytest.param(kind, offload, check, id=f"{name}-{check.__name__}")
        for name, (kind, offload, checks) in WAYS.items()
        for check in checks
    ],
)
async def test_the_daemon_s_way_in_passes(
    lab: tuple[Lab, int], kind: str, offload: Offload, check: Check
) -> None:
    running, mtu = lab

    @asynccontextmanager
    async def make() -> AsyncIterator[WayIn]:
        yield DaemonWay(running, kind, mtu, offload)

    await run_check(check, make)
