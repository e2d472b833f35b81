"""What filters, chains, parameters and variables may be called, and how chains are ordered."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .values import shown

ROOT: Final = "root"

MAX_CHAIN_NAME: Final = 12
MIN_PRIORITY: Final = -1000
MAX_PRIORITY: Final = 1000
DEFAULT_RULE_PRIORITY: Final = 500
MAX_ITERATOR: Final = 1000

#: A chain other than root begins with one of these, and by it has its default priority.
CHAIN_PRIORITIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "stp": -810,
        "mac": -800,
        "vlan": -750,
        "ipv4": -700,
        "ipv6": -600,
        "arp": -500,
        "rarp": -400,
    }
)

_CHAIN: Final = re.compile(r"[A-Za-z0-9_.:-]{1,12}")
_FILTER_NAME: Final = re.compile(r"[^/\x00-\x1f\x7f-\x9f]{1,255}")
_SCHEMA_NAME: Final = re.compile(r"[^\W\d][\w.-]{0,254}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_VARIABLE_VALUE: Final = re.compile(r"[A-Za-z0-9_.:]+")


def check_filter_name(text: str) -> str:
    """Return *text* if a filter can be called so: 1 to 255 characters, none of control, no /.

    Raises:
        ValueError: if not.
    """
    if not _FILTER_NAME.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a filter's name: 1 to 255 characters, none of control and no /"
        )
    return text


def check_schema_name(text: str) -> str:
    """Return *text* if the schema lets a filter be called so: an XML name without a colon.

    Raises:
        ValueError: if not.
    """
    if not _SCHEMA_NAME.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a filter's name: a letter or _, then letters, digits, _ . and -"
        )
    return text


def check_chain(text: str) -> str:
    """Return *text* if it can be the name of a chain.

    Raises:
        ValueError: if not.
    """
    if not _CHAIN.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not a chain: 1 to {MAX_CHAIN_NAME} letters, digits, _ . : and -"
        )
    if text != ROOT and not text.startswith(tuple(CHAIN_PRIORITIES)):
        raise ValueError(
            f"{shown(text)} is not a chain: {ROOT}, or what begins with"
            f" {', '.join(CHAIN_PRIORITIES)}"
        )
    return text


def chain_kind(chain: str) -> str:
    """Return what *chain*, a valid one, begins with: root, or a name of CHAIN_PRIORITIES."""
    return next((kind for kind in CHAIN_PRIORITIES if chain.startswith(kind)), ROOT)


def default_chain_priority(chain: str) -> int:
    """Return the priority of *chain* where its filter gives none."""
    return CHAIN_PRIORITIES.get(chain_kind(chain), 0)


def check_parameter_name(text: str) -> str:
    """Return *text* if it can be the name of a parameter, and so of a variable.

    Raises:
        ValueError: if not.
    """
    if not _VARIABLE_NAME.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a parameter's name: letters, digits and _")
    return text


def check_parameter_value(text: str) -> str:
    """Return *text* if it can be the value of a parameter.

    Raises:
        ValueError: if not.
    """
    if not _VARIABLE_VALUE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a parameter's value: letters, digits, _ . and :")
    return text


def check_uuid(text: str) -> str:
    """Return *text* if it is a uuid as it is printed: lower case, with dashes.

    Raises:
        ValueError: if not.
    """
    if not _UUID.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a uuid")
    return text


def check_priority(value: int) -> int:
    """Return *value* if it can be the priority of a rule or a chain.

    Raises:
        ValueError: if not.
    """
    if not MIN_PRIORITY <= value <= MAX_PRIORITY:
        raise ValueError(
            f"priority {value} is out of range, wanted {MIN_PRIORITY} to {MAX_PRIORITY}"
        )
    return value
