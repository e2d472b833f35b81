"""Random worlds, and traffic in them that is nearly right.

A frame is built by the rules first, with fields that are mostly the sender's own
and sometimes a neighbour's, and perhaps damaged afterwards.  Purely random bytes
would hardly ever get past the first checks.
"""

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, TypeVar

from attrs import evolve, frozen
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.reference import Csum, Frame, Gso, Limits, Meta, Network, Vif, World
from tests.reference.ingress import packet_of

from . import frames
from .frames import Upper

T = TypeVar("T")

FIRST_VIF: Final = 64
FIRST_UPLINK: Final = 0

NS_PER_MS: Final = 1_000_000


@frozen(kw_only=True)
class Persona:
    """What one vif is bound to, in the notation that builders of frames take."""

    mac: bytes
    ipv4: str
    ipv6: str
    link_local: str
    prefixes: tuple[str, ...] = ()


def persona(number: int, *prefixes: str) -> Persona:
    """Return the persona with this number; *prefixes* are bound beside its addresses."""
    return Persona(
        mac=frames.mac(f"52:54:00:00:00:{number:02x}"),
        ipv4=f"10.0.1.{number}",
        ipv6=f"fd00::{number}",
        link_local=f"fe80::5054:ff:fe00:{number}",
        prefixes=prefixes,
    )


PERSONAS: Final = (
    persona(1),
    persona(2),
    persona(3),
    # The last one is bound to addresses inside the fourth's prefixes.
    persona(4, "10.0.5.0/24", "fd00:5::/64"),
    persona(5, "10.0.5.7/32", "fd00:5::7/128"),
)
STRANGER: Final = persona(99)

STABLE: Final = "fe80::a1b2:c3d4:e5f6:7001"
"""A link-local address as RFC 7217 makes them."""


def mostly(usual: T, *others: T) -> SearchStrategy[T]:
    """Draw *usual* in six of seven cases, else one of *others*."""
    return st.sampled_from([usual] * 6 * len(others) + list(others))


# Worlds.


@st.composite
def worlds(draw: DrawFn) -> World:
    """Draw two networks, one in each mode, with three vifs or more between them."""
    networks = tuple(
        Network(
            id=number,
            hub=number == 1,
            uplink=draw(mostly(FIRST_UPLINK + number, None)),
            mtu=draw(st.sampled_from([1500, 576, 1280, 9000])),
        )
        for number in range(2)
    )
    vifs: list[Vif] = []
    for network in networks:
        members = draw(st.integers(3 if network.id == 0 else 1, 4))
        for number in draw(st.permutations(range(len(PERSONAS))))[:members]:
            vifs.append(draw(vifs_of(PERSONAS[number], FIRST_VIF + len(vifs), network)))
    idle = tuple(FIRST_UPLINK + n.id for n in networks if n.uplink is None)
    return World(networks, tuple(vifs), idle)


LIMITS: Final = (
    *(Limits(),) * 4,
    Limits(frames_per_s=2),
    Limits(bytes_per_s=300),
    Limits(bytes_per_s=2000),
    Limits(broadcast_per_s=1),
    Limits(copies_per_s=4),
    Limits(frames_per_s=40, bytes_per_s=100_000, broadcast_per_s=3, copies_per_s=9),
)


@st.composite
def vifs_of(draw: DrawFn, owner: Persona, port: int, network: Network) -> Vif:
    """Draw roles and limits of a vif with a persona's binding."""
    texts = (owner.ipv4, owner.ipv6, owner.link_local, *owner.prefixes)
    special = (("router",), ("dhcp_server",), ("any_ethertype",), ("vpn",), ("host",))
    roles = draw(mostly((), *special, ("first_come",)))
    return Vif(
        port=port,
        network=network.id,
        mac=owner.mac,
        prefixes=tuple(map(ip_network, texts)),
        ethertypes=frozenset({0x88CC, 0x8100}) if "vpn" in roles else frozenset(),
        router="router" in roles,
        dhcp_server="dhcp_server" in roles,
        any_ethertype="any_ethertype" in roles,
        host="host" in roles,
        first_come="first_come" in roles,
        limits=draw(st.sampled_from(LIMITS)),
        up=draw(mostly(True, False)),
    )


