"""The test vectors of proto/vectors, and values as plain as they write them."""

import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from pfinet_proto.values import MacAddress, VifName

FOLDER = Path(__file__).parents[2] / "proto" / "vectors"


def vectors(file: str, section: str) -> list[Any]:
    """Return the vectors of *section* as pytest parameters under their names."""
    found = json.loads((FOLDER / file).read_text())[section]
    return [pytest.param(vector, id=vector["name"]) for vector in found]


def octets(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex("".join(vector["hex"]))


def plain(value: Any) -> Any:
    """Return *value* as the vectors write it in JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, enum.IntEnum | enum.IntFlag):
        return int(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if attrs.has(type(value)) and not isinstance(value, MacAddress | VifName):
        return {
            field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))
        }
    return value if value is None or isinstance(value, int | str) else str(value)
