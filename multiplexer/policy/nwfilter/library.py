"""All filters that are there, and which may come, change and go.

Stock filters are installed with the daemon, and nobody changes them: others
rely on what they say.  A filter that was defined before a later release brought
a stock filter of its name stays what it is, since vifs are bound to it by that
name.  A name stands for one uuid and a uuid for one name, as long as there is
a filter.  What a filter refers to may be missing until it is bound.
"""

import enum
from collections import Counter
from collections.abc import Callable, Mapping

import attrs

from .canonical import canonical
from .elements import MAX_DOCUMENT_LEN
from .sets import NamedSet
from .syntax import Filter, Rule, Variable
from .tree import check_no_loop, reachable
from .values import shown


class Why(enum.Enum):
    """What is wrong with what is asked of a library."""

    MISSING = enum.auto()
    CONFLICT = enum.auto()
    INVALID = enum.auto()


class NotInLibrary(ValueError):
    """A filter may not come, change or go."""

    def __init__(self, kind: Why, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def check_shown(filter_: Filter) -> None:
    """Return if *filter_*, which has a uuid, can be shown as it is kept.

    Raises:
        NotInLibrary: if its name or its text cannot.
    """
    if not filter_.name.isprintable():
        raise NotInLibrary(Why.INVALID, f"filter's name {shown(filter_.name)} is not printable")
    n_bytes = len(canonical(filter_).encode())
    if n_bytes > MAX_DOCUMENT_LEN:
        raise NotInLibrary(
            Why.INVALID,
            f"filter {shown(filter_.name)} takes {n_bytes} bytes as it is kept,"
            f" wanted at most {MAX_DOCUMENT_LEN}",
        )


@attrs.frozen
class Library:
    """Filters by name, each with a uuid: *own* are defined, *stock* installed.

    *sets* are those of addresses that rules may name, by name.
    """

    stock: Mapping[str, Filter]
    own: Mapping[str, Filter] = attrs.field(factory=dict)
    sets: Mapping[str, NamedSet] = attrs.field(factory=dict)

    @property
    def filters(self) -> Mapping[str, Filter]:
        """Every filter by name, as rules refer to it."""
        return {**self.stock, **self.own}

    def is_stock(self, name: str) -> bool:
        """Return whether filter *name* is an installed one."""
        return name in self.stock and name not in self.own

    def find(self, which: str) -> Filter:
        """Return the filter that *which* is the name or the uuid of; a name goes first.

        Raises:
            NotInLibrary: if there is none.
        """
        filters = self.filters
        if which in filters:
            return filters[which]
        for each in filters.values():
            if each.uuid == which.lower():
                return each
        raise NotInLibrary(Why.MISSING, f"there is no filter {shown(which)}")

    def named(self, filter_: Filter, make_uuid: Callable[[], str]) -> Filter:
        """Return *filter_* with the uuid that it is to have: its own, its name's, or a new one.

        Raises:
            NotInLibrary: if its name or uuid is another's, or a stock filter's.
        """
        if self.is_stock(filter_.name):
            raise NotInLibrary(
                Why.CONFLICT,
                f"{shown(filter_.name)} is a stock filter, which nobody changes:"
                " give yours another name",
            )
        before = self.own.get(filter_.name)
        if before is not None and filter_.uuid not in (None, before.uuid):
            raise NotInLibrary(
                Why.CONFLICT,
                f"filter {shown(filter_.name)} already exists with uuid {before.uuid},"
                f" not {filter_.uuid}",
            )
        if before is not None:
            return attrs.evolve(filter_, uuid=before.uuid)
        if filter_.uuid is None:
            return attrs.evolve(filter_, uuid=make_uuid())
        for other in self.filters.values():
            if other.uuid == filter_.uuid:
                raise NotInLibrary(
                    Why.CONFLICT,
                    f"uuid {filter_.uuid} is that of filter {shown(other.name)},"
                    f" not of {shown(filter_.name)}",
                )
        return filter_

    def with_filter(self, filter_: Filter) -> "Library":
        """Return the library with *filter_*, which is `named`, new or in the place of its like.

        Raises:
            FilterLoop: if it closes a loop; to refer to what is missing is none.
            NotInLibrary: if its name or its text cannot be shown.
        """
        check_shown(filter_)
        library = attrs.evolve(self, own={**self.own, filter_.name: filter_})
        check_no_loop(filter_.name, library.filters)
        return library

    def without(self, which: str, bound: Mapping[str, str]) -> tuple["Library", Filter]:
        """Return the library without the filter of that name or uuid, and the filter.

        *bound* has the name of the filter that each vif is bound to, by the vif's.

        Raises:
            NotInLibrary: if there is none, it is a stock filter, or a vif's tree has it.
        """
        filter_ = self.find(which)
        if self.is_stock(filter_.name):
            raise NotInLibrary(
                Why.CONFLICT, f"{shown(filter_.name)} is a stock filter, which nobody removes"
            )
        users = self.users(filter_.name, bound)
        if users:
            others = f" and {len(users) - 1} more" if len(users) > 1 else ""
            raise NotInLibrary(
                Why.CONFLICT, f"filter {shown(filter_.name)} is in use by vif {users[0]}{others}"
            )
        own = {name: each for name, each in self.own.items() if name != filter_.name}
        return attrs.evolve(self, own=own), filter_

    def users(self, name: str, bound: Mapping[str, str]) -> tuple[str, ...]:
        """Return the vifs whose filter is *name* or refers to it, directly or not, sorted."""
        return tuple(sorted(vif for vif, used in self._used(bound).items() if name in used))

    def askers(self, of_set: str, bound: Mapping[str, str]) -> frozenset[str]:
        """Return the vifs in whose tree a rule asks for that set, or for one by a variable."""
        trees = self._used(bound)
        filters = self.filters
        asking = {
            name
            for name in set().union(*trees.values())
            if name in filters and _may_ask(filters[name], of_set)
        }
        return frozenset(vif for vif, used in trees.items() if asking.intersection(used))

    def counts(self, bound: Mapping[str, str]) -> Mapping[str, int]:
        """Return how many vifs have each filter in their tree; those without are not there."""
        return Counter(name for used in self._used(bound).values() for name in used)

    def _used(self, bound: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Return the filters in the tree of each vif."""
        filters = self.filters
        trees = {top: reachable(top, filters) for top in set(bound.values())}
        return {vif: trees[top] for vif, top in bound.items()}


def _may_ask(filter_: Filter, of_set: str) -> bool:
    return any(
        each.attribute == "ipset" and (each.value == of_set or isinstance(each.value, Variable))
        for entry in filter_.entries
        if isinstance(entry, Rule)
        for each in entry.conditions
    )
