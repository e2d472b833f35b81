"""May this vif have its filter: the judgement of bindings to network filters.

Pure, and made whenever a vif, a filter or the file changes, before anything is
done: who passes has a table, so that no vif is ever without the rules that
it was promised.  A vif of the file that fails is an error of the file; one of an
earlier run is set aside, rather than served unfiltered.  One that a user makes by a grant
is not made without the grant's filter; it keeps that when the grant gets another,
as it keeps all that it was given, and the administrator is told.
"""

from collections.abc import Iterable, Iterator, Mapping

from pfinet_proto import control

from ..model import Config, ConfigError, FilterBinding, Vif
from ..policy.nwfilter.binding import compile_bound
from ..policy.nwfilter.errors import BindError, FilterLoop
from ..policy.nwfilter.learning import Learned
from ..policy.nwfilter.library import Library
from ..policy.nwfilter.tree import reachable
from ..policy.nwfilter.values import shown
from .authorize import Refused


def table_of(
    config: Config, library: Library, vif: Vif, learned: Iterable[Learned] = ()
) -> bytes | None:
    """Return what the datapath judges frames of *vif* by; None if it has no filter.

    *learned* is what was seen of its address.

    Raises:
        Refused: if its filter cannot be bound to it.
    """
    if vif.filter is None:
        return None
    try:
        network = config.network(vif.network)
        return compile_bound(network, vif, library.filters, library.sets, learned)
    except (BindError, FilterLoop) as error:
        why = f'filter "{vif.filter.name}" cannot be bound to vif "{vif.name}": {error}'
        raise Refused("invalid", why, "filter") from error


def check_static(config: Config, library: Library, static: Iterable[Vif]) -> None:
    """Return if each of the vifs of the file can have its filter.

    Raises:
        ConfigError: with all that cannot, each with its line.
    """
    problems: list[tuple[int, str]] = []
    for vif in static:
        try:
            table_of(config, library, vif)
        except Refused as refused:
            path = ("vif", str(vif.name), "filter")
            text = f"{config.origin.locate(path)}: {refused.message}"
            problems.append((config.origin.line(path), text))
    if problems:
        raise ConfigError(text for _, text in sorted(problems))


def part_stored(
    config: Config, library: Library, stored: Iterable[Vif]
) -> tuple[tuple[Vif, ...], tuple[tuple[Vif, Refused], ...]]:
    """Part vifs of an earlier run into those that can have their filter, and the others."""
    kept: list[Vif] = []
    refused: list[tuple[Vif, Refused]] = []
    for vif in stored:
        try:
            table_of(config, library, vif)
        except Refused as refusal:
            refused.append((vif, refusal))
        else:
            kept.append(vif)
    return tuple(kept), tuple(refused)


def missing_of_grants(config: Config, library: Library) -> Iterator[str]:
    """Yield a line for each grant that gives no vif, since its filter or a part is not there."""
    filters = library.filters
    for grant in config.grants:
        tree = () if grant.filter is None else reachable(grant.filter.name, filters)
        missing = [name for name in tree if name not in filters]
        if missing:
            yield (
                f"{config.origin.locate(('grant', grant.name, 'filter'))}:"
                f" {', '.join(map(shown, missing))} not defined, so no vif can be made by it"
            )


def kept_from_grants(old: Config, new: Config, vifs: Iterable[Vif]) -> Iterator[str]:
    """Yield a line for each of *vifs* whose grant gives another filter in *new* than it has."""
    before = {grant.name: grant.filter for grant in old.grants}
    after = {grant.name: grant.filter for grant in new.grants}
    for vif in vifs:
        name = vif.grant
        if name is None or name not in before or name not in after:
            continue
        if after[name] not in (before[name], vif.filter):
            has = "no filter" if vif.filter is None else f'filter "{vif.filter}"'
            yield (
                f"{new.origin.locate(('grant', name, 'filter'))}: vif {vif.name} keeps {has}:"
                f" multiplexerctl vif set {vif.name} changes that"
            )


def read_binding(
    name: str | None, parameters: Mapping[str, tuple[str, ...]]
) -> FilterBinding | None:
    """Return the binding that a request asks for; None if for none.

    Raises:
        Refused: if there are parameters for no filter.
    """
    if name is None:
        if parameters:
            raise Refused("invalid", "parameters are for a filter, and none is given", "filter")
        return None
    return FilterBinding.of(name, parameters)


def amended_binding(now: FilterBinding | None, change: control.VifSet) -> FilterBinding | None:
    """Return the binding that *change* makes of *now*.

    Another filter comes with its own parameters, or none.

    Raises:
        Refused: if it takes *now* for none, or none for one, contradicts itself, or has
            parameters for no filter.
    """
    if change.if_filtered not in (None, now is not None):
        has = "no filter" if now is None else f'filter "{now.name}" already'
        raise Refused("conflict", f'vif "{change.name}" is bound to {has}', "filter")
    if "filter" in change.defaults:
        if change.filter is not None or change.parameters is not None:
            raise Refused("invalid", "filter is to be given and the default, wanted one", "filter")
        return None
    if change.filter is not None:
        return read_binding(change.filter, change.parameters or {})
    if change.parameters is None:
        return now
    return read_binding(None if now is None else now.name, change.parameters)
