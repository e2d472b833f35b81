"""What one configuration has that another has not: pure, a line for each.

A line reads like the file: `network.lan.mtu: 1500 -> 9000`, or that a whole
table is added or removed.  The order of the tables means nothing.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import attrs

from .model import Config, Limits, OwnLimits, Trust

#: What the running processes were started with.
FIXED: Final = ("run_dir", "state_dir", "control_user", "engine_user", "cpu")

#: Fields that do not bear the name of their key.
_KEYS: Final[Mapping[str, str]] = MappingProxyType({"link_local": "link-local"})


class Kind(enum.Enum):
    """What has become of a table or a key."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@attrs.frozen
class Change:
    """One line of a difference; *path* is a table, or a key that is *before* and *after*."""

    kind: Kind
    path: tuple[str, ...]
    before: str = ""
    after: str = ""

    @property
    def is_possible(self) -> bool:
        """Whether it can be while the daemon runs."""
        return self.path[0] != "daemon" or self.path[1] not in FIXED

    def __str__(self) -> str:
        where = ".".join(self.path)
        if self.kind is Kind.CHANGED:
            return f"{where}: {self.before} -> {self.after}"
        return f"{where}: {self.kind.value}"


class _Named(Protocol):
    @property
    def name(self) -> object: ...


def difference(old: Config, new: Config) -> tuple[Change, ...]:
    """Return what makes *new* of *old*."""
    return (
        *_keys(("daemon",), old.daemon, new.daemon),
        *_tables("uplink", old.uplinks, new.uplinks),
        *_tables("network", old.networks, new.networks),
        *_tables("vif", old.vifs, new.vifs),
        *_tables("grant", old.grants, new.grants),
    )


def impossible(new: Config, changes: Sequence[Change]) -> tuple[str, ...]:
    """Return a line for each of *changes*, which lead to *new*, that takes a restart."""
    return tuple(
        f"{new.origin.locate(change.path)}: {change.before} -> {change.after}"
        " cannot be while the daemon runs: restart it"
        for change in changes
        if not change.is_possible
    )


def _tables(kind: str, old: Sequence[_Named], new: Sequence[_Named]) -> Iterator[Change]:
    before = {str(table.name): table for table in old}
    after = {str(table.name): table for table in new}
    for name, table in before.items():
        if name in after:
            yield from _keys((kind, name), table, after[name])
        else:
            yield Change(Kind.REMOVED, (kind, name))
    for name in after:
        if name not in before:
            yield Change(Kind.ADDED, (kind, name))


def _keys(path: tuple[str, ...], old: object, new: object) -> Iterator[Change]:
    before, after = dict(keys_of(old)), dict(keys_of(new))
    for key, value in before.items():
        if value != after[key]:
            yield Change(Kind.CHANGED, (*path, *key), _show(value), _show(after[key]))


def keys_of(table: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each key of a value of the model as the file has it, and what it is."""
    for field in attrs.fields(type(table)):
        value = getattr(table, field.name)
        key = _KEYS.get(field.name, field.name)
        if isinstance(value, Trust):
            yield from keys_of(value)
        elif field.name == "filter":
            yield (key,), value and value.name
            yield ("parameters",), tuple(value.assignments if value else ())
        elif isinstance(value, Limits | OwnLimits):
            yield from (((key, *below), rate) for below, rate in keys_of(value))
        elif field.name != "name":
            yield (key,), value


def _show(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, range):
        return f"{value.start}-{value.stop - 1}" if len(value) > 1 else str(value.start)
    if isinstance(value, frozenset):
        return _show(tuple(sorted(map(_show, value))))
    if isinstance(value, tuple):
        return ", ".join(map(_show, value)) or "none"
    return str(value)
