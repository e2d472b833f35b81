"""End the TCP connections of the caller's network namespace (sock_diag(7)).

Whose stack goes away would wait for ever where it reads: without an interface
nothing comes, no error either.  The kernel ends a connection at the word of who
is root over the namespace, as ss(8) -K says it, where it was built with
CONFIG_INET_DIAG_DESTROY: calls that wait and those that follow fail with
ECONNABORTED, and the peer gets a reset if there is still a way to it.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_TCP_SYN_RECV, _TCP_TIME_WAIT, _TCP_CLOSE, _TCP_LISTEN = 3, 6, 7, 10
_TCP_STATES = 0xFFE  # a bit for each, from 1 to 11

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI48s")  # struct inet_diag_req_v2, with a sockid
_FOUND = struct.Struct("=BBBB48s4II")  # struct inet_diag_msg
_ERROR = struct.Struct("=i")
_NO_SOCKID = bytes(48)
_CONNECTIONS = _TCP_STATES & ~sum(
    1 << each for each in (_TCP_SYN_RECV, _TCP_TIME_WAIT, _TCP_CLOSE, _TCP_LISTEN)
)
_MAX_ANSWER_BYTES = 1 << 16


def end_connections() -> None:
    """End each connection that a program still holds.

    Those that were closed, and only have to say so to the peer, are left alone,
    and so are sockets that listen and datagrams.

    Raises:
        OSError: if the kernel cannot: EOPNOTSUPP, or ENOENT without sock_diag.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as sock:
        for family in (socket.AF_INET, socket.AF_INET6):
            for sockid in list(_connections(sock, family)):
                # It may just have ended by itself.
                with suppress(FileNotFoundError):
                    _ask(sock, _SOCK_DESTROY, _NLM_F_ACK, family, sockid)
                    _check(_messages(sock))


def _connections(sock: socket.socket, family: int) -> Iterator[bytes]:
    """Yield the identity of each connection that has a descriptor (struct inet_diag_sockid)."""
    _ask(sock, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP, family, _NO_SOCKID)
    while True:
        for kind, body in _messages(sock):
            if kind == _NLMSG_DONE:
                return
            _check([(kind, body)])
            *_, sockid, _, _, _, _, inode = _FOUND.unpack_from(body)
            if inode:
                yield sockid


def _ask(sock: socket.socket, kind: int, flags: int, family: int, sockid: bytes) -> None:
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _CONNECTIONS, sockid)
    header = _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 0, 0)
    sock.send(header + body)


def _messages(sock: socket.socket) -> list[tuple[int, bytes]]:
    """Return the kind and body of each message in the next packet."""
    packet = sock.recv(_MAX_ANSWER_BYTES)
    found = []
    while packet:
        length, kind, *_ = _HEADER.unpack_from(packet)
        found.append((kind, packet[_HEADER.size : length]))
        packet = packet[(length + 3) & ~3 :]
    return found


def _check(messages: list[tuple[int, bytes]]) -> None:
    for kind, body in messages:
        if kind == _NLMSG_ERROR:
            (code,) = _ERROR.unpack_from(body)
            if code:
                raise OSError(-code, os.strerror(-code))
