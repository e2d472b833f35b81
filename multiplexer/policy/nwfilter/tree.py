"""Filters that refer to filters: a graph without loops, whose ends may be missing.

A filter may be defined before those that it refers to, so only binding one
needs all that it reaches to be there.
"""

from collections.abc import Iterator, Mapping

from .errors import FilterLoop, MissingFilters
from .syntax import Filter


def reachable(name: str, filters: Mapping[str, Filter]) -> tuple[str, ...]:
    """Return *name* and whatever it refers to, directly or not, each once.

    Missing filters are among them.  Time is linear in the references.
    """
    found = {name: None}
    waiting = [name]
    while waiting:
        filter_ = filters.get(waiting.pop())
        for reference in filter_.references if filter_ else ():
            if reference.filter not in found:
                found[reference.filter] = None
                waiting.append(reference.filter)
    return tuple(found)


def check_no_loop(name: str, filters: Mapping[str, Filter]) -> None:
    """Return if no way from *name* comes back to a filter that it has passed.

    Raises:
        FilterLoop: if one does.
    """
    done: set[str] = set()
    path: dict[str, Iterator[str]] = {name: _referred(name, filters)}
    while path:
        here, below = next(reversed(path.items()))
        following = next(below, None)
        if following is None:
            done.add(here)
            del path[here]
        elif following in path:
            names = list(path)
            raise FilterLoop((*names[names.index(following) :], following))
        elif following not in done:
            path[following] = _referred(following, filters)


def check_all_there(name: str, filters: Mapping[str, Filter]) -> None:
    """Return if whatever *name* refers to is there, and *name* itself.

    Raises:
        MissingFilters: if not.
    """
    missing = tuple(each for each in reachable(name, filters) if each not in filters)
    if missing:
        raise MissingFilters(missing)


def _referred(name: str, filters: Mapping[str, Filter]) -> Iterator[str]:
    filter_ = filters.get(name)
    return iter([each.filter for each in filter_.references] if filter_ else [])
