"""Addresses that are learned: by which filter a vif is judged meanwhile, and what counts."""

from ipaddress import IPv4Address, ip_interface, ip_network

import attrs
import pytest

from multiplexer.model import FilterBinding, Vif
from multiplexer.policy.nwfilter.binding import (
    Bound,
    compile_bound,
    in_use,
    resolve_bound,
    supplied,
)
from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.errors import BindError
from multiplexer.policy.nwfilter.evaluate import Evaluator
from multiplexer.policy.nwfilter.learning import Learned, Mode, Search, unexpired
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import over, resolve
from multiplexer.policy.nwfilter.syntax import Action, Direction, Parameter
from multiplexer.policy.nwfilter.tables import Learns, learns_of
from multiplexer.stock import stock_filters
from pfinet_proto.values import MacAddress
from tests.datapath import frames
from tests.datapath.gate import CoreGate
from tests.policy.nwfilter.test_binding import LAN, VIF

MAC = VIF.mac
OTHER_MAC = MacAddress.parse("52:54:00:00:00:02")
PREFIX = attrs.evolve(VIF, addresses=(), prefixes=(ip_network("10.0.0.16/28"),))
FIRST, SECOND, OUTSIDE, SERVER, OTHER_SERVER = map(
    IPv4Address, ("10.0.0.17", "10.0.0.18", "10.0.0.33", "10.0.0.1", "10.0.0.2")
)


def bound_to(name: str, vif: Vif = PREFIX, **parameters: str | tuple[str, ...]) -> Vif:
    lists = {
        key: (value,) if isinstance(value, str) else value for key, value in parameters.items()
    }
    return attrs.evolve(vif, filter=FilterBinding.of(name, lists))


def bind(vif: Vif, *learned: Learned) -> Bound:
    """Return what *vif* is judged by; that it can be compiled is seen as well."""
    found = resolve_bound(LAN, vif, FILTERS, learned)
    table = compile_bound(LAN, vif, FILTERS, {}, learned)
    assert table == compile_bytes(found.rules, {}, found.learns)
    assert learns_of(table) is found.learns
    return found


FILTERS = {
    **stock_filters(),
    **{
        each.name: each
        for each in (
            parse_untrusted(text.encode())
            for text in (
                "<filter name='second'><rule action='drop' direction='out'>"
                "<ip srcipaddr='$IP[1]'/></rule></filter>",
                "<filter name='ports'><rule action='drop' direction='out'>"
                "<tcp srcipaddr='$IP' dstportstart='$PORT'/></rule></filter>",
                "<filter name='inside'><filterref filter='no-ip-spoofing'>"
                "<parameter name='IP' value='10.0.0.20'/></filterref></filter>",
            )
        )
    },
}


def of_any(address: IPv4Address = FIRST, mac: MacAddress = MAC) -> Learned:
    return Learned(Mode.ANY, mac, VIF.owner_uid, address)


def lease(
    address: IPv4Address = FIRST, server: IPv4Address = SERVER, expires_s: int | None = 100
) -> Learned:
    return Learned(Mode.DHCP, MAC, VIF.owner_uid, address, server, expires_s)


# ---- what a vif is judged by ----


@pytest.mark.parametrize("mode", [None, "any", "ANY"])
def test_a_filter_that_needs_an_address_waits_for_any_by_default(mode: str | None) -> None:
    vif = bound_to("clean-traffic")
    if mode is not None:
        vif = bound_to("clean-traffic", CTRL_IP_LEARNING=mode)
    found = bind(vif)

    assert found.learns == Learns.SOURCES | Learns.LEASES
    assert {rule.filter for rule in found.rules} == {"learning-any"}
    assert found.to_come == bind(vif, of_any(IPv4Address("10.0.0.16"))).rules


