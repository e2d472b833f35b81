"""The database on a disk that has become full: what is there is read or forgotten."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import attrs
import pytest

from multiplexer.daemon.database import RESERVE_BYTES, SCHEMA_VERSION, Database, StateError
from multiplexer.daemon.state import State
from multiplexer.model import Vif
from multiplexer.policy.nwfilter.syntax import Filter, Reference
from pfinet_proto.values import MacAddress, VifName
from tests.support.disk import fill, small_disk

DISK_BYTES: Final = 2 * 2**20
NO_SPACE: Final = r"state\.db: No space left on device"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk / "state.db"


def vif(number: int) -> Vif:
    mac = MacAddress(b"\x52\x54" + number.to_bytes(4, "big"))
    return Vif(f"{number:032x}", VifName.parse(f"v{number}"), 20001, None, "lan", mac)


VIFS: Final = tuple(vif(number) for number in range(100))


def leave_behind(path: Path, change: Callable[[State], None]) -> None:
    """Have a process make the database and *change* it, and be killed: the log is left."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            change(State.open(path))
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert path.with_name("state.db-wal").stat().st_size > 0


def add_some(state: State) -> None:
    for each in VIFS[:5]:
        state.add(each)


def large_filter(name: str, number: int) -> Filter:
    below = tuple(Reference(f"{name}-{each}") for each in range(1000))
    return Filter(name, uuid=f"{number:08x}-0000-4000-8000-000000000000", entries=below)


def add_until_full(state: State) -> int:
    """Define large filters until one is refused, and return how many there are."""
    with pytest.raises(StateError, match=NO_SPACE):
        keep_many(state, DISK_BYTES // 1000)
    return len(state.filters())


def keep_many(state: State, count: int) -> None:
    for number in range(count):
        state.keep_filter(large_filter(f"f{number}", number))


def test_what_a_killed_owner_left_on_a_disk_without_room_is_read(path: Path) -> None:
    leave_behind(path, add_some)
    fill(path.parent)

    for _ in range(2):
        with closing(State.open(path)) as state:
            assert {each.name for each in state.vifs()} == {each.name for each in VIFS[:5]}


def test_what_there_is_no_room_for_is_refused_and_the_rest_stays(path: Path) -> None:
    leave_behind(path, add_some)
    fill(path.parent)
    path.with_name("state.db-reserve").unlink()
    fill(path.parent)

    with closing(State.open(path)) as state:
        with pytest.raises(StateError, match=NO_SPACE):
            keep_many(state, 100)
        left = state.filters()

    with closing(State.open(path)) as state:
        assert state.filters() == left
        assert {each.name for each in state.vifs()} == {each.name for each in VIFS[:5]}


def test_damage_is_seen_on_a_full_disk_as_well_and_nothing_is_touched(path: Path) -> None:
    leave_behind(path, add_some)
    with closing(Database.open(path)) as database:
        database.write("PRAGMA application_id = 1", ())
    fill(path.parent)
    before = path.read_bytes()

    with pytest.raises(StateError, match="not a database of multiplexerd: damaged"):
        State.open(path)

    assert path.read_bytes() == before


def test_a_database_that_is_in_use_is_so_on_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiplexer.daemon.database.LOCK_TIMEOUT_S", 0)
    with closing(State.open(path)) as state:
        add_some(state)
        fill(path.parent)

        with pytest.raises(StateError, match="is in use by another process"):
            State.open(path)


def test_all_can_be_forgotten_however_the_disk_was_filled(path: Path) -> None:
    with closing(State.open(path)) as state:
        for each in VIFS:
            state.add(each)
        made = add_until_full(state)
        fill(path.parent)

        for each in VIFS:
            state.remove(each.id)
        for number in range(made):
            state.forget_filter(f"f{number}")

        assert made > 10
        assert state.vifs() == ()
        assert state.filters() == ()


def test_what_was_forgotten_makes_room_for_others(path: Path) -> None:
    """A row takes the room of one that is gone, which the disk need not have."""
    with closing(State.open(path)) as state:
        made = add_until_full(state)
        fill(path.parent)

        for number in range(made):
            state.forget_filter(f"f{number}")
        state.keep_filter(large_filter("again", 0))

        assert [each.name for each in state.filters()] == ["again"]


def test_only_what_forgets_uses_the_reserve_and_it_is_there_again_when_there_is_room(
    path: Path,
) -> None:
    reserve = path.with_name("state.db-reserve")
    other = path.with_name("other")
    other.write_bytes(bytes(DISK_BYTES // 2))
    with closing(State.open(path)) as state:
        made = add_until_full(state)
        fill(path.parent)
        assert reserve.stat().st_blocks * 512 == RESERVE_BYTES

        for number in range(made):
            state.forget_filter(f"f{number}")
        other.unlink()
        state.keep_filter(attrs.evolve(large_filter("g", 1), entries=()))

        assert reserve.stat().st_blocks * 512 == RESERVE_BYTES
        assert reserve.stat().st_mode & 0o777 == 0o600


def leave_older(path: Path) -> None:
    """Have a database of the schema version 4, which knew nothing that was learned."""
    with closing(State.open(path)) as state:
        add_some(state)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TRIGGER forget_learned; DROP TABLE learned; PRAGMA user_version = 4;"
        )


def schema_version(path: Path) -> int:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_an_older_database_is_upgraded_by_what_is_held_back(path: Path) -> None:
    leave_older(path)
    fill(path.parent)

    for _ in range(2):
        with closing(State.open(path)) as state:
            assert {each.name for each in state.vifs()} == {each.name for each in VIFS[:5]}
            assert state.learned() == {}
    assert schema_version(path) == SCHEMA_VERSION


def test_an_older_database_without_any_room_is_refused_and_not_touched(path: Path) -> None:
    leave_older(path)
    path.with_name("state.db-reserve").unlink()
    fill(path.parent)
    before = path.read_bytes()

    with pytest.raises(StateError, match=NO_SPACE):
        State.open(path)

    assert path.read_bytes() == before
    (path.parent / "filling").unlink()
    with closing(State.open(path)) as state:
        assert {each.name for each in state.vifs()} == {each.name for each in VIFS[:5]}


def test_a_first_start_without_room_says_so_and_leaves_nothing(path: Path) -> None:
    fill(path.parent)

    with pytest.raises(StateError, match=r"state\.db\.new: No space left on device"):
        State.open(path)

    assert [each.name for each in path.parent.iterdir()] == ["filling"]
