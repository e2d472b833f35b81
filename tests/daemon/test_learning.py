"""Addresses that filters ask for: from what the engine has seen to what it judges by, and back."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest
import trio
import trio.testing

from multiplexer.config import parse_config
from multiplexer.daemon import channel, channel_trio, learning
from multiplexer.daemon.authorize import Refused
from multiplexer.daemon.definitions import library_of
from multiplexer.daemon.filtering import table_of
from multiplexer.daemon.gates import Gates
from multiplexer.daemon.live_vif import Patience
from multiplexer.model import FilterBinding, Vif
from multiplexer.policy.nwfilter.learning import Learned, Mode
from multiplexer.policy.nwfilter.tables import Learns, learns_of
from pfinet_proto.control import (
    FilterBindingInfo,
    FilterDefine,
    LearnedInfo,
    Reload,
    VifCreate,
    VifDelete,
    VifInfo,
    VifSet,
    VifShow,
)
from pfinet_proto.values import MacAddress, Text, VifName
from tests.daemon.siblings import ALICE, Place, Running, no_room, running

ONE, TWO = VifName.parse("one"), VifName.parse("two")
FIRST, SECOND, OUTSIDE = "10.77.0.33", "10.77.0.34", "10.77.0.70"
SERVER = "10.77.0.2"
HOUR, FOREVER = 3600, 0xFFFFFFFF
SOON = Patience(after_start_s=0.05, after_making_s=10.0, after_detach_s=0.05)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


def a_vif(name: VifName = ONE, prefix: str = "10.77.0.32/28", **parameters: str) -> VifCreate:
    return VifCreate(
        name,
        "alice",
        (),
        prefixes=(ip_network(prefix),),
        filter="clean-traffic",
        parameters={key: (value,) for key, value in parameters.items()},
        force=True,
    )


BY_ANY = a_vif()
BY_DHCP = a_vif(CTRL_IP_LEARNING="dhcp")


def expected(place: Place, made: VifInfo, *addresses: str, extra: str = "") -> bytes:
    """Return the table that *made* must have when it was seen to have *addresses*."""
    assert made.filter is not None
    binding = FilterBinding.of(made.filter.name, made.filter.parameters)
    owner, mac = made.owner_uid, made.mac
    vif = Vif(
        made.id, made.name, owner, None, made.network, mac, (), made.prefixes, filter=binding
    )
    is_dhcp = "CTRL_IP_LEARNING" in made.filter.parameters
    mode, server = (Mode.DHCP, IPv4Address(SERVER)) if is_dhcp else (Mode.ANY, None)
    learned = [Learned(mode, mac, owner, IPv4Address(each), server) for each in addresses]
    table = table_of(parse_config(place.config(extra), "m"), library_of(()), vif, learned)
    assert table is not None
    return table


def source(daemon: Running, made: VifInfo, address: str) -> channel.Sighting:
    return channel.Sighting(port_of(daemon, made), made.id, "source", address)


def lease(
    daemon: Running, made: VifInfo, address: str, lease_s: int = HOUR, server: str = SERVER
) -> channel.Sighting:
    return channel.Sighting(port_of(daemon, made), made.id, "lease", address, server, lease_s)


def release(daemon: Running, made: VifInfo, address: str) -> channel.Sighting:
    return channel.Sighting(port_of(daemon, made), made.id, "release", address)


def port_of(daemon: Running, made: VifInfo) -> int:
    return next(port for port, each in daemon.engine.ports.items() if each.vif_id == made.id)


async def until(what: Callable[[], bool]) -> None:
    """Return once *what* holds."""
    while not what():
        await trio.testing.wait_all_tasks_blocked(0.005)


async def wait_judged(daemon: Running, made: VifInfo, table: bytes) -> None:
    """Return once the engine judges *made* by *table*, and control has heard that."""
    port = port_of(daemon, made)
    with trio.fail_after(10):
        await until(lambda: daemon.engine.filters.get(port) == table)
    await shown(daemon, made)


async def shown(daemon: Running, made: VifInfo) -> FilterBindingInfo:
    binding = (await daemon.ask(VifShow(made.name))).filter
    assert binding is not None
    return binding


def stored(place: Place) -> list[str]:
    with closing(sqlite3.connect(place.state_dir / "state.db")) as connection:
        return [row[0] for row in connection.execute("SELECT vif_id FROM learned")]


async def test_the_first_address_that_is_seen_is_the_filters(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_ANY)
        assert await shown(daemon, made) == made.filter
        assert (made.filter.learning, made.filter.learned) == ("any", ())
        await wait_judged(daemon, made, expected(place, made))

        await daemon.engine.see(
            source(daemon, made, OUTSIDE),
            source(daemon, made, FIRST),
            source(daemon, made, SECOND),
        )

        await wait_judged(daemon, made, expected(place, made, FIRST))
        binding = await shown(daemon, made)
        assert (binding.learning, binding.learned) == (None, (LearnedInfo(IPv4Address(FIRST)),))
        assert any(f"address-learned name=one addresses={FIRST}" in line for line in daemon.log)
        # What else changes of the filter knows of it too.
        await daemon.ask(VifSet(ONE, parameters={"CTRL_IP_LEARNING": ("any",), "X": ("1",)}))
        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, made, FIRST)


async def test_leases_come_are_renewed_and_given_back(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(source(daemon, made, FIRST), lease(daemon, made, SECOND))
        await wait_judged(daemon, made, expected(place, made, SECOND))
        await daemon.engine.see(lease(daemon, made, FIRST, FOREVER))
        await wait_judged(daemon, made, expected(place, made, SECOND, FIRST))

        binding = await shown(daemon, made)
        assert binding.learning == "dhcp"
        second, first = binding.learned
        assert first == LearnedInfo(IPv4Address(FIRST), IPv4Address(SERVER), None)
        assert second.left_s is not None
        assert HOUR - 60 < second.left_s <= HOUR

        await daemon.engine.see(release(daemon, made, SECOND))
        await wait_judged(daemon, made, expected(place, made, FIRST))


async def test_without_a_lease_a_vif_is_judged_as_before(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(lease(daemon, made, FIRST, 2))
        await wait_judged(daemon, made, expected(place, made, FIRST))

        await wait_judged(daemon, made, expected(place, made))
        assert (await shown(daemon, made)).learned == ()
    assert stored(place) == []


async def test_a_server_that_is_not_named_is_not_believed(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(a_vif(CTRL_IP_LEARNING="dhcp", DHCPSERVER=SERVER))
        await daemon.engine.see(
            lease(daemon, made, FIRST, server="10.77.0.3"), lease(daemon, made, SECOND)
        )

        await wait_judged(daemon, made, expected(place, made, SECOND))


async def test_what_is_seen_of_one_vif_is_nothing_to_another(place: Place) -> None:
    """Not even if it is at the port where the other was."""
    async with running(place) as daemon:
        gone = await daemon.ask(BY_ANY)
        late = source(daemon, gone, FIRST)
        await daemon.ask(VifDelete(ONE))
        made = await daemon.ask(BY_ANY)
        other = await daemon.ask(a_vif(TWO, "10.77.0.64/28"))
        assert port_of(daemon, made) == late.port

        await daemon.engine.see(late, source(daemon, other, OUTSIDE))

        await wait_judged(daemon, other, expected(place, other, OUTSIDE))
        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, made)


async def test_a_flood_changes_a_filter_a_few_times_a_minute(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        other = await daemon.ask(a_vif(TWO, "10.77.0.64/28"))
        before = len(daemon.engine.all(channel.CommitFilters))
        for turn in range(30):
            what = release if turn % 2 else lease
            await daemon.engine.see(what(daemon, made, FIRST))

        await daemon.engine.see(source(daemon, other, OUTSIDE))
        await wait_judged(daemon, other, expected(place, other, OUTSIDE))
        commits = len(daemon.engine.all(channel.CommitFilters)) - before
        assert commits <= learning.MOST_CHANGES + 1


async def test_control_asks_the_engine_only_so_often(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_ANY)
        monkeypatch.setattr(learning, "PAUSE_S", float("inf"))
        await daemon.engine.see(source(daemon, made, OUTSIDE))
        daemon.engine.sightings.append(source(daemon, made, FIRST))
        await channel_trio.send(daemon.engine.sock, channel.Sighted())
        await shown(daemon, made)

        assert len(daemon.engine.all(channel.ReadSightings)) == 1


@pytest.mark.parametrize("refused", [channel.PrepareFilter, channel.CommitFilters])
async def test_what_the_engine_does_not_take_is_tried_again(
    place: Place, refused: type[channel.Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "RETRY_S", 0.05)
    async with running(place) as daemon:
        made = await daemon.ask(BY_ANY)
        daemon.engine.once[refused] = "no room"
        await daemon.engine.see(source(daemon, made, FIRST))

        await wait_judged(daemon, made, expected(place, made, FIRST))
        assert any("of vif one is not in force: engine: no room" in line for line in daemon.log)


async def test_what_cannot_be_kept_is_not_in_force_and_tried_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "RETRY_S", 0.05)
    async with running(place) as daemon:
        made = await daemon.ask(BY_ANY)
        with no_room():
            await daemon.engine.see(source(daemon, made, FIRST))
            with trio.fail_after(10):
                await until(lambda: any("is not in force" in line for line in daemon.log))
            assert daemon.engine.filters[port_of(daemon, made)] == expected(place, made)

        await wait_judged(daemon, made, expected(place, made, FIRST))


TWICE = """\
<filter name='twice'><rule action='drop' direction='out'>\
<ip srcipaddr='$IP' dstipaddr='$TO'/></rule></filter>"""


async def test_an_address_that_the_filter_cannot_have_changes_nothing(place: Place) -> None:
    """One goes with one, but two do not."""
    async with running(place) as daemon:
        await daemon.ask(FilterDefine(Text(TWICE)))
        made = await daemon.ask(
            VifCreate(
                ONE,
                "alice",
                (),
                prefixes=(ip_network("10.77.0.32/28"),),
                filter="twice",
                parameters={"TO": ("10.77.0.9",), "CTRL_IP_LEARNING": ("dhcp",)},
                force=True,
            )
        )
        await daemon.engine.see(lease(daemon, made, FIRST))
        with trio.fail_after(10):
            await until(lambda: len(daemon.engine.all(channel.CommitFilters)) == 2)
        table = daemon.engine.filters[port_of(daemon, made)]
        await daemon.engine.see(lease(daemon, made, SECOND))
        with trio.fail_after(10):
            await until(lambda: any("stays without" in line for line in daemon.log))

        assert daemon.engine.filters[port_of(daemon, made)] == table
        assert [str(each.address) for each in (await shown(daemon, made)).learned] == [FIRST]


async def test_what_comes_while_an_address_is_refused_is_not_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vif gives its only address back while the filter cannot have a second one."""
    monkeypatch.setattr(learning, "RETRY_S", 0.05)
    asked = VifCreate(
        ONE,
        "alice",
        (),
        prefixes=(ip_network("10.77.0.32/28"),),
        filter="twice",
        parameters={"TO": ("10.77.0.9",), "CTRL_IP_LEARNING": ("dhcp",)},
        force=True,
    )
    async with running(place) as daemon:
        await daemon.ask(FilterDefine(Text(TWICE)))
        made = await daemon.ask(asked)
        await daemon.engine.see(lease(daemon, made, FIRST))
        with trio.fail_after(10):
            await until(lambda: len(daemon.engine.all(channel.CommitFilters)) == 2)
        tables = Gates.tables

        async def interrupted(gates: Gates, *args: Any) -> Sequence[bytes]:
            try:
                return await tables(gates, *args)
            except Refused:
                monkeypatch.setattr(Gates, "tables", tables)
                read = len(daemon.engine.all(channel.ReadSightings))
                await daemon.engine.see(release(daemon, made, FIRST))
                await until(lambda: len(daemon.engine.all(channel.ReadSightings)) > read)
                await trio.testing.wait_all_tasks_blocked(0.005)
                raise

        monkeypatch.setattr(Gates, "tables", interrupted)
        await daemon.engine.see(lease(daemon, made, SECOND))
        with trio.fail_after(10):
            await until(lambda: any(f"addresses={SECOND}" in line for line in daemon.log))

        assert [str(each.address) for each in (await shown(daemon, made)).learned] == [SECOND]


