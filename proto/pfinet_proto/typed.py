"""What people type on command lines, read the same by every program."""

import argparse
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import Any, TypeVar

from pfinet_proto.values import IPInterface, IPNetwork

T = TypeVar("T")


class CommandLine(argparse.ArgumentParser):
    """A parser, with all below it, that takes an option of one value once.

    The same again is no contradiction; argparse's own takes the last, whatever was before.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in (None, "store"):
            self.register("action", name, _Once)


class _Once(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, self.default)
        if before is not self.default and before != values:
            raise argparse.ArgumentError(self, f"is {before} and {values}, wanted one of them")
        setattr(namespace, self.dest, values)


class Switch(argparse.BooleanOptionalAction):
    """``--NAME`` or ``--no-NAME``, and not both."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        super().__call__(parser, namespace, values, option_string)
        if before is not None and before is not getattr(namespace, self.dest):
            raise argparse.ArgumentError(None, contradiction(*self.option_strings))


def contradiction(one: str, other: str) -> str:
    """Return what is said of two options that cannot both be."""
    return f"{one} and {other} contradict each other, wanted one of them"


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
