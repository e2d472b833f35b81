"""What becomes of a frame: the whole decision, in both directions and modes."""

from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import evolve, frozen

from . import ingress
from . import packet as wire
from .ingress import Case
from .limit import TokenBucket
from .packet import Arp, Frame
from .reasons import Reason
from .world import Claim, IPAddress, Network, Vif, World

MAX_FRAME_LEN: Final = 14 + 40 + 65535

MAX_CLAIMS: Final = 4
CLAIM_WAIT_NS: Final = 500_000_000


class Route(Enum):
    """To whom a frame goes."""

    NONE = "none"
    PORT = "port"
    FLOOD = "flood"
    MEMBERS = "members"


@frozen(kw_only=True)
class Conflict:
    """A stranger on the wire claims an address that the vif at *port* is bound to."""

    port: int
    address: IPAddress


@frozen(kw_only=True)
class Decision:
    """What becomes of a frame; *port* is set for Route.PORT, *network* for the other two."""

    reason: Reason | None = None
    route: Route = Route.NONE
    port: int | None = None
    network: int | None = None
    conflict: Conflict | None = None


def to_port(port: int) -> Decision:
    return Decision(route=Route.PORT, port=port)


def to_all(network: Network) -> Decision:
    return Decision(route=Route.FLOOD, network=network.id)


def drop(reason: Reason, conflict: Conflict | None = None) -> Decision:
    return Decision(reason=reason, conflict=conflict)


def to_members(network: Network) -> Decision:
    return Decision(route=Route.MEMBERS, network=network.id)


def to_uplink(network: Network) -> Decision:
    return drop(Reason.NO_RECEIVER) if network.uplink is None else to_port(network.uplink)


class Buckets:
    """The token buckets of one vif."""

    def __init__(self, vif: Vif) -> None:
        self.frames = TokenBucket(vif.limits.frames_per_s)
        self.bytes = TokenBucket(vif.limits.bytes_per_s)
        self.broadcasts = TokenBucket(vif.limits.broadcast_per_s)
        self.copies = TokenBucket(vif.limits.copies_per_s)

    def charge(
        self, now_ns: int, *, frames: int, len_bytes: int, broadcasts: int, copies: int
    ) -> Reason | None:
        """Take from all buckets, or from none and say which kind was too low."""
        rate = ((self.frames, frames), (self.bytes, len_bytes))
        fan_out = ((self.broadcasts, broadcasts), (self.copies, copies))
        for bucket, _ in rate + fan_out:
            bucket.refill(now_ns)
        for reason, wanted in ((Reason.RATE_LIMIT, rate), (Reason.BROADCAST_LIMIT, fan_out)):
            if not all(bucket.has(tokens) for bucket, tokens in wanted):
                return reason
        for bucket, tokens in rate + fan_out:
            bucket.take(tokens)
        return None