# ---- how long it is known ----


async def test_leases_outlive_the_client_and_the_daemon(place: Place) -> None:
    async with running(place, patience=SOON) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(lease(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST))
    async with running(place, patience=SOON) as daemon:
        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, made, FIRST)
        binding = await shown(daemon, made)
        assert [each.server for each in binding.learned] == [IPv4Address(SERVER)]
        await daemon.engine.see(release(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made))


async def test_a_lease_that_ended_while_the_daemon_was_away_is_over(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(lease(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST))
    with closing(sqlite3.connect(place.state_dir / "state.db")) as connection, connection:
        connection.execute(
            "UPDATE learned SET addresses = json_set(addresses, '$[0].expires_s', 100)"
        )
    async with running(place) as daemon:
        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, made)
    assert stored(place) == []


async def test_what_a_stack_has_taken_goes_with_it(place: Place) -> None:
    async with running(place, patience=SOON) as daemon:
        made = await daemon.ask(BY_ANY)
        async with daemon.attacher("one", ALICE) as attacher:
            _, data = await attacher.attach()
            data.close()
            await daemon.engine.see(source(daemon, made, FIRST))
            await wait_judged(daemon, made, expected(place, made, FIRST))

        await wait_judged(daemon, made, expected(place, made))
        async with daemon.attacher("one", ALICE) as attacher:
            _, data = await attacher.attach()
            data.close()
            await daemon.engine.see(source(daemon, made, SECOND))
            await wait_judged(daemon, made, expected(place, made, SECOND))


