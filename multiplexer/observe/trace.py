"""What the datapath would do with a frame, step by step, in words.

The engine judges the frame by the very code that moves frames, and says with
numbers and names what it came to; here those become sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from pfinet_proto import control

from ..model import Network, Vif
from ..policy.nwfilter.resolved import ResolvedRule
from .frames import describe, protocol_name

#: The steps of a frame's way, and the network headers, by their numbers in C.
STEPS: Final = ("frame", "ingress", "filter", "forward", "limit")
L3: Final = ("other", "arp", "ipv4", "ipv6")

#: Of the receivers of a flood, so many are named.
MAX_LISTED: Final = 16

PASS: Final = "pass"
DETACHED: Final = "detached"
FILTER_IN: Final = "filter_in"


@attrs.frozen
class Receiver:
    """A port that would get the frame; *up* says whether anybody is there.

    *passes* says whether its filter lets the frame in; one without lets in all.
    """

    port: int
    up: bool
    passes: bool = True


@attrs.frozen
class Traced:
    """What the datapath said of a frame.

    *step* is the last one that it came to, and *verdict* what that said.
    *bound* is the prefix of the vif's binding that the network header's source
    lies in.  *asks* is set for a group frame that asks for one address;
    *holder* is the port of that address, or of the destination's MAC.  Of the
    *n_receivers* that there are, *receivers* has the first MAX_LISTED.  *rules*
    is None for a vif without a filter; else it has, of the link and of the network
    layer, the position of the rule that decided, None where none did.
    """

    verdict: str
    step: str
    l3: str
    l4_proto: int | None
    l4_offset: int | None
    fragment: bool
    bound: str | None
    asks: bool
    holder: int | None
    receivers: tuple[Receiver, ...]
    n_receivers: int
    rules: tuple[int | None, int | None] | None = None

    @property
    def ports(self) -> frozenset[int]:
        """Every port that it names."""
        named = {receiver.port for receiver in self.receivers}
        return frozenset(named if self.holder is None else named | {self.holder})


@attrs.frozen
class PortName:
    """What a port is to whoever asks; *name* is None for a vif that is not theirs to see."""

    kind: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name is not None else f"another {self.kind}"


@attrs.frozen
class Scene:
    """Who sends: *vif* of *network*; *names* has each port that is named.

    *rules* are those of its filter, by their positions.
    """

    vif: Vif
    network: Network
    names: Mapping[int, PortName]
    rules: Sequence[ResolvedRule] = ()


def explain(
    traced: Traced, frame: bytes, scene: Scene, meanings: Mapping[str, str]
) -> control.Trace:
    """Return in words what *traced* says of *frame*; *meanings* is what each verdict says."""
    names = scene.names
    return control.Trace(
        describe(frame, traced.l4_proto, traced.l4_offset),
        traced.verdict,
        tuple(
            control.TraceStep(step, text)
            for step, text in _steps(traced, frame, scene, meanings[traced.verdict])
        ),
        tuple(
            control.TraceReceiver(
                names[receiver.port].kind,
                names[receiver.port].name,
                None if receiver.up and receiver.passes else _why_not(receiver),
            )
            for receiver in traced.receivers
        ),
        traced.n_receivers - len(traced.receivers),
    )


def _why_not(receiver: Receiver) -> str:
    return DETACHED if receiver.passes else FILTER_IN


def _steps(traced: Traced, frame: bytes, scene: Scene, meaning: str) -> Iterator[tuple[str, str]]:
    """Yield each step that the frame came to, and what was found there."""
    says = {
        "frame": lambda: _headers(traced),
        "ingress": lambda: _why_bound(traced, scene.vif),
        "filter": lambda: _rules(traced, scene.rules),
        "forward": lambda: _why_there(traced, frame, scene),
        "limit": lambda: _limits(scene),
    }
    because = {
        "frame": lambda: f"{len(frame)} bytes",
        "ingress": lambda: f"bound are {_binding(scene.vif)}",
        "filter": lambda: _rules(traced, scene.rules),
        "forward": lambda: f"network {scene.network.name} has no uplink to try",
        "limit": lambda: _limits(scene),
    }
    for step in STEPS[: STEPS.index(traced.step) + 1]:
        if step == "filter" and traced.rules is None:
            continue
        if step == traced.step and traced.verdict != PASS:
            yield step, f"drop: {traced.verdict}: {meaning}; {because[step]()}"
        else:
            yield step, f"pass: {says[step]()}"


def _headers(traced: Traced) -> str:
    found = {"other": "no network header that is looked into", "arp": "ARP"}
    parts = [found.get(traced.l3, traced.l3.replace("ipv", "IPv"))]
    if traced.fragment:
        parts.append("a fragment")
    if traced.l4_proto is not None:
        parts.append(f"{protocol_name(traced.l4_proto)} at byte {traced.l4_offset}")
    return ", ".join(parts)


def _why_bound(traced: Traced, vif: Vif) -> str:
    mac = f"source MAC {vif.mac} is bound"
    if traced.l3 == "other":
        return f"{mac}, and the EtherType is allowed"
    if traced.bound is None:
        return f"{mac}, and a source that says nothing is allowed here"
    return f"{mac}, and the source lies in bound {traced.bound}"


def _rules(traced: Traced, rules: Sequence[ResolvedRule]) -> str:
    assert traced.rules is not None
    layers = zip(("link", "network"), traced.rules, strict=True)
    by = [
        f"{_rule(position, rules)} of the {layer} layer"
        for layer, position in layers
        if position is not None
    ]
    return f"decided by {' and '.join(by)}" if by else "no rule of the filter decides"


def _rule(position: int, rules: Sequence[ResolvedRule]) -> str:
    # A filter that has changed since the frame was judged may have fewer.
    if position >= len(rules):
        return f"rule {position}"
    rule = rules[position]
    what = f"{rule.action.value} {rule.direction.value}"
    return f"{what} in line {rule.rule.position.line} of filter {rule.filter!r}"


def _binding(vif: Vif) -> str:
    return ", ".join(map(str, (vif.mac, *vif.addresses, *vif.prefixes)))


def _why_there(traced: Traced, frame: bytes, scene: Scene) -> str:
    network, names = scene.network, scene.names
    if not traced.receivers:
        return f"to all of network {network.name}, but nobody else is there"
    holder = None if traced.holder is None else names[traced.holder]
    if len(traced.receivers) == 1:
        only = names[traced.receivers[0].port]
        if traced.asks and holder == only:
            return f"to {only} alone, which holds the address that is asked for"
        if traced.asks and only.kind == "uplink":
            return f"to {only} alone, since no vif holds the address that is asked for"
        if not frame[0] & 1 and holder == only:
            return f"to {only}, which holds the destination MAC"
        if not frame[0] & 1 and only.kind == "uplink":
            return f"to {only}, since no vif holds the destination MAC"
    return f"to all of network {network.name}, {traced.n_receivers} of them"


def _limits(scene: Scene) -> str:
    limits = attrs.asdict(scene.vif.limits.over(scene.network.limits))
    set_ones = ", ".join(f"{name} {rate}" for name, rate in limits.items() if rate)
    return f"limits are {set_ones}" if set_ones else "there are no limits"
