"""What the datapath said of a frame becomes sentences, one for each step."""

from ipaddress import ip_interface, ip_network
from typing import cast

import attrs
import pytest

from multiplexer.model import Limits, Mode, Network, OwnLimits, Vif
from multiplexer.observe.trace import PortName, Receiver, Scene, Traced, explain
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import resolve
from pfinet_proto.control import Trace, TraceReceiver, TraceStep
from pfinet_proto.values import MacAddress, VifName

MAC = MacAddress.parse("52:54:00:00:00:01")
LAN = Network(
    "lan", Mode.SWITCH, "wire", (ip_network("10.0.1.0/24"),), limits=Limits(bytes_per_s=9)
)
VIF = Vif(
    "0" * 32,
    VifName("alice"),
    1000,
    "alice",
    "lan",
    MAC,
    (ip_interface("10.0.1.5/24"),),
    limits=OwnLimits(frames_per_s=7),
)
BOB, UPLINK, HIDDEN = 65, 0, 66
NAMES = {
    BOB: PortName("vif", "bob"),
    UPLINK: PortName("uplink", "wire"),
    HIDDEN: PortName("vif", None),
}
SCENE = Scene(VIF, LAN, NAMES)
MEANINGS = {
    "pass": "passed",
    "runt": "shorter than an Ethernet header",
    "ipv4_src": "IPv4 source is not bound",
    "filter_out": "the vif's filter does not let it out",
    "no_receiver": "nobody here holds the destination",
    "rate_limit": "over the vif's frames or bytes a second",
}
UNICAST = bytes.fromhex("525400000002525400000001") + b"\x08\x00" + bytes(40)
GROUP = b"\xff" * 6 + UNICAST[6:]
LIMITS = "limits are frames_per_s 7, bytes_per_s 9, broadcast_per_s 500, copies_per_s 50000"


def traced(**changes: object) -> Traced:
    """Return what is said of a UDP packet to bob that passed, but for *changes*."""
    passed = Traced(
        verdict="pass",
        step="limit",
        l3="ipv4",
        l4_proto=17,
        l4_offset=34,
        fragment=False,
        bound="10.0.1.5/32",
        asks=False,
        holder=BOB,
        receivers=(Receiver(BOB, True),),
        n_receivers=1,
    )
    if "receivers" in changes and "n_receivers" not in changes:
        changes["n_receivers"] = len(cast(tuple[Receiver, ...], changes["receivers"]))
    return attrs.evolve(passed, **changes)  # type: ignore[arg-type]


def test_of_many_receivers_those_that_are_not_listed_are_counted() -> None:
    what = traced(holder=None, n_receivers=700)

    trace = explain(what, GROUP, SCENE, MEANINGS)

    assert trace.more == 699
    assert trace.steps[2].text == "pass: to all of network lan, 700 of them"


def steps_of(what: Traced, frame: bytes = UNICAST) -> list[tuple[str, str]]:
    trace = explain(what, frame, SCENE, MEANINGS)
    return [(step.step, step.text) for step in trace.steps]


def test_a_frame_that_passes_is_told_with_every_step_and_receiver() -> None:
    assert explain(traced(), UNICAST, SCENE, MEANINGS) == Trace(
        "54 bytes, 52:54:00:00:00:01 to 52:54:00:00:00:02, IPv4 0.0.0.0 to 0.0.0.0,"
        " UDP port 0 to 0",
        "pass",
        (
            TraceStep("frame", "pass: IPv4, UDP at byte 34"),
            TraceStep(
                "ingress",
                "pass: source MAC 52:54:00:00:00:01 is bound,"
                " and the source lies in bound 10.0.1.5/32",
            ),
            TraceStep("forward", "pass: to vif bob, which holds the destination MAC"),
            TraceStep("limit", f"pass: {LIMITS}"),
        ),
        (TraceReceiver("vif", "bob", None),),
    )


def test_a_receiver_that_is_not_there_drops_it() -> None:
    trace = explain(traced(receivers=(Receiver(BOB, False),)), UNICAST, SCENE, MEANINGS)

    assert trace.receivers == (TraceReceiver("vif", "bob", "detached"),)


def test_a_receiver_whose_filter_drops_it_does_not_get_it() -> None:
    trace = explain(
        traced(receivers=(Receiver(BOB, True, passes=False),)), UNICAST, SCENE, MEANINGS
    )

    assert trace.receivers == (TraceReceiver("vif", "bob", "filter_in"),)


