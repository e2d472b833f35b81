"""Names for a stack: /etc/hosts, then the name servers of its vif, asked over its own sockets.

trio asks a resolver only for names; where host and service are numeric it
decodes them itself.  Results are made by the C library out of the addresses
that were found, so that services, types and protocols come out as from
getaddrinfo(3).
"""

import socket as stdlib
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
import dns.reversename
import trio

from pfinet_client.stack import hosts
from pfinet_client.stack.backend import StackBackend
from pfinet_proto.attach import Binding
from pfinet_proto.values import IPAddress


class ResolvingStack(Protocol):
    """What a resolver needs of its stack."""

    @property
    def binding(self) -> Binding:
        """What the vif is now."""

    def socket(self, family: int, type: int, proto: int) -> trio.socket.SocketType:
        """Return a new socket of the stack."""


HOSTS = Path("/etc/hosts")
#: The records to ask for, by the family that is wanted.
_KINDS = {0: ("AAAA", "A"), int(stdlib.AF_INET): ("A",), int(stdlib.AF_INET6): ("AAAA",)}
#: resolv.conf(5): 5 s for a server, each asked twice.
_TIMEOUT_S = 5.0
_LIFETIME_S = 10.0

Entry = tuple[Any, Any, int, str, Any]
"""As getaddrinfo(3) returns them: family, type, protocol, canonical name, address."""


class StackResolver(trio.abc.HostnameResolver):
    """Looks names up for *stack*, with the name servers that its binding has at that time."""

    def __init__(self, stack: ResolvingStack) -> None:
        self._stack = stack
        self._backend = StackBackend(stack)

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Entry]:
        """Return what getaddrinfo(3) would; families that the stack has no address of come last.

        Raises:
            socket.gaierror: as there: EAI_NONAME, EAI_AGAIN, or EAI_FAIL where the vif
                has no name server.
        """
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if name is None or _is_numeric(name):
            # trio could not decode the service: of the host only /etc/services is asked.
            numeric = (flags | stdlib.AI_NUMERICHOST) & ~stdlib.AI_ADDRCONFIG
            call = partial(stdlib.getaddrinfo, name, port, family, type, proto, numeric)
            return list(await trio.to_thread.run_sync(call, abandon_on_cancel=True))
        if flags & stdlib.AI_NUMERICHOST:
            raise _failure(stdlib.EAI_NONAME, name)
        canonical, addresses = await self._find(name, family)
        addresses = self._sorted(addresses, flags)
        if not addresses:
            raise _failure(stdlib.EAI_NONAME, name)
        numeric = (flags | stdlib.AI_NUMERICHOST) & ~(stdlib.AI_CANONNAME | stdlib.AI_ADDRCONFIG)
        found: list[Entry] = []
        for address in addresses:
            found += stdlib.getaddrinfo(str(address), port, family, type, proto, numeric)
        if flags & stdlib.AI_CANONNAME:
            found[0] = (*found[0][:3], canonical, found[0][4])
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Return the name and service of a numeric address, as getnameinfo(3).

        Raises:
            socket.gaierror: as there.
        """
        kind, numeric_host = stdlib.SOCK_DGRAM, stdlib.AI_NUMERICHOST
        (entry,) = stdlib.getaddrinfo(sockaddr[0], sockaddr[1], 0, kind, 0, numeric_host)
        numeric = flags | stdlib.NI_NUMERICHOST
        host, service = stdlib.getnameinfo(sockaddr, numeric & ~stdlib.NI_NAMEREQD)
        if flags & stdlib.NI_NUMERICHOST:
            return host, service
        name = await self._name_of(ip_address(str(entry[4][0]).partition("%")[0]))
        if name is None and flags & stdlib.NI_NAMEREQD:
            raise _failure(stdlib.EAI_NONAME, host)
        return name or host, service

    async def _find(self, name: str, family: int) -> tuple[str, list[IPAddress]]:
        """Return the canonical name and the addresses of *name*."""
        listed = [
            address
            for address in hosts.addresses_of(name, _hosts_text())
            if family in (0, _family(address))
        ]
        if listed or name.rstrip(".").lower() == hosts.LOCALHOST:
            return name, listed
        kinds = _KINDS.get(family, ())
        answers: list[dns.resolver.Answer] = []
        failures: list[stdlib.gaierror] = []
        resolver = self._dns(name)

        async def ask(kind: str) -> None:
            try:
                answers.append(
                    await resolver.resolve(name, kind, search=True, backend=self._backend)
                )
            except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
                pass
            except (dns.exception.DNSException, OSError):
                failures.append(_failure(stdlib.EAI_AGAIN, name))

        async with trio.open_nursery() as nursery:
            for kind in kinds:
                nursery.start_soon(ask, kind)
        if failures and not answers:
            raise failures[0]
        found = [ip_address(str(record.address)) for answer in answers for record in answer]
        canonical = str(answers[0].canonical_name).rstrip(".") if answers else name
        return canonical, found

    async def _name_of(self, address: IPAddress) -> str | None:
        listed = hosts.name_of(address, _hosts_text())
        if listed is not None or address.is_loopback:
            return listed
        question = dns.reversename.from_address(str(address))
        try:
            answer = await self._dns(str(address)).resolve(question, "PTR", backend=self._backend)
        except (dns.exception.DNSException, OSError, stdlib.gaierror):
            return None
        return str(answer[0].target).rstrip(".")

    def _dns(self, name: str) -> dns.asyncresolver.Resolver:
        binding = self._stack.binding
        if not binding.dns:
            raise _failure(stdlib.EAI_FAIL, name)
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [str(address) for address in binding.dns]
        resolver.search = [dns.name.from_text(each) for each in binding.search]
        resolver.timeout = _TIMEOUT_S
        resolver.lifetime = _LIFETIME_S
        return resolver

    def _sorted(self, addresses: Iterable[IPAddress], flags: int) -> list[IPAddress]:
        """Put those first that the stack has a source for, and IPv6 before IPv4 (RFC 6724)."""
        own = {each.version for each in self._stack.binding.addresses}
        own |= {each.version for each in self._stack.binding.prefixes}
        unique = list(dict.fromkeys(addresses))
        if flags & stdlib.AI_ADDRCONFIG:
            unique = [each for each in unique if each.version in own]
        return sorted(unique, key=lambda each: (each.version not in own, -each.version))


def _is_numeric(host: str) -> bool:
    """Whether getaddrinfo(3) takes *host* for an address, in any of its ways to write one."""
    try:
        stdlib.getaddrinfo(host, None, flags=stdlib.AI_NUMERICHOST)
    except (stdlib.gaierror, ValueError):
        return False
    return True


def _family(address: IPAddress) -> int:
    return stdlib.AF_INET if address.version == 4 else stdlib.AF_INET6


def _hosts_text() -> str:
    try:
        return HOSTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _failure(code: int, name: str) -> stdlib.gaierror:
    return stdlib.gaierror(code, f"{name}: {_REASONS[code]}")


_REASONS = {
    stdlib.EAI_NONAME: "no such name",
    stdlib.EAI_AGAIN: "no name server answers",
    stdlib.EAI_FAIL: "the vif has no name server",
}