def test_an_address_that_is_known_is_a_parameter_like_any_other() -> None:
    found = bind(bound_to("clean-traffic"), of_any())

    with_ip = over((Parameter("IP", ("10.0.0.17",)),), supplied(LAN, PREFIX))
    assert found.rules == resolve("clean-traffic", FILTERS, with_ip)
    assert found.learns is Learns.NOTHING


def test_every_lease_counts_and_more_are_looked_for() -> None:
    """Deviation: leases."""
    vif = bound_to("clean-traffic", CTRL_IP_LEARNING="dhcp")
    found = bind(vif, lease(FIRST), lease(SECOND))

    with_ips = over((Parameter("IP", ("10.0.0.17", "10.0.0.18")),), supplied(LAN, PREFIX))
    with_ips = over((Parameter("CTRL_IP_LEARNING", ("dhcp",)),), with_ips)
    assert found.rules == resolve("clean-traffic", FILTERS, with_ips)
    assert found.learns is Learns.LEASES
    assert bind(vif).learns is Learns.LEASES


@pytest.mark.parametrize(
    "vif",
    [
        bound_to("clean-traffic", IP="10.0.0.20"),
        bound_to("clean-traffic", VIF),
        bound_to("clean-traffic", attrs.evolve(VIF, prefixes=PREFIX.prefixes)),
        bound_to("clean-traffic", attrs.evolve(PREFIX, prefixes=(ip_network("10.0.0.16/32"),))),
        bound_to("no-mac-spoofing"),
        bound_to("inside"),
        bound_to("clean-traffic", IP="10.0.0.20", CTRL_IP_LEARNING="none"),
    ],
)
def test_nothing_is_learned_where_nothing_is_missing(vif: Vif) -> None:
    found = bind(vif, of_any(FIRST))

    assert found.learns is Learns.NOTHING
    assert found == bind(vif)
    assert not {"learning-any", "learning-dhcp"} & {rule.filter for rule in found.rules}


@pytest.mark.parametrize(
    ("vif", "why"),
    [
        (
            bound_to("clean-traffic", CTRL_IP_LEARNING="none"),
            "parameters are missing: 'IP'; the vif is bound to no single address that could be IP,"
            " and CTRL_IP_LEARNING is none, so give it as a parameter",
        ),
        (
            bound_to("clean-traffic", attrs.evolve(PREFIX, prefixes=(ip_network("fd00::/80"),))),
            "parameters are missing: 'IP'; the vif is bound to no single address",
        ),
        (bound_to("second"), "parameters are missing: 'IP[1]'"),
        (bound_to("ports"), "parameters are missing: 'IP', 'PORT'"),
        (bound_to("ports", PORT=("1", "2")), "cardinality of lists that go together"),
        (
            bound_to("clean-traffic", CTRL_IP_LEARNING="dhcp", DHCPSERVER="::1"),
            "srcipaddr: parameter DHCPSERVER",
        ),
    ],
)
def test_what_could_not_be_once_an_address_is_known_is_refused_at_once(vif: Vif, why: str) -> None:
    with pytest.raises(BindError) as caught:
        compile_bound(LAN, vif, FILTERS, {})

    assert why in str(caught.value)


# ---- the filters of the time before ----


def to_vif(src: str, mac: bytes, *, dst: str = "255.255.255.255", sport: int = 67) -> bytes:
    packet = frames.ipv4(frames.udp(b"x", sport=sport, dport=68), src=src, dst=dst)
    return frames.ethernet(packet, src=OTHER_MAC.packed, dst=mac)


def from_vif(packet: bytes, ethertype: int = 0x0800, src: bytes = MAC.packed) -> bytes:
    return frames.ethernet(packet, src=src, dst=b"\xff" * 6, ethertype=ethertype)


def datagram(
    src: str = "10.0.0.17", dst: str = "10.0.0.9", ports: tuple[int, int] = (1, 2)
) -> bytes:
    sport, dport = ports
    return frames.ipv4(frames.udp(b"x", sport=sport, dport=dport), src=src, dst=dst)