async def test_what_a_stack_has_taken_outlives_the_daemon_until_it_could_be_back(
    place: Place,
) -> None:
    """Deviation: learned-kept."""
    async with running(place) as daemon:
        made = await daemon.ask(BY_ANY)
        await daemon.engine.see(source(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST))
    assert stored(place) == [made.id]
    async with running(place, patience=SOON) as daemon:
        first = daemon.engine.all(channel.PrepareFilter)[0]
        assert first.data == expected(place, made, FIRST)
        await wait_judged(daemon, made, expected(place, made))
    assert stored(place) == []


async def test_a_vif_that_becomes_another_has_learned_nothing(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(lease(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST))

        moved = await daemon.ask(VifSet(ONE, mac=MacAddress.parse("52:54:00:00:00:77")))
        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, moved)
        assert moved.filter is not None
        assert moved.filter.learned == ()
        await daemon.engine.see(lease(daemon, made, SECOND))
        await wait_judged(daemon, made, expected(place, moved, SECOND))
        given = await daemon.ask(VifSet(ONE, owner="bob"))
        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, given)


async def test_a_vif_that_was_set_aside_comes_back_without(place: Place) -> None:
    """Nobody has looked meanwhile whether a lease ended, or who was there."""
    taken = 'reserved = ["10.77.0.32-10.77.0.254"]'
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(lease(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST))
        daemon.broker.file = place.config().replace(
            'reserved = ["10.77.0.200-10.77.0.254"]', taken
        )
        reloaded = await daemon.ask(Reload())
        assert "vif one is set aside" in reloaded.warnings[0]
        daemon.broker.file = place.config()
        assert (await daemon.ask(Reload())).applied

        assert daemon.engine.filters[port_of(daemon, made)] == expected(place, made)
        await daemon.engine.see(lease(daemon, made, SECOND))
        await wait_judged(daemon, made, expected(place, made, SECOND))


