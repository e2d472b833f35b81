"""What must survive any crash: what was created and defined, and what keeps others as they are.

It is kept in one `Database` in the state directory: a change is on disk when its
method returns, and damage is refused, because starting without the vifs would
give their addresses to others.

Vifs and filters are as `multiplexer.daemon.rows` writes them.  The file
`multiplexer.toml` stays the authority for all else.  Of its vifs only the ids are
here, so that their sockets keep their paths, and of its NICs the MACs, so that
a vif's does not change because the NIC is missing at a start.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from multiplexer.daemon.database import Database, StateError
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

T = TypeVar("T")


class State:
    """The open database.  One thread at a time, any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database at *path*, and make it if there is none.

        Raises:
            StateError: if what is there is not one that this release can use.
            OSError: if the directory cannot be written.
        """
        return cls(Database.open(path))

    def close(self) -> None:
        """Close the database; nothing is pending."""
        self._database.close()

    def vifs(self) -> tuple[Vif, ...]:
        """Return the vifs that were created, by name.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._database.read("SELECT * FROM vif ORDER BY name")
        return tuple(self._made(vif_of, row, "vif") for row in rows)

    def filters(self) -> tuple[Filter, ...]:
        """Return the filters that were defined, by name.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._database.read("SELECT * FROM filter ORDER BY name")
        return tuple(self._made(filter_of, row, "filter") for row in rows)

    def sets(self) -> tuple[NamedSet, ...]:
        """Return the sets of addresses that were made, by name.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._database.read("SELECT * FROM named_set ORDER BY name")
        return tuple(self._made(set_of, row, "set") for row in rows)

    def learned(self) -> Mapping[str, tuple[Learned, ...]]:
        """Return what was learned of the addresses of vifs, by their ids.

        Raises:
            StateError: if a row cannot be that.
        """
        rows = self._database.read("SELECT vif_id AS name, addresses FROM learned")
        return {row["name"]: self._made(learned_of, row, "learned") for row in rows}

    def static_ids(self) -> Mapping[VifName, str]:
        """Return the id of each static vif that there ever was.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._database.read("SELECT name, id FROM static_vif")
        try:
            return {VifName.parse(row["name"]): row["id"] for row in rows}
        except ValueError as error:
            raise StateError(f"{self._database.path}: damaged: static_vif: {error}") from error

    def nic_macs(self) -> Mapping[str, MacAddress]:
        """Return the last known MAC of each nic uplink.

        Raises:
            StateError: if a row cannot be one.
        """
        rows = self._database.read("SELECT uplink, mac FROM nic")
        try:
            return {row["uplink"]: MacAddress.parse(row["mac"]) for row in rows}
        except ValueError as error:
            raise StateError(f"{self._database.path}: damaged: nic: {error}") from error

    def add(self, vif: Vif) -> None:
        """Keep *vif*.

        Raises:
            StateError: if the disk, or an id or name that is there already, does not let it.
        """
        self._database.write(f"INSERT INTO vif VALUES ({_marks(VIF_COLUMNS)})", row_of_vif(vif))

    def update(self, vif: Vif) -> None:
        """Keep *vif* in the place of what its id has stood for.

        Raises:
            StateError: if the disk does not let it, or there is none of that id.
        """
        changed = self._database.write(
            f"UPDATE vif SET ({', '.join(VIF_COLUMNS)}) = ({_marks(VIF_COLUMNS)}) WHERE id = ?",
            (*row_of_vif(vif), vif.id),
        )
        if changed != 1:
            raise StateError(f"{self._database.path}: there is no vif {vif.name} to change")

    def remove(self, vif_id: str) -> None:
        """Forget the vif of that id; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._database.write("DELETE FROM vif WHERE id = ?", (vif_id,), forgets=True)

    def keep_filter(self, filter_: Filter) -> None:
        """Keep *filter_*, which has a uuid, in the place of the one of its name.

        Raises:
            StateError: if the disk, or a uuid that is another's, does not let it.
        """
        self._database.write(
            "INSERT INTO filter VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET (uuid, xml) = (excluded.uuid, excluded.xml)",
            row_of_filter(filter_),
        )

    def forget_filter(self, name: str) -> None:
        """Forget the filter of that name; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._database.write("DELETE FROM filter WHERE name = ?", (name,), forgets=True)

    def keep_set(self, named: NamedSet) -> None:
        """Keep *named* in the place of the set of its name.

        Raises:
            StateError: if the disk does not let it.
        """
        self._database.write(
            "INSERT INTO named_set VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET members = excluded.members",
            row_of_set(named),
        )

    def forget_set(self, name: str) -> None:
        """Forget the set of that name; none is fine.

        Raises:
            StateError: if the disk does not let it.
        """
        self._database.write("DELETE FROM named_set WHERE name = ?", (name,), forgets=True)

    def keep_learned(self, vif_id: str, learned: Sequence[Learned]) -> None:
        """Keep what was learned of the addresses of a vif in the place of what was before.

        Raises:
            StateError: if the disk does not let it.
        """
        if not learned:
            self._database.write("DELETE FROM learned WHERE vif_id = ?", (vif_id,), forgets=True)
            return
        self._database.write(
            "INSERT INTO learned VALUES (?, ?)"
            " ON CONFLICT (vif_id) DO UPDATE SET addresses = excluded.addresses",
            (vif_id, text_of_learned(learned)),
        )

    def keep_static_id(self, name: VifName, vif_id: str) -> None:
        """Let the static vif *name* have that id from now on.

        Raises:
            StateError: if the disk does not let it.
        """
        self._database.write(
            "INSERT INTO static_vif VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET id = excluded.id",
            (str(name), vif_id),
        )

    def keep_nic_mac(self, uplink: str, mac: MacAddress) -> None:
        """Remember *mac* as that of the NIC of *uplink*.

        Raises:
            StateError: if the disk does not let it.
        """
        self._database.write(
            "INSERT INTO nic VALUES (?, ?) ON CONFLICT (uplink) DO UPDATE SET mac = excluded.mac",
            (uplink, str(mac)),
        )

    def _made(self, make: Callable[[Mapping[str, Any]], T], row: sqlite3.Row, what: str) -> T:
        try:
            return make(dict(row))
        except (ValueError, TypeError) as error:
            raise StateError(
                f"{self._database.path}: damaged: {what} {row['name']!r}: {error}"
            ) from error


def _marks(columns: Sequence[str]) -> str:
    return ", ".join("?" for _ in columns)
