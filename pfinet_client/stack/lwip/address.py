"""Socket addresses, as Python writes them and as the glue does."""

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pfinet_client.stack.lwip._lwip import ffi

SocketAddress = tuple[Any, ...]
_MAX_PORT = 0xFFFF


def check_port(port: int) -> None:
    """Refuse what is no port, as Python does; a struct pl_address would cut it to 16 bits.

    Raises:
        OverflowError: if it is none.
    """
    if not 0 <= port <= _MAX_PORT:
        raise OverflowError(f"port must be 0-{_MAX_PORT}, not {port}")


def to_glue(family: int, address: SocketAddress) -> Any:
    """Return (host, port, ...), with a numeric host, as a struct pl_address."""
    host, port = address[:2]
    packed = socket.inet_pton(family, host.partition("%")[0])
    made = ffi.new("struct pl_address *")
    made.family = 4 if family == socket.AF_INET else 6
    made.port = port
    ffi.memmove(made.bytes, packed, len(packed))
    return made


def from_glue(family: int, address: Any) -> SocketAddress:
    """Return a struct pl_address as Python writes it."""
    if family == socket.AF_INET:
        return str(IPv4Address(bytes(ffi.buffer(address.bytes, 4)))), int(address.port)
    host = socket.inet_ntop(socket.AF_INET6, bytes(ffi.buffer(address.bytes, 16)))
    # There is one interface, so a link-local address needs no scope to be found.
    scope = 1 if IPv6Address(host).is_link_local else 0
    return host, int(address.port), 0, scope