async def test_with_a_vif_goes_what_was_learned_of_it(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_DHCP)
        await daemon.engine.see(lease(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST))
        await daemon.ask(VifDelete(ONE))

        again = await daemon.ask(BY_DHCP)
        assert daemon.engine.filters[port_of(daemon, again)] == expected(place, again)
    assert stored(place) == []


STATIC = """
[vif.web]
owner = "20001"
network = "lan"
prefixes = ["10.77.0.32/28"]
filter = "clean-traffic"
"""


async def test_a_vif_of_the_file_learns_as_well(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        made = await daemon.ask(VifShow(VifName.parse("web")))
        await daemon.engine.see(source(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST, extra=STATIC))
        # A file that says the same leaves it as it is.
        daemon.broker.file = place.config(STATIC)
        assert (await daemon.ask(Reload())).applied
        assert daemon.engine.filters[port_of(daemon, made)] == expected(
            place, made, FIRST, extra=STATIC
        )
    async with running(place):
        pass
    assert stored(place) == []


async def test_a_vif_that_comes_back_has_learned_nothing_after_a_start_either(
    place: Place,
) -> None:
    async with running(place, STATIC) as daemon:
        made = await daemon.ask(VifShow(VifName.parse("web")))
        await daemon.engine.see(source(daemon, made, FIRST))
        await wait_judged(daemon, made, expected(place, made, FIRST, extra=STATIC))
        for text in (place.config(), place.config(STATIC)):
            daemon.broker.file = text
            assert (await daemon.ask(Reload())).applied
        again = await daemon.ask(VifShow(made.name))
        assert again.id == made.id
        assert daemon.engine.filters[port_of(daemon, again)] == expected(
            place, again, extra=STATIC
        )
    assert stored(place) == []


async def test_a_filter_that_asks_for_nothing_more_is_told_so(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(BY_ANY)
        assert learns_of(daemon.engine.filters[port_of(daemon, made)])

        given = await daemon.ask(VifSet(ONE, parameters={"IP": (FIRST,)}))

        assert given.filter is not None
        assert given.filter.learning is None
        assert learns_of(daemon.engine.filters[port_of(daemon, made)]) is Learns.NOTHING
