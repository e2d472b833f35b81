"""What the intruder tries, and the lawful twins that show the listeners at work."""

from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from typing import Final

import attrs

from . import frames


@attrs.frozen
class Party:
    """Who somebody on the LAN is, in packed addresses."""

    name: str
    mac: bytes
    ipv4: bytes
    ipv6: bytes

    @property
    def link_local(self) -> bytes:
        """Return the link-local address that follows from the MAC (RFC 4291, appendix A)."""
        identifier = bytes([self.mac[0] ^ 2]) + self.mac[1:3] + b"\xff\xfe" + self.mac[3:]
        return IPv6Address("fe80::").packed[:8] + identifier


@attrs.frozen
class Parties:
    intruder: Party
    victim: Party
    neighbour: Party
    outside: Party

    @property
    def targets(self) -> tuple[bytes, bytes, bytes]:
        """Where each forgery is sent: to one neighbour, to the outside host, to all."""
        return self.neighbour.mac, self.outside.mac, frames.BROADCAST


Build = Callable[[Parties, bytes], list[bytes]]


@attrs.frozen
class Attempt:
    """Frames, built with a mark, and the drop counter that must count each of them."""

    name: str
    counter: str
    build: Build


def neighbours_mac(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.victim.mac, of.intruder.ipv4)
    return [frames.udp_frame((to, of.neighbour.ipv4), source, mark) for to in of.targets]


def neighbours_ipv4(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.intruder.mac, of.victim.ipv4)
    return [frames.udp_frame((to, of.neighbour.ipv4), source, mark) for to in of.targets]


def neighbours_ipv6(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.intruder.mac, of.victim.ipv6)
    return [frames.udp_frame((to, of.neighbour.ipv6), source, mark) for to in of.targets]


def arp_poisoning(of: Parties, mark: bytes) -> list[bytes]:
    claimed = of.victim.ipv4
    return [frames.arp_reply(to, of.intruder.mac, claimed, mark) for to in of.targets]


def forged_advertisement(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.intruder.mac, of.intruder.ipv6)
    claimed = of.victim.ipv6
    return [
        frames.neighbour_advertisement(to, source, claimed, mark)
        for to in (*of.targets[:2], frames.ALL_NODES_MAC)
    ]


def router_advertisement(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.intruder.mac, of.intruder.link_local)
    prefix = IPv6Address("fd66::").packed
    return [
        frames.router_advertisement(to, source, prefix, mark)
        for to in (*of.targets[:2], frames.ALL_NODES_MAC)
    ]


def dhcp_offer(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.intruder.mac, of.intruder.ipv4)
    return [frames.dhcp_offer(to, source, of.neighbour.ipv4, mark) for to in of.targets]


FORGERIES: Final = (
    Attempt("neighbour's MAC", "src_mac", neighbours_mac),
    Attempt("neighbour's IPv4 address", "ipv4_src", neighbours_ipv4),
    Attempt("neighbour's IPv6 address", "ipv6_src", neighbours_ipv6),
    Attempt("ARP poisoning", "arp_sender", arp_poisoning),
    Attempt("forged neighbour advertisement", "nd_spoof", forged_advertisement),
    Attempt("router advertisement", "ra_guard", router_advertisement),
    Attempt("DHCP offer", "dhcp_server", dhcp_offer),
)


def tagged(attempt: Attempt) -> Attempt:
    """Return *attempt* with an 802.1Q tag around each frame.

    The source MAC is looked at before the tag.
    """

    def build(of: Parties, mark: bytes) -> list[bytes]:
        return [frames.tagged(frame) for frame in attempt.build(of, mark)]

    counter = "src_mac" if attempt.counter == "src_mac" else "vlan_tag"
    return Attempt(f"{attempt.name}, tagged", counter, build)


def attempts() -> Iterator[Attempt]:
    yield from FORGERIES
    yield from map(tagged, FORGERIES)


def lawful(sender: Party, mark: bytes) -> list[bytes]:
    """Return a frame of each kind that *sender* may send to everybody."""
    of_ipv4, of_ipv6 = (sender.mac, sender.ipv4), (sender.mac, sender.ipv6)
    return [
        frames.udp_frame((frames.BROADCAST, frames.EVERYBODY), of_ipv4, mark),
        frames.udp_frame((frames.ALL_NODES_MAC, frames.ALL_NODES), of_ipv6, mark),
        frames.arp_reply(frames.BROADCAST, sender.mac, sender.ipv4, mark),
        frames.neighbour_advertisement(frames.ALL_NODES_MAC, of_ipv6, sender.ipv6, mark),
    ]


def fence(sender: Party, mark: bytes) -> bytes:
    """Return a lawful frame to everybody: whoever has it has all that came before."""
    everybody = (frames.BROADCAST, frames.EVERYBODY)
    return frames.udp_frame(everybody, (sender.mac, sender.ipv4), mark)


def tagged_from_wire(of: Parties, mark: bytes) -> list[bytes]:
    source = (of.outside.mac, of.outside.ipv4)
    return [
        frames.tagged(frames.udp_frame((to.mac, to.ipv4), source, mark))
        for to in (of.victim, of.neighbour)
    ]
