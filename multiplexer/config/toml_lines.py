"""Where each key and each array element of a TOML text stands.

tomllib says nothing of lines, and an error in a configuration file must name
one.  So the text is walked a second time.  The walker only runs over text that
tomllib has accepted: it looks for the ends of keys, strings and brackets, and
leaves all meaning to tomllib.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Final

#: Keys from the top of the text down; an int is an index in an array.
Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_PLAIN_VALUE: Final = re.compile(r"[^,\]}#\r\n]+")


def find_lines(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, on which each key and array element of *text* first stands.

    *text* must be valid TOML.
    """
    return _Walker(text).walk()


class _Walker:
    """One walk over one text; *position* only grows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.array_lengths: Counter[Path] = Counter()

    def walk(self) -> Mapping[Path, int]:
        table: Path = ()
        self.skip(_BLANK)
        while self.position < len(self.text):
            table = self.statement(table)
            self.skip(_BLANK)
        return self.lines

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Move over what *pattern* matches here, and return it."""
        match = pattern.match(self.text, self.position)
        assert match is not None, f"tomllib accepted what is no TOML in line {self.line}"
        self.position = match.end()
        self.line += match[0].count("\n")
        return match[0]

    def accept(self, literal: str) -> bool:
        """Move over *literal* if it is next."""
        if not self.text.startswith(literal, self.position):
            return False
        self.position += len(literal)
        return True

    def record(self, path: Path) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self.line)

    def statement(self, table: Path) -> Path:
        """Walk over one header or one assignment, and return the table that follows it."""
        if self.accept("[["):
            path = self.inside_arrays(self.key())
            self.accept("]]")
            path = (*path, self.array_lengths[path])
            self.array_lengths[path[:-1]] += 1
            self.record(path)
            return path
        if self.accept("["):
            path = self.inside_arrays(self.key())
            self.accept("]")
            self.record(path)
            return path
        self.assignment(table)
        return table

    def inside_arrays(self, key: tuple[str, ...]) -> Path:
        """Return the path that a header means: it goes on in the last table of an array."""
        path: Path = ()
        for part in key[:-1]:
            path = (*path, part)
            if path in self.array_lengths:
                path = (*path, self.array_lengths[path] - 1)
        return (*path, key[-1])

    def assignment(self, table: Path) -> None:
        path = (*table, *self.key())
        self.record(path)
        self.accept("=")
        self.skip(_SPACE)
        self.value(path)

    def key(self) -> tuple[str, ...]:
        """Walk over a dotted key and the space around it."""
        parts = []
        while True:
            self.skip(_SPACE)
            if self.text[self.position] in "\"'":
                parts.append(str(tomllib.loads("key = " + self.skip(_STRING))["key"]))
            else:
                parts.append(self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if not self.accept("."):
                return tuple(parts)

    def value(self, path: Path) -> None:
        if self.accept("["):
            self.skip(_BLANK)
            index = 0
            while not self.accept("]"):
                self.record((*path, index))
                self.value((*path, index))
                index += 1
                self.end_of_item()
        elif self.accept("{"):
            self.skip(_BLANK)
            while not self.accept("}"):
                self.assignment(path)
                self.end_of_item()
        elif self.text[self.position] in "\"'":
            self.skip(_STRING)
        else:
            self.skip(_PLAIN_VALUE)

    def end_of_item(self) -> None:
        self.skip(_BLANK)
        self.accept(",")
        self.skip(_BLANK)
