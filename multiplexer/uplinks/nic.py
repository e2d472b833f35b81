"""A real interface as uplink: its packet socket, what it may receive, its state.

The broker makes the socket and keeps a duplicate; the engine maps its ring and
moves the frames.  A frame for the interface's own MAC is the host's and stops
in a filter in the kernel; frames for the vifs' MACs are asked for one by one
instead of by promiscuous mode, which would show us the traffic of others.

How a packet socket takes what happens to its interface:

- down: one read says ENETDOWN, writes do until it is up; then all goes on;
- deleted, or moved to another namespace: it never works again, even if an
  interface of the same name and index comes back.  It is then bound to no
  interface, which is how `NicUplink.refresh` finds out.

Changes are learnt from netlink, but only that there was one: the datagrams are
thrown away unread, and the state is asked for by ioctl.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import attrs

from multiplexer.model import Network, Uplink
from pfinet_proto.values import MacAddress

# linux/if_packet.h
SOL_PACKET: Final = 263
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_DROP_MEMBERSHIP: Final = 2
PACKET_RX_RING: Final = 5
PACKET_AUXDATA: Final = 8
PACKET_VERSION: Final = 10
PACKET_VNET_HDR: Final = 15
PACKET_IGNORE_OUTGOING: Final = 23
PACKET_MR_ALLMULTI: Final = 2
PACKET_MR_UNICAST: Final = 3
TPACKET_V2: Final = 1

# asm-generic/socket.h, linux/if_ether.h, linux/if_arp.h, linux/rtnetlink.h
SO_ATTACH_FILTER: Final = 26
SO_SNDBUFFORCE: Final = 32
ETH_P_ALL: Final = 0x0003
ARPHRD_ETHER: Final = 1
RTMGRP_LINK: Final = 0x1
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV6_IFADDR: Final = 0x100

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFMTU: Final = 0x8921
SIOCGIFHWADDR: Final = 0x8927
SIOCGIFINDEX: Final = 0x8933
IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40

#: The receive ring, as the engine maps it (datapath/io/packet.h).  A slot holds
#: the longest frame that the kernel merges, 64 KiB, with all its headers.
RING_BLOCK_BYTES: Final = 1 << 20
RING_SLOT_BYTES: Final = 66048
RING_BLOCKS: Final = 35

#: Room for a burst of merged frames; the default holds only three.
SEND_BUFFER_BYTES: Final = 4 << 20

#: Of a filter's verdict: more than any frame, so the whole of it.
WHOLE_FRAME: Final = 0x40000

_IFREQ: Final = struct.Struct("16s24s")


@attrs.frozen
class Link:
    """What the kernel says of an interface.  *up* is administratively, and with a carrier."""

    ethernet: bool
    up: bool
    mac: MacAddress
    mtu: int


@attrs.frozen
class Refresh:
    """What `NicUplink.refresh` found: whether any state changed, and the socket is new."""

    changed: bool
    socket_is_new: bool


def read_link(sock: socket.socket, interface: str) -> Link | None:
    """Return the state of *interface* in the namespace of *sock*, of any kind; None if absent."""
    try:
        flags, mtu, hardware = (
            _ask(sock, request, interface) for request in (SIOCGIFFLAGS, SIOCGIFMTU, SIOCGIFHWADDR)
        )
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    needed = IFF_UP | IFF_RUNNING
    kind, mac = struct.unpack_from("=H6s", hardware)
    return Link(
        ethernet=kind == ARPHRD_ETHER,
        up=struct.unpack_from("=H", flags)[0] & needed == needed,
        mac=MacAddress(mac),
        mtu=struct.unpack_from("=i", mtu)[0],
    )


def _ask(sock: socket.socket, request: int, interface: str) -> bytes:
    reply = fcntl.ioctl(sock, request, _IFREQ.pack(os.fsencode(interface), b""))
    union: bytes = _IFREQ.unpack(reply)[1]
    return union


def _index_of(sock: socket.socket, interface: str) -> int:
    index: int = struct.unpack_from("=i", _ask(sock, SIOCGIFINDEX, interface))[0]
    return index


def refusal(interface: str, link: Link, networks: Iterable[Network]) -> str | None:
    """Return why *networks* cannot use an interface in that state, or None."""
    if not link.ethernet:
        return f'interface "{interface}" is not Ethernet'
    for network in networks:
        if link.mtu < network.mtu:
            return (
                f'interface "{interface}" has MTU {link.mtu}, '
                f'network "{network.name}" wants at least {network.mtu}'
            )
    return None


def membership_changes(
    held: Collection[MacAddress], wanted: Collection[MacAddress]
) -> tuple[list[MacAddress], list[MacAddress]]:
    """Return which to drop and which to add, each in order."""
    return sorted(set(held) - set(wanted)), sorted(set(wanted) - set(held))


def host_filter(mac: MacAddress) -> list[tuple[int, int, int, int]]:
    """Return a classic BPF program that drops what is addressed to *mac*, and nothing else."""
    load_word, load_half, if_equal, give = 0x20, 0x28, 0x15, 0x06
    return [
        (load_word, 0, 0, 0),
        (if_equal, 0, 3, int.from_bytes(mac.packed[:4], "big")),
        (load_half, 0, 0, 4),
        (if_equal, 0, 1, int.from_bytes(mac.packed[4:], "big")),
        (give, 0, 0, 0),
        (give, 0, 0, WHOLE_FRAME),
    ]


def open_packet_socket(
    interface: str, mac: MacAddress, members: Iterable[MacAddress]
) -> socket.socket:
    """Return a packet socket on *interface*, complete with ring, filter and memberships.

    Its protocol stays 0 until it is bound, so nothing comes in before, nor from
    another interface.

    Raises:
        OSError: ENODEV if the interface is absent.
    """
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        )
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)  # before the ring, which has room for it
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        slots = RING_BLOCK_BYTES // RING_SLOT_BYTES * RING_BLOCKS
        sock.setsockopt(
            SOL_PACKET,
            PACKET_RX_RING,
            struct.pack("=4I", RING_BLOCK_BYTES, RING_BLOCKS, RING_SLOT_BYTES, slots),
        )
        attach_filter(sock, mac)
        index = _index_of(sock, interface)
        _change(sock, PACKET_ADD_MEMBERSHIP, index, PACKET_MR_ALLMULTI, b"")
        for member in members:
            _change(sock, PACKET_ADD_MEMBERSHIP, index, PACKET_MR_UNICAST, member.packed)
        sock.bind((interface, ETH_P_ALL))
        # Binding to an interface that is down leaves an error for the next call.
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        undo.pop_all()
    return sock


def attach_filter(sock: socket.socket, mac: MacAddress) -> None:
    """Let the kernel drop what is for the host itself; replaces an earlier filter."""
    program = b"".join(struct.pack("=HBBI", *line) for line in host_filter(mac))
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)


def _change(sock: socket.socket, option: int, index: int, kind: int, address: bytes) -> None:
    sock.setsockopt(SOL_PACKET, option, struct.pack("=iHH8s", index, kind, len(address), address))


class NicUplink:
    """One uplink of kind nic and its packet socket, which may both be absent."""

    def __init__(self, uplink: Uplink, networks: Sequence[Network]) -> None:
        """Take an uplink and the networks that have a port on it; `refresh` opens it."""
        assert uplink.interface is not None
        self.name = uplink.name
        self.interface = uplink.interface
        self.socket: socket.socket | None = None
        #: None if absent.
        self.link: Link | None = None
        #: Why an interface that is there is not used.
        self.error: str | None = None
        #: The last that was there.
        self.last: Link | None = None
        self._networks = networks
        self._members: frozenset[MacAddress] = frozenset()

    @property
    def present(self) -> bool:
        """Whether there is an interface in use."""
        return self.socket is not None

    @property
    def up(self) -> bool:
        return self.present and self.link is not None and self.link.up

    def refresh(self, query: socket.socket) -> Refresh:
        """Look at the interface again, through *query*, and follow what has changed."""
        before = (self.link, self.error)
        old_socket = self.socket
        link = read_link(query, self.interface)
        self.error = None if link is None else refusal(self.interface, link, self._networks)
        if self.socket is not None and self.socket.getsockname()[0] != self.interface:
            self.close()
        if link is None or self.error is not None:
            self.close()
        elif self.socket is None:
            self._open(link)
        elif self.link is not None and self.link.mac != link.mac:
            attach_filter(self.socket, link.mac)
        self.link = link
        self.last = link or self.last
        is_new = self.socket is not None and self.socket is not old_socket
        return Refresh(is_new or before != (self.link, self.error), is_new)

    def follow(self, networks: Sequence[Network]) -> None:
        """Be the uplink of *networks* from the next `refresh` on."""
        self._networks = networks

    def reopen(self, query: socket.socket) -> Refresh:
        """Begin with a fresh socket, for an engine that knows nothing of the old one's ring."""
        self.close()
        return self.refresh(query)

    def set_members(self, macs: Collection[MacAddress]) -> None:
        """Receive the unicast frames of *macs*, and of no others; kept for later sockets.

        Raises:
            OSError: if the kernel refuses one; what was done by then stays.
        """
        drop, add = membership_changes(self._members, macs)
        if self.socket is None:
            self._members = frozenset(macs)
            return
        for mac in drop:
            self._change_member(self.socket, PACKET_DROP_MEMBERSHIP, mac)
            self._members -= {mac}
        for mac in add:
            self._change_member(self.socket, PACKET_ADD_MEMBERSHIP, mac)
            self._members |= {mac}

    def close(self) -> None:
        """Close our socket, if there is one; the engine has a duplicate of its own."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _change_member(self, sock: socket.socket, option: int, mac: MacAddress) -> None:
        try:
            index = _index_of(sock, self.interface)
            _change(sock, option, index, PACKET_MR_UNICAST, mac.packed)
        except OSError as error:
            # Gone since the last refresh, or back as another: the next socket gets all.
            if error.errno not in (errno.ENODEV, errno.EADDRNOTAVAIL):
                raise

    def _open(self, link: Link) -> None:
        try:
            self.socket = open_packet_socket(self.interface, link.mac, self._members)
        except OSError as error:
            # ENODEV: it has just gone, and netlink will say so.
            self.error = f'interface "{self.interface}" cannot be opened: {error.strerror}'


class LinkWatch:
    """Becomes readable when an interface of this namespace, or an address, may have changed."""

    def __init__(self) -> None:
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self.socket.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))

    def drain(self) -> None:
        """Throw away what has come; the caller then looks at its interfaces."""
        while True:
            try:
                self.socket.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                # More came than the socket holds: that too says that something changed.
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        self.socket.close()
