"""What the core sees of a vif's address: what it reads of frames, and how much it says of it."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiplexer.datapath._dp import ffi, lib

from multiplexer.datapath.engine import SIGHTED
from multiplexer.datapath.sightings import SIGHTINGS, Sighted
from multiplexer.policy.nwfilter.tables import Field, Learns, Number, Row, Table, Verb, pack
from tests.datapath import frames
from tests.datapath.core import vif_row
from tests.datapath.frames import BROADCAST, arp, ethernet, ipv4, option, udp
from tests.datapath.test_engine import STOP, A, B, Bench, C, mac_of, record
from tests.reference import Frame, Vif
from tests.reference.learn import Sighting, from_vif, to_vif

CLIENT_MAC = mac_of(A)
OTHER_MAC = mac_of(B)
NO_RULES = Table()
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)


def core_sees(data: bytes, learns: int, *, out: bool, mac: bytes = CLIENT_MAC) -> Sighting | None:
    """Return what the core sees in a frame from the vif (*out*) or to it."""
    view = ffi.new("struct dp_frame *")
    held = ffi.new("uint8_t[]", data)
    assert lib.dp_frame_parse(view, held, len(data)) == 0
    what = ffi.new("struct dp_sighting *")
    if out:
        seen = lib.dp_learn_from_vif(learns, view, what)
    else:
        seen = lib.dp_learn_to_vif(learns, mac, view, what)
    if not seen:
        return None
    kind, address, server = SIGHTINGS[what.kind], bytes(what.addr), bytes(what.server)
    return Sighting(kind, IPv4Address(address), IPv4Address(server), what.lease_s)


ADDRESSES = st.sampled_from(
    ["0.0.0.0", "10.0.0.5", "10.0.0.6", "223.255.255.255", "224.0.0.0", "255.255.255.255"]
)
NOISE = st.one_of(
    st.builds(option, st.sampled_from([50, 51, 53, 61, 82]), st.binary(min_size=0, max_size=6)),
    st.just(b"\0"),
)
TYPES = st.sampled_from([ACK, ACK, RELEASE, DECLINE, *range(9)])


@st.composite
def dhcp_options(draw: Any) -> bytes:
    """Options of which most messages have each one once."""
    made = [
        option(53, bytes((draw(TYPES),))),
        option(51, draw(st.sampled_from([b"\0\0\1\0", b"\xff" * 4]))),
        option(50, IPv4Address(draw(ADDRESSES)).packed),
    ]
    kept = draw(st.sampled_from([made, made, made, made[:1], made[1:], [*made, made[0]]]))
    order = draw(st.permutations([*kept, *draw(st.lists(NOISE, max_size=2))]))
    return b"".join(order)


@st.composite
def dhcp_frames(draw: Any) -> bytes:
    """A message of DHCP, mostly as it should be."""
    op, *ports = draw(st.sampled_from([(1, 68, 67), (2, 67, 68)] * 3 + [(2, 67, 67), (2, 68, 67)]))
    message = bytearray(
        frames.dhcp(
            draw(st.sampled_from([CLIENT_MAC, CLIENT_MAC, OTHER_MAC])),
            op=op,
            client=draw(ADDRESSES),
            yours=draw(ADDRESSES),
            options=draw(dhcp_options())
            + draw(st.sampled_from([b"\xff", b"", b"\xff\x35\x01\x05"])),
        )
    )
    if draw(st.integers(0, 4)) == 0:
        message[draw(st.sampled_from([0, 1, 2, 28, 236]))] ^= 1
    upper = udp(bytes(message), sport=ports[0], dport=ports[1])
    how = draw(st.sampled_from(["whole"] * 6 + ["first", "longer", "cut"]))
    packet = ipv4(upper, src=draw(ADDRESSES), dst="255.255.255.255", more=how == "first")
    made = bytearray(ethernet(packet, src=CLIENT_MAC, dst=BROADCAST))
    if how == "longer":
        made[38:40] = (len(upper.data) + draw(st.integers(0, 300))).to_bytes(2, "big")
    elif how == "cut":
        made[38:40] = draw(st.integers(0, len(upper.data))).to_bytes(2, "big")
    return bytes(made)


@st.composite
def other_frames(draw: Any) -> bytes:
    """ARP or IPv4 of any kind, or something else, sometimes cut."""
    source, ethertype = draw(ADDRESSES), 0x0800
    kind = draw(st.sampled_from(["arp", "ipv4", "ipv6", "vlan"]))
    if kind == "arp":
        ethertype = 0x0806
        packet = arp(
            draw(st.sampled_from([1, 2, 3])),
            sender_mac=CLIENT_MAC,
            sender=source,
            target=draw(ADDRESSES),
        )
    elif kind == "ipv6":
        packet = frames.ipv6(udp(sport=68, dport=67), src="fe80::1", dst="fe80::2")
        ethertype = 0x86DD
    else:
        packet = ipv4(udp(b"x", sport=1, dport=2), src=source, dst="10.0.0.9")
    made = ethernet(packet, src=CLIENT_MAC, dst=OTHER_MAC, ethertype=ethertype)
    if kind == "vlan":
        return frames.tagged(made, tci=5)
    return made[: draw(st.sampled_from([len(made), len(made), len(made) - 1, 30, 14]))]


def test_the_core_sees_what_the_reference_sees() -> None:
    """The run must also have seen each kind of sighting."""
    kinds: set[str] = set()

    @settings(
        max_examples=2000,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.one_of(dhcp_frames(), dhcp_frames(), other_frames()),
        st.sampled_from([0, 1, 2, 2, 2, 3]),
    )
    def compare(data: bytes, learns: int) -> None:
        frame = Frame(data)
        sources, leases = bool(learns & Learns.SOURCES), bool(learns & Learns.LEASES)
        sent = from_vif(frame, sources=sources, leases=leases)
        given = to_vif(frame, CLIENT_MAC, leases=leases)
        kinds.update(each.kind for each in (sent, given) if each is not None)

        assert core_sees(data, learns, out=True) == sent
        assert core_sees(data, learns, out=False) == given

    compare()
    assert kinds == set(SIGHTINGS)


# ---- in the path of frames ----


def server_says(
    kind: int,
    address: str,
    *,
    mac: bytes = CLIENT_MAC,
    source: str = "10.0.0.66",
    more: bytes = b"",
) -> bytes:
    options = bytes((53, 1, kind)) + option(51, (600).to_bytes(4, "big")) + more + b"\xff"
    message = frames.dhcp(mac, op=2, yours=address, options=options)
    packet = ipv4(udp(message, sport=67, dport=68), src=source, dst="255.255.255.255")
    return ethernet(packet, src=mac_of(C), dst=BROADCAST)


def client_says(kind: int, address: str, more: bytes = b"") -> bytes:
    message = frames.dhcp(
        CLIENT_MAC, client=address, options=bytes((53, 1, kind)) + more + b"\xff"
    )
    packet = ipv4(udp(message, sport=68, dport=67), src=address, dst="10.0.0.66")
    return ethernet(packet, src=CLIENT_MAC, dst=mac_of(C))


def from_address(address: str, to: bytes = OTHER_MAC) -> bytes:
    packet = ipv4(udp(b"x", sport=1, dport=2), src=address, dst="10.0.0.65")
    return ethernet(packet, src=CLIENT_MAC, dst=to)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A is bound to a prefix, and C is a DHCP server."""
    bench = Bench()
    prefix = (IPv4Network("10.0.1.0/24"),)
    bench.engine.set_vif(
        A, vif_row(Vif(port=A, network=0, mac=CLIENT_MAC, prefixes=prefix), mtu=1500)
    )
    server = Vif(
        port=C, network=0, mac=mac_of(C), prefixes=(IPv4Network("10.0.0.66/32"),), dhcp_server=True
    )
    bench.engine.set_vif(C, vif_row(server, mtu=1500))
    yield bench
    bench.close()


