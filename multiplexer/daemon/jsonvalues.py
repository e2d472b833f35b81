"""Frozen values as what `json` reads and writes, strictly by the types of their fields.

For siblings of one release: an object has exactly the keys of its class, and
nothing is converted, skipped or filled in.
"""

import functools
import types
import typing
from collections.abc import Mapping

import attrs

from pfinet_proto.values import MacAddress


def to_json(value: typing.Any) -> typing.Any:
    """Return *value* as what `json` can write."""
    if attrs.has(type(value)) and not isinstance(value, MacAddress):
        return {
            field.name: to_json(getattr(value, field.name)) for field in attrs.fields(type(value))
        }
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, MacAddress):
        return str(value)
    return value


@functools.cache
def _types_of(cls: type) -> Mapping[str, typing.Any]:
    """Return the type of each field; that it is kept makes reading twice as fast."""
    return typing.get_type_hints(cls)


def from_json(wanted: typing.Any, value: typing.Any, where: str) -> typing.Any:
    """Return *value*, as `json` has read it, as a *wanted*; *where* is for the error.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(wanted, types.UnionType):  # X | None is the only union here
        (some,) = (arg for arg in typing.get_args(wanted) if arg is not types.NoneType)
        return None if value is None else from_json(some, value, where)
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {value!r:.80}, not a list")
        item = typing.get_args(wanted)[0]
        return tuple(from_json(item, part, f"{where}[{i}]") for i, part in enumerate(value))
    if wanted in (bytes, MacAddress):
        read = bytes.fromhex if wanted is bytes else MacAddress.parse
        text = from_json(str, value, where)
        try:
            return read(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if attrs.has(wanted):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {value!r:.80}, not an object")
        hints = _types_of(wanted)
        if value.keys() != hints.keys():
            raise ValueError(f"{where} has {sorted(value)}, not {sorted(hints)}")
        return wanted(
            **{key: from_json(hints[key], value[key], f"{where}.{key}") for key in hints}
        )
    if type(value) is not wanted:  # not isinstance: a bool is an int
        raise ValueError(f"{where} is {value!r:.80}, not {wanted.__name__}")
    if wanted is str and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{where} is {value!r:.80}, which is no Unicode text")
    if wanted is int and value < 0:
        raise ValueError(f"{where} is {value}, below 0")
    return value
