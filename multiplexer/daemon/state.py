"""What must survive any crash: what was created and defined, and what keeps others as they are.

One SQLite database in the state directory, with a write-ahead log and
synchronous=FULL: a change is on disk when its method returns.  The database
is made whole under another name and then renamed, so one that is empty or
cut short is damage, never a first start; and damage is refused, because
starting without the vifs would give their addresses to others.

Vifs and filters are as `multiplexer.daemon.rows` writes them.  The file
`multiplexer.toml` stays the authority for all else.  Of its vifs only the ids are
here, so that their sockets keep their paths, and of its NICs the MACs, so that
a vif's does not change because the NIC is missing at a start.
"""

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

from multiplexer.daemon.rows import (
    VIF_COLUMNS,
    filter_of,
    learned_of,
    row_of_filter,
    row_of_set,
    row_of_vif,
    set_of,
    text_of_learned,
    vif_of,
)
from multiplexer.model import Vif
from multiplexer.policy.nwfilter.learning import Learned
from multiplexer.policy.nwfilter.sets import NamedSet
from multiplexer.policy.nwfilter.syntax import Filter
from pfinet_proto.values import MacAddress, VifName

#: "Pfmx": tells our database from any other (sqlite.org/fileformat2.html, 1.3.17).
APPLICATION_ID: Final = 0x50666D78

SCHEMA_VERSION: Final = 5

#: What goes with a vif that was created; those of the file have no row to go with.
LEARNED: Final = """
CREATE TABLE learned (vif_id TEXT PRIMARY KEY, addresses TEXT NOT NULL) STRICT;
CREATE TRIGGER forget_learned AFTER DELETE ON vif BEGIN
    DELETE FROM learned WHERE vif_id = old.id;
END;
"""

SCHEMA: Final = f"""
CREATE TABLE vif (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner_uid INTEGER NOT NULL,
    owner_name TEXT,
    network TEXT NOT NULL,
    mac TEXT NOT NULL,
    addresses TEXT NOT NULL,
    prefixes TEXT NOT NULL,
    limits TEXT NOT NULL DEFAULT '{{}}',
    trust TEXT NOT NULL DEFAULT '{{}}',
    ephemeral INTEGER NOT NULL DEFAULT 0,
    grant_name TEXT,
    filter TEXT,
    parameters TEXT NOT NULL DEFAULT '{{}}'
) STRICT;
CREATE TABLE filter (
    name TEXT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    xml TEXT NOT NULL
) STRICT;
CREATE TABLE named_set (
    name TEXT PRIMARY KEY,
    members TEXT NOT NULL
) STRICT;
{LEARNED}
CREATE TABLE static_vif (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE nic (
    uplink TEXT PRIMARY KEY,
    mac TEXT NOT NULL
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

#: What makes a database of the version before that of its key.
UPGRADES: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: """
ALTER TABLE vif ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE vif ADD COLUMN trust TEXT NOT NULL DEFAULT '{}';
ALTER TABLE vif ADD COLUMN ephemeral INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vif ADD COLUMN grant_name TEXT;
""",
        3: """
ALTER TABLE vif ADD COLUMN filter TEXT;
ALTER TABLE vif ADD COLUMN parameters TEXT NOT NULL DEFAULT '{}';
CREATE TABLE filter (name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, xml TEXT NOT NULL) STRICT;
""",
        4: """
CREATE TABLE named_set (name TEXT PRIMARY KEY, members TEXT NOT NULL) STRICT;
""",
        5: LEARNED,
    }
)

#: A predecessor that was just killed may not be gone yet.
LOCK_TIMEOUT_S: Final = 5.0

T = TypeVar("T")


class StateError(Exception):
    """The database cannot be used: it is damaged, somebody else's, or in use."""


