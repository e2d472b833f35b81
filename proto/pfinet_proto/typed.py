"""What people type on command lines, read the same by every program."""

import argparse
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import TypeVar

from pfinet_proto.values import IPInterface, IPNetwork

T = TypeVar("T")


def value_of(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return *read* so that argparse shows what its ValueError says."""

    def read_argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_argument


def read_interface(text: str) -> IPInterface:
    """Return *text* as an address with the length of its network's prefix."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length, wanted one as in 10.0.1.5/24")
    return ip_interface(text)


def read_prefix(text: str) -> IPNetwork:
    """Return *text* as a prefix."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length, wanted one as in fd00:5::/64")
    return ip_network(text)


def read_rate(text: str) -> int:
    """Return *text* as a number per second."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is no rate, wanted an integer from 0 on")
    return int(text)
