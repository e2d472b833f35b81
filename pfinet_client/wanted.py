"""A vif that a user asks for: the options of the command line, and the request made of them."""

import argparse

import attrs

from pfinet_proto.control import OwnLimitsInfo, VifCreate
from pfinet_proto.typed import read_interface, read_prefix, read_rate, value_of
from pfinet_proto.values import VifName

_LIMITS = {
    "frames_per_s": "frames",
    "bytes_per_s": "bytes of frames",
    "broadcast_per_s": "broadcasts and multicasts",
    "copies_per_s": "copies made of those",
}
assert tuple(_LIMITS) == tuple(each.name for each in attrs.fields(OwnLimitsInfo))


def add_wanted(to: argparse.ArgumentParser) -> None:
    """Add to a command the options that say what its vif shall be."""
    to.add_argument("--network", metavar="NETWORK", help="default: where the addresses lie")
    to.add_argument(
        "--address",
        metavar="ADDR/LEN",
        action="append",
        default=[],
        type=value_of(read_interface),
        help="default: the first that are free; may be repeated",
    )
    to.add_argument(
        "--prefix",
        metavar="PREFIX",
        action="append",
        default=[],
        type=value_of(read_prefix),
        help="a prefix, each address of which is its own; may be repeated",
    )
    for name, what in _LIMITS.items():
        to.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="RATE",
            type=value_of(read_rate),
            help=f"{what} it may send (default: what the grant gives)",
        )


def creation(arguments: argparse.Namespace) -> VifCreate:
    """Return the request for a vif that *arguments* describe."""
    return VifCreate(
        name=VifName.parse(arguments.name),
        addresses=tuple(arguments.address),
        prefixes=tuple(arguments.prefix),
        network=arguments.network,
        limits=OwnLimitsInfo(**{name: getattr(arguments, name) for name in _LIMITS}),
    )
