"""The database: what it acknowledged is there, and what is not whole is left alone."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, ip_interface, ip_network
from pathlib import Path

import attrs
import pytest

from multiplexer.daemon.database import SCHEMA_VERSION, UPGRADES, StateError
from multiplexer.daemon.state import State
from multiplexer.model import FilterBinding, LinkLocal, OwnLimits, Role, Trust, Vif
from multiplexer.policy.nwfilter.learning import Learned, Mode
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.syntax import Filter
from pfinet_proto.values import MacAddress, VifName
from tests.support.plain import acting_as

USER = 20001

ALICE = Vif(
    id="a" * 32,
    name=VifName.parse("alice"),
    owner_uid=20001,
    owner_name="alice",
    network="lan",
    mac=MacAddress.parse("52:54:00:00:00:01"),
    addresses=(ip_interface("10.77.0.11/24"), ip_interface("fd77::11/64")),
    prefixes=(ip_network("fd77:0:0:0:5::/80"),),
    limits=OwnLimits(bytes_per_s=0, copies_per_s=7),
    trust=Trust(frozenset({Role.ROUTER}), (0x88CC,), LinkLocal.FIRST_COME, trusted_tap=True),
    ephemeral=True,
    grant="students",
    filter=FilterBinding.of("web", {"PORT": ("80", "443"), "IP": ("10.77.0.11",)}),
)
WEB = parse_untrusted(
    b"<filter name='web'><uuid>6ef53069-ba34-94a0-d33d-17751b9b8cb1</uuid>"
    b"<rule action='drop' direction='in'><tcp dstportstart='$PORT'/></rule></filter>"
)
BOB = Vif(
    "b" * 32, VifName.parse("bob"), 20002, None, "lan", MacAddress.parse("52:54:00:00:00:02")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@contextmanager
def opened(path: Path) -> Iterator[State]:
    with closing(State.open(path)) as state:
        yield state


def test_vifs_are_as_they_were_after_a_restart(path: Path) -> None:
    with opened(path) as state:
        assert state.vifs() == ()
        state.add(BOB)
        state.add(ALICE)

    with opened(path) as state:
        assert state.vifs() == (ALICE, BOB)


def test_a_removed_vif_is_gone_and_its_name_free(path: Path) -> None:
    with opened(path) as state:
        state.add(ALICE)
        state.remove(ALICE.id)
        state.remove(ALICE.id)

    with opened(path) as state:
        assert state.vifs() == ()
        state.add(ALICE)


def test_a_changed_vif_is_the_new_one_whole(path: Path) -> None:
    other = attrs.evolve(
        BOB, id=ALICE.id, name=ALICE.name, owner_uid=20003, owner_name="carol", ephemeral=True
    )
    with opened(path) as state:
        state.add(ALICE)
        state.update(other)

    with opened(path) as state:
        assert state.vifs() == (other,)


def test_a_vif_that_is_not_there_cannot_be_changed(path: Path) -> None:
    with opened(path) as state:
        with pytest.raises(StateError, match="no vif alice to change"):
            state.update(ALICE)
        assert state.vifs() == ()


def test_a_name_is_kept_once(path: Path) -> None:
    with opened(path) as state:
        state.add(ALICE)
        with pytest.raises(StateError, match=r"UNIQUE.*vif\.name"):
            state.add(ALICE)
        assert state.vifs() == (ALICE,)


def test_ids_and_macs_are_kept(path: Path) -> None:
    web = VifName.parse("web")
    with opened(path) as state:
        state.keep_static_id(web, "c" * 32)
        state.keep_nic_mac("wire", ALICE.mac)
        state.keep_nic_mac("wire", BOB.mac)

    with opened(path) as state:
        assert state.static_ids() == {web: "c" * 32}
        assert state.nic_macs() == {"wire": BOB.mac}


def test_a_filter_is_kept_in_the_place_of_the_one_of_its_name(path: Path) -> None:
    other = Filter("web", uuid="11111111-2222-4333-8444-555555555555")
    with opened(path) as state:
        state.keep_filter(WEB)
    with opened(path) as state:
        assert state.filters() == (WEB,)
        state.keep_filter(other)
    with opened(path) as state:
        assert state.filters() == (other,)
        state.forget_filter("web")
        state.forget_filter("web")
    with opened(path) as state:
        assert state.filters() == ()


def test_a_uuid_is_kept_once(path: Path) -> None:
    with opened(path) as state:
        state.keep_filter(WEB)
        with pytest.raises(StateError, match=r"UNIQUE.*filter\.uuid"):
            state.keep_filter(attrs.evolve(WEB, name="other"))
        assert state.filters() == (WEB,)


def test_only_its_owner_can_read_it(path: Path) -> None:
    with opened(path) as state:
        state.add(ALICE)

        files = [entry for entry in path.parent.iterdir() if entry.name.startswith(path.name)]
        assert {entry.stat().st_mode & 0o777 for entry in files} == {0o600}


def test_a_second_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiplexer.daemon.database.LOCK_TIMEOUT_S", 0)
    with opened(path), pytest.raises(StateError, match="is in use by another process"):
        State.open(path)


def test_a_draft_that_a_crash_left_is_replaced(path: Path) -> None:
    path.with_name("state.db.new").write_bytes(b"half of a database")

    with opened(path) as state:
        assert state.vifs() == ()
    assert not path.with_name("state.db.new").exists()


def ruin_nothing_left(path: Path) -> None:
    path.write_bytes(b"")


def ruin_header(path: Path) -> None:
    path.write_bytes(b"x" * 4096 + path.read_bytes()[4096:])


def ruin_second_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * 4096 + path.read_bytes()[8192:])


def ruin_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def ruin_mac(path: Path) -> None:
    change(path, "UPDATE vif SET mac = 'no mac'")


def ruin_id(path: Path) -> None:
    change(path, "UPDATE vif SET id = '../../etc'")


def ruin_addresses(path: Path) -> None:
    change(path, "UPDATE vif SET addresses = '{\"a\": 1}'")


def ruin_limits(path: Path) -> None:
    change(path, "UPDATE vif SET limits = '{\"bytes_per_s\": -1}'")


def ruin_trust(path: Path) -> None:
    change(path, 'UPDATE vif SET trust = \'{"roles": ["king"]}\'')


def ruin_parameters(path: Path) -> None:
    change(path, "UPDATE vif SET parameters = '[]'")


def take_a_later_release(path: Path) -> None:
    change(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def take_another_program(path: Path) -> None:
    change(path, "PRAGMA application_id = 7")


def put_another_programs_there(path: Path) -> None:
    """One without a write-ahead log, which opening ours as usual would give it."""
    path.unlink()
    change(path, "CREATE TABLE theirs (a)")


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


RUINS = [
    (ruin_nothing_left, "state.db is empty: damaged, and not touched"),
    (ruin_header, "damaged, and not touched: file is not a database"),
    (ruin_second_page, "damaged"),
    (ruin_by_cutting, "damaged"),
    (ruin_mac, "damaged: vif 'alice': 'no mac' is not a MAC address"),
    (ruin_id, "damaged: vif 'alice': vif id is '../../etc'"),
    (ruin_addresses, "damaged: vif 'alice'"),
    (ruin_limits, "damaged: vif 'alice': bytes_per_s is -1"),
    (ruin_trust, "damaged: vif 'alice': 'king' is not a valid Role"),
    (ruin_parameters, "damaged: vif 'alice': parameters are []"),
    (
        take_a_later_release,
        f"has schema version {SCHEMA_VERSION + 1}, wanted 1 to {SCHEMA_VERSION}",
    ),
    (take_another_program, "is not a database of multiplexerd"),
    (put_another_programs_there, "is not a database of multiplexerd"),
]


@pytest.mark.parametrize(("ruin", "message"), RUINS, ids=[ruin.__name__ for ruin, _ in RUINS])
def test_damage_is_refused_and_left_as_it_is(
    path: Path, ruin: Callable[[Path], None], message: str
) -> None:
    """Starting afresh would give the addresses of forgotten vifs to others."""
    with opened(path) as state:
        state.add(ALICE)
    ruin(path)
    before = path.read_bytes()

    with pytest.raises(StateError) as caught, opened(path) as state:
        state.vifs()

    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change_", "message"),
    [
        ("SET xml = '<filter'", "not XML"),
        ("SET name = 'other'", "its document is of 'web'"),
        ("SET uuid = 'other'", "its document is of 'web'"),
        ("SET xml = replace(xml, 'tcp', 'tcq')", "tcq"),
    ],
)
def test_a_filter_that_is_not_what_was_kept_is_damage(
    path: Path, change_: str, message: str
) -> None:
    """A lenient reader would take the last one for a rule that matches everything."""
    with opened(path) as state:
        state.keep_filter(WEB)
    change(path, f"UPDATE filter {change_}")

    with opened(path) as state, pytest.raises(StateError) as caught:
        state.filters()

    assert "state.db: damaged: filter " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("ruin", "message"),
    [(ruin, message) for ruin, message in RUINS if ruin in (ruin_header, ruin_by_cutting)],
    ids=["header", "cut"],
)
def test_damage_with_a_log_is_refused_and_both_are_left_as_they_are(
    path: Path, tmp_path: Path, ruin: Callable[[Path], None], message: str
) -> None:
    """After a crash there always is a log, which closing the database would write into it."""
    with opened(path) as state:
        for number in range(20):
            name = VifName.parse(f"v{number}")
            mac = MacAddress(b"\x52\x54" + number.to_bytes(4, "big"))
            state.add(attrs.evolve(ALICE, id=f"{number:032x}", name=name, mac=mac))
    with opened(path) as state:
        state.add(BOB)
        log = path.with_name("state.db-wal").read_bytes()
        crashed = tmp_path / "crashed" / "state.db"
        crashed.parent.mkdir()
        crashed.write_bytes(path.read_bytes())
        crashed.with_name("state.db-wal").write_bytes(log)
    ruin(crashed)
    before = crashed.read_bytes()

    with pytest.raises(StateError, match=message):
        State.open(crashed)

    assert log
    assert crashed.read_bytes() == before
    assert crashed.with_name("state.db-wal").read_bytes() == log


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
def test_a_file_that_we_may_not_write_is_told_with_its_owner_and_mode(name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, USER, USER)
        path = Path(directory) / "state.db"
        with acting_as(USER), opened(path):
            pass
        file = path.with_name(name)
        file.touch()
        os.chown(file, 0, 0)
        file.chmod(0o600)

        message = f"{name} is of uid 0 with mode 0600: uid {USER} cannot read and write it"
        with acting_as(USER), pytest.raises(StateError, match=message):
            State.open(path)


def test_what_is_no_file_is_told(path: Path) -> None:
    path.mkdir()

    with pytest.raises(StateError, match=r"state\.db is no regular file"):
        State.open(path)


def test_a_log_without_its_database_is_refused(path: Path) -> None:
    """SQLite would replay the log of the lost database into the new one."""
    path.with_name("state.db-wal").write_bytes(b"changes")

    with pytest.raises(StateError, match="is gone, but its log"):
        State.open(path)
    assert not path.exists()


def test_a_directory_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        State.open(tmp_path / "nowhere" / "state.db")


FIRST_SCHEMA = """
CREATE TABLE vif (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner_uid INTEGER NOT NULL,
    owner_name TEXT,
    network TEXT NOT NULL,
    mac TEXT NOT NULL,
    addresses TEXT NOT NULL,
    prefixes TEXT NOT NULL
) STRICT;
CREATE TABLE static_vif (name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE nic (uplink TEXT PRIMARY KEY, mac TEXT NOT NULL) STRICT;
PRAGMA application_id = 0x50666D78;
PRAGMA user_version = 1;
"""


def test_a_database_of_the_first_release_is_upgraded_with_all_its_vifs(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SCHEMA)
        connection.execute(
            "INSERT INTO vif VALUES (?, 'bob', 20002, NULL, 'lan', ?, '[]', '[]')",
            (BOB.id, str(BOB.mac)),
        )
        connection.commit()

    for _ in range(2):
        with opened(path) as state:
            assert state.vifs() == (BOB,)
    with opened(path) as state:
        state.add(ALICE)
        state.keep_filter(WEB)
        assert state.vifs() == (ALICE, BOB)


def test_a_database_of_the_second_version_is_upgraded_with_all_its_vifs(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SCHEMA + UPGRADES[2] + "PRAGMA user_version = 2;")
        connection.execute(
            "INSERT INTO vif (id, name, owner_uid, network, mac, addresses, prefixes, limits)"
            " VALUES (?, 'bob', 20002, 'lan', ?, '[]', '[]', '{\"bytes_per_s\": 5}')",
            (BOB.id, str(BOB.mac)),
        )
        connection.commit()

    with opened(path) as state:
        assert state.vifs() == (attrs.evolve(BOB, limits=OwnLimits(bytes_per_s=5)),)
        state.add(ALICE)
        state.keep_filter(WEB)
    with opened(path) as state:
        assert state.vifs()[0] == ALICE
        assert state.filters() == (WEB,)


LEARNED = (
    Learned(Mode.DHCP, BOB.mac, 20002, IPv4Address("10.0.0.7"), IPv4Address("10.0.0.1"), 2**40),
    Learned(Mode.ANY, BOB.mac, 20002, IPv4Address("10.0.0.8")),
)


def test_what_was_learned_of_a_vif_goes_with_it_and_with_no_other(path: Path) -> None:
    with opened(path) as state:
        for vif in (ALICE, BOB):
            state.add(vif)
            state.keep_learned(vif.id, LEARNED[:1])
        state.keep_learned(BOB.id, LEARNED)
    with opened(path) as state:
        assert state.learned() == {ALICE.id: LEARNED[:1], BOB.id: LEARNED}
        state.remove(ALICE.id)
        assert state.learned() == {BOB.id: LEARNED}
        state.keep_learned(BOB.id, ())
    with opened(path) as state:
        assert state.learned() == {}


def test_it_does_so_in_an_upgraded_database_too(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SCHEMA)

    with opened(path) as state:
        state.add(BOB)
        state.keep_learned(BOB.id, LEARNED)
        state.remove(BOB.id)
        assert state.learned() == {}


LEARNED_ROW = {
    "mode": "any",
    "mac": "52:54:00:00:00:01",
    "owner_uid": 20002,
    "address": "10.0.0.8",
    "server": None,
    "expires_s": None,
}


@pytest.mark.parametrize(
    "text", ["7", "[{}]", '[{"mode": "all"}]', json.dumps([LEARNED_ROW | {"owner_uid": "20002"}])]
)
def test_a_damaged_row_of_what_was_learned_is_refused(path: Path, text: str) -> None:
    with opened(path):
        pass
    change(path, f"INSERT INTO learned VALUES ('{BOB.id}', '{text}')")

    with opened(path) as state, pytest.raises(StateError, match=f"damaged: learned '{BOB.id}'"):
        state.learned()
