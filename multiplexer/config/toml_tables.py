"""Reading TOML tables key by key without stopping at the first error.

A wrong value is noted with its line and replaced by a default; the table
remembers which keys were wrong, so that what depends on them can be left out
while all else is still checked.
"""

import difflib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

from ..binding import Fault
from ..model import ConfigError, Origin
from .toml_lines import Path

T = TypeVar("T")

#: Makes a value of what tomllib made of a key's text, or raises ValueError.
Reader = Callable[[object], T]


def show(value: object) -> str:
    """Return *value* as a TOML file has it, on one line and without control characters."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    return str(value)


def suggest(found: str, known: Collection[str]) -> str:
    """Return what to append to a message about an unknown word."""
    close = difflib.get_close_matches(found, known, n=1)
    if close:
        return f", did you mean {show(close[0])}?"
    return f", wanted {alternatives(known)}" if known else ""


def alternatives(words: Collection[str]) -> str:
    """Return *words* as ``"a", "b" or "c"``."""
    *others, last = (show(word) for word in words)
    return f"{', '.join(others)} or {last}" if others else last


class Problems:
    """What was found wrong, or odd, so far."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._errors: list[tuple[int, str]] = []
        self._warnings: list[str] = []

    def add(self, path: Path, message: str) -> None:
        self._errors.append((self._origin.line(path), f"{self._origin.locate(path)}: {message}"))

    def warn(self, path: Path, message: str) -> None:
        self._warnings.append(f"{self._origin.locate(path)}: {message}")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    def raise_if_any(self) -> None:
        """Raise ConfigError with all errors in the order of their lines, if there are any."""
        if self._errors:
            in_order = sorted(self._errors, key=lambda error: error[0])
            raise ConfigError(text for _, text in in_order)


class Table:
    """One table while it is read; it knows which of its keys were wrong."""

    def __init__(
        self, problems: Problems, path: Path, raw: object, known: Collection[str] | None
    ) -> None:
        """*known* are the keys that it may have; None if they are names."""
        self.path = path
        self._problems = problems
        self._wrong: set[str] = set()
        self._raw: Mapping[str, object] = {}
        if isinstance(raw, dict):
            self._raw = raw
        else:
            self.problem((), f"{show(raw)}, wanted a table")
        for key in self._raw:
            if known is not None and key not in known:
                self.problem((key,), f"unknown key{suggest(key, known)}")

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def problem(self, key: Path, message: str) -> None:
        """Note that *key*, or an element of it, is wrong."""
        self._wrong.add(str(key[0]) if key else "")
        self._problems.add((*self.path, *key), message)

    def fault(self, fault: Fault) -> None:
        """Note that a rule of bindings is broken, at the key or the element that broke it."""
        key: Path = (fault.field,) if fault.index is None else (fault.field, fault.index)
        self.problem(key, fault.message)

    def warn(self, key: Path, message: str) -> None:
        self._problems.warn((*self.path, *key), message)

    def ok(self, *keys: str) -> bool:
        """Whether none of *keys* is wrong; of all keys, if none is given."""
        return not (self._wrong & set(keys) if keys else self._wrong)

    def take(self, key: str, read: Reader[T], default: T) -> T:
        """Return the value of *key*; *default* if it is not there or wrong."""
        if key not in self._raw:
            return default
        return self._read((key,), self._raw[key], read, default)

    def require(self, key: str, read: Reader[T], wanted: str) -> T | None:
        """Return the value of *key*, which must be there; None if it is not, or wrong."""
        if key not in self._raw:
            self.problem((key,), f"missing, wanted {wanted}")
            return None
        return self._read((key,), self._raw[key], read, None)

    def take_list(
        self, key: str, read: Reader[T], default: tuple[T, ...] = (), most: int | None = None
    ) -> tuple[T, ...]:
        """Return those elements of *key* that are right; *default* if it is not there."""
        if key not in self._raw:
            return default
        raw = self._raw[key]
        if not isinstance(raw, list):
            self.problem((key,), f"{show(raw)}, wanted an array")
            return default
        if most is not None and len(raw) > most:
            self.problem((key,), f"{len(raw)} elements, wanted at most {most}")
        values = (self._read((key, index), value, read, None) for index, value in enumerate(raw))
        return tuple(value for value in values if value is not None)

    def table(self, key: str, known: Collection[str] | None) -> "Table":
        """Return the table that is the value of *key*; an empty one if it is not there."""
        return Table(self._problems, (*self.path, key), self._raw.get(key, {}), known)

    def _read(self, key: Path, raw: object, read: Callable[[object], T], default: T) -> T:
        try:
            return read(raw)
        except ValueError as error:
            self.problem(key, str(error))
            return default
