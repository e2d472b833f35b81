"""From flat rules to the datapath's lists: order, chains, copies, states, conditions."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from multiplexer.policy.nwfilter.compile import compile_filter
from multiplexer.policy.nwfilter.errors import BindError
from multiplexer.policy.nwfilter.names import default_chain_priority
from multiplexer.policy.nwfilter.resolved import Match, ResolvedRule
from multiplexer.policy.nwfilter.syntax import Action, Direction, Position, Rule
from multiplexer.policy.nwfilter.tables import (
    MAX_COUNTS,
    Between,
    Count,
    Field,
    Flow,
    InSet,
    Masked,
    Number,
    Pair,
    Row,
    Table,
    TableFull,
    Verb,
    ct_bits,
    pack,
)
from multiplexer.policy.nwfilter.values import Side, State, TcpFlag, TcpFlags
from pfinet_proto.values import MacAddress

MAC = MacAddress.parse("52:54:00:12:34:56")
ONES = b"\xff" * 6
BEGINS = ct_bits((Flow.NEW, Flow.ESTABLISHED), reply=False)
ANSWERS = ct_bits((Flow.ESTABLISHED,), original=False)


def rule(
    words: str,
    *,
    chain: str = "root",
    chain_priority: int | None = None,
    priority: int = 500,
    statematch: bool = True,
    position: int = 0,
    **matches: Any,
) -> ResolvedRule:
    """Return a rule such as "drop in tcp"; a name that ends in _ is a negated match."""
    action, direction, *protocol = words.split()
    return ResolvedRule(
        "f",
        chain,
        default_chain_priority(chain) if chain_priority is None else chain_priority,
        Rule(
            Action(action),
            Direction(direction),
            protocol[0] if protocol else None,
            priority=priority,
            statematch=statematch,
            position=Position(7, 3),
        ),
        tuple(
            Match(name.rstrip("_").replace("__", "-"), value, name.endswith("_"))
            for name, value in matches.items()
        ),
        position,
    )


def compiled(*rules: ResolvedRule) -> Table:
    """Return the table of rules, which are given their positions here."""
    placed = [
        ResolvedRule(
            each.filter, each.chain, each.chain_priority, each.rule, each.matches, position
        )
        for position, each in enumerate(rules)
    ]
    sets = {
        "few": (IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/64"), IPv4Network("10.0.0.7/32"))
    }
    return compile_filter(placed, sets)


def origins(rows: tuple[Row, ...]) -> list[int | str]:
    """Return where rows come from, and of jumps that they are."""
    return ["jump" if row.verb is Verb.JUMP else row.origin for row in rows]


def test_rules_of_the_root_stand_by_priority_and_then_as_written() -> None:
    table = compiled(
        rule("drop out"), rule("accept out", priority=100), rule("return inout"), rule("drop in")
    )

    assert origins(table.l2_out) == [1, 0, 2]
    assert origins(table.l2_in) == [2, 3]


def test_a_jump_stands_by_its_chain_priority_and_before_a_rule_of_the_same() -> None:
    table = compiled(
        rule("drop out", priority=-701),
        rule("drop out", priority=-700),
        rule("accept out ip", chain="ipv4"),
        rule("accept in arp", chain="arp"),
    )

    assert origins(table.l2_out) == [0, "jump", 1]
    assert table.l2_out[1].conditions == (Number(Field.ETH_TYPE, 0x800, 0x800),)
    assert [(chain.name, origins(chain.rows)) for chain in table.chains] == [
        ("ipv4", [2]),
        ("arp", [3]),
    ]
    assert [row.chain for row in (*table.l2_out, *table.l2_in) if row.verb is Verb.JUMP] == [0, 1]


def test_the_last_rule_of_a_chain_in_order_says_the_chain_priority() -> None:
    table = compiled(
        rule("drop out", chain="macx", chain_priority=10, priority=600),
        rule("drop out", chain="macx", chain_priority=-10, priority=400),
        rule("accept out", priority=0),
    )

    assert origins(table.l2_out) == [2, "jump"]
    assert origins(table.chains[0].rows) == [1, 0]
    assert table.l2_out[1].conditions == ()


def test_chains_of_equal_priority_stand_in_document_order() -> None:
    table = compiled(
        rule("drop out", chain="macb", chain_priority=5, priority=700),
        rule("drop out", chain="maca", chain_priority=5, priority=100),
    )

    assert [chain.name for chain in table.chains] == ["maca", "macb"]
    assert [row.chain for row in table.l2_out] == [1, 0]


def test_an_stp_chain_is_for_what_bridges_send() -> None:
    table = compiled(rule("drop out stp", chain="stp"))

    assert table.l2_out[0].conditions == (
        Masked(Field.ETH_DST, bytes.fromhex("0180c2000000"), ONES),
    )


def test_inout_of_the_link_layer_is_swapped_for_what_the_vif_sends() -> None:
    table = compiled(rule("accept inout mac", srcmacaddr=MAC))

    assert table.l2_in[0].conditions == (Masked(Field.ETH_SRC, MAC.packed, ONES),)
    assert table.l2_out[0].conditions == (Masked(Field.ETH_DST, MAC.packed, ONES),)


def test_rules_of_the_network_layer_know_no_chains_but_root_is_first() -> None:
    table = compiled(
        rule("drop out udp", chain="ipv4", priority=-1000), rule("drop out tcp", priority=500)
    )

    assert origins(table.ipv4_out) == [1, 0]
    assert table.l2_out == ()
    assert table.chains == ()


def copies(made: ResolvedRule) -> tuple[list[tuple[str, int | None]], ...]:
    """Return, of the IPv4 lists out and in, which port a copy asks for and its CT bits."""
    table = compiled(made)
    found = []
    for rows in (table.ipv4_out, table.ipv4_in):
        each = []
        for row in rows:
            ports = [c.field.name for c in row.conditions if isinstance(c, Number) and c.low == 22]
            cts = [c.low for c in row.conditions if isinstance(c, Number) and c.field is Field.CT]
            each.append((ports[0], cts[0] if cts else None))
        found.append(each)
    return tuple(found)


SRC, DST = "SRC_PORT", "DST_PORT"
ONLY_NEW = ct_bits((Flow.NEW,))


@pytest.mark.parametrize(
    ("words", "extra", "out", "to"),
    [
        ("accept out tcp", {}, [(DST, BEGINS)], [(SRC, ANSWERS)]),
        ("accept in tcp", {}, [(SRC, ANSWERS)], [(DST, BEGINS)]),
        ("accept inout tcp", {}, [(SRC, None)], [(DST, None)]),
        ("accept out tcp", {"statematch": False}, [(DST, None)], [(SRC, None)]),
        ("drop out tcp", {}, [(DST, None)], [(SRC, None)]),
        ("reject in tcp", {}, [(SRC, None)], [(DST, None)]),
        ("return inout tcp", {}, [(SRC, None)], [(DST, None)]),
        ("drop out tcp", {"state": frozenset({State.NEW})}, [(DST, ONLY_NEW)], []),
        ("accept in tcp", {"state": frozenset({State.NEW})}, [], [(DST, ONLY_NEW)]),
        (
            "accept inout tcp",
            {"state": frozenset({State.NEW})},
            [(SRC, ONLY_NEW)],
            [(DST, ONLY_NEW)],
        ),
        ("accept out tcp", {"state": frozenset({State.NONE})}, [(DST, None)], []),
        (
            "accept out tcp",
            {"state": frozenset({State.NEW}), "statematch": False},
            [(DST, None)],
            [(SRC, None)],
        ),
        (
            "drop out tcp",
            {"state": frozenset({State.NEW}), "statematch": False},
            [(DST, None)],
            [(SRC, None)],
        ),
        ("accept in tcp", {"connlimit__above": 3}, [], [(DST, None)]),
        ("drop out tcp", {"connlimit__above": 3}, [(DST, None)], []),
        ("drop inout tcp", {"connlimit__above": 3}, [], [(DST, None)]),
        (
            "drop in tcp",
            {"connlimit__above": 3, "state": frozenset({State.NEW})},
            [],
            [(DST, ONLY_NEW)],
        ),
        ("continue inout tcp", {}, [], []),
    ],
)
def test_copies_of_a_rule_stand_where_the_table_says(
    words: str, extra: dict[str, Any], out: list[object], to: list[object]
) -> None:
    made = rule(words, dstportstart=22, **extra)

    assert copies(made) == (out, to)


def test_a_type_of_icmp_goes_one_way_and_inout_has_no_rule() -> None:
    both = ct_bits((Flow.NEW, Flow.ESTABLISHED))
    asked = (Number(Field.PROTOCOL, 1, 1), Pair((8, 8), (0, 255)), Number(Field.CT, both, both))

    out = compiled(rule("accept out icmp", type=8))
    inout = compiled(rule("accept inout icmp", type=8))

    assert (out.ipv4_out, out.ipv4_in) == ((Row(Verb.ACCEPT, asked, 0),), ())
    assert inout == Table()


def test_the_swapped_copy_asks_no_mac_and_is_not_there_if_that_was_all() -> None:
    alone = compiled(rule("drop out all", srcmacaddr=MAC))
    of_set = compiled(rule("drop out all", srcmacaddr=MAC, ipset="few", ipsetflags=(Side.SRC,)))
    more = compiled(rule("drop out all", srcmacaddr=MAC, dscp=1))

    assert (len(alone.ipv4_out), len(alone.ipv4_in)) == (1, 0)
    assert (len(of_set.ipv4_out), len(of_set.ipv4_in)) == (1, 0)
    assert more.ipv4_in[0].conditions == (Number(Field.DSCP, 1, 1),)


def test_a_limit_of_connections_is_asked_last_and_by_a_number_of_its_own() -> None:
    table = compiled(
        rule("drop in tcp", connlimit__above=1, dstportstart=22),
        rule("drop in udp-ipv6", connlimit__above_=2),
    )

    assert table.ipv4_in[0].conditions[-1] == Count(0, 1)
    assert table.ipv6_in[0].conditions[-1] == Count(1, 2, negated=True)


def test_more_limits_than_can_be_counted_are_refused() -> None:
    """Deviation: counted-rules."""
    rules = [rule("drop in tcp", connlimit__above=1)] * (MAX_COUNTS + 1)

    with pytest.raises(BindError, match="filter 'f', line 7: more than 32 rules with connlimit"):
        compiled(*rules)


def asked(words: str, **matches: Any) -> tuple[object, ...]:
    """Return what one rule asks in the list that it is written for."""
    table = compiled(rule(words, **matches))
    rows = [row for rows in table.fixed for row in rows]
    assert len(rows) == 1
    return rows[0].conditions


def test_masks_and_ranges_are_one_condition_with_what_they_complete() -> None:
    address = IPv4Address("10.1.2.3")

    assert asked(
        "accept out ip", srcipaddr_=address, srcipmask_=24, dstportstart=1, dstportend=9
    ) == (
        Number(Field.ETH_TYPE, 0x800, 0x800),
        Number(Field.IPV4_SRC, 0x0A010200, 0x0A010200, 0xFFFFFF00, negated=True),
        Number(Field.DST_PORT, 1, 9, 0xFFFF),
    )


def test_conditions_of_ipv6() -> None:
    low, high = IPv6Address("fd00::1"), IPv6Address("fd00::9")

    assert asked(
        "drop out ipv6", dstipaddr=low, dstipmask=64, protocol=51, type=1, typeend=2, code=3
    ) == (
        Number(Field.ETH_TYPE, 0x86DD, 0x86DD),
        Masked(Field.IPV6_DST, low.packed, b"\xff" * 8 + bytes(8)),
        Number(Field.AH, 1, 1),
        Pair((1, 2), (3, 3)),
    )
    assert asked(
        "drop out tcp-ipv6", state=frozenset({State.NONE}), srcipfrom=low, srcipto=high, option=2
    ) == (
        Number(Field.PROTOCOL, 6, 6),
        Between(Field.IPV6_SRC, low.packed, high.packed),
        Number(Field.TCP_OPTION, 2, 2),
    )


def test_ah_of_ipv6_is_a_header_that_is_there() -> None:
    """Deviation: ah-ipv6."""
    none = frozenset({State.NONE})

    assert asked("drop out ah-ipv6", state=none) == (Number(Field.AH, 1, 1),)
    assert asked("drop out ah", state=none) == (Number(Field.PROTOCOL, 51, 51),)
    assert asked("drop out ipv6", protocol_=51)[1:] == (Number(Field.AH, 1, 1, negated=True),)


def test_conditions_of_the_link_layer() -> None:
    mask = MacAddress.parse("ff:ff:ff:00:00:00")
    fields = rule("drop in stp", type=0, root__cost=1, root__cost__hi=7, sender__address=MAC)

    assert asked("drop in vlan", dstmacaddr=MAC, dstmacmask=mask, vlanid=5) == (
        Number(Field.ETH_TYPE, 0x8100, 0x8100),
        Masked(Field.ETH_DST, MAC.packed, mask.packed),
        Number(Field.VLAN_ID, 5, 5),
    )
    assert compiled(fields).l2_in[0].conditions[1:] == (
        Number(Field.STP_TYPE, 0, 0),
        Number(Field.STP_ROOT_COST, 1, 7),
        Masked(Field.STP_SENDER_ADDR, MAC.packed, ONES),
    )
    assert asked("drop in arp", gratuitous_=True, arpsrcipaddr=IPv4Address("1.2.3.4")) == (
        Number(Field.ETH_TYPE, 0x806, 0x806),
        Number(Field.ARP_GRATUITOUS, 1, 1, negated=True),
        Number(Field.ARP_SRC_IP, 0x01020304, 0x01020304),
    )


def test_flags_of_tcp_are_masked() -> None:
    flags = TcpFlags(TcpFlag.SYN | TcpFlag.ACK, TcpFlag.SYN)

    assert asked("drop out tcp", state=frozenset({State.NONE}), flags_=flags) == (
        Number(Field.PROTOCOL, 6, 6),
        Number(Field.TCP_FLAGS, 2, 2, 0x12, negated=True),
    )


def test_a_set_is_its_ranges_of_the_family_and_swapped_with_the_copy() -> None:
    table = compiled(rule("drop out all", ipset="few", ipsetflags=(Side.SRC, Side.DST)))
    ranges = ((IPv4Address("10.0.0.0").packed, IPv4Address("10.0.0.255").packed),)

    assert table.ipv4_out[0].conditions == (InSet(Field.IPV4_SRC, ranges),)
    assert table.ipv4_in[0].conditions == (InSet(Field.IPV4_DST, ranges),)


def test_states_and_sets_are_negated_as_they_are_written() -> None:
    """Deviation: negations."""
    ranges = ((IPv4Address("10.0.0.0").packed, IPv4Address("10.0.0.255").packed),)
    of_state = compiled(rule("drop out all", state_=frozenset({State.NEW}))).ipv4_out[0]
    of_set = compiled(rule("drop out all", ipset_="few", ipsetflags=(Side.SRC,))).ipv4_out[0]

    new = ct_bits([Flow.NEW])
    assert of_state.conditions == (Number(Field.CT, new, new, negated=True),)
    assert of_set.conditions == (InSet(Field.IPV4_SRC, ranges, negated=True),)


def test_an_address_and_a_range_of_one_side_are_both_asked() -> None:
    """Deviation: address-and-range."""
    low, high = IPv4Address("10.0.0.3"), IPv4Address("10.0.0.4")

    made = compiled(rule("drop out all", srcipaddr=low, srcipfrom=low, srcipto=high))

    assert made.ipv4_out[0].conditions == (
        Number(Field.IPV4_SRC, int(low), int(low), 0xFFFFFFFF),
        Number(Field.IPV4_SRC, int(low), int(high), 0xFFFFFFFF),
    )


def test_a_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(BindError, match="filter 'f', line 7: there is no set 'many'"):
        compiled(rule("drop out all", ipset="many", ipsetflags=(Side.SRC,)))


def test_more_chains_than_a_table_holds_are_refused_before_they_are_packed() -> None:
    rules = [rule("drop out", chain=f"mac{number}") for number in range(20_000)]

    with pytest.raises(TableFull, match="20006 chains and lists, wanted at most 256"):
        pack(compiled(*rules))


def test_more_rules_than_a_table_holds_are_refused() -> None:
    with pytest.raises(TableFull, match="70000 rules in both directions, wanted at most 65536"):
        pack(Table(l2_out=(Row(Verb.DROP),) * 70000))