# Contents: each returns what stands behind the Ethernet header, with its EtherType
# and the MAC that it would go to.


@frozen(kw_only=True)
class Scene:
    """Who speaks, to whom, and who is talked about."""

    me: Persona
    you: Persona
    other: Persona
    own_mtu: int
    lies: bool

    def own(self, kind: str) -> SearchStrategy[str]:
        """Draw an address that mostly is the speaker's."""
        mine, foreign = getattr(self.me, kind), getattr(self.other, kind)
        if self.lies:
            mine, foreign = foreign, mine
        if kind == "ipv4":
            return mostly(mine, foreign, "0.0.0.0", "10.0.5.1", "10.0.5.7", "255.255.255.255")
        return mostly(mine, self.me.link_local, foreign, "::", "fd00:5::1", "fd00:5::7", "ff02::1")

    def own_mac(self) -> SearchStrategy[bytes]:
        """Draw a MAC that mostly is the speaker's."""
        return mostly(self.me.mac, self.other.mac, bytes(6))


@frozen
class Content:
    """A network-layer packet, and where it goes."""

    ethertype: int
    payload: bytes
    dst: bytes


@st.composite
def arps(draw: DrawFn, scene: Scene) -> Content:
    payload = frames.arp(
        draw(st.sampled_from([1, 1, 1, 1, 2, 2, 2, 3])),
        sender_mac=draw(scene.own_mac()),
        sender=draw(scene.own("ipv4")),
        target=draw(st.sampled_from([scene.you.ipv4, scene.me.ipv4, "10.0.5.7", "10.0.1.200"])),
    )
    dst = draw(mostly(frames.BROADCAST, scene.you.mac))
    return Content(frames.ARP, payload, dst)


def udp_ports(*pairs: tuple[int, int]) -> SearchStrategy[tuple[int, int]]:
    return st.sampled_from(pairs)


@st.composite
def dhcp_options(draw: DrawFn, scene: Scene) -> bytes:
    of_client = st.sampled_from(
        [
            frames.option(53, bytes((1,))),
            frames.option(53, bytes((4,))),
            frames.option(53, b""),
            frames.option(50, IPv4Address(scene.me.ipv4).packed),
            frames.option(50, IPv4Address(scene.other.ipv4).packed),
            frames.option(50, bytes(3)),
            frames.option(61, b"\1" + scene.me.mac),
            frames.option(61, b"\1" + scene.other.mac),
            frames.option(61, b"\xffname"),
            frames.option(61, b"\1"),
            frames.option(61, b""),
            frames.option(52, bytes((3,))),
            frames.option(12, b"host"),
            bytes(3),
        ]
    )
    return b"".join(draw(st.lists(of_client, max_size=4))) + draw(mostly(b"\xff", b"", b"\x3d"))


@st.composite
def dhcps(draw: DrawFn, scene: Scene) -> Upper:
    message = frames.dhcp(
        draw(st.sampled_from([scene.me.mac, scene.other.mac])),
        op=draw(mostly(1, 2)),
        relay=draw(mostly("0.0.0.0", "10.0.1.200")),
        client=draw(st.sampled_from(["0.0.0.0", scene.me.ipv4, scene.other.ipv4])),
        options=draw(dhcp_options(scene)),
    )
    kept = draw(mostly(len(message), 43, 44, 239, 240, len(message) - 1))
    sport, dport = draw(
        udp_ports((68, 67), (68, 67), (68, 67), (67, 68), (67, 67), (69, 67), (67, 69))
    )
    return frames.udp(message[:kept], sport=sport, dport=dport)


@st.composite
def icmps(draw: DrawFn, scene: Scene) -> Upper:
    kind = draw(st.sampled_from([3, 3, 4, 5, 5, 8, 9, 9, 11, 12]))
    reported = draw(st.sampled_from([scene.me.ipv4, scene.other.ipv4]))
    about = frames.ipv4(frames.tcp(), src=scene.you.ipv4, dst=reported)
    kept = draw(mostly(len(about), 19, 20, 28))
    return frames.icmp(kind, body=bytes(4) + about[:kept])


@st.composite
def uppers4(draw: DrawFn, scene: Scene) -> Upper:
    kind = draw(st.sampled_from(["dhcp", "dhcp", "icmp", "icmp", "udp", "tcp", "tcp", "raw"]))
    if kind == "dhcp":
        return draw(dhcps(scene))
    if kind == "icmp":
        return draw(icmps(scene))
    return draw(plain_uppers(kind, scene))


