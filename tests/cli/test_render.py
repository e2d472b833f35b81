"""What people and programs are shown of each result."""

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import attrs
import pytest

from multiplexer.cli.command import Command
from multiplexer.cli.commands import COMMANDS
from multiplexer.cli.render import as_json, as_terminal_text, as_text
from pfinet_proto.control import (
    OPERATIONS,
    AsideInfo,
    Conflict,
    Counters,
    Deleted,
    FilterInfo,
    Filters,
    FilterText,
    Holder,
    HostPortInfo,
    LimitsInfo,
    NetworkInfo,
    Networks,
    Reloaded,
    Result,
    SetInfo,
    SetMembers,
    Sets,
    StatusInfo,
    Trace,
    Traces,
    TraceStep,
    UplinkInfo,
    Uplinks,
    VifInfo,
    Vifs,
)
from pfinet_proto.jsonform import to_json
from pfinet_proto.values import MacAddress, Text, VifName

VIF = VifInfo(
    name=VifName.parse("one"),
    id="0123456789abcdef0123456789abcdef",
    owner_uid=20001,
    owner_name="alice",
    network="lan",
    mac=MacAddress.parse("52:54:00:00:00:01"),
    addresses=(ip_interface("10.77.0.11/24"), ip_interface("fd77::11/64")),
    prefixes=(ip_network("fd77:0:0:5::/64"),),
    source="dynamic",
    attached=Holder(20001, 4711, "stream", 7, 7385),
    counters=Counters(1, 60, 2, 120, {"src_mac": 3, "arp_sender": 40}),
    conflicts=(Conflict(MacAddress.parse("02:00:00:00:00:66"), ip_address("fd77::11"), 5),),
)
QUIET = attrs.evolve(
    VIF,
    name=VifName.parse("two"),
    owner_name=None,
    addresses=(),
    prefixes=(),
    source="static",
    attached=None,
    counters=Counters(0, 0, 0, 0, {}),
    conflicts=(),
)
LAN = NetworkInfo(
    name="lan",
    mode="switch",
    uplink="wire",
    uplink_port=True,
    prefixes=(ip_network("10.77.0.0/24"), ip_network("fd77::/64")),
    gateways=(ip_address("10.77.0.1"),),
    mtu=1500,
    dns=(),
    search=("example.org",),
    reserved=("10.77.0.200-10.77.0.254",),
    autoconf=True,
    limits=LimitsInfo(0, 0, 500, 50000),
    vifs=2,
)
REACHED = attrs.evolve(
    LAN,
    host=HostPortInfo(
        interface="mx-lan",
        mac=MacAddress.parse("52:54:00:00:00:99"),
        present=True,
        up=True,
        addresses=(ip_address("10.77.0.2"), ip_address("fd77::2")),
        error=None,
        counters=Counters(7, 700, 5, 500, {"no_receiver": 1}),
        conflicts=(Conflict(MacAddress.parse("02:00:00:00:00:66"), ip_address("10.77.0.2"), 5),),
    ),
)
WIRE = UplinkInfo(
    name="wire",
    kind="nic",
    interface="nic0",
    present=True,
    up=True,
    mac=MacAddress.parse("02:00:00:00:00:07"),
    mtu=1500,
    external=(ip_network("10.77.0.0/24"),),
    networks=("lan",),
    counters=Counters(5, 300, 6, 360, {}),
)
STATUS = StatusInfo("0.1.0", 90061, "/etc/multiplexer.toml", "6.18.0", True, 0, 1, 1, 2, 1)

FILTER = FilterInfo("web", "6ef53069-ba34-94a0-d33d-17751b9b8cb1", "ipv4", -700, False, 2)
STOCK = FilterInfo("allow-arp", "11111111-2222-4333-8444-555555555555", "arp", -500, True, 0)

TRACES = Traces(
    VIF.name,
    (Trace("60 bytes", "src_mac", (TraceStep("ingress", "drop: src_mac"),), ()),),
)

RESULTS: tuple[Result, ...] = (
    STATUS,
    Networks((LAN,)),
    LAN,
    REACHED,
    Uplinks((WIRE,)),
    WIRE,
    Vifs((VIF, QUIET)),
    VIF,
    TRACES,
    Filters((FILTER, STOCK)),
    FILTER,
    FilterText("web", FILTER.uuid, False, Text("<filter name='web'/>\n")),
    Sets((SetInfo("bad", 2),)),
    SetInfo("bad", 2),
    SetMembers("bad", ("10.0.0.1", "fd00::/64")),
    Deleted(),
    Reloaded(False, ("vif.web: added",), ("a warning",), ("an error",)),
)


