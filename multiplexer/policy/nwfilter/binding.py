"""A filter bound to a vif: what stands for its variables, and what the datapath judges by.

What the vif itself is bound to is supplied as MAC, IP and IPV6, unless the
administrator gave another value.  IPV6 also has the addresses that a stack makes
of its MAC, since its frames have them.  Of a prefix there is no value: a
variable stands for single addresses, and which one a stack took nobody has looked.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Final

from ...binding import derived_addresses
from ...model import FilterBinding, Network, Vif
from .compile import compile_bytes
from .errors import BindError, MissingVariables
from .resolve import over, resolve
from .resolved import ResolvedRule
from .sets import NamedSet, check_sets
from .syntax import Filter, Parameter
from .values import shown

#: How libvirt finds the address of a guest; it is a parameter of bindings alone.
LEARNING: Final = "CTRL_IP_LEARNING"
LEARNING_MODES: Final = ("any", "dhcp", "none")

#: What is supplied, where there is any.
ADDRESSES: Final = ("IP", "IPV6")


def supplied(network: Network, vif: Vif) -> tuple[Parameter, ...]:
    """Return the parameters that *vif* in *network* has without being given them."""
    ips = [address.ip for address in vif.addresses]
    own = [
        *(ip for ip in ips if isinstance(ip, IPv6Address)),
        *derived_addresses(network, vif, vif.mac),
    ]
    values = {
        "IP": [str(ip) for ip in ips if not isinstance(ip, IPv6Address)],
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


def compile_bound(
    network: Network, vif: Vif, filters: Mapping[str, Filter], sets: Mapping[str, NamedSet]
) -> bytes | None:
    """Return the table by which the datapath judges frames of *vif*; None if it has no filter.

    Raises:
        BindError: if its filter, or one that it refers to, is not there, has a variable
            without a value or with one of another type, names a set that is not there,
            or is more than a table holds.
    """
    if vif.filter is None:
        return None
    rules = resolve_bound(network, vif, filters)
    check_sets(rules, sets)
    return compile_bytes(rules, {name: each.members for name, each in sets.items()})


def resolve_bound(
    network: Network, vif: Vif, filters: Mapping[str, Filter]
) -> tuple[ResolvedRule, ...]:
    """Return the rules that frames of *vif* are judged by; none if it has no filter.

    Raises:
        BindError: as compile_bound() does, but for tables.
    """
    binding = vif.filter
    if binding is None:
        return ()
    parameters = over(given(binding), supplied(network, vif))
    try:
        return resolve(binding.name, filters, parameters)
    except MissingVariables as error:
        unknown = [name for name in ADDRESSES if name in error.names]
        if not unknown:
            raise
        raise BindError(
            f"{error}; the vif is bound to no single address that could be {unknown[0]},"
            " so give it as a parameter"
        ) from None