@st.composite
def plain_uppers(draw: DrawFn, kind: str, scene: Scene) -> Upper:
    body = bytes(draw(mostly(16, 0, 4, scene.own_mtu - 40, scene.own_mtu - 20, scene.own_mtu)))
    if kind == "udp":
        sport, dport = draw(udp_ports((4000, 53), (547, 546), (546, 547), (67, 68)))
        return frames.udp(body, sport=sport, dport=dport)
    if kind == "tcp":
        options = draw(mostly(b"", bytes((1, 1, 1, 1)), bytes(12)))
        return frames.tcp(body, options=options)
    protocol = draw(st.sampled_from([2, 2, 47, 50, 58, 59, 103, 112, 132, 253]))
    if protocol == 2:
        group = draw(st.sampled_from([0x11, 0x12, 0x13, 0x14, 0x16, 0x17, 0x30, 0x31, 0x32]))
        body = draw(mostly(bytes((group,)) + body, b""))
    return frames.raw(protocol, body)


@st.composite
def ipv4s(draw: DrawFn, scene: Scene) -> Content:
    upper = draw(uppers4(scene))
    options = draw(
        mostly(b"", b"\1\1\1\0", b"\x94\4\0\0", b"\x83\3\4\0", b"\x89\3\4\0", b"\7\5\0\0")
    )
    offset, more, part = draw(
        mostly(
            (0, False, slice(None)),
            (0, True, slice(0, 24)),
            (0, True, slice(0, 64)),
            (0, True, slice(0, 8)),
            (0, True, slice(0, 7)),
            (24, False, slice(24, None)),
            (8, False, slice(8, None)),
            (8, True, slice(8, 16)),
            (65528, False, slice(0, 7)),
            (65528, False, slice(0, 8)),
        )
    )
    group = draw(mostly(False, True))
    for_dhcp = upper.data[:4] == bytes((0, 68, 0, 67))
    src, dst_mac = draw(scene.own("ipv4")), scene.you.mac
    dst = scene.you.ipv4
    if for_dhcp and draw(mostly(True, False)):
        src, dst, dst_mac = draw(mostly("0.0.0.0", src)), "255.255.255.255", frames.BROADCAST
    elif group:
        dst, dst_mac = "224.0.0.251", frames.multicast_mac("224.0.0.251")
    payload = frames.ipv4(
        upper, src=src, dst=dst, options=options, offset=offset, more=more, part=part
    )
    return Content(frames.IPV4, payload, dst_mac)


#: Query, RS, RA, NS, NA, redirect, renumbering, inverse NS and NA, multicast router discovery.
NEIGHBOUR_TYPES: Final = (130, 133, *(134, 135, 136, 137) * 3, 138, 141, 142, 151, 152, 153)


@st.composite
def neighbour_messages(draw: DrawFn, scene: Scene) -> Upper:
    """Draw an RS, RA, NS, NA, redirect, or what else neighbours say to each other."""
    mac = draw(scene.own_mac())
    options = draw(
        mostly(
            frames.link_layer(draw(st.sampled_from([1, 2])), mac),
            b"",
            frames.link_layer(14, b"nonce!"),
            frames.link_layer(1, mac) + frames.link_layer(2, mac),
            b"\1\0" + mac,
            b"\1\2" + mac,
            b"\1\2" + mac + bytes(8),
            b"\1",
        )
    )
    target = draw(
        mostly(
            *(scene.me.ipv6, scene.you.ipv6, scene.other.link_local),
            *("fd00:5::7", "fd00::77", STABLE),
        )
    )
    kind = draw(st.sampled_from(NEIGHBOUR_TYPES))
    if kind == 135:
        wanted = draw(st.sampled_from([scene.you.ipv6, scene.other.ipv6, target]))
        return frames.neighbour_solicitation(wanted, options)
    if kind == 136:
        return frames.neighbour_advertisement(target, options)
    if kind == 133:
        return frames.router_solicitation(options)
    if kind == 134:
        return frames.router_advertisement(options)
    return frames.icmpv6(kind, draw(mostly(0, 1)), bytes(36) + options)