ARP = frames.arp(1, sender_mac=MAC.packed, sender="10.0.0.17", target="10.0.0.9")
IPV6 = frames.ipv6(frames.udp(b"x", sport=1, dport=2), src="fe80::1", dst="ff02::1")
DISCOVER = from_vif(datagram("0.0.0.0", "255.255.255.255", (68, 67)))
BROADCAST = b"\xff" * 6
ANY, DHCP, ONE_SERVER, TWO_SERVERS = (
    bound_to("clean-traffic"),
    bound_to("clean-traffic", CTRL_IP_LEARNING="dhcp"),
    bound_to("clean-traffic", CTRL_IP_LEARNING="dhcp", DHCPSERVER="10.0.0.1"),
    bound_to("clean-traffic", CTRL_IP_LEARNING="dhcp", DHCPSERVER=("10.0.0.1", "10.0.0.2")),
)


@pytest.mark.parametrize(
    ("vif", "frame", "direction", "passes"),
    [
        (ANY, from_vif(datagram()), "out", True),
        (ANY, from_vif(ARP, 0x0806), "out", True),
        (ANY, DISCOVER, "out", True),
        (ANY, from_vif(IPV6, 0x86DD), "out", False),
        (ANY, from_vif(datagram(), src=OTHER_MAC.packed), "out", False),
        (ANY, from_vif(b"?" * 46, 0x88B5), "out", False),
        (ANY, to_vif("10.0.0.9", MAC.packed), "in", True),
        (ANY, from_vif(IPV6, 0x86DD), "in", True),
        (DHCP, DISCOVER, "out", True),
        (DHCP, from_vif(datagram()), "out", False),
        (DHCP, from_vif(ARP, 0x0806), "out", False),
        (DHCP, from_vif(IPV6, 0x86DD), "out", False),
        (DHCP, DISCOVER[:6] + OTHER_MAC.packed + DISCOVER[12:], "out", False),
        (DHCP, to_vif("10.0.0.9", MAC.packed), "in", True),
        (DHCP, to_vif("10.0.0.9", BROADCAST), "in", True),
        (DHCP, to_vif("10.0.0.9", OTHER_MAC.packed), "in", False),
        (DHCP, to_vif("10.0.0.9", MAC.packed, sport=66), "in", False),
        (DHCP, from_vif(ARP, 0x0806), "in", False),
        (ONE_SERVER, to_vif("10.0.0.1", MAC.packed), "in", True),
        (ONE_SERVER, to_vif("10.0.0.2", MAC.packed), "in", False),
        (ONE_SERVER, to_vif("10.0.0.2", BROADCAST), "in", False),
        (TWO_SERVERS, to_vif("10.0.0.2", BROADCAST), "in", True),
        (TWO_SERVERS, to_vif("10.0.0.3", BROADCAST), "in", False),
    ],
)
def test_what_passes_while_an_address_is_looked_for(
    vif: Vif, frame: bytes, direction: str, passes: bool
) -> None:
    """As libvirt does meanwhile; the evaluator and the core agree on it."""
    rules = bind(vif).rules
    verdict = Action.ACCEPT if passes else Action.DROP

    assert Evaluator(rules, {}).judge(frame, Direction(direction), 1).action is verdict
    core = CoreGate(compile_bytes(rules, {}))
    assert core.judge(frame, Direction(direction), 1).action is verdict


# ---- what counts ----


def search(mode: str = "any", *servers: str, vif: Vif = PREFIX) -> Search:
    return Search(vif, Mode(mode), servers)


def test_the_first_address_of_the_prefix_is_the_one() -> None:
    """Deviation: learning."""
    assert search().with_source((), OUTSIDE) == ()
    assert search().with_source((), FIRST) == (of_any(FIRST),)
    assert search().with_source((of_any(FIRST),), SECOND) == (of_any(FIRST),)
    assert search().with_lease((), FIRST, SERVER, 100) == (of_any(FIRST),)
    assert search().with_lease((of_any(FIRST),), SECOND, SERVER, 100) == (of_any(FIRST),)
    assert search().without((of_any(FIRST),), FIRST) == (of_any(FIRST),)


