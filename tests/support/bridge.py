"""A Linux bridge with a guest and an outside on it, as a host that runs virtual machines has.

        guest -- vnet            wire -- outside
                   \\   (bridge)  /
                        post -- marks

A frame is sent at one end, and either comes out at the other or does not.  All
of this thread's frames wait in one queue of one processor, so when a mark that
is sent after a frame has come out, the frame has come out as well, or never
will: nothing is timed.
"""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

GUEST: Final = "vnet"

MARK: Final = bytes.fromhex("ffffffffffff 5254000000ff 88b6")
ETH_P_ALL: Final = 3
SOL_PACKET: Final = 263
PACKET_IGNORE_OUTGOING: Final = 23

SETTINGS: Final = {
    # A wrong checksum makes nothing `INVALID`; that of UDP-Lite the kernel takes for UDP's.
    "net/netfilter/nf_conntrack_checksum": "0",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
    "net/bridge/bridge-nf-call-arptables": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


@attrs.define
class Bridge:
    """The ends as sockets; *marks* numbers what was sent from the third."""

    guest: socket.socket
    outside: socket.socket
    post: socket.socket
    marks: int = 0
    #: What came out at the outside before the last mark.
    _before: list[bytes] = attrs.Factory(list)

    def passes(self, frame: bytes, to_guest: bool) -> bool:
        """Send *frame*, and return whether it comes out at the other end."""
        return bool(self.arrived([frame], to_guest))

    def arrived(self, frames: Sequence[bytes], to_guest: bool) -> list[bytes]:
        """Send *frames* from one to another, and return what of that comes out there."""
        source, target = (self.outside, self.guest) if to_guest else (self.guest, self.outside)
        for end in (self.guest, self.outside):
            _drain(end)
        for frame in frames:
            source.send(frame)
        self._wait_for_mark()
        came = [*self._before, *_drain(target)]
        return [received for received in came if received[:12] == frames[0][:12]]

    def _wait_for_mark(self) -> None:
        """Send a mark, and read at the outside until it is there."""
        self.marks += 1
        mark = MARK + self.marks.to_bytes(46, "big")
        self.post.send(mark)
        self._before = []
        while (received := self.outside.recv(65536)) != mark:
            self._before.append(received)

    @staticmethod
    def forget_connections() -> None:
        """Empty the table of connections."""
        with NFCTSocket() as netlink:
            netlink.flush()


def _drain(end: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(end.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return found


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _end(stack: ExitStack, name: str) -> socket.socket:
    end = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    # What we send ourselves is not to come back.
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    # A mark that never comes ends the test.
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 20, 0))
    end.bind((name, ETH_P_ALL))
    return end


@contextmanager
def running_bridge() -> Iterator[Bridge]:
    """Make the bridge in the session's own namespace, for a while."""
    allowed = os.sched_getaffinity(0)
    for name, value in SETTINGS.items():
        (Path("/proc/sys") / name).write_text(value)
    with ExitStack() as stack:
        _ip(
            "link",
            "add",
            "name",
            "crossing",
            "type",
            "bridge",
            "stp_state",
            "0",
            "mcast_snooping",
            "0",
        )
        stack.callback(_ip, "link", "delete", "crossing")
        for port, end in ((GUEST, "guest"), ("wire", "outside"), ("post", "marks")):
            _ip("link", "add", "name", port, "type", "veth", "peer", "name", end)
            stack.callback(_ip, "link", "delete", port)
            _ip("link", "set", port, "master", "crossing", "up")
            _ip("link", "set", end, "up", "promisc", "on", "arp", "off")
            # Both ends use the same addresses, so nothing may be learned.
            _ip("link", "set", port, "type", "bridge_slave", "learning", "off")
        # What one copy of a frame passes is a connection, though others of it do not.
        floods = ("flood", "mcast_flood", "bcast_flood")
        off = [word for flood in floods for word in (flood, "off")]
        _ip("link", "set", "post", "type", "bridge_slave", *off)
        _ip("link", "set", "crossing", "up")
        guest, outside, post = (_end(stack, name) for name in ("guest", "outside", "marks"))
        os.sched_setaffinity(0, {min(allowed)})
        stack.callback(os.sched_setaffinity, 0, allowed)
        yield Bridge(guest, outside, post)
