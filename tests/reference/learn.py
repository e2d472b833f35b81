"""What frames say of a vif's address, the slow way: see datapath/core/learn.h."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from attrs import frozen

from .packet import (
    ARP,
    IPV4,
    UDP,
    Frame,
    MalformedPacket,
    Packet,
    parse_arp,
    parse_ipv4,
    u16,
)

SERVER, CLIENT = 67, 68
REQUESTED, LEASE_TIME, TYPE = 50, 51, 53
DECLINE, ACK, RELEASE = 4, 5, 7
PAD, END = 0, 255
COOKIE = bytes((99, 130, 83, 99))


NOBODY = IPv4Address(0)


@frozen
class Sighting:
    """Something that was seen of *address*; *server* and *lease_s* are of a lease."""

    kind: str
    address: IPv4Address
    server: IPv4Address = NOBODY
    lease_s: int = 0


@frozen
class Message:
    """A message of DHCP (RFC 2131, section 2), with those of its options that are looked at."""

    op: int
    client: IPv4Address
    yours: IPv4Address
    mac: bytes
    options: dict[int, bytes]

    @property
    def kind(self) -> int:
        return self.options[TYPE][0] if TYPE in self.options else 0


def from_vif(frame: Frame, *, sources: bool, leases: bool) -> Sighting | None:
    """Return what a frame that the vif has sent says."""
    if sources:
        source = source_of(frame)
        return Sighting("source", source) if source is not None else None
    message = message_of(frame, CLIENT) if leases else None
    if message is None or message.op != 1 or message.mac != frame.source:
        return None
    given_back = {
        RELEASE: message.client.packed,
        DECLINE: message.options.get(REQUESTED),
    }.get(message.kind)
    if given_back is None or not is_somebodys(IPv4Address(given_back)):
        return None
    return Sighting("release", IPv4Address(given_back))


def to_vif(frame: Frame, mac: bytes, *, leases: bool) -> Sighting | None:
    """Return what a frame that the vif of *mac* is given says."""
    message = message_of(frame, SERVER) if leases else None
    if message is None or message.op != 2 or message.mac != mac or message.kind != ACK:
        return None
    if LEASE_TIME not in message.options or not is_somebodys(message.yours):
        return None
    server = parse_ipv4(frame.payload).source
    assert isinstance(server, IPv4Address)
    time = int.from_bytes(message.options[LEASE_TIME], "big")
    return Sighting("lease", message.yours, server, time)


def is_somebodys(address: IPv4Address) -> bool:
    """Return whether a single station can have *address*."""
    return IPv4Address("0.0.0.0") < address < IPv4Address("224.0.0.0")


def source_of(frame: Frame) -> IPv4Address | None:
    """Return the address that a frame is from, by IPv4 or ARP."""
    try:
        if frame.ethertype == ARP:
            source = parse_arp(frame.payload).sender
        elif frame.ethertype == IPV4:
            found = parse_ipv4(frame.payload).source
            assert isinstance(found, IPv4Address)
            source = found
        else:
            return None
    except MalformedPacket:
        return None
    return source if is_somebodys(source) else None


def message_of(frame: Frame, port: int) -> Message | None:
    """Return the message of DHCP that a frame from *port* to the other one has; else None."""
    try:
        packet = parse_ipv4(frame.payload) if frame.ethertype == IPV4 else None
    except MalformedPacket:
        return None
    data = datagram_of(packet, port) if packet is not None else None
    if data is None or len(data) < 240 or data[1:3] != b"\1\6" or data[236:240] != COOKIE:
        return None
    options: dict[int, bytes] = {}
    try:
        for code, value in options_of(data[240:]):
            if code in (REQUESTED, LEASE_TIME, TYPE):
                if code in options or len(value) != (1 if code == TYPE else 4):
                    return None
                options[code] = value
    except MalformedPacket:
        return None
    client, yours = IPv4Address(data[12:16]), IPv4Address(data[16:20])
    return Message(data[0], client, yours, data[28:34], options)


def datagram_of(packet: Packet, port: int) -> bytes | None:
    """Return the payload of a whole datagram from *port* to the other of DHCP's ports."""
    udp = packet.transport
    if packet.fragment or udp is None or udp.protocol != UDP:
        return None
    other = SERVER + CLIENT - port
    length = u16(udp.data, 4)
    if (u16(udp.data, 0), u16(udp.data, 2)) != (port, other) or length > len(udp.data):
        return None
    return udp.data[8:length]


def options_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the options of a message up to its end (RFC 2132, section 2)."""
    while data and data[0] != END:
        if data[0] == PAD:
            data = data[1:]
            continue
        if len(data) < 2 or len(data) < 2 + data[1]:
            raise MalformedPacket("an option is cut off")
        yield data[0], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
