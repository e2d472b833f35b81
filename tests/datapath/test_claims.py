"""Link-local addresses by first come: who may have one, from when on, and who gives way."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_network
from typing import Any, Final

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiplexer.datapath._dp import lib

from tests.reference import Decision, Frame, Network, Reason, Reference, Route, Vif, World

from . import frames
from .core import Core, network_row, vif_row
from .frames import Upper
from .neighbourhood import MTU, PEER, PORTS, ROUTER, STRANGER, UPLINK, USER, dad, ip6, nd, patch
from .test_engine import Bench, record
from .traffic import Persona

EXAMPLES: Final = int(os.environ.get("REFERENCE_EXAMPLES", "2000")) // 2

#: As RFC 7217 makes them.
STABLE: Final = tuple(f"fe80::a1b2:c3d4:e5f6:{number:x}" for number in range(0x7001, 0x7007))
MINE: Final = STABLE[0]

WAIT_NS: Final = lib.DP_CLAIM_WAIT_NS
START_NS: Final = 1_000_000_000
FIRM_NS: Final = START_NS + WAIT_NS


def world_of(*, uplink: int | None = UPLINK, hub: bool = False) -> World:
    """Return a network where user and peer may claim, and a router may not."""

    def vif(who: Persona, **more: Any) -> Vif:
        bound = tuple(map(ip_network, (who.ipv4, who.ipv6, who.link_local)))
        return Vif(port=PORTS[who], network=0, mac=who.mac, prefixes=bound, **more)

    return World(
        (Network(id=0, hub=hub, uplink=uplink, mtu=MTU),),
        (
            vif(USER, first_come=True),
            vif(PEER, first_come=True),
            vif(ROUTER, router=True),
        ),
    )


class Scene:
    """A core, and frames into it."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or world_of()
        self.core = Core(self.world)

    def sent(self, frame: Frame, at_ns: int = START_NS, *, by: Persona = USER) -> Decision:
        return self.core.from_vif(PORTS[by], frame, at_ns)

    def heard(self, frame: Frame) -> Decision:
        """Judge a frame from the wire."""
        return self.core.from_uplink(UPLINK, frame)

    def claims(self, of: Persona = USER) -> list[str]:
        bind = self.core.table.ports[PORTS[of]].bind
        return [str(IPv6Address(bytes(bind.claims[i].prefix.addr))) for i in range(bind.n_claims)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def data(source: str, *, by: Persona = USER) -> Frame:
    return ip6(frames.udp(b"hello", sport=4000, dport=53), by=by, src=source)


def advertisement(target: str, *, by: Persona = USER) -> Frame:
    upper = frames.neighbour_advertisement(target, frames.link_layer(2, by.mac))
    group = {"dst": "ff02::1", "to": frames.multicast_mac("ff02::1")}
    return nd(upper, by=by, src=by.link_local, **group)


FLOODED: Final = Decision(route=Route.FLOOD, network=0)


def test_what_is_claimed_may_be_used_once_nobody_has_objected_in_time(scene: Scene) -> None:
    assert scene.sent(dad(MINE)) == FLOODED
    assert scene.sent(data(MINE), FIRM_NS - 1).reason is Reason.IPV6_SRC
    assert scene.sent(advertisement(MINE), FIRM_NS - 1).reason is Reason.ND_SPOOF
    assert scene.sent(data(MINE), FIRM_NS).reason is None
    assert scene.sent(advertisement(MINE), FIRM_NS) == FLOODED
    assert scene.claims() == [MINE]


def test_what_was_never_claimed_may_not_be_used(scene: Scene) -> None:
    assert scene.sent(data(MINE)).reason is Reason.IPV6_SRC
    assert scene.sent(advertisement(MINE)).reason is Reason.ND_SPOOF


def test_a_vif_that_may_not_claim_cannot(scene: Scene) -> None:
    assert scene.sent(dad(MINE, by=ROUTER), by=ROUTER).reason is Reason.ND_SPOOF
    assert scene.claims(ROUTER) == []


@pytest.mark.parametrize("later_ns", [0, WAIT_NS])
def test_what_one_has_claimed_another_does_not_get(scene: Scene, later_ns: int) -> None:
    scene.sent(dad(MINE))
    at_ns = START_NS + later_ns

    assert scene.sent(dad(MINE, by=PEER), at_ns, by=PEER).reason is Reason.ND_SPOOF
    assert scene.sent(data(MINE, by=PEER), at_ns + WAIT_NS, by=PEER).reason is Reason.IPV6_SRC
    assert scene.claims(PEER) == []


def test_a_claim_is_announced_where_there_is_no_wire() -> None:
    scene = Scene(world_of(uplink=None))

    assert scene.sent(dad(MINE)) == FLOODED
    assert scene.sent(data(MINE), FIRM_NS).reason is None


def test_the_owner_of_a_claim_is_found_by_those_who_ask(scene: Scene) -> None:
    asks = nd(
        frames.neighbour_solicitation(MINE),
        by=PEER,
        dst=frames.solicited_node(MINE),
        to=frames.multicast_mac(frames.solicited_node(MINE)),
    )
    scene.sent(dad(MINE))

    assert scene.sent(asks, FIRM_NS, by=PEER).port == PORTS[USER]


def test_claims_are_few(scene: Scene) -> None:
    for address in STABLE[:4]:
        assert scene.sent(dad(address)) == FLOODED

    assert scene.sent(dad(STABLE[4])).reason is Reason.ND_SPOOF
    assert scene.sent(dad(STABLE[4], by=PEER), by=PEER) == FLOODED
    assert scene.claims() == [*STABLE[:4]]


def test_a_repeated_claim_is_the_same_claim(scene: Scene) -> None:
    scene.sent(dad(MINE))

    assert scene.sent(dad(MINE), FIRM_NS - 1) == FLOODED
    assert scene.sent(data(MINE), FIRM_NS).reason is None
    assert scene.sent(dad(MINE), FIRM_NS) == FLOODED
    assert scene.claims() == [MINE]


@pytest.mark.parametrize("objects", [advertisement, data], ids=["advertises it", "uses it"])
def test_a_station_on_the_wire_keeps_what_it_has(
    scene: Scene, objects: Callable[..., Frame]
) -> None:
    scene.sent(dad(MINE))

    assert scene.heard(objects(MINE, by=STRANGER)).reason is not Reason.UPLINK_SPOOF
    assert scene.claims() == []
    assert scene.sent(data(MINE), FIRM_NS).reason is Reason.IPV6_SRC


def test_a_stranger_does_not_take_what_is_firm(scene: Scene) -> None:
    scene.sent(dad(MINE))
    scene.sent(data(MINE), FIRM_NS)

    found = scene.heard(advertisement(MINE, by=STRANGER))

    assert found.reason is Reason.UPLINK_SPOOF
    assert found.conflict is not None
    assert found.conflict.port == PORTS[USER]
    assert scene.claims() == [MINE]


def test_an_objection_to_one_claim_leaves_the_others(scene: Scene) -> None:
    for address in STABLE[:3]:
        scene.sent(dad(address))
    scene.heard(advertisement(STABLE[1], by=STRANGER))

    assert scene.claims() == [STABLE[0], STABLE[2]]
    assert scene.sent(data(STABLE[2]), FIRM_NS).reason is None
    assert scene.sent(dad(STABLE[1], by=PEER), by=PEER) == FLOODED


#: Made of a MAC, typed by hand, or not link-local at all.
NOT_CLAIMABLE: Final = (
    "fe80::5054:ff:fe00:63",
    "fe80::1",
    "fe80::1:1",
    "fe80:0:0:1:a1b2:c3d4:e5f6:7001",
    "fe90::a1b2:c3d4:e5f6:7001",
    "fd00::a1b2:c3d4:e5f6:7001",
    "ff02::a1b2:c3d4:e5f6:7001",
)


@pytest.mark.parametrize("address", NOT_CLAIMABLE)
def test_an_address_that_a_router_could_have_cannot_be_claimed(scene: Scene, address: str) -> None:
    assert scene.sent(dad(address)).reason is Reason.ND_SPOOF
    assert scene.claims() == []


OTHER_GROUP: Final = frames.solicited_node("fe80::1:2:3:4")

#: Claims that who holds the address would not hear, or not take seriously.
UNHEARD: Final = {
    "to another group": dad(MINE, dst=OTHER_GROUP),
    "to another group's MAC": dad(MINE, to=frames.multicast_mac(OTHER_GROUP)),
    "to all, by broadcast": dad(MINE, to=frames.BROADCAST),
    "to one MAC": dad(MINE, to=PEER.mac),
    "behind hop-by-hop options": dad(MINE, extensions=(frames.options_header(frames.HOP_BY_HOP),)),
    "behind an option that a receiver must not skip": dad(
        MINE, extensions=(frames.options_header(options=bytes((0xC0, 4, 0, 0, 0, 0))),)
    ),
    "in an atomic fragment": dad(MINE, extensions=(frames.fragment_header(),)),
    "with a wrong checksum": patch(dad(MINE), 42, b"\x12\x34"),
    "with a hop limit of 254": dad(MINE, hop_limit=254),
    "with an option of length 0": dad(MINE, options=b"\x0e\0" + bytes(6)),
    "with a link-layer address": dad(MINE, options=frames.link_layer(1, USER.mac)),
    "from an address": dad(MINE, src=USER.link_local),
    "with a code": nd(
        frames.icmpv6(135, 1, bytes(4) + IPv6Address(MINE).packed),
        src="::",
        dst=frames.solicited_node(MINE),
        to=frames.multicast_mac(frames.solicited_node(MINE)),
    ),
}


@pytest.mark.parametrize("how", UNHEARD)
def test_a_claim_that_its_holder_might_not_hear_is_none(scene: Scene, how: str) -> None:
    """Else an attacker could take an address while its holder is silent."""
    scene.sent(UNHEARD[how])

    assert scene.claims() == []


def test_what_the_vif_may_not_send_claims_nothing() -> None:
    """Over the limit for broadcasts: nobody was asked."""
    limited = world_of()
    user = evolve(limited.vifs[0], limits=evolve(limited.vifs[0].limits, broadcast_per_s=1))
    scene = Scene(evolve(limited, vifs=(user, *limited.vifs[1:])))

    assert scene.sent(dad(STABLE[0])) == FLOODED
    assert scene.sent(dad(STABLE[1])).reason is Reason.BROADCAST_LIMIT
    assert scene.claims() == [STABLE[0]]


def test_an_options_only_nonce_does_not_hinder(scene: Scene) -> None:
    """RFC 7527 tells one's own solicitations from others'."""
    assert scene.sent(dad(MINE, options=frames.link_layer(14, b"nonce!"))) == FLOODED


def test_claims_end_with_the_attachment(scene: Scene) -> None:
    scene.sent(dad(MINE))
    lib.dp_table_set_up(scene.core.table, PORTS[USER], False)

    assert scene.claims() == []
    assert scene.sent(dad(MINE, by=PEER), by=PEER) == FLOODED


def test_claims_end_with_the_vif(scene: Scene) -> None:
    scene.sent(dad(MINE))
    assert lib.dp_table_clear(scene.core.table, PORTS[USER]) == 0

    assert scene.sent(dad(MINE, by=PEER), by=PEER) == FLOODED


@pytest.mark.parametrize("first_come", [True, False])
def test_claims_outlive_a_change_of_the_vif_that_still_may_have_them(first_come: bool) -> None:
    scene = Scene()
    scene.sent(dad(STABLE[0]))
    scene.sent(dad(STABLE[1]), FIRM_NS)
    changed = evolve(scene.world.vifs[0], first_come=first_come, router=True)
    row = vif_row(changed, MTU)

    assert lib.dp_table_set_vif(scene.core.table, PORTS[USER], row, len(row)) == 0

    assert scene.claims() == (list(STABLE[:2]) if first_come else [])
    used = scene.sent(data(STABLE[0]), FIRM_NS)
    assert used.reason is (None if first_come else Reason.IPV6_SRC)
    assert scene.sent(data(STABLE[1]), FIRM_NS).reason is Reason.IPV6_SRC
    others = scene.sent(dad(STABLE[0], by=PEER), FIRM_NS, by=PEER)
    assert others == (Decision(reason=Reason.ND_SPOOF) if first_come else FLOODED)


def test_a_claim_that_comes_to_be_bound_is_no_claim_any_more(scene: Scene) -> None:
    scene.sent(dad(STABLE[0]))
    scene.sent(dad(STABLE[1]))
    vif = scene.world.vifs[0]
    row = vif_row(evolve(vif, prefixes=(*vif.prefixes, ip_network(STABLE[0]))), MTU)

    assert lib.dp_table_set_vif(scene.core.table, PORTS[USER], row, len(row)) == 0

    assert scene.claims() == [STABLE[1]]
    assert scene.sent(data(STABLE[0])).reason is None


def test_nothing_is_claimed_while_the_wire_cannot_be_asked(scene: Scene) -> None:
    """Whoever has the address there would lose it to the vif when the wire is back."""
    (network,) = scene.world.networks
    scene.core.set_wire(network, False, START_NS)

    assert scene.core.traced(PORTS[USER], dad(MINE), START_NS).reason is Reason.ND_SPOOF
    assert scene.sent(dad(MINE)).reason is Reason.ND_SPOOF
    assert scene.claims() == []
    scene.core.set_wire(network, True, START_NS)
    assert scene.sent(dad(MINE)) == FLOODED


def test_a_claim_that_is_not_firm_ends_with_the_wire(scene: Scene) -> None:
    """An objection that was on its way is lost."""
    (network,) = scene.world.networks
    scene.sent(dad(STABLE[0]))
    scene.sent(dad(STABLE[1]), START_NS + 1)
    scene.core.set_wire(network, False, FIRM_NS)
    scene.core.set_wire(network, True, FIRM_NS)

    assert scene.claims() == [STABLE[0]]
    assert scene.sent(data(STABLE[0]), FIRM_NS + 1).reason is None
    assert scene.sent(data(STABLE[1]), FIRM_NS + 1).reason is Reason.IPV6_SRC
    assert scene.sent(dad(STABLE[1], by=PEER), FIRM_NS, by=PEER) == FLOODED


def test_a_trace_claims_nothing(scene: Scene) -> None:
    assert scene.core.traced(PORTS[USER], dad(MINE), START_NS) == FLOODED
    assert scene.claims() == []


# With the engine, which may fail to ask.


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An engine with the user's vif and a wire that is there, by no socket yet."""
    bench = Bench()
    (network,), (user, *_) = world_of().networks, world_of().vifs
    bench.engine.add_uplink(UPLINK)
    bench.engine.set_network(network_row(network))
    bench.engine.set_vif(PORTS[USER], vif_row(user, MTU))
    bench.engine.set_up(UPLINK, True)
    yield bench
    bench.close()


def test_a_question_that_the_uplink_does_not_take_claims_nothing(bench: Bench) -> None:
    """The driver's queue may be full: who has the address was not asked."""
    bench.engine.inject(PORTS[USER], dad(MINE).data)
    assert bench.drops(UPLINK) == {"detached": 1}
    assert bench.engine.claimed(PORTS[USER]) == ()

    bench.attach(UPLINK)
    bench.engine.inject(PORTS[USER], dad(MINE).data)
    assert bench.received(UPLINK) == record(dad(MINE).data)
    assert bench.engine.claimed(PORTS[USER]) == (IPv6Address(MINE).packed,)


def test_a_claim_that_is_not_firm_ends_when_the_link_is_lost(bench: Bench) -> None:
    bench.attach(UPLINK)
    bench.engine.inject(PORTS[USER], dad(MINE).data)

    bench.engine.set_up(UPLINK, False)

    assert bench.engine.claimed(PORTS[USER]) == ()


# Random stories.


@frozen(kw_only=True)
class Event:
    """A frame by somebody, *after_ns* of the one before; before it, the wire may come or go."""

    by: Persona
    what: str
    frame: Frame
    after_ns: int
    wire: bool | None


def solicitation(target: str, *, by: Persona) -> Frame:
    group = frames.solicited_node(target)
    upper: Upper = frames.neighbour_solicitation(target)
    return nd(upper, by=by, dst=group, to=frames.multicast_mac(group))


WHAT: Final[dict[str, Callable[..., Frame]]] = {
    "claims": dad,
    "uses": data,
    "advertises": advertisement,
    "asks": solicitation,
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    by = draw(st.sampled_from([USER, USER, USER, PEER, PEER, ROUTER, STRANGER]))
    what = draw(st.sampled_from(["claims", "claims", "uses", "advertises", "asks"]))
    address = draw(st.sampled_from([*STABLE, *STABLE, *NOT_CLAIMABLE[:4]]))
    return Event(
        by=by,
        what=what,
        frame=WHAT[what](address, by=by),
        after_ns=draw(st.sampled_from([0, 1, WAIT_NS // 2, WAIT_NS - 1, WAIT_NS])),
        wire=draw(st.sampled_from([None, None, None, None, None, False, True, True])),
    )


def test_the_core_lets_claim_what_the_reference_does_in_random_stories() -> None:
    seen: Counter[tuple[str, str, Reason | None]] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.booleans(), st.lists(events(), min_size=4, max_size=24))
    def compare(hub: bool, happened: list[Event]) -> None:
        world = world_of(hub=hub)
        reference, core = Reference(world), Core(world)
        now_ns = START_NS
        for event in happened:
            now_ns += event.after_ns
            if event.wire is not None:
                for judge in (reference, core):
                    judge.set_wire(world.networks[0], event.wire, now_ns)
            if event.by is STRANGER:
                expected = reference.from_uplink(UPLINK, event.frame)
                found = core.from_uplink(UPLINK, event.frame)
            else:
                port = PORTS[event.by]
                expected = reference.from_vif(port, event.frame, now_ns)
                assert core.traced(port, event.frame, now_ns) == expected
                found = core.from_vif(port, event.frame, now_ns)
            assert found == expected, event
            seen[event.what, event.by.ipv4, expected.reason] += 1

    compare()

    for who in (USER, PEER):
        for what, reason in (
            ("claims", None),
            ("claims", Reason.ND_SPOOF),
            ("uses", None),
            ("uses", Reason.IPV6_SRC),
            ("advertises", None),
            ("advertises", Reason.ND_SPOOF),
        ):
            assert seen[what, who.ipv4, reason]
    assert seen["uses", STRANGER.ipv4, Reason.UPLINK_SPOOF]
    assert seen["uses", ROUTER.ipv4, Reason.IPV6_SRC]
    assert not seen["claims", ROUTER.ipv4, None]