def test_by_dhcp_only_leases_count() -> None:
    assert search("dhcp").with_source((), FIRST) == ()
    assert search("dhcp").with_lease((), FIRST, SERVER, 100) == (lease(FIRST),)
    assert search("dhcp").with_lease((), OUTSIDE, SERVER, 100) == ()


def test_leases_add_up_and_are_renewed_and_given_back() -> None:
    dhcp = search("dhcp")
    both = dhcp.with_lease((lease(FIRST),), SECOND, SERVER, None)
    assert both == (lease(FIRST), lease(SECOND, expires_s=None))
    renewed = dhcp.with_lease(both, FIRST, OTHER_SERVER, 200)
    assert renewed == (lease(FIRST, OTHER_SERVER, 200), lease(SECOND, expires_s=None))
    assert dhcp.without(renewed, FIRST) == (lease(SECOND, expires_s=None),)
    assert dhcp.without(renewed, OUTSIDE) == renewed


def test_a_vif_has_so_many_leases() -> None:
    vif = attrs.evolve(PREFIX, prefixes=(ip_network("10.0.0.64/26"),))
    learned: tuple[Learned, ...] = ()
    for number in range(64, 127):
        address = IPv4Address(f"10.0.0.{number}")
        learned = search("dhcp", vif=vif).with_lease(learned, address, SERVER, 100)

    assert [int(each.address) & 0xFF for each in learned] == list(range(64, 80))


def test_only_servers_that_are_named_are_believed() -> None:
    for mode in ("any", "dhcp"):
        assert search(mode, "10.0.0.1").with_lease((), FIRST, OTHER_SERVER, 100) == ()
        assert search(mode, "10.0.0.1").with_lease((), FIRST, SERVER, 100)
    assert search("dhcp", "10.0.0.2").kept((lease(FIRST, SERVER),)) == ()


def test_what_was_learned_is_of_this_owner_mac_prefix_and_mode() -> None:
    other = attrs.evolve(PREFIX, prefixes=(ip_network("10.0.0.32/28"),))

    assert search().kept((of_any(),)) == (of_any(),)
    assert search().kept((of_any(mac=OTHER_MAC),)) == ()
    assert search(vif=other).kept((of_any(),)) == ()
    assert search(vif=attrs.evolve(PREFIX, owner_uid=5)).kept((of_any(),)) == ()
    assert search("dhcp").kept((of_any(), lease())) == (lease(),)
    assert bind(bound_to("clean-traffic", other), of_any()).learns is not Learns.NOTHING


def test_what_is_given_or_not_asked_for_is_not_in_use() -> None:
    assert in_use(bound_to("clean-traffic"), (of_any(), lease())) == (of_any(),)
    assert in_use(bound_to("clean-traffic", IP="10.0.0.20"), (of_any(),)) == ()
    assert in_use(PREFIX, (of_any(),)) == ()


def test_a_lease_ends_with_its_time() -> None:
    learned = (lease(FIRST, expires_s=100), lease(SECOND, expires_s=None))

    assert unexpired(learned, 99.9) == learned
    assert unexpired(learned, 100) == learned[1:]


def test_an_address_of_the_vif_is_supplied_once_also_where_its_prefix_is_no_more_than_that() -> (
    None
):
    vif = attrs.evolve(
        PREFIX,
        addresses=(ip_interface("10.0.0.16/24"),),
        prefixes=(ip_network("10.0.0.16/32"), ip_network("fd00::7/128")),
    )
    values = {each.name: each.values for each in supplied(LAN, vif)}

    assert values["IP"] == ("10.0.0.16",)
    assert values["IPV6"][0] == "fd00::7"
