"""From a text to the filter that it says.

As it is, the reader is strict: an element, attribute, protocol or value that
the language does not have is refused where it stands, because a rule whose
typo is passed over matches more than its author meant.  When lenient, it takes
what libvirt takes, for what libvirt takes it: unknown names and children are
passed over, an unknown protocol is an empty body, an odd word for a switch is
its other position, and a rule's priority out of range is 500.
"""

import re
from typing import Final

from .elements import Element, read_elements_untrusted
from .names import (
    ROOT,
    check_chain,
    check_parameter_name,
    check_parameter_value,
    default_chain_priority,
)
from .parse_rule import read_rule
from .reader import Reader
from .syntax import Filter, Parameter, Reference, Rule
from .values import shown

#: Rules and references of one filter: not more than the datapath takes of rules.
MAX_ENTRIES: Final = 65536

_UUID: Final = re.compile(
    r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})"
)


def parse_untrusted(document: bytes, source: str = "filter", lenient: bool = False) -> Filter:
    """Return the filter that *document* is; *source* is what errors call it.

    Raises:
        FilterError: if it is none; says where, what was found and what was wanted.
    """
    reader = Reader(source, lenient)
    elements = read_elements_untrusted(document, source)
    # Without a root it would be no XML.
    root = next(elements)
    if root.name != "filter":
        reader.refuse(root, f"root element is {shown(root.name)}, wanted 'filter'")
    reader.check_attributes(root, ("name", "chain", "priority"))
    name = reader.filter_name(root, "name")
    chain, priority = _read_chain(reader, root)
    uuid: str | None = None
    entries: list[Rule | Reference] = []
    for element in elements:
        if element.name == "rule":
            entries.append(read_rule(reader, element))
        elif element.name == "filterref":
            entries.append(_read_reference(reader, element))
        elif element.name == "uuid":
            if uuid is not None and not lenient:
                reader.refuse(element, "second <uuid>, wanted one at most")
            uuid = uuid or _read_uuid(reader, element)
        elif not lenient:
            reader.unknown(element, "filter", "one of rule, filterref, uuid")
        if len(entries) > MAX_ENTRIES:
            reader.refuse(element, f"more than {MAX_ENTRIES} rules and references")
    # Only now is all of its text there.
    reader.check_blank(root)
    return Filter(name, chain, priority, uuid, tuple(entries))


def _read_chain(reader: Reader, root: Element) -> tuple[str, int]:
    """Return the chain and its priority, which without a chain is given in vain."""
    chain = root.attributes.get("chain")
    if reader.lenient and chain == "":
        chain = None
    with reader.complaining(root, "chain"):
        name = check_chain(ROOT if chain is None else chain)
    given = reader.priority(root) if root.attributes.get("priority") else None
    if chain is None or given is None:
        return name, default_chain_priority(name)
    return name, given


def _read_uuid(reader: Reader, element: Element) -> str | None:
    reader.check_attributes(element, ())
    if reader.lenient and not element.text.strip():
        return None
    found = _UUID.fullmatch(element.text.strip().lower())
    if not found:
        reader.refuse(element, f"{shown(element.text)} is not a uuid")
    return "-".join(found.groups())


def _read_reference(reader: Reader, element: Element) -> Reference:
    reader.check_attributes(element, ("filter",))
    reader.check_blank(element)
    name = reader.filter_name(element, "filter")
    values: dict[str, list[str]] = {}
    for child in element.children:
        parameter = _read_parameter(reader, child)
        if parameter is not None:
            values.setdefault(parameter[0], []).append(parameter[1])
    parameters = tuple(Parameter(each, tuple(values[each])) for each in sorted(values))
    return Reference(name, parameters, element.position)


def _read_parameter(reader: Reader, element: Element) -> tuple[str, str] | None:
    """Return name and value; None for what libvirt passes over."""
    if element.name != "parameter":
        if not reader.lenient:
            reader.unknown(element, "filterref", "parameter")
        return None
    reader.check_attributes(element, ("name", "value"))
    reader.check_empty(element)
    if reader.lenient and not {"name", "value"} <= element.attributes.keys():
        return None
    name, value = reader.required(element, "name"), reader.required(element, "value")
    try:
        return check_parameter_name(name), check_parameter_value(value)
    except ValueError as error:
        if not reader.lenient:
            reader.refuse(element, str(error))
    return None
