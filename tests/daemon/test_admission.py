"""What the broker grants to control, by the configuration."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from attrs import evolve

from multiplexer.daemon.admission import MAX_MEMBERS, MAX_ROUTES, Admission, Refused
from multiplexer.daemon.channel import (
    ChangeHostRoutes,
    Kept,
    OpenVifSockets,
    Session,
    SetMemberships,
)
from multiplexer.model import (
    MAX_VIFS,
    AddressRange,
    Config,
    Daemon,
    Mode,
    Network,
    StaticVif,
    Uplink,
    UplinkKind,
)
from pfinet_proto.values import MacAddress, VifName

ID = "0123456789abcdef" * 2
STATION = MacAddress.parse("52:54:00:00:00:01")


@pytest.fixture
def admission() -> Admission:
    config = Config(
        daemon=Daemon(owner_uids=(range(1000, 2000),)),
        uplinks=(Uplink("lan", UplinkKind.NIC, "eth0"), Uplink("away", UplinkKind.NONE)),
        networks=(
            Network(
                "office",
                Mode.SWITCH,
                None,
                (ip_network("10.0.1.0/24"),),
                gateways=(ip_address("10.0.1.1"),),
                reserved=(AddressRange(ip_address("10.0.1.220"), ip_address("10.0.1.230")),),
                host=True,
            ),
            Network("lab", Mode.SWITCH, None, (ip_network("10.0.2.0/24"),)),
        ),
        vifs=(StaticVif(VifName("web"), "www"), StaticVif(VifName("db"), "64055")),
    )
    return Admission(config, {33: "www", 34: "root"}.get)


@pytest.mark.parametrize("uid", [1000, 1999, 33, 64055])
def test_an_owner_by_range_by_name_and_by_number_gets_sockets(
    admission: Admission, uid: int
) -> None:
    admission.check_open(OpenVifSockets(1, ID, uid, ("attach", "stream", "bess")), ())


@pytest.mark.parametrize("uid", [0, 34, 999, 2000, 64056, 2**32 - 1])
def test_any_other_uid_is_refused(admission: Admission, uid: int) -> None:
    with pytest.raises(Refused, match=f"uid {uid} is not in"):
        admission.check_open(OpenVifSockets(1, ID, uid, ("attach",)), ())


@pytest.mark.parametrize(
    "vif_id",
    ["", "..", "../../etc" + "0" * 23, ID[:-1], ID + "0", ID.upper(), ID[:-1] + "/", ID + "\n"],
)
def test_an_id_that_is_not_32_digits_is_refused(admission: Admission, vif_id: str) -> None:
    with pytest.raises(Refused, match="vif id is"):
        admission.check_open(OpenVifSockets(1, vif_id, 1000, ("attach",)), ())
    with pytest.raises(Refused, match="vif id is"):
        admission.check_id(vif_id)


@pytest.mark.parametrize("kinds", [(), ("attach", "attach"), ("vhost",), ("attach", "../control")])
def test_kinds_that_are_none_or_unknown_or_twice_are_refused(
    admission: Admission, kinds: tuple[str, ...]
) -> None:
    with pytest.raises(Refused, match="kind"):
        admission.check_open(OpenVifSockets(1, ID, 1000, kinds), ())


def test_no_more_vifs_get_sockets_than_there_are_ports_but_one_may_be_asked_for_again(
    admission: Admission,
) -> None:
    ids = [f"{number:032x}" for number in range(MAX_VIFS)]

    admission.check_open(OpenVifSockets(1, ids[0], 1000, ("attach",)), ids)
    with pytest.raises(Refused, match="all there can be"):
        admission.check_open(OpenVifSockets(1, ID, 1000, ("attach",)), ids)


def test_a_nic_of_the_file_may_hear_for_stations(admission: Admission) -> None:
    admission.check_members(SetMemberships(1, "lan", (STATION,) * MAX_MEMBERS))
    admission.check_members(SetMemberships(1, "lan", ()))


@pytest.mark.parametrize(
    ("uplink", "macs", "why"),
    [
        ("eth0", (), "not a nic"),
        ("away", (), "not a nic"),
        ("lan", (STATION,) * (MAX_MEMBERS + 1), "at most"),
        ("lan", (MacAddress.parse("01:00:5e:00:00:01"),), "station"),
        ("lan", (STATION, MacAddress.parse("ff:ff:ff:ff:ff:ff")), "station"),
        ("lan", (MacAddress(bytes(6)),), "station"),
    ],
)
def test_other_uplinks_groups_and_too_many_are_refused(
    admission: Admission, uplink: str, macs: tuple[MacAddress, ...], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        admission.check_members(SetMemberships(1, uplink, macs))


def test_the_host_may_have_routes_into_the_networks_that_it_is_in(admission: Admission) -> None:
    request = ChangeHostRoutes(1, "office", ("10.0.1.5/32", "10.0.1.64/28"), ("10.0.1.6/32",))

    assert admission.check_routes(request, ()) == (
        [ip_network("10.0.1.5/32"), ip_network("10.0.1.64/28")],
        [ip_network("10.0.1.6/32")],
    )


@pytest.mark.parametrize(
    ("network", "add", "drop", "why"),
    [
        ("lab", ("10.0.2.5/32",), (), "the host is not in network 'lab'"),
        ("none", ("10.0.2.5/32",), (), "the host is not in network 'none'"),
        ("office", ("10.0.2.5/32",), (), "outside"),
        ("office", ("0.0.0.0/0",), (), "outside"),
        ("office", (), ("fd00::5/64",), "host bits"),
        ("office", ("10.0.1.5/24",), (), "host bits"),
        ("office", ("10.0.1.0/25",), (), "network address"),
        ("office", ("10.0.1.128/25",), (), "broadcast address"),
        ("office", ("10.0.1.1/32",), (), "gateway"),
        ("office", ("10.0.1.0/30",), (), "address"),
        ("office", ("10.0.1.216/29",), (), "reserved range"),
        ("office", ("via 10.0.1.1",), (), "route to"),
    ],
)
def test_routes_elsewhere_are_refused(
    admission: Admission, network: str, add: tuple[str, ...], drop: tuple[str, ...], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        admission.check_routes(ChangeHostRoutes(1, network, add, drop), ())


def test_there_are_no_more_routes_than_vifs_can_have(admission: Admission) -> None:
    known = [ip_network((number, 32)) for number in range(MAX_ROUTES)]
    another = ChangeHostRoutes(1, "office", ("10.0.1.5/32",), ())

    assert admission.check_routes(another, known[1:])
    with pytest.raises(Refused, match=f"not at most {MAX_ROUTES}"):
        admission.check_routes(another, known)


def test_routes_may_go_that_the_file_before_this_one_allowed(admission: Admission) -> None:
    old = ("fd00::5/128",)

    assert admission.check_routes(ChangeHostRoutes(1, "office", (), old), ()) == (
        [],
        [ip_network("fd00::5/128")],
    )
    assert admission.check_routes(ChangeHostRoutes(1, "none", (), old), ()) == ([], [])


KEPT = Kept(ID, 64, 3, Session("attach", "stream", 7, 1000, 100, 4711, 2**62, bytes(16)))
PLAIN = evolve(KEPT, session=evolve(KEPT.session, way="stream", cookie=None))


def session_with(**changes: Any) -> Kept:
    return evolve(KEPT, session=evolve(KEPT.session, **changes))


@pytest.fixture
def handshake() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        yield sock


def test_an_attachment_is_kept_with_the_connection_of_its_handshake_if_it_had_one(
    admission: Admission, handshake: socket.socket
) -> None:
    admission.check_keep(KEPT, [handshake], 1000, ())
    admission.check_keep(session_with(transport="tap"), [handshake], 1000, ())
    admission.check_keep(PLAIN, [], 1000, ())
    admission.check_keep(session_with(way="bess", transport="bess"), [], 1000, ())


@pytest.mark.parametrize(
    ("kept", "owner", "kept_ids", "why"),
    [
        (evolve(KEPT, vif_id="../lock"), 1000, (), "vif id is"),
        (KEPT, None, (), "has no sockets to attach by"),
        (KEPT, 1001, (), "is uid 1001's, not uid 1000's"),
        (KEPT, 1000, (ID,), "has an attachment already"),
        (session_with(way="control"), 1000, (), "nobody attaches by 'control'"),
        (session_with(transport="pipe"), 1000, (), "with 'pipe'"),
        (session_with(cookie=b"short"), 1000, (), "cookie is 5 bytes, not 16"),
        (PLAIN, 1000, (), "descriptors are not those"),
    ],
    ids=["id", "no vif", "owner", "twice", "way", "transport", "cookie", "surplus"],
)
def test_an_attachment_that_cannot_be_is_not_kept(
    admission: Admission,
    handshake: socket.socket,
    kept: Kept,
    owner: int | None,
    kept_ids: tuple[str, ...],
    why: str,
) -> None:
    with pytest.raises(Refused, match=why):
        admission.check_keep(kept, [handshake], owner, kept_ids)


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ((socket.AF_UNIX, socket.SOCK_STREAM),),
        ((socket.AF_INET, socket.SOCK_STREAM),),
        ((socket.AF_UNIX, socket.SOCK_SEQPACKET),) * 2,
    ],
    ids=["none", "stream", "TCP", "two"],
)
def test_no_other_descriptors_are_kept(
    admission: Admission, kinds: tuple[tuple[int, int], ...]
) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(*kind)) for kind in kinds]

        with pytest.raises(Refused, match="descriptors are not those"):
            admission.check_keep(KEPT, sockets, 1000, ())
