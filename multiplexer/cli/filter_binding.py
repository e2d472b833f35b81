"""Which vif is bound to which filter: what `vif show` and `vif set` say and do of it, alone.

A binding is part of its vif, so there is one at most; another has to be deleted
before, or changed by `vif set`.
"""

import json as jsonlib
import sys
from collections.abc import Sequence
from typing import Any, Final

from multiplexer.cli.arguments import FILTER, VIF_NAME
from multiplexer.cli.client import Connect
from multiplexer.cli.exit_status import DONE
from multiplexer.cli.page import Column, Facts, Page, Table, page_as_text
from multiplexer.cli.phrases import assignments, lines, words
from multiplexer.cli.vif_arguments import PARAMETERS, grouped
from multiplexer.cli.vif_sections import learned_facts
from pfinet_proto import control
from pfinet_proto.jsonform import to_json
from pfinet_proto.values import VifName

CREATE: Final = (VIF_NAME, FILTER, *PARAMETERS)


def list_all(connect: Connect, json: bool) -> int:
    """Print the bindings of all vifs."""
    with connect() as client:
        vifs = client.ask(control.VifList()).vifs
    bound = [(vif.name, vif.filter) for vif in vifs if vif.filter is not None]
    columns = (Column("VIF"), Column("FILTER"), Column("PARAMETERS"))
    rows = tuple(
        (str(name), binding.name, words(assignments(binding.parameters)))
        for name, binding in bound
    )
    values = {"bindings": [_as_values(name, binding) for name, binding in bound]}
    _print(values if json else Page((Table(columns, rows, "no vif is bound to a filter"),)))
    return DONE


def show(connect: Connect, json: bool, name: VifName) -> int:
    """Print the binding of a vif.

    Raises:
        ValueError: if it has none.
    """
    with connect() as client:
        binding = _binding(client.ask(control.VifShow(name)))
    pairs = (
        ("vif", str(name)),
        ("filter", binding.name),
        ("parameters", lines(assignments(binding.parameters))),
        ("of the vif", lines(assignments(binding.supplied))),
        *learned_facts(binding),
    )
    _print(_as_values(name, binding) if json else Page((Facts(pairs),)))
    return DONE


def create(
    connect: Connect, json: bool, name: VifName, filter: str, param: Sequence[tuple[str, str]]
) -> int:
    """Bind a vif that is bound to no filter."""
    with connect() as client:
        parameters = grouped(param)
        client.ask(control.VifSet(name, filter=filter, parameters=parameters, if_filtered=False))
    return DONE


def delete(connect: Connect, json: bool, name: VifName) -> int:
    """Let a vif that is bound to a filter be bound to none."""
    with connect() as client:
        client.ask(control.VifSet(name, defaults=("filter",), if_filtered=True))
    return DONE


def _binding(vif: control.VifInfo) -> control.FilterBindingInfo:
    if vif.filter is None:
        raise ValueError(f"vif {vif.name} is bound to no filter")
    return vif.filter


def _as_values(name: VifName, binding: control.FilterBindingInfo) -> dict[str, Any]:
    return {"vif": str(name), "filter": to_json(binding)}


def _print(what: dict[str, Any] | Page) -> None:
    if isinstance(what, Page):
        sys.stdout.write(page_as_text(what))
    else:
        sys.stdout.write(jsonlib.dumps(what, indent=2) + "\n")
