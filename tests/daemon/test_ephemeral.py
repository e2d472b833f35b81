"""Vifs that are made by use, and go soon after nobody uses them."""

import math
from collections.abc import Iterator

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing

from multiplexer.daemon import channel
from multiplexer.daemon.live_vif import Patience
from pfinet_proto.control import (
    ControlError,
    ErrorCode,
    VifBorrow,
    VifCreate,
    VifDelete,
    VifList,
    VifLocate,
)
from pfinet_proto.values import VifName
from tests.daemon.siblings import ALICE, BOB, STATIC, Place, Running, no_room, running

GRANT = """
[grant.some]
to = ["bob"]
network = "lan"
addresses = ["10.77.0.32/28"]
vifs = 3
"""

ENDLESS = Patience(math.inf, math.inf, math.inf)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def names(daemon: Running) -> list[str]:
    return [str(vif.name) for vif in (await daemon.ask(VifList())).vifs]


async def wait_gone(daemon: Running) -> None:
    async with daemon.asker() as asker:
        while (await asker.ask(VifList())).vifs:
            pass


async def use(daemon: Running, name: str) -> None:
    """Attach to the vif *name* and leave it."""
    async with daemon.attacher(name, BOB) as client:
        _, data = await client.attach()
        data.close()


async def test_a_borrowed_vif_is_its_users_with_a_name_and_addresses_made_for_it(
    place: Place,
) -> None:
    async with running(place, GRANT, patience=ENDLESS) as daemon:
        first = await daemon.ask(VifBorrow("lan"), BOB)
        second = await daemon.ask(VifBorrow("lan"), BOB)

        assert [str(vif.name) for vif in (first, second)] == ["lan-20002-1", "lan-20002-2"]
        assert [str(vif.addresses[0]) for vif in (first, second)] == [
            "10.77.0.32/24",
            "10.77.0.33/24",
        ]
        assert (first.owner_uid, first.grant, first.ephemeral) == (BOB, "some", True)


async def test_nobody_borrows_without_a_grant_for_the_network(place: Place) -> None:
    async with running(place, GRANT) as daemon:
        with pytest.raises(ControlError) as none:
            await daemon.ask(VifBorrow("lan"), ALICE)
        with pytest.raises(ControlError) as other:
            await daemon.ask(VifBorrow("lab"), BOB)

        assert none.value.code is ErrorCode.FORBIDDEN
        assert str(other.value) == 'grant "some": it is for network "lan", not "lab"'


@pytest.mark.parametrize("network", ["LAN", "", "a b", "-1", "nowhere"])
@pytest.mark.parametrize("uid", [ALICE, BOB])
async def test_nobody_borrows_in_a_network_that_there_is_not(
    place: Place, uid: int, network: str
) -> None:
    async with running(place, GRANT) as daemon:
        with pytest.raises(ControlError) as caught:
            await daemon.ask(VifBorrow(network), uid)

        assert caught.value.code is ErrorCode.NOT_FOUND
        assert str(caught.value) == f"no network is named {network!r}"


@pytest.mark.parametrize("patience", [attrs.evolve(ENDLESS, after_making_s=0)])
async def test_a_vif_that_nobody_comes_for_goes(place: Place, patience: Patience) -> None:
    async with running(place, GRANT, patience=patience) as daemon:
        await daemon.ask(VifBorrow("lan"), BOB)

        await wait_gone(daemon)
        while 'audit: vif-deleted name=lan-20002-1 why="nobody used it"' not in daemon.log:
            await names(daemon)

        assert daemon.broker.sockets == set()

    async with running(place, GRANT) as daemon:
        assert await names(daemon) == []


async def test_a_vif_stays_as_long_as_it_is_used_and_goes_after_that(place: Place) -> None:
    async with running(place, GRANT, patience=attrs.evolve(ENDLESS, after_detach_s=0)) as daemon:
        await daemon.ask(VifBorrow("lan"), BOB)
        async with daemon.attacher("lan-20002-1", BOB) as client:
            _, data = await client.attach()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert await names(daemon) == ["lan-20002-1"]
            data.close()

        await wait_gone(daemon)


async def test_a_client_that_comes_back_in_time_finds_its_vif(place: Place) -> None:
    async with running(place, GRANT, patience=ENDLESS) as daemon:
        made = await daemon.ask(VifBorrow("lan"), BOB)
        await use(daemon, "lan-20002-1")
        await daemon.engine.wait_heard(channel.Detach)
        await use(daemon, "lan-20002-1")

        assert (await daemon.ask(VifList())).vifs[0].id == made.id


async def test_over_a_restart_a_vif_waits_for_its_client_and_not_for_ever(place: Place) -> None:
    async with running(place, GRANT, patience=ENDLESS) as daemon:
        made = await daemon.ask(VifBorrow("lan"), BOB)

    async with running(place, GRANT, patience=ENDLESS) as daemon:
        assert (await daemon.ask(VifList())).vifs == (made,)
        await use(daemon, "lan-20002-1")

    async with running(place, GRANT, patience=attrs.evolve(ENDLESS, after_start_s=0)) as daemon:
        await wait_gone(daemon)


async def test_its_user_may_end_it_and_then_nothing_is_left_to_go(place: Place) -> None:
    async with running(place, GRANT, patience=attrs.evolve(ENDLESS, after_detach_s=0)) as daemon:
        made = await daemon.ask(VifBorrow("lan"), BOB)
        await daemon.ask(VifDelete(made.name), BOB)
        again = await daemon.ask(VifBorrow("lan"), BOB)

        assert (again.name, again.id == made.id) == (made.name, False)
        assert await names(daemon) == [str(made.name)]


async def test_what_cannot_be_forgotten_is_tried_again(place: Place) -> None:
    async with running(
        place, GRANT, patience=attrs.evolve(ENDLESS, after_detach_s=0.01)
    ) as daemon:
        await daemon.ask(VifBorrow("lan"), BOB)
        with no_room():
            await use(daemon, "lan-20002-1")
            while not any("deleting vif lan-20002-1" in line for line in daemon.log):
                await names(daemon)
            assert await names(daemon) == ["lan-20002-1"]

        await wait_gone(daemon)


async def test_other_vifs_do_not_go(place: Place) -> None:
    async with running(place, STATIC + GRANT, patience=Patience(0, 0, 0)) as daemon:
        await daemon.ask(VifCreate(VifName("mine")), BOB)
        await use(daemon, "mine")
        await daemon.ask(VifBorrow("lan"), BOB)
        async with daemon.asker() as asker:
            while len((await asker.ask(VifList())).vifs) > 2:
                pass

        assert await names(daemon) == ["mine", "web"]


async def test_the_only_vif_is_the_one_that_is_not_ephemeral(place: Place) -> None:
    async with running(place, GRANT, patience=ENDLESS) as daemon:
        await daemon.ask(VifBorrow("lan"), BOB)
        with pytest.raises(ControlError):
            await daemon.ask(VifLocate(), BOB)
        await daemon.ask(VifCreate(VifName("mine")), BOB)

        assert str((await daemon.ask(VifLocate(), BOB)).name) == "mine"
        assert str((await daemon.ask(VifLocate(VifName("lan-20002-1")), BOB)).name) == (
            "lan-20002-1"
        )
