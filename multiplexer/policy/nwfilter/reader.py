"""What reading any element needs: complaints with a place, and what is passed over."""

import enum
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, TypeVar

import attrs

from .elements import Element
from .errors import FilterError
from .names import MAX_PRIORITY, MIN_PRIORITY, check_filter_name, check_schema_name
from .values import shown

_INTEGER: Final = re.compile(r"[ \t\n\r]*([+-]?[0-9]{1,9})")

_Word = TypeVar("_Word", bound=enum.Enum)


@attrs.frozen
class Reader:
    """How a document is read: what *source* it is called, and whether as libvirt would."""

    source: str
    lenient: bool = False

    def refuse(self, element: Element, why: str) -> NoReturn:
        """Raise what is wrong at *element*."""
        raise FilterError(self.source, element.position, why)

    @contextmanager
    def complaining(self, element: Element, attribute: str) -> Iterator[None]:
        """Give what goes wrong within a place: *attribute* of *element*."""
        try:
            yield
        except FilterError:
            raise
        except ValueError as error:
            self.refuse(element, f"{attribute}: {error}")

    def unknown(self, element: Element, within: str, wanted: str) -> NoReturn:
        """Raise that *element* is not one that may stand there."""
        self.refuse(
            element, f"unknown element {shown(element.name)} in <{within}>, wanted {wanted}"
        )

    def check_attributes(self, element: Element, known: Iterable[str]) -> None:
        """Return if *element* has no other attributes, or that does not matter."""
        known = tuple(known)
        for name in element.attributes:
            if name not in known and not self.lenient:
                wanted = f"wanted one of {', '.join(known)}" if known else "wanted none"
                self.refuse(
                    element, f"unknown attribute {shown(name)} of <{element.name}>, {wanted}"
                )

    def check_blank(self, element: Element) -> None:
        """Return if no text stands in *element*, or that does not matter."""
        if element.text.strip() and not self.lenient:
            self.refuse(element, f"text {shown(element.text.strip())} in <{element.name}>")

    def check_empty(self, element: Element) -> None:
        """Return if *element* has no children and no text, or that does not matter."""
        self.check_blank(element)
        if element.children and not self.lenient:
            self.unknown(element.children[0], element.name, "none")

    def required(self, element: Element, attribute: str) -> str:
        """Return what *attribute* of *element* says."""
        try:
            return element.attributes[attribute]
        except KeyError:
            self.refuse(element, f"<{element.name}> has no {attribute}")

    def one_of(self, element: Element, attribute: str, words: type[_Word]) -> _Word:
        """Return which of *words* *attribute* says."""
        text = self.required(element, attribute)
        try:
            return words(text)
        except ValueError:
            wanted = ", ".join(str(word.value) for word in words)
            self.refuse(element, f"{attribute}: {shown(text)} is unknown, wanted one of {wanted}")

    def filter_name(self, element: Element, attribute: str) -> str:
        """Return the name of a filter that *attribute* says."""
        name = self.required(element, attribute)
        with self.complaining(element, attribute):
            return check_filter_name(name) if self.lenient else check_schema_name(name)

    def priority(self, element: Element) -> int:
        """Return the priority that *element*, which has one, says."""
        text = element.attributes["priority"]
        found = _INTEGER.fullmatch(text)
        if not found or not MIN_PRIORITY <= int(found[1]) <= MAX_PRIORITY:
            self.refuse(
                element,
                f"priority: {shown(text)} is not an integer from {MIN_PRIORITY} to {MAX_PRIORITY}",
            )
        return int(found[1])
