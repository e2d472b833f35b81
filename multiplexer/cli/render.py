"""Results as text for people and as JSON for programs.

Each kind of result has a function that makes sections of a page of it.  Those for what
the daemon keeps stand in modules of their own.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from multiplexer.cli import filter_sections, network_sections, vif_sections
from multiplexer.cli.page import Facts, Lines, Page, Section, page_as_terminal_text, page_as_text
from multiplexer.cli.phrases import duration
from pfinet_proto import control
from pfinet_proto.jsonform import to_json
from pfinet_proto.trace import trace_text


def as_json(result: control.Result) -> str:
    """Return *result* as the protocol has it, indented."""
    return json.dumps(to_json(result), indent=2) + "\n"


def as_text(result: control.Result) -> str:
    """Return *result* in plain aligned columns."""
    return page_as_text(page_of(result))


def as_terminal_text(result: control.Result, width: int) -> str:
    """Return *result* for a terminal of *width* columns."""
    return page_as_terminal_text(page_of(result), width)


def page_of(result: control.Result) -> Page:
    """Return what people are told of *result*."""
    return Page(tuple(_SECTIONS[type(result)](result)))


def _status(status: control.StatusInfo) -> Iterable[Section]:
    refused = "refused by the kernel"
    if not status.passrights:
        refused = f"watched for, {status.shut_out} users shut out"
    yield Facts(
        (
            ("version", status.version),
            ("up for", duration(status.uptime_s)),
            ("configuration", status.config),
            ("kernel", status.kernel),
            ("clients' descriptors", refused),
            ("networks", str(status.networks)),
            ("uplinks", str(status.uplinks)),
            ("vifs", f"{status.vifs}, {status.attached} attached{_aside_count(status)}"),
            ("restarts", f"{status.control_restarts} of control, {status.engine_restarts} of all"),
            ("the host reaches", _reached(status)),
        )
    )


def _aside_count(status: control.StatusInfo) -> str:
    return f"; {status.set_aside} set aside" if status.set_aside else ""


def _reached(status: control.StatusInfo) -> str:
    if not status.host_networks:
        return "no vif, and none reaches it (see network show)"
    return f"the vifs of {', '.join(status.host_networks)}"


def _traces(result: control.Traces) -> Iterable[Section]:
    yield Lines(trace_text(result.traces))


def _reloaded(reloaded: control.Reloaded) -> Iterable[Section]:
    done = "changed" if reloaded.applied or reloaded.errors else "would change"
    said = (("errors", reloaded.errors), ("warnings", reloaded.warnings))
    yield Facts(
        (
            *((name, "\n".join(lines)) for name, lines in said if lines),
            (done, "\n".join(reloaded.changes) or "nothing"),
        )
    )


def _deleted(_: control.Deleted) -> Iterable[Section]:
    return ()


_SECTIONS: Final[Mapping[type[control.Result], Callable[[Any], Iterable[Section]]]] = (
    MappingProxyType(
        {
            control.StatusInfo: _status,
            control.Networks: network_sections.of_networks,
            control.NetworkInfo: network_sections.of_network,
            control.Uplinks: network_sections.of_uplinks,
            control.UplinkInfo: network_sections.of_uplink,
            control.Vifs: vif_sections.of_vifs,
            control.VifInfo: vif_sections.of_vif,
            control.Filters: filter_sections.of_filters,
            control.FilterInfo: filter_sections.of_filter,
            control.FilterText: filter_sections.of_filter_text,
            control.Sets: filter_sections.of_sets,
            control.SetInfo: filter_sections.of_set,
            control.SetMembers: filter_sections.of_set_members,
            control.Traces: _traces,
            control.Deleted: _deleted,
            control.Reloaded: _reloaded,
        }
    )
)