def test_a_rule_that_decided_is_told_with_its_filter_and_line() -> None:
    filter_ = parse_untrusted(
        b"<filter name='web'>\n<rule action='drop' direction='in'/>\n"
        b"<rule action='reject' direction='out'><tcp/></rule></filter>"
    )
    scene = attrs.evolve(SCENE, rules=resolve("web", {"web": filter_}))
    told = explain(traced(rules=(0, 1)), UNICAST, scene, MEANINGS).steps[2]

    assert told == TraceStep(
        "filter",
        "pass: decided by drop in in line 2 of filter 'web' of the link layer"
        " and reject out in line 3 of filter 'web' of the network layer",
    )


def test_a_filter_is_told_with_the_numbers_of_rules_that_are_there_no_more() -> None:
    passed = steps_of(traced(rules=(7, None)))
    silent = steps_of(traced(rules=(None, None)))
    dropped = steps_of(traced(verdict="filter_out", step="filter", rules=(1, 2), receivers=()))

    assert passed[2] == ("filter", "pass: decided by rule 7 of the link layer")
    assert silent[2] == ("filter", "pass: no rule of the filter decides")
    assert dropped[2:] == [
        (
            "filter",
            "drop: filter_out: the vif's filter does not let it out;"
            " decided by rule 1 of the link layer and rule 2 of the network layer",
        )
    ]


def test_a_vif_that_the_caller_may_not_see_has_no_name() -> None:
    what = traced(holder=HIDDEN, receivers=(Receiver(HIDDEN, True),))

    trace = explain(what, UNICAST, SCENE, MEANINGS)

    assert trace.receivers == (TraceReceiver("vif", None, None),)
    assert "to another vif, which holds" in trace.steps[2].text


@pytest.mark.parametrize(
    ("verdict", "step", "text"),
    [
        ("runt", "frame", "drop: runt: shorter than an Ethernet header; 54 bytes"),
        (
            "ipv4_src",
            "ingress",
            "drop: ipv4_src: IPv4 source is not bound; bound are 52:54:00:00:00:01, 10.0.1.5/24",
        ),
        (
            "no_receiver",
            "forward",
            "drop: no_receiver: nobody here holds the destination;"
            " network lan has no uplink to try",
        ),
        (
            "rate_limit",
            "limit",
            f"drop: rate_limit: over the vif's frames or bytes a second; {LIMITS}",
        ),
    ],
)
def test_a_drop_is_the_last_step_and_says_what_was_wanted(
    verdict: str, step: str, text: str
) -> None:
    steps = steps_of(traced(verdict=verdict, step=step, receivers=()))

    assert steps[-1] == (step, text)
    assert all(said.startswith("pass: ") for _, said in steps[:-1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"asks": True, "holder": BOB},
            "pass: to vif bob alone, which holds the address that is asked for",
        ),
        (
            {"asks": True, "holder": None, "receivers": (Receiver(UPLINK, True),)},
            "pass: to uplink wire alone, since no vif holds the address that is asked for",
        ),
        (
            {"holder": None, "receivers": (Receiver(BOB, True), Receiver(UPLINK, True))},
            "pass: to all of network lan, 2 of them",
        ),
        ({"holder": None}, "pass: to all of network lan, 1 of them"),
        (
            {"holder": None, "receivers": ()},
            "pass: to all of network lan, but nobody else is there",
        ),
    ],
)
def test_a_group_frame_is_told_with_why_it_goes_there(
    changes: dict[str, object], text: str
) -> None:
    assert dict(steps_of(traced(**changes), GROUP))["forward"] == text


def test_a_frame_to_the_wire_says_that_no_vif_holds_its_destination() -> None:
    what = traced(holder=None, receivers=(Receiver(UPLINK, True),))

    assert dict(steps_of(what))["forward"] == (
        "pass: to uplink wire, since no vif holds the destination MAC"
    )


@pytest.mark.parametrize(
    ("changes", "frame", "ingress"),
    [
        (
            {"l3": "arp", "l4_proto": None, "l4_offset": None, "bound": None},
            "pass: ARP",
            "pass: source MAC 52:54:00:00:00:01 is bound,"
            " and a source that says nothing is allowed here",
        ),
        (
            {"l3": "other", "l4_proto": None, "l4_offset": None, "bound": None},
            "pass: no network header that is looked into",
            "pass: source MAC 52:54:00:00:00:01 is bound, and the EtherType is allowed",
        ),
        (
            {"l3": "ipv6", "fragment": True, "l4_proto": None, "l4_offset": None},
            "pass: IPv6, a fragment",
            "pass: source MAC 52:54:00:00:00:01 is bound,"
            " and the source lies in bound 10.0.1.5/32",
        ),
    ],
)
def test_each_kind_of_header_is_told(changes: dict[str, object], frame: str, ingress: str) -> None:
    steps = dict(steps_of(traced(**changes)))

    assert (steps["frame"], steps["ingress"]) == (frame, ingress)
