"""A NIC as uplink: what its socket hears, and how it follows the interface.

Interfaces are ends of veth pairs in namespaces of the tests' own; "wire" is
the other end.  A macvlan in mode ``passthru nopromisc`` stands for hardware that
filters by address, which veth does not.
"""

import mmap
import select
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.datapath import engine
from multiplexer.model import Mode, Network, Uplink, UplinkKind
from multiplexer.uplinks import nic
from multiplexer.uplinks.nic import Link, LinkWatch, NicUplink, Refresh
from pfinet_proto.values import MacAddress
from tests.support.netns import NetworkNamespace, run
from tests.support.wire import send

HOST = MacAddress.parse("02:00:00:00:00:01")
VIF = MacAddress.parse("52:54:00:00:00:05")
OTHER_VIF = MacAddress.parse("52:54:00:00:00:06")
STRANGER = MacAddress.parse("02:00:00:00:00:99")
SENDER = MacAddress.parse("02:00:00:00:00:77")
BROADCAST = MacAddress(b"\xff" * 6)
SOLICITED_NODE = MacAddress.parse("33:33:ff:00:00:05")
ETHERTYPE = b"\x88\xb5"  # for experiments (IEEE 802, clause 9.2.4)
TPACKET2_HEADER = struct.Struct("=IIIHHIIHHHH")
TP_STATUS_USER = 1

UPLINK = Uplink("lan", UplinkKind.NIC, "nic", (IPv4Network("10.9.0.0/24"),))


def network(mtu: int = 1500) -> Network:
    return Network("lab", Mode.SWITCH, "lan", (IPv4Network("10.9.0.0/24"),), mtu=mtu)


class Wire:
    """A namespace in which NIC and wire come and go, entered by the test."""

    def __init__(self, namespace: NetworkNamespace) -> None:
        self.namespace = namespace

    def ip(self, command: str) -> None:
        run(self.namespace.command(["ip", *command.split()]))

    def plug(self, up: bool = True) -> None:
        self.ip(f"link add nic address {HOST} type veth peer name wire")
        self.ip("link set wire up")
        if up:
            self.ip("link set nic up")

    def unplug(self) -> None:
        self.ip("link delete wire")

    def send(self, destination: MacAddress, mark: bytes) -> None:
        frame = destination.packed + SENDER.packed + ETHERTYPE + mark
        send(self.namespace, "wire", [frame.ljust(60, b"\0")])


@pytest.fixture
def wire() -> Iterator[Wire]:
    namespace = NetworkNamespace.create("nic")
    try:
        with namespace.entered():
            yield Wire(namespace)
    finally:
        namespace.delete()


@pytest.fixture
def links(wire: Wire) -> Iterator[LinkWatch]:
    watch = LinkWatch()
    yield watch
    watch.close()


@pytest.fixture
def uplink() -> Iterator[NicUplink]:
    uplink = NicUplink(UPLINK, [network()])
    yield uplink
    uplink.close()


def wait_change(uplink: NicUplink, links: LinkWatch, wanted: Refresh) -> None:
    """Refresh at each word of the kernel until it finds what is wanted."""
    while True:
        assert select.select([links.socket], [], [], 10)[0], f"no {wanted}"
        links.drain()
        if uplink.refresh(links.socket) == wanted:
            return