class Reference:
    """The datapath's decisions for one world.  Only token buckets and claims change."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._buckets = {vif.port: Buckets(vif) for vif in world.vifs}

    def from_vif(self, port: int, frame: Frame, now_ns: int) -> Decision:
        """Judge a frame that the vif at *port* sent."""
        self._ripen(self.world.vif(port), now_ns)
        vif = self.world.vif(port)
        network = self.world.network(vif.network)
        reason = ingress.reason_to_drop(Case(vif, network.mtu, frame))
        claimed = ingress.newly_claimed(vif, frame)
        if reason is None and claimed is not None and not self._may_claim(vif, network, claimed):
            reason = Reason.ND_SPOOF
        if reason is not None:
            return drop(reason)
        if claimed is not None:
            decision = to_all(network)
        else:
            decision = self._route_from_vif(vif, network, frame)
        segments = ingress.segments(frame)
        over = self._buckets[port].charge(
            now_ns,
            frames=segments,
            len_bytes=ingress.bytes_sent(frame),
            broadcasts=1 if frame.is_to_group else 0,
            copies=segments * self._copies(vif, network, frame, decision),
        )
        if over is not None:
            return drop(over)
        if claimed is not None and claimed not in [claim.address for claim in vif.claims]:
            claim = Claim(address=claimed, since_ns=now_ns)
            self._set_claims(vif, (*vif.claims, claim))
        return decision

    def _may_claim(self, vif: Vif, network: Network, address: IPv6Address) -> bool:
        if network.uplink is not None and not network.uplink_up:
            return False
        holder = self.world.holder_of(network, address)
        return holder == vif if holder is not None else len(vif.claims) < MAX_CLAIMS

    def _ripen(self, vif: Vif, now_ns: int) -> None:
        self._set_claims(
            vif,
            tuple(
                evolve(claim, firm=claim.firm or now_ns - claim.since_ns >= CLAIM_WAIT_NS)
                for claim in vif.claims
            ),
        )

    def _yields(self, vif: Vif, address: IPAddress) -> bool:
        """End a claim of *address* that is not firm, and return whether there was one."""
        kept = tuple(claim for claim in vif.claims if claim.firm or claim.address != address)
        self._set_claims(vif, kept)
        return kept != vif.claims

    def _set_claims(self, vif: Vif, claims: tuple[Claim, ...]) -> None:
        changed = evolve(vif, claims=claims)
        vifs = tuple(changed if each == vif else each for each in self.world.vifs)
        self.world = evolve(self.world, vifs=vifs)

    def set_wire(self, network: Network, up: bool, now_ns: int) -> None:
        """Say whether the wire of *network* is there."""
        for vif in () if up else self.world.members(network):
            self._ripen(vif, now_ns)
            now = self.world.vif(vif.port)
            self._set_claims(now, tuple(claim for claim in now.claims if claim.firm))
        networks = tuple(
            evolve(each, uplink_up=up) if each.id == network.id else each
            for each in self.world.networks
        )
        self.world = evolve(self.world, networks=networks)

    def receivers(self, port: int, decision: Decision) -> list[int]:
        """Return who is given a frame from *port* of which that becomes."""
        if decision.port is not None:
            return [decision.port]
        if decision.network is None:
            return []
        network = self.world.network(decision.network)
        from_wire = port == network.uplink
        found = [
            member.port
            for member in self.world.members(network)
            if member.up and member.port != port and not (from_wire and member.host)
        ]
        if decision.route is Route.FLOOD and network.uplink is not None and not from_wire:
            found.append(network.uplink)
        return sorted(found)

    def _copies(self, vif: Vif, network: Network, frame: Frame, decision: Decision) -> int:
        """Return how many copies are made of a frame that was not sent to one MAC only."""
        if decision.route in (Route.FLOOD, Route.MEMBERS):
            others = [other for other in self.world.members(network) if other.up and other != vif]
            to_wire = decision.route is Route.FLOOD and network.uplink is not None
            return len(others) + to_wire
        return 1 if frame.is_to_group and decision.route is Route.PORT else 0

    def _route_from_vif(self, vif: Vif, network: Network, frame: Frame) -> Decision:
        receiver = self.world.holder_of_mac(network, frame.destination)
        if receiver is not None and receiver.host and receiver != vif:
            to = destination(frame)
            # It might route what is for somebody else.
            if to is not None and not to.is_multicast and not receiver.has(to):
                return drop(Reason.NO_RECEIVER)
        decision = self._route_as_any_vif(vif, network, frame)
        if not vif.host:
            return decision
        # The wire is out of the host's reach here.
        if decision.route is Route.PORT and decision.port == network.uplink:
            return drop(Reason.NO_RECEIVER)
        return to_members(network) if decision.route is Route.FLOOD else decision

    def _route_as_any_vif(self, vif: Vif, network: Network, frame: Frame) -> Decision:
        if network.hub:
            if self.world.holder_of_mac(network, frame.destination) is not None:
                return to_members(network)
            return to_all(network)
        if not frame.is_to_group:
            holder = self.world.holder_of_mac(network, frame.destination)
            if holder == vif:
                return drop(Reason.NO_RECEIVER)
            return to_uplink(network) if holder is None else to_port(holder.port)
        wanted = solicited(frame)
        if wanted is None:
            return to_all(network)
        holder = self.world.holder_of(network, wanted)
        if holder is None:
            return to_uplink(network)
        return to_all(network) if holder == vif else to_port(holder.port)

    def from_uplink(self, port: int, frame: Frame) -> Decision:
        """Judge a frame that came from the wire."""
        if len(frame.data) < wire.ETHERNET_LEN:
            return drop(Reason.RUNT)
        if len(frame.data) > MAX_FRAME_LEN:
            return drop(Reason.OVERSIZE)
        if ingress.is_reserved(frame.destination):
            return drop(Reason.RESERVED_MAC)
        if frame.meta.vlan or frame.ethertype in wire.VLAN_TAGS:
            return drop(Reason.UPLINK_VLAN)
        network = self.world.network_on(port)
        if network is None:
            return drop(Reason.NO_RECEIVER)
        spoof = self._spoof(network, frame)
        if spoof is not None:
            return spoof
        packet = ingress.packet_of(frame)
        if packet is not None and packet.broken_chain:
            return drop(Reason.EXT_HEADER)
        decision = self._route_from_uplink(network, frame)
        if decision.reason is None and not ingress.fits_mtu(frame, network.mtu):
            return drop(Reason.EGRESS_MTU)
        return decision

    def _spoof(self, network: Network, frame: Frame) -> Decision | None:
        """Return the drop of a frame that claims what is bound here, if it does.

        No conflict is told of a frame with a MAC of ours: there is no foreign MAC to
        show, and most likely it is our own frame that came back.
        """
        if wire.is_group(frame.source) or self.world.holder_of_mac(network, frame.source):
            return drop(Reason.UPLINK_SPOOF)
        for said in said_in(frame):
            holder = self.world.holder_of(network, said.address)
            if holder is not None and not self._yields(holder, said.address):
                conflict = Conflict(port=holder.port, address=said.address)
                return drop(Reason.UPLINK_SPOOF, conflict if said.to_neighbours else None)
        return None

    def _route_from_uplink(self, network: Network, frame: Frame) -> Decision:
        if network.hub:
            return to_all(network)
        if not frame.is_to_group:
            holder = self.world.holder_of_mac(network, frame.destination)
        else:
            wanted = solicited(frame)
            if wanted is None:
                return to_all(network)
            holder = self.world.holder_of(network, wanted)
        if holder is None or holder.host:
            return drop(Reason.NO_RECEIVER)
        return to_port(holder.port)


def solicited(frame: Frame) -> IPAddress | None:
    """Return the address whose owner an ARP request or neighbour solicitation looks for."""
    arp = ingress.arp_of(frame)
    if arp is not None:
        return arp.target if arp.operation == Arp.REQUEST else None
    return neighbour_target(frame, ingress.NEIGHBOUR_SOLICITATION)


def destination(frame: Frame) -> IPAddress | None:
    """Return the destination of a well-formed IP packet."""
    if frame.ethertype == wire.IPV4:
        return IPv4Address(frame.payload[16:20])
    return IPv6Address(frame.payload[24:40]) if frame.ethertype == wire.IPV6 else None


def neighbour_target(frame: Frame, kind: int) -> IPv6Address | None:
    """Return the target of a neighbour solicitation or advertisement."""
    icmp = ingress.transport_of(frame, 6, wire.ICMPV6)
    if icmp is None or icmp[0] != kind or len(icmp) < 24:
        return None
    return IPv6Address(icmp[8:24])


@frozen
class Said:
    """An address that a frame says is its sender's; *to_neighbours*: by ARP, NS or NA."""

    address: IPAddress
    to_neighbours: bool


def said_in(frame: Frame) -> list[Said]:
    """Return what a frame from the wire claims, what it says in so many words first.

    A source counts even where the packet is not well formed, as long as it stands
    where a receiver would look for it: receivers take some of what the parser does
    not.
    """
    packet = frame.payload
    if frame.ethertype == wire.ARP and len(packet) >= 28:
        sender = IPv4Address(packet[14:18])
        return [Said(sender, True)] if int(sender) != 0 else []
    if frame.ethertype == wire.IPV4 and len(packet) >= 20:
        return [Said(IPv4Address(packet[12:16]), False)]
    if frame.ethertype == wire.IPV6 and len(packet) >= 40:
        source = IPv6Address(packet[8:24])
        advertised = neighbour_target(frame, ingress.NEIGHBOUR_ADVERTISEMENT)
        if advertised is not None:
            return [Said(advertised, True), Said(source, True)]
        asked = neighbour_target(frame, ingress.NEIGHBOUR_SOLICITATION)
        return [Said(source, asked is not None)]
    return []