def bind(bench: Bench, learns: Learns, port: int = A, table: Table = NO_RULES) -> None:
    bench.engine.prepare_filter(port, pack(evolve(table, learns=learns)))
    bench.engine.commit_filters()


def send(bench: Bench, port: int, *data: bytes) -> None:
    bench.clients[port].sendall(b"".join(map(record, data)))
    bench.turn()


def seen(bench: Bench, most: int = 100) -> list[str]:
    """Return, and take, the addresses that were seen."""
    return [str(IPv4Address(each.address)) for each in bench.engine.sighted(most)]


def test_a_new_source_is_said_once(bench: Bench) -> None:
    bind(bench, Learns.SOURCES)
    announced = arp(1, sender_mac=CLIENT_MAC, sender="10.0.1.7", target="10.0.1.7")
    send(bench, A, ethernet(announced, src=CLIENT_MAC, dst=BROADCAST, ethertype=0x0806))
    send(bench, A, *[from_address("10.0.1.7")] * 3, from_address("10.0.1.8"))

    assert seen(bench) == ["10.0.1.7", "10.0.1.8"]
    send(bench, A, from_address("10.0.1.8"))
    assert seen(bench) == []


def test_it_is_news_again_once_the_filter_is_another_one(bench: Bench) -> None:
    bind(bench, Learns.SOURCES)
    send(bench, A, from_address("10.0.1.7"))
    assert seen(bench) == ["10.0.1.7"]
    bind(bench, Learns.SOURCES)
    send(bench, A, from_address("10.0.1.7"))

    assert seen(bench) == ["10.0.1.7"]


