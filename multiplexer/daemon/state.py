"""What must survive any crash: the vifs that were created, and what keeps others as they are.

One SQLite database in the state directory, with a write-ahead log and
synchronous=FULL: a change is on disk when its method returns.  The database
is made whole under another name and then renamed, so one that is empty or
cut short is damage, never a first start; and damage is refused, because
starting without the vifs would give their addresses to others.

The file `multiplexer.toml` stays the authority for all else.  Of its vifs only
the ids are here, so that their sockets keep their paths, and of its NICs the
MACs, so that a vif's does not change because the NIC is missing at a start.
"""

import contextlib
import errno
import json
import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import attrs

from multiplexer.model import LinkLocal, OwnLimits, Role, Trust, Vif
from pfinet_proto.values import MacAddress, VifName

#: "Pfmx": tells our database from any other (sqlite.org/fileformat2.html, 1.3.17).
APPLICATION_ID: Final = 0x50666D78

SCHEMA_VERSION: Final = 2

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
    grant_name TEXT
) STRICT;
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
    }
)

#: A predecessor that was just killed may not be gone yet.
LOCK_TIMEOUT_S: Final = 5.0


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
        return tuple(self._vif_of(row) for row in rows)

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
        self._write("INSERT INTO vif VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row_of(vif))

    def update(self, vif: Vif) -> None:
        """Keep *vif* in the place of what its id has stood for.

        Raises:
            StateError: if the disk does not let it, or there is none of that id.
        """
        changed = self._write(
            "UPDATE vif SET (id, name, owner_uid, owner_name, network, mac, addresses, prefixes,"
            " limits, trust, ephemeral, grant_name) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " WHERE id = ?",
            (*_row_of(vif), vif.id),
        )
        if changed != 1:
            raise StateError(f"{self._path}: there is no vif {vif.name} to change")

    def remove(self, vif_id: str) -> None:
        """Forget the vif of that id; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._write("DELETE FROM vif WHERE id = ?", (vif_id,))

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

    def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        """Return how many rows *statement* changed."""
        # Without a transaction of its own each statement is one, durable when it returns.
        try:
            return self._connection.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise _explain(self._path, error) from error

    def _vif_of(self, row: sqlite3.Row) -> Vif:
        try:
            return Vif(
                id=row["id"],
                name=VifName.parse(row["name"]),
                owner_uid=row["owner_uid"],
                owner_name=row["owner_name"],
                network=row["network"],
                mac=MacAddress.parse(row["mac"]),
                addresses=tuple(map(ip_interface, json.loads(row["addresses"]))),
                prefixes=tuple(map(ip_network, json.loads(row["prefixes"]))),
                limits=OwnLimits(**json.loads(row["limits"])),
                trust=_trust_of_json(**json.loads(row["trust"])),
                ephemeral=bool(row["ephemeral"]),
                grant=row["grant_name"],
            )
        except (ValueError, TypeError) as error:
            raise StateError(f"{self._path}: damaged: vif {row['name']!r}: {error}") from error


def _row_of(vif: Vif) -> tuple[Any, ...]:
    return (
        vif.id,
        str(vif.name),
        vif.owner_uid,
        vif.owner_name,
        vif.network,
        str(vif.mac),
        json.dumps([str(address) for address in vif.addresses]),
        json.dumps([str(prefix) for prefix in vif.prefixes]),
        json.dumps(_limits_to_json(vif.limits)),
        json.dumps(_trust_to_json(vif.trust)),
        int(vif.ephemeral),
        vif.grant,
    )


def _limits_to_json(limits: OwnLimits) -> dict[str, int]:
    return {name: rate for name, rate in attrs.asdict(limits).items() if rate is not None}


def _trust_to_json(trust: Trust) -> dict[str, Any]:
    return {
        "roles": sorted(role.value for role in trust.roles),
        "ethertypes": list(trust.ethertypes),
        "link_local": None if trust.link_local is None else trust.link_local.value,
        "trusted_tap": trust.trusted_tap,
    }


def _trust_of_json(
    roles: Sequence[str] = (),
    ethertypes: Sequence[int] = (),
    link_local: str | None = None,
    trusted_tap: bool = False,
) -> Trust:
    return Trust(
        frozenset(map(Role, roles)),
        tuple(ethertypes),
        None if link_local is None else LinkLocal(link_local),
        trusted_tap,
    )


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