class State:
    """The open database.  One thread at a time, any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database at *path*, and make it if there is none.

        Raises:
            StateError: if what is there is not one that this release can use.
            OSError: if the directory cannot be written.
        """
        if not path.exists():
            _refuse_orphaned_log(path)
            _create(path)
        _check_access(path)
        if path.stat().st_size == 0:
            raise StateError(f"{path} is empty: damaged, and not touched")
        try:
            with contextlib.closing(_connect(path, "ro")) as connection:
                _inspect(path, connection)
            connection = _connect(path, "rw")
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise _explain(path, error) from error
        return cls(path, connection)

    def close(self) -> None:
        """Close the database; nothing is pending."""
        self._connection.close()

    def vifs(self) -> tuple[Vif, ...]:
        """Return the vifs that were created, by name.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._read("SELECT * FROM vif ORDER BY name")
        return tuple(self._made(vif_of, row, "vif") for row in rows)

    def filters(self) -> tuple[Filter, ...]:
        """Return the filters that were defined, by name.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._read("SELECT * FROM filter ORDER BY name")
        return tuple(self._made(filter_of, row, "filter") for row in rows)

    def sets(self) -> tuple[NamedSet, ...]:
        """Return the sets of addresses that were made, by name.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._read("SELECT * FROM named_set ORDER BY name")
        return tuple(self._made(set_of, row, "set") for row in rows)

    def learned(self) -> Mapping[str, tuple[Learned, ...]]:
        """Return what was learned of the addresses of vifs, by their ids.

        Raises:
            StateError: if a row cannot be that.
        """
        rows = self._read("SELECT vif_id AS name, addresses FROM learned")
        return {row["name"]: self._made(learned_of, row, "learned") for row in rows}

    def static_ids(self) -> Mapping[VifName, str]:
        """Return the id of each static vif that there ever was.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._read("SELECT name, id FROM static_vif")
        try:
            return {VifName.parse(row["name"]): row["id"] for row in rows}
        except ValueError as error:
            raise StateError(f"{self._path}: damaged: static_vif: {error}") from error

    def nic_macs(self) -> Mapping[str, MacAddress]:
        """Return the last known MAC of each nic uplink.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._read("SELECT uplink, mac FROM nic")
        try:
            return {row["uplink"]: MacAddress.parse(row["mac"]) for row in rows}
        except ValueError as error:
            raise StateError(f"{self._path}: damaged: nic: {error}") from error

    def add(self, vif: Vif) -> None:
        """Keep *vif*.

        Raises:
            StateError: if the disk, or an id or name that is there already, does not let it.
        """
        self._write(f"INSERT INTO vif VALUES ({_marks(VIF_COLUMNS)})", row_of_vif(vif))

    def update(self, vif: Vif) -> None:
        """Keep *vif* in the place of what its id has stood for.

        Raises:
            StateError: if the disk does not let it, or there is none of that id.
        """
        changed = self._write(
            f"UPDATE vif SET ({', '.join(VIF_COLUMNS)}) = ({_marks(VIF_COLUMNS)}) WHERE id = ?",
            (*row_of_vif(vif), vif.id),
        )
        if changed != 1:
            raise StateError(f"{self._path}: there is no vif {vif.name} to change")

    def remove(self, vif_id: str) -> None:
        """Forget the vif of that id; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write("DELETE FROM vif WHERE id = ?", (vif_id,))

    def keep_filter(self, filter_: Filter) -> None:
        """Keep *filter_*, which has a uuid, in the place of the one of its name.

        Raises:
            StateError: if the disk, or a uuid that is another's, does not let it.
        """
        self._write(
            "INSERT INTO filter VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET (uuid, xml) = (excluded.uuid, excluded.xml)",
            row_of_filter(filter_),
        )

    def forget_filter(self, name: str) -> None:
        """Forget the filter of that name; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write("DELETE FROM filter WHERE name = ?", (name,))

    def keep_set(self, named: NamedSet) -> None:
        """Keep *named* in the place of the set of its name.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write(
            "INSERT INTO named_set VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET members = excluded.members",
            row_of_set(named),
        )

    def forget_set(self, name: str) -> None:
        """Forget the set of that name; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write("DELETE FROM named_set WHERE name = ?", (name,))

    def keep_learned(self, vif_id: str, learned: Sequence[Learned]) -> None:
        """Keep what was learned of the addresses of a vif in the place of what was before.

        Raises:
            StateError: if the disk does not let it.
        """
        if not learned:
            self._write("DELETE FROM learned WHERE vif_id = ?", (vif_id,))
            return
        self._write(
            "INSERT INTO learned VALUES (?, ?)"
            " ON CONFLICT (vif_id) DO UPDATE SET addresses = excluded.addresses",
            (vif_id, text_of_learned(learned)),
        )

    def keep_static_id(self, name: VifName, vif_id: str) -> None:
        """Let the static vif *name* have that id from now on.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write(
            "INSERT INTO static_vif VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET id = excluded.id",
            (str(name), vif_id),
        )

    def keep_nic_mac(self, uplink: str, mac: MacAddress) -> None:
        """Remember *mac* as that of the NIC of *uplink*.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write(
            "INSERT INTO nic VALUES (?, ?) ON CONFLICT (uplink) DO UPDATE SET mac = excluded.mac",
            (uplink, str(mac)),
        )

    def _read(self, statement: str) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise _explain(self._path, error) from error

    def _made(self, make: Callable[[Mapping[str, Any]], T], row: sqlite3.Row, what: str) -> T:
        try:
            return make(dict(row))
        except (ValueError, TypeError) as error:
            raise StateError(f"{self._path}: damaged: {what} {row['name']!r}: {error}") from error

    def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        """Return how many rows *statement* changed."""
        # Without a transaction of its own each statement is one, durable when it returns.
        try:
            return self._connection.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise _explain(self._path, error) from error


def _marks(columns: Sequence[str]) -> str:
    return ", ".join("?" for _ in columns)


def _refuse_orphaned_log(path: Path) -> None:
    """A log without its database holds changes to one that is lost; SQLite would mix them up."""
    for suffix in ("-wal", "-journal"):
        log = path.with_name(path.name + suffix)
        if log.exists() and log.stat().st_size > 0:
            raise StateError(f"{path} is gone, but its log {log} is not: damaged, and not touched")


def _check_access(path: Path) -> None:
    """Say what SQLite does not: whose the database is, or its log, if we cannot use it.

    Raises:
        StateError: if one is no file, or may not be read and written.
    """
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if not file.exists():
            continue
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StateError(f"{file} is no regular file")
        if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            mode = stat.S_IMODE(status.st_mode)
            raise StateError(
                f"{file} is of uid {status.st_uid} with mode {mode:04o}:"
                f" uid {os.geteuid()} cannot read and write it"
            )


def _create(path: Path) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    except sqlite3.Error as error:
        raise _explain(draft, error) from error
    draft.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _inspect(path: Path, connection: sqlite3.Connection) -> None:
    """Look whether the database is ours, of this release or before, and whole.

    The connection must be read-only: any other brings the file up to its log
    when it is closed, and what is refused stays as it is.
    """
    application_id = _pragma(connection, "application_id")
    if application_id != APPLICATION_ID:
        raise StateError(f"{path} is not a database of multiplexerd: damaged, and not touched")
    version = _pragma(connection, "user_version")
    if not 1 <= version <= SCHEMA_VERSION:
        raise StateError(
            f"{path} has schema version {version}, wanted 1 to {SCHEMA_VERSION}: it is of another"
            " release, and not touched"
        )
    found = _pragma(connection, "integrity_check")
    if found != "ok":
        raise StateError(f"{path}: damaged, and not touched: {found}")


def _prepare(connection: sqlite3.Connection) -> None:
    """Take the database for ourselves alone, and bring it up to this release."""
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = _pragma(connection, "user_version")
    for newer in range(version + 1, SCHEMA_VERSION + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {UPGRADES[newer]} PRAGMA user_version = {newer}; COMMIT;"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _explain(path: Path, error: sqlite3.Error) -> StateError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateError(f"{path}: damaged, and not touched: {error}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateError(f"{path} is in use by another process")
    if code == sqlite3.SQLITE_FULL:
        return StateError(f"{path}: {os.strerror(errno.ENOSPC)}")
    return StateError(f"{path}: {error}")
