"""A new vif's addresses are asked for on the wire, and what an answer does."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import attrs
import pytest
import trio

from multiplexer.daemon import channel
from multiplexer.policy import decode_vif
from multiplexer.probes import announcements, questions
from pfinet_proto.control import (
    ControlError,
    ErrorCode,
    OwnLimitsInfo,
    Reload,
    VifBorrow,
    VifCreate,
    VifList,
    VifShow,
)
from pfinet_proto.values import VifName
from tests.daemon.siblings import BOB, CAROL, STATION_MAC, Place, Running, running

GRANT = """
[grant.some]
to = ["bob"]
network = "lan"
addresses = ["10.77.0.32/28"]
vifs = 9
"""

ONE = VifCreate(
    VifName("one"), "bob", (ip_interface("10.77.0.40/24"), ip_interface("fd77::40/64"))
)
MINE = VifCreate(VifName("mine"))


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def refusal(daemon: Running, request: VifCreate, uid: int = 0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await daemon.ask(request, uid)
    return caught.value


async def names(daemon: Running, uid: int = 0) -> list[str]:
    return [str(vif.name) for vif in (await daemon.ask(VifList(), uid)).vifs]


async def test_the_wire_is_asked_thrice_and_then_told(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(ONE)

        addresses = [ip_address("10.77.0.40"), ip_address("fd77::40")]
        *asked, one, two = daemon.engine.all(channel.Inject)
        assert [message.frames for message in asked] == [questions(made.mac, addresses)] * 3
        assert (*one.frames, *two.frames) == announcements(made.mac, addresses)


async def test_no_vif_is_bothered_by_a_question_but_all_hear_the_answer(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)

        to_wire = [message.to_wire for message in daemon.engine.all(channel.Inject)]
        assert to_wire == [True] * 3 + [False] * 2


async def test_many_addresses_are_asked_for_a_few_at_a_time(place: Place) -> None:
    async with running(place) as daemon:
        wide = attrs.evolve(ONE, addresses=(), prefixes=(ip_network("10.77.0.64/28"),))
        await daemon.ask(wide)

        counts = [len(message.frames) for message in daemon.engine.all(channel.Inject)]
        assert counts == [8] * 6


async def test_more_addresses_than_can_be_asked_for_are_refused_without_force(
    place: Place,
) -> None:
    prefixes = [ip_network(f"10.77.0.{16 * n}/28") for n in (1, 2, 3, 4)]
    async with running(place) as daemon:
        wide = attrs.evolve(ONE, addresses=(ip_interface("10.77.0.80/24"),), prefixes=(*prefixes,))
        error = await refusal(daemon, wide)

        assert (error.code, str(error)) == (
            ErrorCode.INVALID,
            "65 addresses would be asked for on the wire, wanted at most 64"
            " (--force makes the vif nevertheless)",
        )
        assert daemon.engine.all(channel.SetVif) == []
        await daemon.ask(attrs.evolve(wide, force=True))


async def test_what_the_next_vif_at_its_port_hears_is_no_answer(place: Place) -> None:
    async with running(place) as daemon:

        async def create() -> None:
            error = await refusal(daemon, ONE)
            assert str(error) == "the configuration has just changed, try again"

        daemon.engine.withheld.add(channel.Inject)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            asked = await daemon.engine.wait_heard(channel.Inject)
            daemon.broker.file = place.config(GRANT)
            await daemon.ask(Reload(), CAROL)
            found = channel.Conflict(asked.port, STATION_MAC, "10.77.0.99", 1)
            daemon.engine.conflicts = (found,)
            await daemon.engine.release()


@pytest.mark.parametrize("address", ["10.77.0.40", "fd77::40"])
async def test_an_address_that_somebody_has_is_refused_and_all_is_undone(
    place: Place, address: str
) -> None:
    async with running(place) as daemon:
        daemon.engine.stations.add(address)
        error = await refusal(daemon, ONE)

        assert error.code is ErrorCode.CONFLICT
        assert str(error) == (
            f"address {address} is in use on the wire, by {STATION_MAC}"
            " (--force makes the vif nevertheless)"
        )
        assert await names(daemon) == []
        assert daemon.engine.ports == {}
        assert daemon.broker.sockets == set()
        assert daemon.broker.all(channel.SetMemberships)[-1].macs == ()
        assert any(
            line.startswith("audit: refused") and "is in use on the wire" in line
            for line in daemon.log
        )
        daemon.engine.stations.clear()
        await daemon.ask(ONE)


async def test_an_administrator_may_force_it_and_nobody_is_asked(place: Place) -> None:
    async with running(place) as daemon:
        daemon.engine.stations.add("10.77.0.40")
        made = await daemon.ask(attrs.evolve(ONE, force=True))

        told = daemon.engine.all(channel.Inject)
        frames = tuple(frame for message in told for frame in message.frames)
        assert frames == announcements(made.mac, [each.ip for each in made.addresses])


async def test_a_user_is_told_who_has_the_address(place: Place) -> None:
    async with running(place, GRANT) as daemon:
        daemon.engine.stations.add("10.77.0.33")
        wanted = attrs.evolve(MINE, addresses=(ip_interface("10.77.0.33/24"),))
        error = await refusal(daemon, wanted, BOB)

        assert str(error) == f"address 10.77.0.33 is in use on the wire, by {STATION_MAC}"


async def test_where_the_daemon_chooses_it_passes_over_what_others_have(place: Place) -> None:
    async with running(place, GRANT) as daemon:
        daemon.engine.stations |= {"10.77.0.32", "10.77.0.33"}
        made = await daemon.ask(MINE, BOB)
        asked = len(daemon.engine.all(channel.Inject))
        daemon.engine.stations.clear()
        next_one = await daemon.ask(VifBorrow("lan"), BOB)

        assert made.addresses == (ip_interface("10.77.0.34/24"),)
        assert asked == 1 + 1 + (3 + 1)
        assert next_one.addresses == (ip_interface("10.77.0.35/24"),)


async def test_it_does_not_try_addresses_for_ever_and_the_next_time_goes_on(
    place: Place,
) -> None:
    async with running(place, GRANT) as daemon:
        daemon.engine.stations |= {f"10.77.0.{number}" for number in range(32, 37)}
        error = await refusal(daemon, MINE, BOB)
        made = await daemon.ask(MINE, BOB)

        assert str(error) == f"address 10.77.0.35 is in use on the wire, by {STATION_MAC}"
        assert made.addresses == (ip_interface("10.77.0.37/24"),)


async def test_a_low_limit_costs_no_question_and_holds_for_the_client(place: Place) -> None:
    async with running(place) as daemon:
        slow = OwnLimitsInfo(frames_per_s=1, broadcast_per_s=1)
        made = await daemon.ask(attrs.evolve(ONE, limits=slow))

        first, last = (decode_vif(each.row) for each in daemon.engine.all(channel.SetVif))
        assert (first.limits.frames_per_s, first.limits.broadcast_per_s) == (0, 0)
        assert (last.limits.frames_per_s, last.limits.broadcast_per_s) == (1, 1)
        assert await daemon.ask(VifShow(made.name)) == made


async def test_where_there_is_no_wire_nobody_is_asked(place: Place) -> None:
    async with running(place) as daemon:
        island = VifCreate(VifName("x"), "bob", (ip_interface("10.78.0.2/24"),))
        await daemon.ask(island)
        assert not any(message.to_wire for message in daemon.engine.all(channel.Inject))

        await daemon.broker.tell_uplink(None)
        await daemon.ask(ONE)
        assert not any(message.to_wire for message in daemon.engine.all(channel.Inject))


async def test_meanwhile_the_address_is_taken_and_others_make_theirs(place: Place) -> None:
    async with running(place, GRANT) as daemon:
        daemon.engine.withheld.add(channel.Inject)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.ask, ONE)
            await daemon.engine.wait_heard(channel.Inject)
            error = await refusal(daemon, attrs.evolve(ONE, name=VifName("two")), CAROL)
            assert await names(daemon, CAROL) == []
            nursery.start_soon(daemon.ask, VifBorrow("lan"), BOB)
            await daemon.engine.wait_heard(channel.Inject, 2)
            await daemon.engine.release()

        assert str(error) == 'address 10.77.0.40 is that of vif "one"'
        assert await names(daemon) == ["lan-20002-1", "one"]


async def test_a_stop_of_the_daemon_leaves_nothing_of_a_draft(place: Place) -> None:
    async with running(place) as daemon, trio.open_nursery() as nursery:
        nursery.start_soon(daemon.ask, ONE)
        await daemon.engine.wait_heard(channel.Inject)
        nursery.cancel_scope.cancel()

    async with running(place) as daemon:
        assert await names(daemon) == []
