"""The file that the state is in: how it is made, looked at, opened and written.

It is an SQLite database with a write-ahead log and synchronous=FULL: a change is
on disk when `Database.write` returns.  It is made whole under another name and
then renamed, so one that is empty or cut short is damage, never a first start.

A full disk is no reason not to start: what is only read takes no room.  SQLite
shares the index of its log with others in a file, but who opens the database
for itself alone has it in memory.  Nor may a full disk keep anybody from
being put out: a file beside the database holds room that only what forgets
something, or the upgrade of a database at its opening, may use.
"""

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

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

#: Somebody else has the database.
IN_USE: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

#: Held back for what forgets something, or upgrades; more than the log ever has that is not
#: in the database.
RESERVE_BYTES: Final = 256 * 1024

#: Pages of the log, of 4096 bytes, that the database is brought up to.
CHECKPOINT_PAGES: Final = 32


class StateError(Exception):
    """The database cannot be used: it is damaged, somebody else's, or in use."""


class Database:
    """The open database.  One thread at a time, any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._reserve = _reserve_of(path)
        self._has_reserve = False
        self._hold_back()

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
            _look_at(path)
            try:
                connection = _prepared(path)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_FULL:
                    raise
                # An upgrade adds little, and less than is held back.
                with contextlib.suppress(OSError):
                    os.truncate(_reserve_of(path), 0)
                connection = _prepared(path)
        except sqlite3.Error as error:
            raise _explain(path, error) from error
        return cls(path, connection)

    def close(self) -> None:
        """Close the database; nothing is pending."""
        self._connection.close()

    def read(self, statement: str) -> list[sqlite3.Row]:
        """Return the rows that *statement* finds.

        Raises:
            StateError: if the database cannot be read.
        """
        try:
            return self._connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error

    def write(self, statement: str, values: tuple[Any, ...], *, forgets: bool = False) -> int:
        """Return how many rows *statement* changed.

        If it *forgets* something it may use what is held back of a full disk.

        Raises:
            StateError: if the disk, or what is in the database, does not let it.
        """
        try:
            try:
                changed = self._execute(statement, values)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_FULL:
                    raise
                self._make_room(forgets=forgets)
                changed = self._execute(statement, values)
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error
        if not self._has_reserve:
            self._hold_back()
        return changed

    def _execute(self, statement: str, values: tuple[Any, ...]) -> int:
        # Without a transaction of its own each statement is one, durable when it returns.
        return self._connection.execute(statement, values).rowcount

    def _make_room(self, *, forgets: bool) -> None:
        """Have the log begin anew, where it has its room already, and perhaps use the reserve."""
        if forgets and self._has_reserve:
            self._has_reserve = False
            with contextlib.suppress(OSError):
                os.truncate(self._reserve, 0)
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")

    def _hold_back(self) -> None:
        """Take the reserve from the disk, if it has as much."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with contextlib.suppress(OSError):
            file = os.open(self._reserve, flags, 0o600)
            try:
                os.posix_fallocate(file, 0, RESERVE_BYTES)
                self._has_reserve = True
            except OSError:
                os.truncate(file, 0)
            finally:
                os.close(file)


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
        with contextlib.suppress(OSError):
            draft.unlink()
        raise _explain(draft, error) from error
    draft.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _look_at(path: Path) -> None:
    """Look whether the database is ours, of this release or before, and whole.

    The connection is read-only: any other brings the file up to its log
    when it is closed, and what is refused stays as it is.

    Raises:
        StateError: if it is not.
        sqlite3.Error: if it cannot be read.
    """
    try:
        with contextlib.closing(_connect(path, "mode=ro")) as connection:
            _inspect(path, connection)
    except sqlite3.OperationalError as error:
        if _code(error) in IN_USE:
            raise
        # There is no room for the file by which SQLite shares its index.  To be alone takes
        # a lock for writing, which a file that is open for reading cannot have; so go without:
        # nobody holds one, or it had been waited for.
        with contextlib.closing(_connect(path, "mode=ro&vfs=unix-none")) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            _inspect(path, connection)


def _inspect(path: Path, connection: sqlite3.Connection) -> None:
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


def _reserve_of(path: Path) -> Path:
    return path.with_name(path.name + "-reserve")


def _prepared(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "mode=rw")
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Take the database for ourselves alone, and bring it up to this release."""
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    version = _pragma(connection, "user_version")
    for newer in range(version + 1, SCHEMA_VERSION + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {UPGRADES[newer]} PRAGMA user_version = {newer}; COMMIT;"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension


def _explain(path: Path, error: sqlite3.Error) -> StateError:
    code = _code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateError(f"{path}: damaged, and not touched: {error}")
    if code in IN_USE:
        return StateError(f"{path} is in use by another process")
    if code == sqlite3.SQLITE_FULL:
        return StateError(f"{path}: {os.strerror(errno.ENOSPC)}")
    return StateError(f"{path}: {error}")