def test_a_vif_is_told_with_all_that_its_owner_asks_about() -> None:
    assert as_text(VIF) == (
        "vif             one\n"
        "id              0123456789abcdef0123456789abcdef\n"
        "owner           alice, uid 20001\n"
        "network         lan\n"
        "MAC             52:54:00:00:00:01\n"
        "addresses       10.77.0.11/24\n"
        "                fd77::11/64\n"
        "prefixes        fd77:0:0:5::/64\n"
        "made            by an administrator\n"
        "held by         uid 20001, pid 4711, for 2 h 3 min, by stream, offload csum tso4 tso6\n"
        "from its stack  1 frames, 60 bytes\n"
        "to its stack    2 frames, 120 bytes\n"
        "\n"
        "DROPPED FOR  FRAMES\n"
        "arp_sender       40\n"
        "src_mac           3\n"
        "\n"
        "FOREIGN MAC        CLAIMED   TIMES\n"
        "02:00:00:00:00:66  fd77::11      5\n"
    )


def test_filters_are_listed_as_virsh_does_and_with_what_they_are() -> None:
    assert as_text(Filters((STOCK, FILTER))) == (
        "UUID                                  FILTER     CHAIN  PRIORITY  MADE   VIFS\n"
        "11111111-2222-4333-8444-555555555555  allow-arp  arp        -500  stock     0\n"
        "6ef53069-ba34-94a0-d33d-17751b9b8cb1  web        ipv4       -700  own       2\n"
    )


def test_a_set_is_told_with_its_members() -> None:
    assert as_text(SetMembers("bad", ("10.0.0.1", "fd00::/64"))) == (
        "set      bad\nmembers  10.0.0.1\n         fd00::/64\n"
    )


def test_a_filters_text_is_printed_as_it_is() -> None:
    text = Text("<filter name='web'>\n</filter>\n")

    assert as_text(FilterText("web", FILTER.uuid, False, text)) == text


def test_a_host_in_the_network_is_told_with_all_that_passed_and_did_not() -> None:
    assert as_text(REACHED).endswith(
        "host              up\n"
        "host's interface  mx-lan, MAC 52:54:00:00:00:99\n"
        "host's addresses  10.77.0.2\n"
        "                  fd77::2\n"
        "from the host     7 frames, 700 bytes\n"
        "to the host       5 frames, 500 bytes\n"
        "\n"
        "DROPPED FOR  FRAMES\n"
        "no_receiver       1\n"
        "\n"
        "FOREIGN MAC        CLAIMED    TIMES\n"
        "02:00:00:00:00:66  10.77.0.2      5\n"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"present": False}, "missing"),
        ({"up": False}, "down"),
        ({"addresses": ()}, "has no address in this network, so it reaches no vif"),
        ({"error": "route to 10.77.0.5/32: File exists"}, "route to 10.77.0.5/32: File exists"),
    ],
)
def test_what_is_wrong_with_the_hosts_port_is_told(change: dict[str, Any], told: str) -> None:
    assert REACHED.host is not None
    shown = as_text(attrs.evolve(REACHED, host=attrs.evolve(REACHED.host, **change)))

    assert f"host              {told}\n" in shown


def test_a_host_that_reaches_no_vif_is_told_so() -> None:
    assert "reaches no vif, and none reaches it (host = false)\n" in as_text(LAN)
    assert "no vif, and none reaches it (see network show)\n" in as_text(STATUS)
    reached = attrs.evolve(STATUS, host_networks=("lan", "lab"))
    assert "the vifs of lan, lab\n" in as_text(reached)


def test_vifs_are_a_table() -> None:
    bound = "10.77.0.11/24 fd77::11/64 fd77:0:0:5::/64"

    assert as_text(Vifs((VIF, QUIET))).splitlines() == [
        f"VIF  OWNER  NETWORK  MAC                {'BOUND':41}  HOLDER    DROPS  CONFLICTS",
        f"one  alice  lan      52:54:00:00:00:01  {bound}  pid 4711     43          1",
        f"two  20001  lan      52:54:00:00:00:01  {'-':41}  -             0          0",
    ]


