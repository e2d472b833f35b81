"""One network with a vif for each role, and frames in it.

Where nothing else is said, they go from the user to the peer.
"""

from ipaddress import ip_network
from typing import Any, Final

from attrs import evolve

from tests.reference import Csum, Frame, Gso, Limits, Meta, Network, Vif, World

from . import frames
from .frames import Upper
from .traffic import Persona, persona

MTU: Final = 1500
LLDP: Final = 0x88CC

USER, PEER, ROUTER, SERVER, LAB, ANY = (persona(number) for number in range(1, 7))
PORTS: Final = {USER: 64, PEER: 65, ROUTER: 66, SERVER: 67, LAB: 68, ANY: 69}
STRANGER: Final = persona(99)
"""Somebody on the wire."""

UPLINK: Final = 0


UNLIMITED: Final = Limits()


def world_of(
    limits: Limits = UNLIMITED, *, hub: bool = False, uplink: int | None = UPLINK
) -> World:
    """Return a network with a vif for each role; *limits* are the user's."""

    def vif(who: Persona, **more: Any) -> Vif:
        bound = tuple(map(ip_network, (who.ipv4, who.ipv6, who.link_local)))
        return Vif(port=PORTS[who], network=0, mac=who.mac, prefixes=bound, **more)

    return World(
        (Network(id=0, hub=hub, uplink=uplink, mtu=MTU),),
        (
            vif(USER, limits=limits),
            vif(PEER),
            vif(ROUTER, router=True),
            vif(SERVER, dhcp_server=True),
            vif(LAB, ethertypes=frozenset({LLDP})),
            vif(ANY, any_ethertype=True),
        ),
    )


def ether(payload: bytes, ethertype: int, *, by: Persona = USER, dst: bytes = PEER.mac) -> Frame:
    return Frame(frames.ethernet(payload, dst=dst, src=by.mac, ethertype=ethertype))


def ip4(upper: Upper, *, by: Persona = USER, to: bytes = PEER.mac, **header: Any) -> Frame:
    header = {"src": by.ipv4, "dst": PEER.ipv4} | header
    return ether(frames.ipv4(upper, **header), frames.IPV4, by=by, dst=to)


def ip6(upper: Upper, *, by: Persona = USER, to: bytes = PEER.mac, **header: Any) -> Frame:
    header = {"src": by.ipv6, "dst": PEER.ipv6} | header
    return ether(frames.ipv6(upper, **header), frames.IPV6, by=by, dst=to)


def nd(upper: Upper, **header: Any) -> Frame:
    return ip6(upper, **({"hop_limit": 255} | header))


def dad(target: str, options: bytes = b"", **header: Any) -> Frame:
    """Return what asks whether anybody holds *target*, from nobody's address."""
    group = frames.solicited_node(target)
    header = {"src": "::", "dst": group, "to": frames.multicast_mac(group)} | header
    return nd(frames.neighbour_solicitation(target, options), **header)


def arp(operation: int = 1, **fields: Any) -> Frame:
    fields = {"sender_mac": USER.mac, "sender": USER.ipv4, "target": PEER.ipv4} | fields
    return ether(frames.arp(operation, **fields), frames.ARP, dst=frames.BROADCAST)


def dhcp4(message: bytes, *, sport: int = 68, dport: int = 67, **header: Any) -> Frame:
    """Return a DHCP message as a host without an address sends it."""
    header = {"src": "0.0.0.0", "dst": "255.255.255.255", "to": frames.BROADCAST} | header
    return ip4(frames.udp(message, sport=sport, dport=dport), **header)


def patch(frame: Frame, at: int, value: bytes) -> Frame:
    """Return a frame with some bytes changed, behind its Ethernet header."""
    at += 14
    return evolve(frame, data=frame.data[:at] + value + frame.data[at + len(value) :])


def cut(frame: Frame, n: int) -> Frame:
    """Return a frame without its last bytes."""
    return evolve(frame, data=frame.data[:-n])


def offload(frame: Frame, *, at: int = 34, field: int = 16, **meta: Any) -> Frame:
    """Return a frame with its checksum still to do."""
    return evolve(frame, meta=Meta(csum=Csum.NEEDED, csum_start=at, csum_offset=field, **meta))


def tso(frame: Frame, size: int = 1000, gso: Gso = Gso.TCPV4, **meta: Any) -> Frame:
    """Return a frame that is still to be segmented."""
    at = 34 if gso is Gso.TCPV4 else 54
    return offload(frame, **({"at": at, "gso": gso, "gso_size": size} | meta))


def tagged(frame: Frame, tpid: int = 0x8100, tci: int = 7) -> Frame:
    return evolve(frame, data=frames.tagged(frame.data, tpid=tpid, tci=tci))


UDP: Final = frames.udp(b"hello", sport=4000, dport=53)
TCP: Final = frames.tcp(bytes(3000))
DATA_4, DATA_6 = ip4(UDP), ip6(UDP)