@st.composite
def icmpv6_messages(draw: DrawFn, scene: Scene) -> Upper:
    kind = draw(st.sampled_from([1, 2, 3, 4, 0, 100, 127, 128, 129, 131, 143]))
    reported = draw(st.sampled_from([scene.me.ipv6, scene.other.ipv6]))
    about = frames.ipv6(frames.tcp(), src=scene.you.ipv6, dst=reported)
    kept = draw(mostly(len(about), 39, 40, 48))
    return frames.icmpv6(kind, body=bytes(4) + about[:kept])


EXTENSION_CHAINS: Final = (
    (frames.options_header(frames.HOP_BY_HOP),),
    (frames.options_header(frames.HOP_BY_HOP), frames.options_header()),
    (frames.options_header(), frames.options_header(frames.HOP_BY_HOP)),
    (frames.options_header(),) * 8,
    (frames.options_header(),) * 9,
    (frames.routing_header(),),
    (frames.routing_header(segments_left=1),),
    (frames.authentication_header(), frames.options_header(frames.MOBILITY)),
    (frames.fragment_header(),),
    (frames.fragment_header(more=True),),
    (frames.options_header(), frames.fragment_header(more=True), frames.options_header()),
    (frames.fragment_header(offset=24),),
    (frames.fragment_header(), frames.fragment_header(offset=8)),
    (frames.Upper(frames.DESTINATION_OPTIONS, bytes((0, 200)) + frames.PAD_6),),
    (frames.Upper(253, bytes(8)),),
)


@st.composite
def ipv6s(draw: DrawFn, scene: Scene) -> Content:
    kind = draw(st.sampled_from(["neighbour", "neighbour", "icmp", "udp", "tcp", "raw"]))
    if kind == "neighbour":
        upper = draw(neighbour_messages(scene))
    elif kind == "icmp":
        upper = draw(icmpv6_messages(scene))
    else:
        upper = draw(plain_uppers(kind, scene))
    src = draw(scene.own("ipv6"))
    if kind == "neighbour" and draw(mostly(False, True)):
        src = "::"
    hop_limit = draw(mostly(255, 64)) if kind == "neighbour" else 64
    groups = ["ff02::1"]
    if kind == "neighbour" and upper.data[0] == 135:
        groups.append(frames.solicited_node(str(IPv6Address(upper.data[8:24]))))
    to_group = draw(st.booleans()) if kind == "neighbour" else draw(mostly(False, True))
    dst = draw(st.sampled_from(groups)) if to_group else scene.you.ipv6
    payload = frames.ipv6(
        upper,
        src=src,
        dst=dst,
        hop_limit=hop_limit,
        extensions=draw(mostly((), *EXTENSION_CHAINS)),
        part=draw(mostly(slice(None), slice(0, 7), slice(0, 8), slice(0, 19), slice(0, 24))),
    )
    dst_mac = frames.multicast_mac(dst) if to_group else scene.you.mac
    return Content(frames.IPV6, payload, dst_mac)


@st.composite
def contents(draw: DrawFn, scene: Scene) -> Content:
    kind = draw(st.sampled_from(["arp", "ipv4", "ipv4", "ipv6", "ipv6"]))
    return draw({"arp": arps, "ipv4": ipv4s, "ipv6": ipv6s}[kind](scene))


# Frames.

DAMAGES: Final = (
    "tag",
    "pad",
    "flip",
    "cut",
    "cut",
    "insert",
    "overwrite",
    "oversize",
    "oversize",
)

RESERVED: Final = frames.mac("01:80:c2:00:00:0e")


