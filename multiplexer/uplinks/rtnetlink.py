"""Interfaces, addresses and routes of this network namespace, by rtnetlink(7).

Requests are values, encoded by pure functions; `RouteSocket` sends any number of
them together and says how each went.  So a thousand routes cost a few system
calls.  pyroute2 would do the same, but takes a fifth of control's start to import,
and clients wait for that start when a process of the daemon has died.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

import attrs

from multiplexer.host_port import FoundAddress
from pfinet_proto.values import IPAddress, IPNetwork, MacAddress

# linux/netlink.h
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_EXCL: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
SOL_NETLINK: Final = 270
NETLINK_GET_STRICT_CHK: Final = 12

# linux/rtnetlink.h
RTM_NEWLINK: Final = 16
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_PREFSRC: Final = 7
RT_TABLE_MAIN: Final = 254
RTPROT_STATIC: Final = 4
RT_SCOPE_LINK: Final = 253
RTN_UNICAST: Final = 1

# linux/if.h, linux/if_link.h, linux/if_addr.h
IFF_UP: Final = 0x1
IFLA_ADDRESS: Final = 1
IFLA_MTU: Final = 4
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_SECONDARY: Final = 0x01  # of IPv6: temporary
IFA_F_NODAD: Final = 0x02
IFA_F_OPTIMISTIC: Final = 0x04
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_NOPREFIXROUTE: Final = 0x200

#: Requests in one datagram: their answers fit a socket's default buffer.
AT_ONCE: Final = 64
RECEIVE_BYTES: Final = 1 << 18

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE: Final = struct.Struct("=HH")
_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS: Final = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg


@attrs.frozen
class Request:
    """One message without its header; *flags* beside those that every request has."""

    kind: int
    flags: int
    body: bytes


@attrs.frozen
class Route:
    """A route over an interface to *prefix*, with the source address that it prefers."""

    prefix: IPNetwork
    source: IPAddress | None


def set_link(index: int, *, mac: MacAddress, mtu: int) -> Request:
    """Give an interface its MAC and MTU."""
    body = _LINK.pack(0, 0, index, 0, 0)
    body += _attribute(IFLA_ADDRESS, mac.packed) + _attribute(IFLA_MTU, struct.pack("=I", mtu))
    return Request(RTM_NEWLINK, 0, body)


def set_up(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP))


def add_address(index: int, address: IPAddress) -> Request:
    """Give an interface *address* alone, at once: no route around it, no detection."""
    flags = struct.pack("=I", IFA_F_NODAD | IFA_F_NOPREFIXROUTE)
    body = _address(index, address) + _attribute(IFA_FLAGS, flags)
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)


def remove_address(index: int, address: IPAddress) -> Request:
    return Request(RTM_DELADDR, 0, _address(index, address))


def add_route(index: int, route: Route) -> Request:
    """Add *route* over an interface, if there is none to its prefix by that metric."""
    body = _route(index, route.prefix)
    if route.source is not None:
        body += _attribute(RTA_PREFSRC, route.source.packed)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)


def remove_route(index: int, prefix: IPNetwork) -> Request:
    """Remove the route over that interface; one over another stays."""
    return Request(RTM_DELROUTE, 0, _route(index, prefix))


class RouteSocket:
    """A netlink socket of the caller's network namespace, for one task at a time."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        # The kernel then looks at what a dump asks for, and tells no more than that.
        self.socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._sequence = 0

    def close(self) -> None:
        self.socket.close()

    def do(self, requests: Sequence[Request]) -> list[int]:
        """Have the kernel do *requests* in their order; return the errno of each, 0 if it did."""
        errors: list[int] = []
        for start in range(0, len(requests), AT_ONCE):
            some = requests[start : start + AT_ONCE]
            first = self._sequence + 1
            self.socket.send(b"".join(self._message(each, NLM_F_ACK) for each in some))
            answers: dict[int, int] = {}
            while len(answers) < len(some):
                for kind, sequence, body in self._receive():
                    if kind == NLMSG_ERROR and first <= sequence < first + len(some):
                        answers[sequence] = -struct.unpack_from("=i", body)[0]
            errors += [answers[first + number] for number in range(len(some))]
        return errors

    def addresses(self) -> list[FoundAddress]:
        """Return the addresses of every interface that can be used as a source."""
        return [found for body in self._dump_addresses() if (found := _read_source(body))]

    def all_addresses(self) -> list[IPAddress]:
        """Return every address of every interface, also those that cannot be used yet."""
        return [found for body in self._dump_addresses() if (found := _read_address(body))]

    def _dump_addresses(self) -> Iterator[bytes]:
        request = Request(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0))
        for kind, body in self._dump(request):
            if kind == RTM_NEWADDR:
                yield body

    def routes(self, index: int) -> list[Route]:
        """Return the routes over an interface that are as `add_route` makes them."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            head = _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0)
            oif = _attribute(RTA_OIF, struct.pack("=I", index))
            for kind, body in self._dump(Request(RTM_GETROUTE, NLM_F_DUMP, head + oif)):
                if kind == RTM_NEWROUTE and (route := _read_route(body, index)) is not None:
                    found.append(route)
        return found

    def _message(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        length = _HEADER.size + len(request.body)
        flags |= NLM_F_REQUEST | request.flags
        return _HEADER.pack(length, request.kind, flags, self._sequence, 0) + request.body

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Wait for one datagram; yield type, sequence number and body of its messages."""
        data = self.socket.recv(RECEIVE_BYTES)
        while len(data) >= _HEADER.size:
            length, kind, _, sequence, _ = _HEADER.unpack_from(data)
            yield kind, sequence, data[_HEADER.size : length]
            data = data[length + -length % 4 :]

    def _dump(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Ask *request* and yield type and body of each answer."""
        self.socket.send(self._message(request, 0))
        while True:
            for kind, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code == errno.EAFNOSUPPORT:  # a kernel without that family has none
                        return
                    raise OSError(code, os.strerror(code))
                yield kind, body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[max(length + -length % 4, _ATTRIBUTE.size) :]
    return found


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _address(index: int, address: IPAddress) -> bytes:
    body = _ADDRESS.pack(_family(address.version), address.max_prefixlen, 0, 0, index)
    packed = address.packed
    return body + _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed)


def _route(index: int, prefix: IPNetwork) -> bytes:
    scope = RT_SCOPE_LINK if prefix.version == 4 else 0
    body = _ROUTE.pack(
        *(_family(prefix.version), prefix.prefixlen, 0, 0),
        *(RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0),
    )
    body += _attribute(RTA_DST, prefix.network_address.packed)
    return body + _attribute(RTA_OIF, struct.pack("=I", index))


def _read_address(body: bytes) -> IPAddress | None:
    attributes = _attributes(body[_ADDRESS.size :])
    # IFA_ADDRESS is the peer's where a link has one (rtnetlink(7)).
    packed = attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS))
    return None if packed is None else ip_address(packed)


def _read_source(body: bytes) -> FoundAddress | None:
    _, _, flags, _, interface = _ADDRESS.unpack_from(body)
    attributes = _attributes(body[_ADDRESS.size :])
    if IFA_FLAGS in attributes:
        (flags,) = struct.unpack("=I", attributes[IFA_FLAGS])
    address = _read_address(body)
    undecided = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    if address is None or undecided or flags & IFA_F_DADFAILED:
        return None
    rank = bool(flags & IFA_F_SECONDARY) + 2 * bool(flags & IFA_F_DEPRECATED)
    return FoundAddress(interface, address, rank)


def _read_route(body: bytes, index: int) -> Route | None:
    _, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    attributes = _attributes(body[_ROUTE.size :])
    oif = attributes.get(RTA_OIF)
    if (table, protocol, kind) != (RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST):
        return None
    if oif is None or RTA_DST not in attributes or struct.unpack("=I", oif)[0] != index:
        return None
    source = attributes.get(RTA_PREFSRC)
    return Route(
        ip_network((attributes[RTA_DST], length)),
        None if source is None else ip_address(source),
    )
