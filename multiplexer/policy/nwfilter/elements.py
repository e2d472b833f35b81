"""XML from anybody, as elements that know their line and column.

defusedxml's parser refuses document types, and with them entities; what is too
long, too deep or too much at once is refused here.  A document is never held
as a tree: each child of the root is handed out when it is whole, and a reader
that has seen enough reads no further.  So time is linear in what is read, and
memory in what one child holds.  It is UTF-8, as whoever hands it over has seen, whatever
encoding it says itself.
"""

from collections.abc import Iterator, Mapping
from typing import Final
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl, Locator

import attrs
from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import create_parser

from .errors import FilterError
from .syntax import Position

#: What is kept, and shown again, is no longer either.
MAX_DOCUMENT_LEN: Final = 4 << 20
#: Elements within one child of the root.
MAX_ELEMENTS: Final = 10_000
#: As libxml2.
MAX_DEPTH: Final = 256
MAX_TEXT: Final = 1000

#: Few, since what a token needs is looked at again from its begin with each of them.
_CHUNK_LEN: Final = 1 << 20


@attrs.define(eq=False)
class Element:
    """An element; *text* is what stands directly in it, cut at MAX_TEXT characters."""

    name: str
    attributes: Mapping[str, str]
    position: Position
    children: list["Element"] = attrs.Factory(list)
    text: str = ""


def read_elements_untrusted(document: bytes, source: str) -> Iterator[Element]:
    """Yield the root of *document*, without children, then each of these when it is whole.

    Raises:
        FilterError: if *document* is no XML, or one of a kind that is refused.
    """
    if len(document) > MAX_DOCUMENT_LEN:
        raise FilterError(
            source,
            Position(1, 1),
            f"document is {len(document)} bytes, wanted at most {MAX_DOCUMENT_LEN}",
        )
    parser = create_parser(forbid_dtd=True)
    handler = _Handler(source, parser)
    parser.setContentHandler(handler)
    # Of text the parser knows that it is UTF-8, whatever the document says.
    parser.feed("")
    # The last, empty piece ends the document.
    for start in range(0, len(document) + _CHUNK_LEN, _CHUNK_LEN):
        piece = document[start : start + _CHUNK_LEN]
        try:
            parser.feed(piece, isFinal=start >= len(document))
        except SAXParseException as error:
            where = Position(error.getLineNumber() or 1, (error.getColumnNumber() or 0) + 1)
            raise FilterError(source, where, f"not XML: {error.getMessage()}") from None
        except DefusedXmlException:
            raise FilterError(
                source, handler.position(), "a document type or entity is refused"
            ) from None
        yield from handler.take()


class _Handler(ContentHandler):
    """Collects what is whole; what is not yet is on the stack."""

    def __init__(self, source: str, locator: Locator) -> None:
        super().__init__()
        self._source = source
        self._where = locator
        self._stack: list[Element] = []
        self._n_within = 0
        self._whole: list[Element] = []

    def take(self) -> list[Element]:
        """Return what has become whole since the last time."""
        whole, self._whole = self._whole, []
        return whole

    def position(self) -> Position:
        """Return where the parser is, which counts columns from 0."""
        line, column = self._where.getLineNumber(), self._where.getColumnNumber()
        return Position(line or 1, (column or 0) + 1)

    def startElement(self, name: str, attributes: AttributesImpl) -> None:
        element = Element(name, dict(attributes.items()), self.position())
        if not self._stack:
            self._whole.append(element)
        elif len(self._stack) == 1:
            self._n_within = 0
        else:
            self._n_within += 1
            self._stack[-1].children.append(element)
        if self._n_within > MAX_ELEMENTS:
            why = f"more than {MAX_ELEMENTS} elements in one child of the root"
            raise FilterError(self._source, element.position, why)
        if len(self._stack) >= MAX_DEPTH:
            why = f"more than {MAX_DEPTH} elements one in another"
            raise FilterError(self._source, element.position, why)
        self._stack.append(element)

    def endElement(self, name: str) -> None:
        element = self._stack.pop()
        if len(self._stack) == 1:
            self._whole.append(element)

    def characters(self, content: str) -> None:
        inner = self._stack[-1]
        # The root's would grow with the document, and only whether it is blank matters.
        text = inner.text + content if inner.text or not content.isspace() else ""
        inner.text = text[:MAX_TEXT]
