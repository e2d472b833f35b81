"""The rtnetlink requests that configure a stack's interface (rtnetlink(7)).

Encoders are pure; `RouteSocket` sends one request and waits for its answer.
pyroute2 would do the same, but takes longer to import than a stack to start.
"""

import errno
import os
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from attrs import frozen

from pfinet_proto.values import MacAddress

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
_NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_APPEND = 0x200, 0x400, 0x800
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE, _RTM_DELROUTE = 16, 20, 21, 24, 25
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_MTU = 1, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 4, 5, 6
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1
_RTNH_F_ONLINK = 4

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")


@frozen
class Request:
    """One netlink message without its header: *kind* and *flags* beside NLM_F_REQUEST|ACK."""

    kind: int
    flags: int
    body: bytes


def link_change(
    index: int, *, mac: MacAddress | None = None, mtu: int | None = None, up: bool = False
) -> Request:
    """Change what is given of the interface *index*."""
    body = struct.pack("=BxHiII", 0, 0, index, _IFF_UP if up else 0, _IFF_UP if up else 0)
    if mac is not None:
        body += _attribute(_IFLA_ADDRESS, mac.packed)
    if mtu is not None:
        body += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
    return Request(_RTM_NEWLINK, 0, body)


def address_add(index: int, address: IPv4Interface | IPv6Interface) -> Request:
    """Add an address, and so the route to its prefix, usable at once (no DAD)."""
    body = _address(index, address)
    if address.version == 4 and address.network.prefixlen < 31:
        body += _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    if address.version == 6:
        body += _attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD))
    return Request(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, body)


def address_remove(index: int, address: IPv4Interface | IPv6Interface) -> Request:
    """Remove an address, and the route to its prefix if no other needs it."""
    return Request(_RTM_DELADDR, 0, _address(index, address))


def default_route_add(index: int, gateway: IPv4Address | IPv6Address, metric: int) -> Request:
    """Add a default route by *gateway*, which need not lie in a prefix of the interface.

    One by another gateway may have the same metric.
    """
    body = _default_route(index, gateway, metric)
    return Request(_RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_APPEND, body)


def default_route_remove(index: int, gateway: IPv4Address | IPv6Address, metric: int) -> Request:
    """Remove what `default_route_add` added."""
    return Request(_RTM_DELROUTE, 0, _default_route(index, gateway, metric))


def _address(index: int, address: IPv4Interface | IPv6Interface) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, address.network.prefixlen, 0, 0, index)
    return (
        body
        + _attribute(_IFA_LOCAL, address.ip.packed)
        + _attribute(_IFA_ADDRESS, address.ip.packed)
    )


def _default_route(index: int, gateway: IPv4Address | IPv6Address, metric: int) -> bytes:
    family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
    body = struct.pack(
        "=BBBBBBBBI",
        family,
        0,
        0,
        0,
        _RT_TABLE_MAIN,
        _RTPROT_STATIC,
        _RT_SCOPE_UNIVERSE,
        _RTN_UNICAST,
        _RTNH_F_ONLINK,
    )
    body += _attribute(_RTA_GATEWAY, gateway.packed)
    body += _attribute(_RTA_OIF, struct.pack("=I", index))
    return body + _attribute(_RTA_PRIORITY, struct.pack("=I", metric))


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(padding)


class RouteSocket:
    """A netlink socket, for one request at a time.

    It is that of *descriptor*, or a new one of the caller's network namespace.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._sock = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
            descriptor,
        )
        self._sequence = 0

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close it; more than once is allowed."""
        self._sock.close()

    def __enter__(self) -> "RouteSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(self, request: Request) -> None:
        """Send *request* and wait until the kernel has done it.

        Raises:
            OSError: if it has not.
        """
        self._sequence += 1
        flags = _NLM_F_REQUEST | _NLM_F_ACK | request.flags
        length = _HEADER.size + len(request.body)
        self._sock.send(
            _HEADER.pack(length, request.kind, flags, self._sequence, 0) + request.body
        )
        while True:
            answer = self._sock.recv(65536)
            _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if kind == _NLMSG_ERROR and sequence == self._sequence:
                break
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code) if code < 0 else errno.errorcode[errno.EPROTO])
