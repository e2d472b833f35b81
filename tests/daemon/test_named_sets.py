"""Sets of addresses: made and changed for administrators, and at once for every vif."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest

from multiplexer.daemon import channel, gates
from multiplexer.daemon.database import StateError
from multiplexer.daemon.filtering import table_of
from multiplexer.daemon.named_sets import MOST_PARTS
from multiplexer.model import Config, Vif
from multiplexer.policy.nwfilter.learning import Learned
from multiplexer.policy.nwfilter.library import Library
from pfinet_proto.control import (
    ControlError,
    Deleted,
    ErrorCode,
    FilterDefine,
    Request,
    SetChange,
    SetCreate,
    SetDelete,
    SetInfo,
    SetList,
    Sets,
    SetShow,
    VifShow,
)
from pfinet_proto.values import Text, VifName
from tests.daemon.siblings import ALICE, Place, Running, no_room, running, siblings
from tests.daemon.test_filter_binding import a_vif, filters

BAD = SetCreate("bad", ("10.0.0.8-10.0.0.15", "10.0.0.1", "fd00::/64"))
NAMING = FilterDefine(
    Text(
        "<filter name='naming'><rule action='drop' direction='in'>"
        "<all ipset='bad' ipsetflags='src'/></rule></filter>"
    )
)
ONE = VifName("one")
FIRST = a_vif(ONE, "10.77.0.11/24", "naming")
SECOND = a_vif(VifName("two"), "10.77.0.12/24", "clean-traffic")


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def refusal(daemon: Running, request: Request[object], uid: int = 0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await daemon.ask(request, uid)
    return caught.value


async def members(daemon: Running) -> tuple[str, ...]:
    return (await daemon.ask(SetShow("bad"))).members


async def test_a_set_is_shown_by_the_fewest_prefixes_and_outlives_the_daemon(
    place: Place,
) -> None:
    async with running(place) as daemon:
        assert await daemon.ask(BAD) == SetInfo("bad", 3)
        assert any(line.startswith("audit: set-created set=bad members=3 ") for line in daemon.log)
    async with running(place) as daemon:
        assert await daemon.ask(SetList()) == Sets((SetInfo("bad", 3),))
        assert await members(daemon) == ("10.0.0.1", "10.0.0.8/29", "fd00::/64")


async def test_members_come_and_go_also_out_of_the_middle_of_a_prefix(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(BAD)
        change = SetChange("bad", add=("10.0.0.0",), remove=("fd00::/64", "10.0.0.12-10.0.0.15"))

        assert await daemon.ask(change) == SetInfo("bad", 2)
        assert await members(daemon) == ("10.0.0.0/31", "10.0.0.8/30")


@pytest.mark.parametrize(
    ("request_", "code", "why"),
    [
        (BAD, ErrorCode.CONFLICT, 'there is a set "bad" already'),
        (SetCreate("a/b"), ErrorCode.INVALID, "'a/b'"),
        (SetCreate(" a"), ErrorCode.INVALID, "' a' is not the name of a set: a letter or _"),
        (SetCreate("-v"), ErrorCode.INVALID, "'-v' is not the name of a set"),
        (SetCreate("new", ("10.0.0",)), ErrorCode.INVALID, "'10.0.0' is not a member of a set"),
        (
            SetChange("bad", add=("::1",), remove=("10.0.0.1/8",)),
            ErrorCode.INVALID,
            "'10.0.0.1/8' is not a member",
        ),
        (
            SetChange("bad", remove=tuple(f"10.0.{n}.1" for n in range(1, MOST_PARTS + 2))),
            ErrorCode.INVALID,
            f"wanted at most {MOST_PARTS} such",
        ),
        (SetChange("new", add=("::1",)), ErrorCode.NOT_FOUND, 'there is no set "new"'),
        (SetDelete("new"), ErrorCode.NOT_FOUND, 'there is no set "new"'),
        (SetShow("new"), ErrorCode.NOT_FOUND, 'there is no set "new"'),
    ],
)
async def test_what_may_not_be_is_told_and_changes_nothing(
    place: Place, request_: Request[object], code: ErrorCode, why: str
) -> None:
    async with running(place) as daemon:
        await daemon.ask(BAD)
        before = await members(daemon)
        error = await refusal(daemon, request_)

        assert error.code is code
        assert why in error.message
        assert await members(daemon) == before
        assert await daemon.ask(SetList()) == Sets((SetInfo("bad", 3),))


@pytest.mark.parametrize("request_", [SetList(), SetShow("bad"), BAD, SetDelete("bad")])
async def test_sets_are_the_administrators_alone(place: Place, request_: Request[object]) -> None:
    async with running(place) as daemon:
        assert (await refusal(daemon, request_, ALICE)).code is ErrorCode.FORBIDDEN


async def test_a_filter_is_bound_only_when_its_set_is_there(place: Place) -> None:
    """Deviation: own-sets."""
    async with running(place) as daemon:
        await daemon.ask(NAMING)
        error = await refusal(daemon, FIRST)
        assert error.code is ErrorCode.INVALID
        assert "there is no set 'bad'" in error.message
        await daemon.ask(BAD)
        await daemon.ask(FIRST)

        error = await refusal(daemon, SetDelete("bad"))
        assert error.code is ErrorCode.CONFLICT
        assert (
            error.message == "set \"bad\" is in use by vif one: filter 'naming', line 3, names it"
        )
        assert len(filters(daemon)) == 1


async def test_a_filter_that_asks_for_more_dimensions_than_a_set_has_is_not_bound(
    place: Place,
) -> None:
    async with running(place) as daemon:
        await daemon.ask(FilterDefine(Text(NAMING.xml.replace("'src'", "'src,dst'"))))
        await daemon.ask(BAD)
        error = await refusal(daemon, FIRST)

        assert error.code is ErrorCode.INVALID
        assert "ipsetflags 'src,dst' ask for 2 dimensions, and set 'bad' has one" in error.message
        assert not daemon.engine.all(channel.SetVif)


async def test_a_changed_set_is_another_table_for_those_that_name_it(place: Place) -> None:
    async with running(place) as daemon:
        for request in (NAMING, BAD, FIRST, SECOND):
            await daemon.ask(request)
        before, heard = filters(daemon), len(daemon.engine.all(channel.PrepareFilter))

        await daemon.ask(SetChange("bad", add=("10.9.9.9",)))

        after = filters(daemon)
        assert after[0] != before[0]
        assert after[1] == before[1]
        assert len(daemon.engine.all(channel.PrepareFilter)) == heard + 1
        await daemon.ask(SetChange("bad", remove=("10.9.9.9",)))
        assert filters(daemon) == before


async def test_a_set_costs_nothing_to_those_that_do_not_name_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []

    def noting(config: Config, library: Library, vif: Vif, learned: Iterable[Learned]) -> bytes:
        judged.append(str(vif.name))
        return table_of(config, library, vif, learned) or b""

    async with running(place) as daemon:
        for request in (NAMING, BAD, FIRST, SECOND):
            await daemon.ask(request)
        monkeypatch.setattr(gates, "table_of", noting)
        await daemon.ask(SetCreate("other"))
        await daemon.ask(SetDelete("other"))
        assert judged == []
        await daemon.ask(SetChange("bad", add=("10.9.9.9",)))
        assert judged == ["one"]


async def test_a_change_that_fails_leaves_set_and_tables(place: Place) -> None:
    change = SetChange("bad", add=("10.9.9.9",))
    async with running(place) as daemon:
        for request in (NAMING, BAD, FIRST):
            await daemon.ask(request)
        before, text = filters(daemon), await members(daemon)
        daemon.engine.once[channel.PrepareFilter] = "no room"
        assert (await refusal(daemon, change)).code is ErrorCode.UNAVAILABLE
        with no_room():
            assert (await refusal(daemon, change)).code is ErrorCode.UNAVAILABLE

        assert (filters(daemon), await members(daemon)) == (before, text)
    async with running(place) as daemon:
        assert (filters(daemon), await members(daemon)) == (before, text)
        assert (await daemon.ask(VifShow(ONE))).filter is not None


async def test_a_set_that_nobody_names_is_deleted_for_good(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(BAD)
        assert await daemon.ask(SetDelete("bad")) == Deleted()
    async with running(place) as daemon:
        assert await daemon.ask(SetList()) == Sets(())


async def test_a_set_that_is_none_is_damage(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(BAD)
    with closing(sqlite3.connect(place.state_dir / "state.db")) as connection, connection:
        connection.execute('UPDATE named_set SET members = \'["10.0.0.0/31", "10.0.0.0"]\'')
    async with siblings(place) as made:
        await made.broker.start(place.config())
        with pytest.raises(ExceptionGroup) as caught:
            await made.control.run()

    assert caught.group_contains(StateError, match="damaged: set 'bad': ")