def test_an_address_that_the_host_has_too_is_told_with_its_vif() -> None:
    torn = attrs.evolve(QUIET, host_conflicts=(ip_address("10.77.0.5"),))

    assert "the host has    10.77.0.5\n" in as_text(torn)
    assert as_text(Vifs((torn,))).splitlines()[1].endswith("  1")


def test_vifs_that_are_set_aside_are_listed_below_with_why() -> None:
    aside = AsideInfo(VifName("old"), 1001, "alice", "lab", (), (), "no network is named 'lab'")

    assert as_text(Vifs((), (aside,))).splitlines() == [
        "no vifs",
        "",
        "SET ASIDE  OWNER  NETWORK  BOUND  WHY",
        "old        alice  lab      -      no network is named 'lab'",
    ]


@pytest.mark.parametrize(
    ("uplink", "state"),
    [
        (WIRE, "up"),
        (attrs.evolve(WIRE, up=False), "down"),
        (attrs.evolve(WIRE, present=False, up=False), "missing"),
        (attrs.evolve(WIRE, error="nic0 is a bridge port"), "nic0 is a bridge port"),
        (attrs.evolve(WIRE, interface=None, kind="none"), "-"),
    ],
)
def test_the_state_of_an_uplink_is_one_word_or_the_error(uplink: UplinkInfo, state: str) -> None:
    lines = as_text(uplink).splitlines()

    assert f"state          {state}" in lines


def test_a_network_that_is_not_on_the_wire_says_so() -> None:
    assert "wire (not joined)" in as_text(attrs.evolve(LAN, uplink_port=False))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Vifs(()), "no vifs\n"),
        (Networks(()), "no networks\n"),
        (Uplinks(()), "no uplinks\n"),
        (Deleted(), ""),
    ],
)
def test_nothing_is_said_in_words(result: Result, text: str) -> None:
    assert as_text(result) == text
    assert as_terminal_text(result, 80) == text


@pytest.mark.parametrize(
    ("reloaded", "text"),
    [
        (Reloaded(applied=True), "changed  nothing\n"),
        (
            Reloaded(True, ("network.lan.mtu: 1500 -> 9000", "vif.web: added"), ("vif b is out",)),
            "warnings  vif b is out\n"
            "changed   network.lan.mtu: 1500 -> 9000\n"
            "          vif.web: added\n",
        ),
        (Reloaded(False, ("vif.web: added",)), "would change  vif.web: added\n"),
        (
            Reloaded(False, errors=("m.toml:1: a", "m.toml:2: b")),
            "errors   m.toml:1: a\n         m.toml:2: b\nchanged  nothing\n",
        ),
    ],
)
def test_a_reload_says_what_changed_or_would_or_why_nothing_did(
    reloaded: Reloaded, text: str
) -> None:
    assert as_text(reloaded) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3661, "1 h 1 min"), (90061, "1 d 1 h")],
)
def test_times_have_two_units(seconds: int, text: str) -> None:
    assert f"up for                {text}\n" in as_text(attrs.evolve(STATUS, uptime_s=seconds))


@pytest.mark.parametrize("result", RESULTS, ids=[type(result).__name__ for result in RESULTS])
def test_json_is_what_the_protocol_has(result: Result) -> None:
    told = json.loads(as_json(result))

    assert set(told) == set(to_json(result))


def test_every_result_is_shown() -> None:
    shown = {type(result) for result in RESULTS}
    asked = {
        {"trace": "vif.trace", "set.add": "set.change", "set.remove": "set.change"}.get(name, name)
        for name in (".".join(each.words) for each in COMMANDS if isinstance(each, Command))
    }

    assert {OPERATIONS[name].result for name in asked} == shown
    assert set(OPERATIONS) - asked == {"vif.borrow", "vif.locate"}


@pytest.mark.parametrize("result", RESULTS, ids=[type(result).__name__ for result in RESULTS])
def test_a_terminal_shows_every_word_of_the_plain_text(result: Result) -> None:
    styled = as_terminal_text(result, 200)

    assert all(word in styled for word in as_text(result).split())


def test_a_terminal_is_not_written_beyond_its_width() -> None:
    lines = as_terminal_text(Vifs((VIF,)), 60).splitlines()

    assert max(len(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) for line in lines) <= 60


def test_names_in_brackets_are_no_markup() -> None:
    told = as_terminal_text(attrs.evolve(STATUS, config="/etc/[bold]x.toml"), 80)

    assert "/etc/[bold]x.toml" in told
