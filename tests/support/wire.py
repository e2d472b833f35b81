"""See and send bare Ethernet frames in a network namespace."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import Final, Self

from .netns import NetworkNamespace

ETH_P_ALL: Final = 0x0003
PACKET_OUTGOING: Final = 4
SOL_PACKET: Final = 263
PACKET_AUXDATA: Final = 8
TP_STATUS_VLAN_VALID: Final = 1 << 4
TP_STATUS_VLAN_TPID_VALID: Final = 1 << 6
AUXDATA: Final = struct.Struct("=IIIHHHH")
SO_RCVBUFFORCE: Final = 33

MAX_FRAME: Final = 1 << 17


class NothingCame(AssertionError):
    """What a listener was told to wait for did not come."""


class Listener:
    """All that one interface, or every one, of a namespace receives, in order.

    A VLAN tag that the kernel took out of the frame is put back.  What the
    namespace itself sends is left out.
    """

    def __init__(self, namespace: NetworkNamespace, interface: str | None = None) -> None:
        self._socket = namespace.socket(
            socket.AF_PACKET, socket.SOCK_RAW, 0 if interface else socket.htons(ETH_P_ALL)
        )
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        if interface:
            self._socket.bind((interface, ETH_P_ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def frames_now(self) -> list[bytes]:
        """Return what has come since the last call, without waiting."""
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames += self._receive(socket.MSG_DONTWAIT)
        return frames

    def frames_until(self, mark: bytes, timeout_s: float = 10) -> list[bytes]:
        """Return the frames up to and with the first that contains *mark*.

        Raises:
            NothingCame: if none did within *timeout_s*.
        """
        frames: list[bytes] = []
        deadline = time.monotonic() + timeout_s
        while not frames or mark not in frames[-1]:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._socket], [], [], left_s)[0]:
                raise NothingCame(f"{mark!r} is not in any of {len(frames)} frames")
            frames += self._receive(socket.MSG_DONTWAIT)
        return frames

    def _receive(self, flags: int) -> list[bytes]:
        frame, ancillary, _, address = self._socket.recvmsg(
            MAX_FRAME, socket.CMSG_SPACE(AUXDATA.size), flags
        )
        if address[2] == PACKET_OUTGOING:
            return []
        for level, kind, data in ancillary:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                frame = _with_tag(frame, *AUXDATA.unpack(data[: AUXDATA.size]))
        return [frame]


def _with_tag(
    frame: bytes, status: int, _len: int, _snaplen: int, _mac: int, _net: int, tci: int, tpid: int
) -> bytes:
    if not status & TP_STATUS_VLAN_VALID:
        return frame
    if not status & TP_STATUS_VLAN_TPID_VALID:
        tpid = 0x8100
    return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]


def send(namespace: NetworkNamespace, interface: str, frames: Iterable[bytes]) -> int:
    """Send *frames* out of *interface*, and return how many they were."""
    count = 0
    with namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        for frame in frames:
            sock.send(frame)
            count += 1
    return count
