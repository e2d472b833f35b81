"""From bytes to meaning, the slow way: every header is a value of its own.

Each parser takes the bytes that stand behind the header before it and raises
MalformedPacket where what they say of themselves does not fit what is there.
"""

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from .world import IPAddress

ETHERNET_LEN = 14

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
#: IEEE 802.1Q, 802.1ad, and the numbers that QinQ had before it.
VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOME_ADDRESS = 0xC9
HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AH, NO_NEXT_HEADER = 0, 43, 44, 50, 51, 59
DESTINATION_OPTIONS, MOBILITY, HIP, SHIM6 = 60, 135, 139, 140
EXTENSION_HEADERS = frozenset(
    {HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION_OPTIONS, MOBILITY, HIP, SHIM6}
)
EXPERIMENTAL = frozenset({253, 254})
MAX_EXTENSION_HEADERS = 8

LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE = 131, 137


class MalformedPacket(Exception):
    """The bytes are no such packet."""


class Csum(IntEnum):
    """What is known of a transport checksum."""

    COMPLETE = 0
    NEEDED = 1
    VERIFIED = 2


class Gso(IntEnum):
    """Segmentation that a frame still needs (virtio 1.2, 5.1.6)."""

    NONE = 0
    TCPV4 = 1
    TCPV6 = 4
    UDP = 5


@frozen(kw_only=True)
class Meta:
    """What travels with a frame beside its bytes."""

    csum: Csum = Csum.COMPLETE
    csum_start: int = 0
    csum_offset: int = 0
    gso: Gso = Gso.NONE
    gso_size: int = 0
    vlan: bool = False


@frozen
class Frame:
    """An Ethernet frame; all but *data* and *meta* need a frame that is no runt."""

    data: bytes
    meta: Meta = Meta()

    @property
    def destination(self) -> bytes:
        """The destination MAC."""
        return self.data[0:6]

    @property
    def source(self) -> bytes:
        """The source MAC."""
        return self.data[6:12]

    @property
    def ethertype(self) -> int:
        """The EtherType, or a length below 0x0600."""
        return u16(self.data, 12)

    @property
    def payload(self) -> bytes:
        """All behind the Ethernet header."""
        return self.data[ETHERNET_LEN:]

    @property
    def is_to_group(self) -> bool:
        """Whether it is a broadcast or a multicast."""
        return is_group(self.destination)


@frozen
class Transport:
    """A transport header: where it stands in the frame, and all up to the packet's end."""

    protocol: int
    offset: int
    data: bytes


@frozen(kw_only=True)
class Packet:
    """An IPv4 or IPv6 packet.

    *transport* is None where there is none to see: in a fragment other than the
    first, behind ESP, and where a chain of extension headers is broken.
    """

    version: int
    source: IPAddress
    destination: IPAddress
    hop_limit: int
    fragment: bool
    transport: Transport | None
    broken_chain: bool = False


@frozen(kw_only=True)
class Arp:
    """An ARP packet for IPv4 over Ethernet."""

    operation: int
    sender_mac: bytes
    sender: IPv4Address
    target: IPv4Address

    REQUEST = 1
    REPLY = 2


def u16(data: bytes, at: int) -> int:
    """Return the 16-bit number at an offset."""
    return int.from_bytes(data[at : at + 2], "big")


def is_group(mac: bytes) -> bool:
    """Return whether a MAC is a broadcast or multicast one."""
    return mac[0] % 2 == 1


def parse_arp(packet: bytes) -> Arp:
    """Parse an ARP packet (RFC 826)."""
    if len(packet) < 28:
        raise MalformedPacket("shorter than 28 bytes")
    if packet[0:6] != bytes((0, 1, 8, 0, 6, 4)):
        raise MalformedPacket("not IPv4 over Ethernet")
    if u16(packet, 6) not in (Arp.REQUEST, Arp.REPLY):
        raise MalformedPacket("neither request nor reply")
    return Arp(
        operation=u16(packet, 6),
        sender_mac=packet[8:14],
        sender=IPv4Address(packet[14:18]),
        target=IPv4Address(packet[24:28]),
    )