class Ring:
    """Reads frames as the engine does, from the ring that the uplink has made."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.next = 0
        self.memory = mmap.mmap(sock.fileno(), nic.RING_BLOCK_BYTES * nic.RING_BLOCKS)

    def frames_until(self, mark: bytes) -> list[bytes]:
        """Return marks of all frames of ours up to the one that has *mark*."""
        marks: list[bytes] = []
        while mark not in marks:
            assert select.select([self.sock], [], [], 10)[0], f"{mark!r} is not in {marks}"
            frame = self.take()
            if frame[12:14] == ETHERTYPE:
                marks.append(frame[14:].rstrip(b"\0"))
        return marks

    def take(self) -> bytes:
        slots = nic.RING_BLOCK_BYTES // nic.RING_SLOT_BYTES
        block, slot = divmod(self.next, slots)
        at = block * nic.RING_BLOCK_BYTES + slot * nic.RING_SLOT_BYTES
        status, _, snaplen, mac, *_ = TPACKET2_HEADER.unpack_from(self.memory, at)
        assert status & TP_STATUS_USER
        frame = self.memory[at + mac : at + mac + snaplen]
        struct.pack_into("=I", self.memory, at, 0)
        self.next = (self.next + 1) % (slots * nic.RING_BLOCKS)
        return frame


def heard(wire: Wire, ring: Ring, destinations: dict[bytes, MacAddress]) -> list[bytes]:
    """Send a frame to each destination, and return the marks of those that came."""
    for mark, destination in destinations.items():
        wire.send(destination, mark)
    wire.send(BROADCAST, b"last")
    return ring.frames_until(b"last")[:-1]


# Pure


def test_the_ring_is_made_as_the_engine_maps_it() -> None:
    assert nic.RING_BLOCK_BYTES == engine.RING_BLOCK_BYTES
    assert nic.RING_SLOT_BYTES == engine.RING_SLOT_BYTES
    assert nic.RING_BLOCKS == engine.RING_BLOCKS


macs = st.binary(min_size=6, max_size=6).map(MacAddress)


@given(st.frozensets(macs), st.frozensets(macs))
def test_changes_lead_from_what_is_held_to_what_is_wanted(
    held: frozenset[MacAddress], wanted: frozenset[MacAddress]
) -> None:
    drop, add = nic.membership_changes(held, wanted)

    assert (held - set(drop)) | set(add) == wanted
    assert set(drop) <= held
    assert not set(add) & held
    assert (drop, add) == (sorted(drop), sorted(add))


def run_filter(program: list[tuple[int, int, int, int]], frame: bytes) -> int:
    """Run the four instructions of classic BPF that a host filter uses."""
    accumulator = 0
    position = 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        if code == 0x20:
            accumulator = int.from_bytes(frame[value : value + 4], "big")
        elif code == 0x28:
            accumulator = int.from_bytes(frame[value : value + 2], "big")
        elif code == 0x15:
            position += if_true if accumulator == value else if_false
        else:
            assert code == 0x06
            return value


@given(macs, macs, st.binary(max_size=100))
def test_the_filter_drops_frames_for_the_host_and_no_others(
    host: MacAddress, other: MacAddress, rest: bytes
) -> None:
    program = nic.host_filter(host)

    assert run_filter(program, host.packed + rest) == 0
    assert run_filter(program, other.packed + rest) == (0 if other == host else nic.WHOLE_FRAME)


@pytest.mark.parametrize("bit", range(48))
def test_the_filter_looks_at_every_bit(bit: int) -> None:
    near = MacAddress((int.from_bytes(HOST.packed, "big") ^ 1 << bit).to_bytes(6, "big"))

    assert run_filter(nic.host_filter(HOST), near.packed + bytes(54)) == nic.WHOLE_FRAME


def test_an_interface_must_be_ethernet_with_the_networks_mtu() -> None:
    good = Link(ethernet=True, up=True, mac=HOST, mtu=1500)

    assert nic.refusal("eth0", good, [network(), network(576)]) is None
    assert nic.refusal("eth0", good, [network(), network(9000)]) == (
        'interface "eth0" has MTU 1500, network "lab" wants at least 9000'
    )
    tunnel = Link(ethernet=False, up=True, mac=HOST, mtu=1500)
    assert nic.refusal("tun0", tunnel, []) == 'interface "tun0" is not Ethernet'


# What is heard


def test_frames_for_members_and_groups_are_heard_and_those_for_the_host_are_not(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.set_members([VIF])
    uplink.refresh(links.socket)
    assert uplink.socket is not None

    came = heard(
        wire,
        Ring(uplink.socket),
        {b"vif": VIF, b"host": HOST, b"broadcast": BROADCAST, b"multicast": SOLICITED_NODE},
    )

    assert came == [b"vif", b"broadcast", b"multicast"]


def test_what_is_sent_by_the_socket_or_by_the_host_is_not_heard(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.refresh(links.socket)
    assert uplink.socket is not None
    ring = Ring(uplink.socket)
    frame = (STRANGER.packed + VIF.packed + ETHERTYPE + b"ours").ljust(60, b"\0")

    uplink.socket.send(bytes(10) + frame)  # led by an empty virtio_net_hdr
    send(wire.namespace, "nic", [frame])

    assert heard(wire, ring, {}) == []


def test_an_interface_that_filters_is_told_of_members_and_groups_and_never_promiscuous(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    """The macvlan drops groups that nobody asked for, and hands asked addresses down."""
    wire.ip("link add below type veth peer name wire")
    wire.ip("link set below up")
    wire.ip("link set wire up")
    wire.ip(f"link add nic link below address {HOST} type macvlan mode passthru nopromisc")
    wire.ip("link set nic up")
    uplink.refresh(links.socket)
    assert uplink.socket is not None
    ring = Ring(uplink.socket)

    def asked_for() -> set[MacAddress]:
        fdb = run(wire.namespace.command(["bridge", "fdb", "show", "dev", "below"])).stdout
        addresses = {MacAddress.parse(line.split()[0]) for line in fdb.splitlines()}
        return {mac for mac in addresses if not mac.is_group} - {HOST}

    for members in ({VIF}, {VIF, OTHER_VIF}, {OTHER_VIF}, set()):
        uplink.set_members(members)
        assert asked_for() == members
        assert heard(wire, ring, {b"group": SOLICITED_NODE}) == [b"group"]
    below = run(wire.namespace.command(["ip", "-d", "link", "show", "below"])).stdout
    assert "promiscuity 0" in below


def test_a_new_mac_of_the_host_is_filtered_instead_of_the_old(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.refresh(links.socket)
    assert uplink.socket is not None
    links.drain()

    wire.ip(f"link set nic address {STRANGER}")
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))

    assert uplink.last is not None
    assert uplink.last.mac == STRANGER
    came = heard(wire, Ring(uplink.socket), {b"new": STRANGER, b"old": HOST})
    assert came == [b"old"]


# How it follows the interface


def test_an_absent_interface_is_awaited_and_used_when_it_appears(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    first = uplink.refresh(links.socket)
    assert (first, uplink.present, uplink.error) == (Refresh(False, False), False, None)
    uplink.set_members([VIF])

    wire.plug()
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=True))
    while not uplink.up:
        wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))

    assert uplink.socket is not None
    assert heard(wire, Ring(uplink.socket), {b"vif": VIF}) == [b"vif"]


def test_an_interface_that_goes_down_and_up_keeps_its_socket(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.refresh(links.socket)
    assert uplink.socket is not None
    ring = Ring(uplink.socket)
    links.drain()

    wire.ip("link set nic down")
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))
    was = (uplink.present, uplink.up)
    wire.ip("link set nic up")
    while not uplink.up:
        wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))
    # As the engine does: one read takes the error away that going down has left.
    with pytest.raises(OSError, match="Network is down"):
        uplink.socket.recv(1, socket.MSG_DONTWAIT)

    assert was == (True, False)
    assert heard(wire, ring, {b"vif": VIF}) == [b"vif"]


def test_the_socket_of_an_interface_that_is_down_has_no_error_waiting(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug(up=False)

    uplink.refresh(links.socket)

    assert uplink.socket is not None
    assert uplink.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_deleted_interface_that_comes_back_gets_a_new_socket_with_its_members(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.set_members([VIF])
    uplink.refresh(links.socket)
    links.drain()

    wire.unplug()
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))
    while uplink.link is not None:
        wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))
    was = (uplink.present, uplink.last is not None)
    wire.plug()
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=True))
    while not uplink.up:
        wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))

    assert was == (False, True)
    assert uplink.socket is not None
    assert heard(wire, Ring(uplink.socket), {b"vif": VIF, b"host": HOST}) == [b"vif"]


def test_an_interface_that_was_away_between_two_looks_is_seen_to_be_another(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    """Even if it comes back with the number it had, as from another namespace."""
    wire.plug()
    uplink.refresh(links.socket)
    elsewhere = NetworkNamespace.create("elsewhere")
    try:
        index = socket.if_nametoindex("nic")
        wire.ip("link set nic netns elsewhere")
        run(elsewhere.command(["ip", "link", "set", "nic", "netns", str(wire.namespace.path)]))
        assert socket.if_nametoindex("nic") == index
        wire.ip("link set nic up")

        refresh = uplink.refresh(links.socket)
    finally:
        elsewhere.delete()

    assert refresh == Refresh(changed=True, socket_is_new=True)
    assert uplink.socket is not None
    assert heard(wire, Ring(uplink.socket), {b"vif": VIF}) == [b"vif"]


def test_an_mtu_that_becomes_too_small_is_refused_until_it_is_right_again(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.refresh(links.socket)
    links.drain()

    wire.ip("link set nic mtu 1400")
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=False))
    refused = (uplink.present, uplink.error)
    wire.ip("link set nic mtu 1500")
    wait_change(uplink, links, Refresh(changed=True, socket_is_new=True))

    error = 'interface "nic" has MTU 1400, network "lab" wants at least 1500'
    assert refused == (False, error)
    assert (uplink.present, uplink.error) == (True, None)


def test_members_can_change_while_the_interface_is_gone_and_nobody_knows_yet(
    wire: Wire, links: LinkWatch, uplink: NicUplink
) -> None:
    wire.plug()
    uplink.set_members([VIF])
    uplink.refresh(links.socket)
    wire.unplug()

    uplink.set_members([OTHER_VIF])
    wire.plug()
    uplink.refresh(links.socket)

    assert uplink.socket is not None
    assert heard(wire, Ring(uplink.socket), {b"other": OTHER_VIF}) == [b"other"]


def test_a_new_engine_gets_a_new_ring(wire: Wire, links: LinkWatch, uplink: NicUplink) -> None:
    wire.plug()
    uplink.set_members([VIF])
    uplink.refresh(links.socket)
    assert uplink.socket is not None
    heard(wire, Ring(uplink.socket), {b"before": VIF})

    assert uplink.reopen(links.socket) == Refresh(changed=True, socket_is_new=True)

    assert uplink.socket is not None
    assert heard(wire, Ring(uplink.socket), {b"after": VIF}) == [b"after"]


def test_a_watch_with_more_news_than_it_holds_is_drained_all_the_same(
    wire: Wire, links: LinkWatch
) -> None:
    links.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(20):
        wire.ip(f"link add many{number} type bridge")

    links.drain()

    assert select.select([links.socket], [], [], 0)[0] == []
