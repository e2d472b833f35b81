"""May this vif have its filter: the judgement of bindings to network filters.

Pure, and made whenever a vif, a filter or the file changes, before anything is
done: who passes has a table, so that no vif is ever without the rules that
it was promised.  A vif of the file that fails is an error of the file; one of an
earlier run is set aside, rather than served unfiltered.
"""

from collections.abc import Iterable, Mapping

from pfinet_proto import control

from ..model import Config, ConfigError, FilterBinding, Vif
from ..policy.nwfilter.binding import compile_bound
from ..policy.nwfilter.errors import BindError, FilterLoop
from ..policy.nwfilter.library import Library
from .authorize import Refused


def table_of(config: Config, library: Library, vif: Vif) -> bytes | None:
    """Return what the datapath judges frames of *vif* by; None if it has no filter.

    Raises:
        Refused: if its filter cannot be bound to it.
    """
    if vif.filter is None:
        return None
    try:
        return compile_bound(config.network(vif.network), vif, library.filters, library.sets)
    except (BindError, FilterLoop) as error:
        why = f'filter "{vif.filter.name}" cannot be bound to vif "{vif.name}": {error}'
        raise Refused("invalid", why, "filter") from None


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
        Refused: if it contradicts itself, or has parameters for no filter.
    """
    if "filter" in change.defaults:
        if change.filter is not None or change.parameters is not None:
            raise Refused("invalid", "filter is to be given and the default, wanted one", "filter")
        return None
    if change.filter is not None:
        return read_binding(change.filter, change.parameters or {})
    if change.parameters is None:
        return now
    return read_binding(None if now is None else now.name, change.parameters)
