"""A filter bound to a vif: what stands for its variables, and what the datapath judges by.

What the vif itself is bound to is supplied as MAC, IP and IPV6, unless the
administrator gave another value.  IPV6 also has the addresses that a stack makes
of its MAC, since its frames have them.  Of a prefix there is no value, since a
variable stands for single addresses: which one of IPv4 the stack took is learned, where
the filter needs it, and until then the vif is judged by another one (`learning`).
What the filter comes to is looked at beforehand all the same, with some address.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Final

import attrs

from ...binding import derived_addresses
from ...model import FilterBinding, Network, Vif
from .compile import compile_bytes, compile_filter, packed
from .errors import BindError, MissingVariables
from .learning import IP, LEARNING, WANTS, Learned, Mode, Search, as_parameter
from .resolve import over, resolve
from .resolved import ResolvedRule
from .sets import NamedSet, check_sets
from .syntax import Filter, Parameter
from .tables import Learns, Table
from .values import shown

LEARNING_MODES: Final = tuple(mode.value for mode in Mode)

#: What is supplied, where there is any.
ADDRESSES: Final = ("IP", "IPV6")


def supplied(network: Network, vif: Vif) -> tuple[Parameter, ...]:
    """Return the parameters that *vif* in *network* has without being given them.

    A prefix that is a single address is one.
    """
    alone = [each for each in vif.prefixes if each.prefixlen == each.max_prefixlen]
    ips = [
        *(address.ip for address in vif.addresses),
        *(prefix.network_address for prefix in alone),
    ]
    own = [
        *(ip for ip in ips if isinstance(ip, IPv6Address)),
        *derived_addresses(network, vif, vif.mac),
    ]
    values = {
        "IP": [str(ip) for ip in dict.fromkeys(ips) if not isinstance(ip, IPv6Address)],
        "IPV6": [str(ip) for ip in dict.fromkeys(own)],
        "MAC": [str(vif.mac)],
    }
    return tuple(Parameter(name, tuple(each)) for name, each in values.items() if each)


def given(binding: FilterBinding) -> tuple[Parameter, ...]:
    """Return the parameters that *binding* gives.

    Raises:
        BindError: if one cannot be, or the mode of learning is none.
    """
    try:
        parameters = tuple(Parameter(name, values) for name, values in binding.parameters)
    except ValueError as error:
        raise BindError(str(error)) from None
    for parameter in parameters:
        modes = [value.lower() for value in parameter.values]
        if parameter.name == LEARNING and (len(modes) > 1 or modes[0] not in LEARNING_MODES):
            raise BindError(
                f"parameter {LEARNING} is {shown(' '.join(parameter.values))},"
                f" wanted one of {', '.join(LEARNING_MODES)}"
            )
    return parameters


@attrs.frozen
class Bound:
    """What frames of a vif are judged by, and what its filter wants to know of its address.

    Where nothing is known yet, *to_come* are the rules of the filter itself, with some
    address.
    """

    rules: tuple[ResolvedRule, ...]
    learns: Learns = Learns.NOTHING
    to_come: tuple[ResolvedRule, ...] = ()


def in_use(vif: Vif, learned: Iterable[Learned]) -> tuple[Learned, ...]:
    """Return what of *learned* stands for the address of *vif*, where none is given."""
    if vif.filter is None or any(name == IP for name, _ in vif.filter.parameters):
        return ()
    return Search.of(vif, given(vif.filter)).kept(learned)


def compile_bound(
    network: Network,
    vif: Vif,
    filters: Mapping[str, Filter],
    sets: Mapping[str, NamedSet],
    learned: Iterable[Learned] = (),
) -> bytes | None:
    """Return the table by which the datapath judges frames of *vif*; None if it has no filter.

    *learned* is what was seen of its address, if that has to be.

    Raises:
        BindError: if its filter, or one that it refers to, is not there, has a variable
            without a value or with one of another type, names a set that is not there,
            or is more than a table holds.
    """
    if vif.filter is None:
        return None
    return packed(compile_table(resolve_bound(network, vif, filters, learned), sets))


def compile_table(bound: Bound, sets: Mapping[str, NamedSet]) -> Table:
    """Return the lists of what is *bound*.

    Raises:
        BindError: if a set is missing, or what is to come is more than a table holds.
    """
    members = {name: each.members for name, each in sets.items()}
    for rules in (bound.rules, bound.to_come):
        check_sets(rules, sets)
    if bound.to_come:
        compile_bytes(bound.to_come, members)
    return attrs.evolve(compile_filter(bound.rules, members), learns=bound.learns)


def resolve_bound(
    network: Network, vif: Vif, filters: Mapping[str, Filter], learned: Iterable[Learned] = ()
) -> Bound:
    """Return the rules that frames of *vif* are judged by; none if it has no filter.

    Raises:
        BindError: as compile_bound() does, but for tables.
    """
    binding = vif.filter
    if binding is None:
        return Bound(())
    parameters = over(given(binding), supplied(network, vif))
    try:
        return Bound(resolve(binding.name, filters, parameters))
    except MissingVariables as error:
        prefix = next((each for each in vif.prefixes if each.version == 4), None)
        search = Search.of(vif, parameters)
        if error.names != (IP,) or prefix is None or search.mode is Mode.NONE:
            raise _explained(error, search.mode if prefix is not None else None) from None
    before, after = WANTS[search.mode]
    known = search.kept(learned)
    if known:
        whole = over((as_parameter(known),), parameters)
        return Bound(resolve(binding.name, filters, whole), after)
    some = Parameter(IP, (str(prefix.network_address),))
    to_come = resolve(binding.name, filters, over((some,), parameters))
    return Bound(search.phase(), before, to_come)


def _explained(error: MissingVariables, mode: Mode | None) -> BindError:
    """Return *error* with why an address is missing; *mode* is of a vif that may learn one."""
    unknown = [name for name in ADDRESSES if name in error.names]
    if not unknown:
        return error
    why = f"the vif is bound to no single address that could be {unknown[0]}"
    if unknown[0] == IP and mode is Mode.NONE:
        why += f", and {LEARNING} is none"
    return BindError(f"{error}; {why}, so give it as a parameter")
