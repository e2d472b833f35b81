"""Which address of its prefix a vif has, where its filter needs to know.

A filter asks for IP, and a vif that is bound to a whole prefix has none to supply.
Until one is seen it is judged by a filter of ours instead, that lets no more pass than
it takes to see one: by `any`, the first address that the vif sends from or that DHCP
assigns; by `dhcp`, what DHCP assigns, for as long as it does.  These two filters
are written as any other, so that whatever reads rules reads them too.

What was learned holds for one MAC and owner, and within what is bound: where the vif
has become another one, it is as if nothing had been.  No clock is read here.
"""

import enum
import math
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

import attrs

from pfinet_proto.values import MacAddress

from ...model import MAX_ADDRESSES_PER_VIF, Vif
from .parse import parse_untrusted
from .resolve import resolve
from .resolved import ResolvedRule
from .syntax import Parameter
from .tables import Learns

#: The variable that is learned, and those that say how; both are of bindings alone.
IP: Final = "IP"
LEARNING: Final = "CTRL_IP_LEARNING"
SERVERS: Final = "DHCPSERVER"

#: A lease of that many seconds is for ever (RFC 2131, section 3.3).
FOREVER_S: Final = 0xFFFFFFFF


class Mode(enum.Enum):
    """How the address of a vif is found."""

    ANY = "any"
    DHCP = "dhcp"
    NONE = "none"


#: What a filter wants to know before there is an address, and from then on.
WANTS: Final[Mapping[Mode, tuple[Learns, Learns]]] = MappingProxyType(
    {
        Mode.ANY: (Learns.SOURCES | Learns.LEASES, Learns.NOTHING),
        Mode.DHCP: (Learns.LEASES, Learns.LEASES),
    }
)

_PHASES: Final[Mapping[Mode, str]] = MappingProxyType(
    {
        Mode.ANY: """\
<filter name='learning-any'>
  <rule action='drop' direction='out' priority='100'>
    <mac match='no' srcmacaddr='$MAC'/>
  </rule>
  <rule action='accept' direction='out' priority='200'>
    <mac protocolid='ipv4'/>
  </rule>
  <rule action='accept' direction='out' priority='300'>
    <mac protocolid='arp'/>
  </rule>
  <rule action='drop' direction='out' priority='1000'/>
</filter>
""",
        Mode.DHCP: """\
<filter name='learning-dhcp'>
  <rule action='accept' direction='out' priority='100'>
    <ip srcmacaddr='$MAC' protocol='udp' srcportstart='68' dstportstart='67'/>
  </rule>
  <rule action='accept' direction='in' priority='200'>
    <ip dstmacaddr='$MAC' {server}protocol='udp' srcportstart='67' dstportstart='68'/>
  </rule>
  <rule action='accept' direction='in' priority='300'>
    <ip dstmacaddr='ff:ff:ff:ff:ff:ff' {server}protocol='udp' srcportstart='67' dstportstart='68'/>
  </rule>
  <rule action='drop' direction='inout' priority='1000'/>
</filter>
""",
    }
)


class Kind(enum.Enum):
    """What a frame says of an address; the words are the datapath's."""

    SOURCE = "source"
    LEASE = "lease"
    RELEASE = "release"


@attrs.frozen
class Sighting:
    """What a frame has said of *address*.

    The vif has sent from it; or *server* has assigned it for *lease_s* seconds by DHCP;
    or the vif has given it back.
    """

    kind: Kind
    address: IPv4Address
    server: IPv4Address | None = None
    lease_s: int = 0


@attrs.frozen
class Learned:
    """An address that the vif with *mac* was seen to have while it was *owner_uid*'s.

    *server* assigned it by DHCP, until *expires_s* of the Unix clock, None: for ever.
    What `any` has found has neither.
    """

    mode: Mode
    mac: MacAddress
    owner_uid: int
    address: IPv4Address
    server: IPv4Address | None = None
    expires_s: int | None = None


