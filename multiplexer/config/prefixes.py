"""What must lie in a network's prefixes: its gateways, what it reserves, what is granted."""

from pfinet_proto.values import IPAddress, IPNetwork

from ..binding import edge_addresses
from ..model import AddressRange
from .toml_tables import Table


def check_one_of_each_family(
    table: Table, key: str, values: tuple[IPNetwork, ...] | tuple[IPAddress, ...]
) -> None:
    """Refuse a second prefix or address of one family in *key*."""
    versions = [value.version for value in values]
    for index, value in enumerate(values):
        if value.version in versions[:index]:
            table.problem(
                (key, index), f"{value} is a second one of IPv{value.version}, wanted one"
            )


def check_gateways(
    table: Table, prefixes: tuple[IPNetwork, ...], gateways: tuple[IPAddress, ...]
) -> None:
    """Refuse a gateway that no vif could reach."""
    check_one_of_each_family(table, "gateways", gateways)
    for index, gateway in enumerate(gateways):
        prefix = next((prefix for prefix in prefixes if gateway in prefix), None)
        problem = None
        if prefix is None:
            problem = f"is outside the network, wanted it in {_list(prefixes)}"
        elif gateway in edge_addresses(prefix):
            problem = f"is {edge_addresses(prefix)[gateway]}"
        if problem is not None:
            table.problem(("gateways", index), f"{gateway} {problem}")


def check_reserved(
    table: Table, prefixes: tuple[IPNetwork, ...], reserved: tuple[AddressRange, ...]
) -> None:
    """Refuse to reserve what is not the network's at all."""
    for index, range_ in enumerate(reserved):
        if not any(range_.overlaps(prefix) for prefix in prefixes):
            problem = f"{range_} is outside the network, wanted it in {_list(prefixes)}"
            table.problem(("reserved", index), problem)


def check_granted(
    table: Table, prefixes: tuple[IPNetwork, ...], addresses: tuple[AddressRange, ...]
) -> None:
    """Refuse to grant what is not all the network's."""
    for index, range_ in enumerate(addresses):
        if not any(range_.first in prefix and range_.last in prefix for prefix in prefixes):
            problem = f"{range_} is not all in the network, wanted it in {_list(prefixes)}"
            table.problem(("addresses", index), problem)


def _list(prefixes: tuple[IPNetwork, ...]) -> str:
    return " or ".join(map(str, prefixes))