def test_a_probe_is_no_source(bench: Bench) -> None:
    """Who asks whether somebody has an address does not have it (RFC 5227, section 1.1)."""
    bind(bench, Learns.SOURCES)
    probe = arp(1, sender_mac=CLIENT_MAC, sender="0.0.0.0", target="10.0.1.7")
    send(bench, A, ethernet(probe, src=CLIENT_MAC, dst=BROADCAST, ethertype=0x0806))

    assert bench.drops(A) == {}
    assert seen(bench) == []


def test_what_ingress_or_the_filter_stops_is_not_seen(bench: Bench) -> None:
    to = Number(Field.DST_PORT, 2, 2, 0xFFFF)
    bind(bench, Learns.SOURCES, table=Table(ipv4_out=(Row(Verb.DROP, (to,)),)))
    send(bench, A, from_address("10.0.9.9"), from_address("10.0.1.7"))

    assert bench.drops(A) == {"ipv4_src": 1, "filter_out": 1}
    assert seen(bench) == []


def test_nothing_is_seen_for_a_filter_that_knows_all(bench: Bench) -> None:
    bind(bench, Learns.NOTHING)
    send(bench, A, from_address("10.0.1.7"))
    send(bench, C, server_says(ACK, "10.0.1.7"))

    assert seen(bench) == []


def test_a_lease_is_seen_of_what_the_vif_is_given(bench: Bench) -> None:
    bind(bench, Learns.LEASES)
    send(bench, C, server_says(OFFER, "10.0.1.7"), server_says(NAK, "10.0.1.7"))
    send(bench, C, server_says(ACK, "10.0.1.7", mac=OTHER_MAC), server_says(ACK, "0.0.0.0"))
    assert seen(bench) == []
    send(bench, C, server_says(ACK, "10.0.1.7"), server_says(ACK, "10.0.1.8"))

    server = IPv4Address("10.0.0.66").packed
    leases = [Sighted(A, "lease", bytes((10, 0, 1, n)), server, 600) for n in (7, 8)]
    assert list(bench.engine.sighted(2)) == leases
    # A renewal is news: it lasts longer.
    send(bench, C, server_says(ACK, "10.0.1.7"))
    assert seen(bench) == ["10.0.1.7"]


