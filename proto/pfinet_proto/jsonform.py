"""attrs values as JSON data and back, by the types of their fields.

A value of an attrs class is an object with a key for each field.  A reader
skips keys that it does not know, and a field with a default may be missing.
Text from the peer is printable, since it ends up in logs and on terminals; only
in documents, which are Text, there are lines and whatever else is no control
character.
"""

import functools
import json
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any, TypeVar, cast

import attrs

from pfinet_proto.errors import BadMessage
from pfinet_proto.values import IPAddress, IPInterface, IPNetwork, MacAddress, Text, VifName

T = TypeVar("T")

#: What a JSON number may be; Python's own has no bound.
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1

#: What no Text has: control characters, and halves of a pair, which are no characters.
#: What a document may not have: characters that are not for people, but for blanks.
NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

#: Characters of a text from the peer in an error.
_MOST_SHOWN = 80

_FROM_TEXT: Mapping[Any, tuple[str, Callable[[str], Any]]] = {
    MacAddress: ("a MAC address", MacAddress.parse),
    VifName: ("a vif name", VifName.parse),
    IPAddress: ("an IP address", ip_address),
    IPInterface: ("an IP address with its prefix length", ip_interface),
    IPNetwork: ("an IP prefix", ip_network),
}


def to_json(value: Any) -> Any:
    """Return *value* as what `json` can write."""
    if attrs.has(type(value)) and type(value) not in _FROM_TEXT:
        return {
            field.name: to_json(getattr(value, field.name)) for field in attrs.fields(type(value))
        }
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


@functools.cache
def _fields_of(form: Any) -> list[tuple["attrs.Attribute[Any]", Any]]:
    hints = typing.get_type_hints(form)
    return [(field, hints[field.name]) for field in attrs.fields(form)]


def from_json_untrusted(form: type[T], data: Any, where: str) -> T:
    """Return *data*, read by `json`, as a value of the attrs class *form*.

    *where* names the place in errors.

    Raises:
        BadMessage: if a key is missing, or its value does not fit its type.
    """
    if not isinstance(data, dict):
        raise BadMessage(f"{where} is {_name(data)}, not an object")
    arguments = {}
    for field, wanted in _fields_of(cast(Any, form)):
        place = f"{where}.{field.name}"
        if field.name in data:
            arguments[field.name] = _read(wanted, data[field.name], place)
        elif field.default is attrs.NOTHING:
            raise BadMessage(f"{place} is missing")
    try:
        return form(**arguments)
    except ValueError as exc:
        raise BadMessage(f"{where}: {exc}") from None


def _read(form: Any, data: Any, where: str) -> Any:
    if form in _FROM_TEXT:
        return _read_from_text(form, data, where)
    if form is Text:
        return _read_document(data, where)
    if form is bool or form is int or form is str:
        return _read_plain(form, data, where)
    if isinstance(form, types.UnionType):
        if data is None:
            return None
        wanted = [arg for arg in typing.get_args(form) if arg is not types.NoneType]
        return _read(functools.reduce(operator.or_, wanted), data, where)
    origin = typing.get_origin(form)
    if origin is tuple:
        if not isinstance(data, list):
            raise BadMessage(f"{where} is {_name(data)}, not a list")
        item = typing.get_args(form)[0]
        return tuple(_read(item, found, f"{where}[{at}]") for at, found in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise BadMessage(f"{where} is {_name(data)}, not an object")
        value = typing.get_args(form)[1]
        return {
            _read_plain(str, key, where): _read(value, found, f"{where}.{key}")
            for key, found in data.items()
        }
    return from_json_untrusted(form, data, where)


def _read_plain(form: type[Any], data: Any, where: str) -> Any:
    if type(data) is not form:
        raise BadMessage(f"{where} is {_name(data)}, not {_NAMES[form]}")
    if isinstance(data, str) and not data.isprintable():
        raise BadMessage(f"{where} {data!r:.{_MOST_SHOWN}} is not printable")
    if isinstance(data, int) and not _MIN_INT <= data <= _MAX_INT:
        raise BadMessage(f"{where} is out of the range of 64 bits")
    return data


def _read_document(data: Any, where: str) -> Text:
    if not isinstance(data, str):
        raise BadMessage(f"{where} is {_name(data)}, not {_NAMES[str]}")
    found = NO_TEXT.search(data)
    if found:
        raise BadMessage(f"{where} has {found.group()!r} at {found.start()}, which is no text")
    return Text(data)


def _read_from_text(form: Any, data: Any, where: str) -> Any:
    wanted, parse = _FROM_TEXT[form]
    text = _read_plain(str, data, where)
    try:
        value = parse(text)
    except ValueError:
        raise BadMessage(f"{where} {text!r} is not {wanted}") from None
    if isinstance(value, IPv4Network | IPv6Network) and "/" not in text:
        raise BadMessage(f"{where} {text!r} has no prefix length")
    if "%" in text:
        raise BadMessage(f"{where} {text!r} has a zone, which means nothing here")
    return value


_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number with a fraction",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _name(data: Any) -> str:
    return _NAMES[type(data)]


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def parse_untrusted(body: bytes) -> Any:
    """Return the JSON value that *body* is (RFC 8259), with unique keys.

    Raises:
        BadMessage: if it is none, or is nested too deep.
    """
    try:
        return json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as exc:
        raise BadMessage(f"not JSON: {exc}") from None


def format_json(value: Any) -> bytes:
    """Return *value*, as `to_json` makes it, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