def parse_ipv4(packet: bytes) -> Packet:
    """Parse an IPv4 packet (RFC 791); its header checksum is the receiver's business."""
    if len(packet) < 20:
        raise MalformedPacket("shorter than 20 bytes")
    version, words = divmod(packet[0], 16)
    header_len, total_len = 4 * words, u16(packet, 2)
    if version != 4:
        raise MalformedPacket("not version 4")
    if not 20 <= header_len <= total_len <= len(packet):
        raise MalformedPacket("header, packet and frame do not fit into each other")
    check_ipv4_options(packet[20:header_len])

    payload = packet[header_len:total_len]
    protocol = packet[9]
    more_fragments = packet[6] & 0x20 != 0
    fragment_offset = 8 * (u16(packet, 6) & 0x1FFF)
    fragment = more_fragments or fragment_offset > 0
    if fragment and fragment_offset + len(payload) > 65535:
        raise MalformedPacket("fragment ends beyond the longest packet")
    if fragment_offset == 8 and protocol == TCP:
        raise MalformedPacket("a fragment over the TCP header, which is whole in the first")
    if fragment_offset > 0:
        transport = None
    else:
        transport = Transport(protocol, ETHERNET_LEN + header_len, payload)
        if fragment and len(payload) < 8:
            raise MalformedPacket("first fragment with less than 8 bytes of payload")
        if len(payload) < {TCP: 20, UDP: 8, ICMP: 8}.get(protocol, 0):
            raise MalformedPacket("transport header is not whole")
    return Packet(
        version=4,
        source=IPv4Address(packet[12:16]),
        destination=IPv4Address(packet[16:20]),
        hop_limit=packet[8],
        fragment=fragment,
        transport=transport,
    )


def check_ipv4_options(options: bytes) -> None:
    """Check that options are well formed and route by no list (RFC 791, section 3.1)."""
    while options:
        kind = options[0]
        if kind == 0:
            return
        if kind == 1:
            options = options[1:]
            continue
        if kind in (LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE):
            raise MalformedPacket("source routing")
        if len(options) < 2 or not 2 <= options[1] <= len(options):
            raise MalformedPacket("option does not fit")
        options = options[options[1] :]


def parse_ipv6(packet: bytes) -> Packet:
    """Parse an IPv6 packet (RFC 8200) as far as its chain of extension headers is whole."""
    if len(packet) < 40:
        raise MalformedPacket("shorter than 40 bytes")
    payload_len, next_header = u16(packet, 4), packet[6]
    if packet[0] >> 4 != 6:
        raise MalformedPacket("not version 6")
    if payload_len > len(packet) - 40:
        raise MalformedPacket("payload is longer than the frame")
    if payload_len == 0 and next_header != NO_NEXT_HEADER:
        raise MalformedPacket("no payload, or a jumbo one")

    rest = packet[40 : 40 + payload_len]
    headers = 0
    fragment = broken = later_fragment = False
    while next_header in EXTENSION_HEADERS and not later_fragment:
        size = extension_header_len(next_header, rest)
        if (
            headers == MAX_EXTENSION_HEADERS
            or (next_header == HOP_BY_HOP and headers > 0)
            or size is None
        ):
            broken = True
            break
        if next_header == ROUTING and rest[3] > 0:
            raise MalformedPacket("source routing")
        if next_header == DESTINATION_OPTIONS and has_home_address(rest[2:size]):
            raise MalformedPacket("another source than the header's")
        if next_header == FRAGMENT:
            fragment = True
            later_fragment = u16(rest, 2) >> 3 > 0
        headers += 1
        next_header, rest = rest[0], rest[size:]

    transport = None
    if not (broken or later_fragment):
        whole = len(rest) >= {TCP: 20, UDP: 8, ICMPV6: 8}.get(next_header, 0)
        broken = next_header in EXPERIMENTAL or not whole
        if not broken and next_header not in (ESP, NO_NEXT_HEADER):
            offset = ETHERNET_LEN + 40 + payload_len - len(rest)
            transport = Transport(next_header, offset, rest)
    return Packet(
        version=6,
        source=IPv6Address(packet[8:24]),
        destination=IPv6Address(packet[24:40]),
        hop_limit=packet[7],
        fragment=fragment,
        transport=transport,
        broken_chain=broken,
    )


def has_home_address(options: bytes) -> bool:
    """Return whether there is a Home Address option (RFC 6275, 6.3), also one that is cut off."""
    while len(options) >= 2:
        if options[0] == HOME_ADDRESS:
            return True
        options = options[1:] if options[0] == 0 else options[2 + options[1] :]
    return False


def extension_header_len(kind: int, rest: bytes) -> int | None:
    """Return the length of the extension header at the start of *rest*; None if it is cut off."""
    if len(rest) < 8:
        return None
    size = {FRAGMENT: 8, AH: (rest[1] + 2) * 4}.get(kind, (rest[1] + 1) * 8)
    return size if size <= len(rest) else None


def parse_ip(frame: Frame) -> Packet | None:
    """Return a frame's IP packet; None if it carries none.

    Raises:
        MalformedPacket: if its EtherType says that it does, and it does not fit.
    """
    if frame.ethertype == IPV4:
        return parse_ipv4(frame.payload)
    if frame.ethertype == IPV6:
        return parse_ipv6(frame.payload)
    return None
