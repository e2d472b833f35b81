"""May this vif have its filter: the judgement of bindings to network filters.

Pure, and made whenever a vif, a filter or the file changes, before anything is
done: who passes has a table, so that no vif is ever without the rules that
it was promised.  A vif of the file that fails is an error of the file; one of an
earlier run is set aside, rather than served unfiltered.  One for which only the file says
a filter, by its grant or its network, is not made without; it keeps that when the file
says another, as it keeps all that it was given, and the administrator is told.
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
            path = _path_of_static(config, vif)
            text = f"{config.origin.locate(path)}: {refused.message}"
            problems.append((config.origin.line(path), text))
    if problems:
        raise ConfigError(text for _, text in sorted(problems))


def _path_of_static(config: Config, vif: Vif) -> tuple[str, ...]:
    """Return where the file says the filter of one of its vifs."""
    path, default = default_filter(config, vif)
    has_own = any(each.name == vif.name and each.filter is not None for each in config.vifs)
    return path if default is not None and not has_own else ("vif", str(vif.name), "filter")


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


def default_filter(config: Config, vif: Vif) -> tuple[tuple[str, ...], FilterBinding | None]:
    """Return what *vif* is bound to if nobody names a filter, and where the file says so.

    Its grant goes before its network, which *config* has.
    """
    for grant in config.grants:
        if grant.name == vif.grant and grant.filter is not None:
            return ("grant", grant.name, "filter"), grant.filter
    return ("network", vif.network, "filter"), config.network(vif.network).filter


def missing_of_file(config: Config, library: Library) -> Iterator[str]:
    """Yield a line for each grant or network whose filter, or a part of it, is not there."""
    filters = library.filters
    bindings = (
        *(
            ("network", each.name, each.filter, "in it without another")
            for each in config.networks
        ),
        *(("grant", each.name, each.filter, "by it") for each in config.grants),
    )
    for kind, name, binding, how in bindings:
        tree = () if binding is None else reachable(binding.name, filters)
        missing = [name for name in tree if name not in filters]
        if missing:
            yield (
                f"{config.origin.locate((kind, name, 'filter'))}:"
                f" {', '.join(map(shown, missing))} not defined, so no vif can be made {how}"
            )


def kept_from_file(old: Config, new: Config, vifs: Iterable[Vif]) -> Iterator[str]:
    """Yield a line for each of *vifs* for which *new* says another filter than it has.

    That is where *new* says another one than *old* did for it, by its grant or its
    network.  Who had none of these has been given another by an administrator.
    """
    names = {grant.name for grant in old.grants} & {grant.name for grant in new.grants}
    networks = {network.name for network in old.networks}
    for vif in vifs:
        if vif.network not in networks or (vif.grant is not None and vif.grant not in names):
            continue
        (_, before), (path, after) = default_filter(old, vif), default_filter(new, vif)
        if after == before or after == vif.filter:
            continue
        if vif.grant is None and vif.filter != before:
            continue
        has = "no filter" if vif.filter is None else f'filter "{vif.filter}"'
        yield (
            f"{new.origin.locate(path)}: vif {vif.name} keeps {has}:"
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
