"""What `vif create` and `vif set` are given, and the requests that they make of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from multiplexer.cli.arguments import COMPLETE_FILTER, Misuse, argument, repeated
from pfinet_proto import control
from pfinet_proto.typed import (
    Switch,
    contradiction,
    read_interface,
    read_prefix,
    read_rate,
    value_of,
)
from pfinet_proto.values import IPInterface, IPNetwork, MacAddress, VifName

T = TypeVar("T")


def read_ethertype(text: str) -> int:
    """Return *text* as a number, in hexadecimal after 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is no EtherType, wanted one such as 0x88cc") from None


def read_parameter(text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ValueError(f"{text!r} is no parameter, wanted NAME=VALUE")
    return name, value


def grouped(parameters: Sequence[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    """Return the values of each of *parameters* by its name, in their order."""
    values: dict[str, tuple[str, ...]] = {}
    for name, value in parameters:
        values[name] = (*values.get(name, ()), value)
    return values


def make_vif(
    name: VifName,
    owner: str,
    address: Sequence[IPInterface],
    prefix: Sequence[IPNetwork],
    mac: MacAddress | None,
    network: str | None,
    **more: Any,
) -> control.VifCreate:
    """Return the request that `vif create` is; *more* are its other options."""
    return control.VifCreate(
        name,
        owner,
        tuple(address),
        tuple(prefix),
        mac,
        network,
        control.OwnLimitsInfo(**{limit: more[limit] for limit in LIMIT_NAMES}),
        control.TrustInfo(
            tuple(more["role"]), tuple(more["ethertype"]), more["link_local"], more["trusted_tap"]
        ),
        more["force"],
        more["filter"],
        grouped(more["param"]),
    )


def or_words(read: Callable[[str], T], *words: str) -> Callable[[str], T | str]:
    """Return *read* so that *words* stand for themselves."""
    return value_of(lambda text: text if text in words else read(text))


#: Said of what is to be as if it had never been given, and of a list that is to be empty.
DEFAULT: Final = "default"
NONE: Final = "none"


def set_vif(name: VifName, **given: Any) -> control.VifSet:
    """Return the request that `vif set` is.

    Raises:
        Misuse: if nothing, or what contradicts itself, is *given*.
    """
    if not any(given[option] not in (None, []) for option in given):
        raise Misuse("nothing to set is given, see --help")
    _check_contradictions(given)
    # A filter may have any name.
    filter_, no_filter = given.pop("filter"), given.pop("no_filter")
    defaults = tuple(option for option, value in given.items() if value == DEFAULT)
    if no_filter:
        defaults += ("filter",)
    one: dict[str, Any] = {
        option: None if value == DEFAULT else value for option, value in given.items()
    }
    return control.VifSet(
        name,
        owner=one["owner"],
        addresses=_list("address", one["address"]),
        prefixes=_list("prefix", one["prefix"]),
        remove_addresses=tuple(one["remove_address"]),
        remove_prefixes=tuple(one["remove_prefix"]),
        add_addresses=tuple(one["add_address"]),
        add_prefixes=tuple(one["add_prefix"]),
        mac=one["mac"],
        limits=control.OwnLimitsInfo(**{limit: one[limit] for limit in LIMIT_NAMES}),
        trust=control.TrustChange(
            _list("role", one["role"]),
            _list("ethertype", one["ethertype"]),
            one["link_local"],
            one["trusted_tap"],
        ),
        defaults=defaults,
        filter=filter_,
        parameters=grouped(one["param"]) or None,
    )


def _check_contradictions(given: Mapping[str, Any]) -> None:
    if given["no_filter"]:
        for option in ("filter", "param"):
            if given[option]:
                raise Misuse(contradiction(f"--{option}", "--no-filter"))
    for what in ("address", "prefix"):
        for come in (f"add_{what}", what):
            for one in given[f"remove_{what}"]:
                if one in given[come]:
                    comes = f"--{come.replace('_', '-')} {one}"
                    raise Misuse(contradiction(comes, f"--remove-{what} {one}"))


def _list(option: str, given: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return what a repeated option lists; None if it is not there."""
    if NONE not in given:
        return tuple(given) or None
    if len(given) > 1:
        raise Misuse(f"--{option} {NONE} stands alone")
    return ()


#: The fields of `control.OwnLimitsInfo`.
LIMIT_NAMES: Final = ("frames_per_s", "bytes_per_s", "broadcast_per_s", "copies_per_s")

LIMITS: Final = tuple(
    argument(
        f"--{name.replace('_', '-')}",
        metavar="RATE",
        type=value_of(read_rate),
        help=f"{what} it may send; 0: no limit (default: what its network says)",
    )
    for name, what in zip(
        LIMIT_NAMES,
        ("frames", "bytes", "broadcasts and multicasts", "copies made of those"),
        strict=True,
    )
)

TRUST: Final = (
    repeated(
        "--role",
        "ROLE",
        choices=("router", "dhcp-server"),
        help="let it be a router or a dhcp-server; may be repeated",
    ),
    repeated(
        "--ethertype",
        "NUMBER",
        type=value_of(read_ethertype),
        help="one more EtherType that it may send; may be repeated",
    ),
    argument(
        "--link-local",
        metavar="WHICH",
        choices=("eui64", "first-come"),
        help="its link-local addresses: eui64 or first-come (default: what its network says)",
    ),
    argument(
        "--trusted-tap",
        action="store_true",
        help="let the daemon read and write its client's tap",
    ),
)

PARAMETERS: Final = (
    repeated(
        "--param",
        "NAME=VALUE",
        type=value_of(read_parameter),
        help="what a variable of the filter stands for; again with the same name: a list",
    ),
)

CREATE: Final = (
    argument("--owner", metavar="USER", required=True, help="user name, or uid"),
    repeated(
        "--address",
        "ADDR/LEN",
        type=value_of(read_interface),
        help="an address that it is bound to; may be repeated",
    ),
    repeated(
        "--prefix",
        "PREFIX",
        type=value_of(read_prefix),
        help="a prefix, each address of which it is bound to; may be repeated",
    ),
    argument(
        "--mac",
        metavar="MAC",
        type=value_of(MacAddress.parse),
        help="default: made of the NIC's and the name",
    ),
    argument("--network", metavar="NAME", help="default: where the addresses lie"),
    *LIMITS,
    *TRUST,
    argument(
        "--force",
        action="store_true",
        help="also if a station on the wire has one of its addresses",
    ),
    argument(
        "--filter",
        metavar="FILTER",
        complete=COMPLETE_FILTER,
        help="a network filter that it is bound to (default: that of its network)",
    ),
    *PARAMETERS,
)

SET: Final = (
    argument("--owner", metavar="USER", help="user name, or uid; ends the former one's client"),
    repeated(
        "--address",
        "ADDR/LEN",
        type=or_words(read_interface, NONE),
        help="an address, instead of all that it has; may be repeated; none: no address",
    ),
    repeated(
        "--prefix",
        "PREFIX",
        type=or_words(read_prefix, NONE),
        help="a prefix, instead of all that it has; may be repeated; none: no prefix",
    ),
    repeated(
        "--add-address",
        "ADDR/LEN",
        type=value_of(read_interface),
        help="one more address; may be repeated",
    ),
    repeated(
        "--remove-address",
        "ADDR/LEN",
        type=value_of(read_interface),
        help="an address to take away; may be repeated",
    ),
    repeated(
        "--add-prefix",
        "PREFIX",
        type=value_of(read_prefix),
        help="one more prefix; may be repeated",
    ),
    repeated(
        "--remove-prefix",
        "PREFIX",
        type=value_of(read_prefix),
        help="a prefix to take away; may be repeated",
    ),
    argument(
        "--mac",
        metavar="MAC",
        type=or_words(MacAddress.parse, DEFAULT),
        help="its MAC; default: made of the NIC's and the name",
    ),
    *(
        argument(
            limit.name,
            metavar="RATE",
            type=or_words(read_rate, DEFAULT),
            help=limit.options["help"].replace(" (default: ", f"; {DEFAULT}: ").rstrip(")"),
        )
        for limit in LIMITS
    ),
    repeated(
        "--role",
        "ROLE",
        choices=("router", "dhcp-server", NONE),
        help="router or dhcp-server, instead of what it is; may be repeated; none: neither",
    ),
    repeated(
        "--ethertype",
        "NUMBER",
        type=or_words(read_ethertype, NONE),
        help="an EtherType, instead of those that it has; may be repeated; none: no more",
    ),
    argument(
        "--link-local",
        metavar="WHICH",
        choices=("eui64", "first-come", DEFAULT),
        help=f"eui64 or first-come; {DEFAULT}: what its network says",
    ),
    argument(
        "--trusted-tap",
        action=Switch,
        help="let the daemon read and write its client's tap, or not",
    ),
    argument(
        "--filter",
        metavar="FILTER",
        complete=COMPLETE_FILTER,
        help="a network filter that it is bound to, with the parameters given, or none",
    ),
    argument("--no-filter", action="store_const", const=True, help="bind it to no filter"),
    *PARAMETERS,
)