def test_a_lease_that_the_filter_keeps_from_the_vif_is_not_seen(bench: Bench) -> None:
    bind(bench, Learns.LEASES, table=Table(l2_in=(Row(Verb.DROP),)))
    send(bench, C, server_says(ACK, "10.0.1.7"))

    assert seen(bench) == []


def test_a_lease_by_somebody_who_is_no_server_goes_nowhere(bench: Bench) -> None:
    bind(bench, Learns.LEASES)
    forged = server_says(ACK, "10.0.1.7", source="10.0.0.65")
    send(bench, B, forged[:6] + OTHER_MAC + forged[12:])

    assert bench.drops(B) == {"dhcp_server": 1}
    assert seen(bench) == []


def test_what_the_vif_gives_back_is_seen(bench: Bench) -> None:
    bind(bench, Learns.LEASES)
    declined = option(50, IPv4Address("10.0.1.8").packed)
    send(bench, A, client_says(RELEASE, "10.0.1.7"), client_says(REQUEST, "10.0.1.7"))
    send(bench, A, client_says(DECLINE, "10.0.1.9", declined))

    told = [(each.kind, IPv4Address(each.address)) for each in bench.engine.sighted(9)]
    assert told == [
        ("release", IPv4Address("10.0.1.7")),
        ("release", IPv4Address("10.0.1.8")),
    ]


def test_a_lease_message_may_be_long(bench: Bench) -> None:
    """Its options stand behind all that is copied of a frame at first."""
    bind(bench, Learns.LEASES)
    send(bench, C, server_says(ACK, "10.0.1.7", more=option(43, b"x" * 200) * 4))

    assert seen(bench) == ["10.0.1.7"]


def test_a_flood_of_sources_is_told_in_drops_and_costs_others_no_place(bench: Bench) -> None:
    bind(bench, Learns.SOURCES)
    bind(bench, Learns.SOURCES, B)
    send(bench, A, *(from_address(f"10.0.1.{n}") for n in range(1, 255)))
    packet = ipv4(udp(b"x", sport=1, dport=2), src="10.0.0.65", dst="10.0.0.66")
    send(bench, B, ethernet(packet, src=OTHER_MAC, dst=mac_of(C)))

    told = list(bench.engine.sighted(100))
    assert [each.port for each in told] == [A] * lib.DP_SIGHTINGS_WAITING + [B]


def test_a_vif_is_heard_so_often_in_a_second_however_fast_it_is_asked(bench: Bench) -> None:
    bind(bench, Learns.SOURCES)
    port = bench.engine._loop.sightings.buckets[A]
    told = 0
    for n in range(1, 255):
        send(bench, A, from_address(f"10.0.1.{n}"))
        # As if all of it came within the same moment.
        port.last_ns = 1 << 63
        told += len(seen(bench))

    assert told == lib.DP_SIGHTINGS_PER_S


def test_the_engine_says_once_that_there_is_something(bench: Bench) -> None:
    bind(bench, Learns.SOURCES)
    bench.clients[A].sendall(record(from_address("10.0.1.7")) + record(from_address("10.0.1.8")))

    assert bench.engine.run() == SIGHTED
    bench.tell()
    assert bench.engine.run() == STOP
    bench.engine.tell_sightings()
    assert bench.engine.run() == SIGHTED
    assert seen(bench, 1) == ["10.0.1.7"]
    assert bench.engine.run() == SIGHTED
    assert seen(bench) == ["10.0.1.8"]


def test_with_a_vif_goes_what_was_seen_of_it(bench: Bench) -> None:
    for port in (A, B):
        bind(bench, Learns.SOURCES, port)
    packet = ipv4(udp(b"x", sport=1, dport=2), src="10.0.0.65", dst="10.0.0.66")
    send(bench, A, from_address("10.0.1.7"))
    send(bench, B, ethernet(packet, src=OTHER_MAC, dst=mac_of(C)))
    send(bench, A, from_address("10.0.1.8"))
    bench.engine.clear_vif(A)

    assert [each.port for each in bench.engine.sighted(9)] == [B]