@st.composite
def frame_bytes(draw: DrawFn, scene: Scene) -> bytes:
    """Draw the bytes of a frame, perhaps damaged."""
    content = draw(contents(scene))
    ethertype = draw(mostly(content.ethertype, 0x0027, 0x88CC, 0x0800, 0x86DD, 0x0806))
    dst = draw(
        mostly(
            content.dst, scene.me.mac, RESERVED, frames.BROADCAST, frames.mac("33:33:00:00:00:01")
        )
    )
    data = frames.ethernet(
        content.payload, dst=dst, src=draw(scene.own_mac()), ethertype=ethertype
    )
    damage = draw(st.sampled_from(("none",) * 14 + DAMAGES))
    if damage == "tag":
        return frames.tagged(
            data, tpid=draw(st.sampled_from([0x8100, 0x88A8, 0x9100, 0x9200, 0x9300]))
        )
    if damage == "pad":
        return data.ljust(60, b"\0")
    if damage == "flip":
        for bit in draw(st.lists(st.integers(0, 8 * len(data) - 1), min_size=1, max_size=3)):
            data = frames.with_byte(data, bit // 8, data[bit // 8] ^ 1 << bit % 8)
        return data
    if damage == "overwrite":
        # Headers are where it matters.
        at = draw(st.integers(0, min(len(data), 110) - 1))
        return frames.with_byte(data, at, draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF])))
    if damage == "cut":
        return data[: draw(st.one_of(st.integers(0, 20), st.integers(0, len(data))))]
    if damage == "insert":
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
    if damage == "oversize":
        return data.ljust(scene.own_mtu + 14 + draw(st.sampled_from([1, 0])), b"\0")
    return data


@st.composite
def metas(draw: DrawFn, data: bytes) -> Meta:
    """Draw metadata: none, what fits the frame, or something near it."""
    kind = draw(mostly("none", "fits", "random"))
    if kind == "none":
        return Meta(csum=draw(mostly(Csum.COMPLETE, Csum.VERIFIED)))
    packet = packet_of(Frame(data)) if len(data) >= 14 else None
    transport = packet.transport if packet else None
    if kind == "fits" and packet and transport:
        gso = Gso.TCPV4 if packet.version == 4 else Gso.TCPV6
        if transport.protocol != frames.TCP:
            gso = Gso.UDP
        return Meta(
            csum=draw(mostly(Csum.NEEDED, Csum.COMPLETE)),
            csum_start=transport.offset + draw(mostly(0, 1)),
            csum_offset=16 if transport.protocol == frames.TCP else 6,
            gso=draw(st.sampled_from([Gso.NONE, gso, gso])),
            gso_size=draw(mostly(500, 1, 7, 8, 1408, 1460, 1461, 9000)),
        )
    return Meta(
        csum=draw(st.sampled_from(Csum)),
        csum_start=draw(st.sampled_from([0, 34, 54, 26])),
        csum_offset=draw(st.sampled_from([6, 16, 10])),
        gso=draw(st.sampled_from(Gso)),
        gso_size=draw(st.sampled_from([0, 8, 500])),
    )


# Traffic.


@frozen(kw_only=True)
class Event:
    """A frame that arrives at a port, some time after the one before."""

    port: int
    from_uplink: bool
    frame: Frame
    after_ns: int


@st.composite
def events(draw: DrawFn, world: World) -> Event:
    from_uplink = draw(st.sampled_from([False, False, True]))
    if from_uplink:
        network = draw(st.sampled_from(world.networks))
        port = FIRST_UPLINK + network.id if network.uplink is None else network.uplink
        me = draw(mostly(STRANGER, *PERSONAS))
    else:
        vif = draw(st.sampled_from(world.vifs))
        network, port = world.network(vif.network), vif.port
        me = next(person for person in PERSONAS if person.mac == vif.mac)
    everybody = st.sampled_from((*PERSONAS, STRANGER))
    scene = Scene(
        me=me,
        you=draw(everybody),
        other=draw(everybody),
        own_mtu=network.mtu,
        lies=draw(st.booleans()) if from_uplink else draw(mostly(False, True)),
    )
    data = draw(frame_bytes(scene))
    meta = draw(metas(data))
    if from_uplink:
        meta = evolve(meta, vlan=draw(mostly(False, True)))
    return Event(
        port=port,
        from_uplink=from_uplink,
        frame=Frame(data, meta),
        after_ns=draw(st.sampled_from([0, 1, 250 * NS_PER_MS, 5000 * NS_PER_MS])),
    )


@st.composite
def traffic(draw: DrawFn) -> tuple[World, list[Event]]:
    """Draw a world and what happens in it; some frames come several times in a row."""
    world = draw(worlds())
    happened: list[Event] = []
    for event in draw(st.lists(events(world), min_size=1, max_size=10)):
        happened += [event] * draw(st.sampled_from([1, 1, 1, 2, 6]))
    return world, happened