@attrs.frozen
class Search:
    """How the address of *vif* is looked for; *servers* are whom DHCP is believed, all if none."""

    vif: Vif
    mode: Mode
    servers: tuple[str, ...] = ()

    @classmethod
    def of(cls, vif: Vif, parameters: Iterable[Parameter]) -> "Search":
        """Return the search that the *parameters* of the binding of *vif* ask for."""
        given = {each.name: each.values for each in parameters}
        mode = Mode(given.get(LEARNING, (Mode.ANY.value,))[0].lower())
        return cls(vif, mode, given.get(SERVERS, ()))

    def holds(self, learned: Learned) -> bool:
        """Return whether *learned* was found by this search, and for this vif as it is."""
        whose = (learned.mode, learned.mac, learned.owner_uid)
        return (
            whose == (self.mode, self.vif.mac, self.vif.owner_uid)
            and self._is_bound(learned.address)
            and self._is_trusted(learned.server)
        )

    def kept(self, learned: Iterable[Learned]) -> tuple[Learned, ...]:
        """Return those that hold."""
        return tuple(filter(self.holds, learned))

    def after(
        self, learned: tuple[Learned, ...], sighting: Sighting, now_s: float
    ) -> tuple[Learned, ...]:
        """Return what is known after *sighting*, at *now_s* of the Unix clock."""
        match sighting.kind:
            case Kind.SOURCE:
                return self.with_source(learned, sighting.address)
            case Kind.LEASE if sighting.server is not None:
                for_ever = sighting.lease_s == FOREVER_S
                end = None if for_ever else math.ceil(now_s) + sighting.lease_s
                return self.with_lease(learned, sighting.address, sighting.server, end)
            case Kind.RELEASE:
                return self.without(learned, sighting.address)
        return learned

    def with_source(
        self, learned: tuple[Learned, ...], address: IPv4Address
    ) -> tuple[Learned, ...]:
        """Return what is known once the vif was seen to send from *address*."""
        kept = self.kept(learned)
        if self.mode is not Mode.ANY or kept or not self._is_bound(address):
            return kept
        return (self._made(address),)

    def with_lease(
        self,
        learned: tuple[Learned, ...],
        address: IPv4Address,
        server: IPv4Address,
        expires_s: int | None,
    ) -> tuple[Learned, ...]:
        """Return what is known once *server* has assigned *address*.

        A vif has as many leases as a grant gives addresses; another one is passed over.
        """
        kept = self.kept(learned)
        if not self._is_trusted(server):
            return kept
        if self.mode is not Mode.DHCP:
            return self.with_source(learned, address)
        lease = self._made(address, server, expires_s)
        if not self._is_bound(address):
            return kept
        if any(each.address == address for each in kept):
            return tuple(lease if each.address == address else each for each in kept)
        return (*kept, lease) if len(kept) < MAX_ADDRESSES_PER_VIF else kept

    def without(self, learned: tuple[Learned, ...], address: IPv4Address) -> tuple[Learned, ...]:
        """Return what is known once the vif has given *address* back."""
        kept = self.kept(learned)
        if self.mode is not Mode.DHCP:
            return kept
        return tuple(each for each in kept if each.address != address)

    def phase(self) -> tuple[ResolvedRule, ...]:
        """Return the rules by which frames are judged while no address is known.

        Raises:
            BindError: if a server that DHCP is believed is no address.
        """
        server = f"srcipaddr='${SERVERS}[@1]' " if self.servers else ""
        filter_ = parse_untrusted(_PHASES[self.mode].format(server=server).encode())
        parameters = [Parameter("MAC", (str(self.vif.mac),))]
        if self.servers:
            parameters.append(Parameter(SERVERS, self.servers))
        return resolve(filter_.name, {filter_.name: filter_}, parameters)

    def _made(
        self, address: IPv4Address, server: IPv4Address | None = None, expires_s: int | None = None
    ) -> Learned:
        vif = self.vif
        return Learned(self.mode, vif.mac, vif.owner_uid, address, server, expires_s)

    def _is_bound(self, address: IPv4Address) -> bool:
        return any(address in prefix for prefix in self.vif.prefixes if prefix.version == 4)

    def _is_trusted(self, server: IPv4Address | None) -> bool:
        return server is None or not self.servers or str(server) in self.servers


def as_parameter(learned: Iterable[Learned]) -> Parameter:
    """Return the variable that *learned*, of which there is one at least, is."""
    return Parameter(IP, tuple(str(each.address) for each in learned))


def unexpired(learned: Iterable[Learned], now_s: float) -> tuple[Learned, ...]:
    """Return those whose time is not over at *now_s* of the Unix clock."""
    return tuple(each for each in learned if each.expires_s is None or each.expires_s > now_s)
