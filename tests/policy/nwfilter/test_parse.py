"""Reading filters: what is refused, where and why, and what lenient reading makes of it."""

import re
from ipaddress import IPv6Address

import pytest

from multiplexer.policy.nwfilter.errors import FilterError
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.protocols import PROTOCOLS
from multiplexer.policy.nwfilter.syntax import (
    Action,
    Condition,
    Direction,
    Filter,
    Parameter,
    Position,
    Reference,
    Rule,
    Variable,
)
from multiplexer.policy.nwfilter.values import Number


def strict(text: str) -> Filter:
    return parse_untrusted(text.encode(), "f.xml")


def lenient(text: str) -> Filter:
    return parse_untrusted(text.encode(), "f.xml", lenient=True)


def filter_of(rule: str, attributes: str = "action='drop' direction='in'") -> str:
    """Return a document whose line 2 is a rule, in which *rule* begins at column 5 of line 3."""
    return f"<filter name='x'>\n  <rule {attributes}>\n    {rule}\n  </rule>\n</filter>\n"


def the_rule(filter_: Filter) -> Rule:
    (rule,) = filter_.entries
    assert isinstance(rule, Rule)
    return rule


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("", "1:1", "not XML: no element found"),
        ("nonsense", "1:1", "not XML: syntax error"),
        ("<filter name='x'>\n  <rule>\n</filter>", "3:3", "not XML: mismatched tag"),
        ("<filter name='x'>", "1:18", "not XML: no element found"),
        ("<filter name='x'/><filter/>", "1:19", "not XML: junk after document element"),
        ("<filter name='x' name='y'/>", "1:18", "not XML: duplicate attribute"),
        ("<filter name='x'>&nbsp;</filter>", "1:18", "not XML: undefined entity"),
        ("\n<domain/>", "2:1", "root element is 'domain', wanted 'filter'"),
        ("<filter/>", "1:1", "<filter> has no name"),
        ("<filter name=''/>", "1:1", "name: '' is not a filter's name"),
        ("<filter name='a b'/>", "1:1", "name: 'a b' is not a filter's name"),
        ("<filter name='a&#10;b'/>", "1:1", "name: 'a\\nb' is not a filter's name: a letter or _"),
        ("<filter name='x' chian='arp'/>", "1:1", "unknown attribute 'chian' of <filter>"),
        ("<filter name='x' chain=''/>", "1:1", "chain: '' is not a chain"),
        ("<filter name='x' chain='rootx'/>", "1:1", "chain: 'rootx' is not a chain: root, or"),
        ("<filter name='x' chain='arp-45678901234'/>", "1:1", "is not a chain: 1 to 12"),
        (
            "<filter name='x' chain='arp' priority='1001'/>",
            "1:1",
            "priority: '1001' is not an integer from -1000 to 1000",
        ),
        ("<filter name='x' chain='arp' priority='high'/>", "1:1", "'high' is not an integer"),
        ("<filter name='x' priority='1001'/>", "1:1", "'1001' is not an integer"),
        ("<filter name='x'>\n <ruel/></filter>", "2:2", "unknown element 'ruel' in <filter>"),
        ("<filter name='x'> rule </filter>", "1:1", "text 'rule' in <filter>"),
        ("<filter name='x'>\n <uuid>123</uuid></filter>", "2:2", "'123' is not a uuid"),
        ("<filter name='x'><uuid/></filter>", "1:18", "'' is not a uuid"),
        (
            "<filter name='x'><uuid>f88f1932-debf-4aa1-9fbe-f10d3aa4bc95</uuid>"
            "<uuid>f88f1932-debf-4aa1-9fbe-f10d3aa4bc95</uuid></filter>",
            "1:67",
            "second <uuid>, wanted one at most",
        ),
        ("<filter name='x'>\n\n\t<filterref/></filter>", "3:2", "<filterref> has no filter"),
        ("<filter name='x'><filterref filter='a/b'/></filter>", "1:18", "filter: 'a/b' is not a"),
        (
            "<filter name='x'><filterref filter='y'>\n<param/></filterref></filter>",
            "2:1",
            "unknown element 'param' in <filterref>, wanted parameter",
        ),
        (
            "<filter name='x'><filterref filter='y'>\n<parameter name='A'/></filterref></filter>",
            "2:1",
            "<parameter> has no value",
        ),
        (
            "<filter name='x'><filterref filter='y'>\n"
            "<parameter name='A-B' value='1'/></filterref></filter>",
            "2:1",
            "'A-B' is not a parameter's name",
        ),
        (
            "<filter name='x'><filterref filter='y'>\n"
            "<parameter name='A' value='10.0.0.0/8'/></filterref></filter>",
            "2:1",
            "'10.0.0.0/8' is not a parameter's value",
        ),
        (filter_of("", "direction='in'"), "2:3", "<rule> has no action"),
        (filter_of("", "action='drop'"), "2:3", "<rule> has no direction"),
        (
            filter_of("", "action='deny' direction='in'"),
            "2:3",
            "action: 'deny' is unknown, wanted one of accept, drop, reject, return, continue",
        ),
        (filter_of("", "action='drop' direction='both'"), "2:3", "direction: 'both' is unknown"),
        (
            filter_of("", "action='drop' direction='in' prio='1'"),
            "2:3",
            "unknown attribute 'prio'",
        ),
        (
            filter_of("", "action='drop' direction='in' priority='1001'"),
            "2:3",
            "priority: '1001' is not an integer from -1000 to 1000",
        ),
        (
            filter_of("", "action='drop' direction='in' statematch='no'"),
            "2:3",
            "statematch: 'no' is not true, 1, false or 0",
        ),
        (filter_of("80"), "2:3", "text '80' in <rule>"),
        (filter_of("<dccp/>"), "3:5", "unknown element 'dccp' in <rule>, wanted a protocol: mac,"),
        (filter_of("<tcp/><udp/>"), "3:11", "<udp> beside <tcp>, wanted one protocol"),
        (filter_of("<tcp><x/></tcp>"), "3:10", "unknown element 'x' in <tcp>, wanted none"),
        (filter_of("<tcp>x</tcp>"), "3:5", "text 'x' in <tcp>"),
        (filter_of("<tcp match='false'/>"), "3:5", "match: 'false' is not yes or no"),
        (filter_of("<tcp dstport='1'/>"), "3:5", "unknown attribute 'dstport' of <tcp>, wanted"),
        (filter_of("<udp flags='SYN/SYN'/>"), "3:5", "unknown attribute 'flags' of <udp>"),
        (
            filter_of("<tcp dscp='1'/>\n<tcp match='no' dscp='2'/>"),
            "4:1",
            "dscp: given twice in one rule",
        ),
        (filter_of("<tcp dstportstart='65536'/>"), "3:5", "dstportstart: '65536' is out of range"),
        (filter_of("<icmp type='256'/>"), "3:5", "type: '256' is out of range, wanted 0 to 255"),
        (filter_of("<tcp srcipaddr='::1'/>"), "3:5", "srcipaddr: '::1' is not an IPv4 address"),
        (filter_of("<arp gratuitous='x'/>"), "3:5", "gratuitous: 'x' is not true or false"),
        (filter_of("<tcp srcipaddr='$'/>"), "3:5", "srcipaddr: '$' is not a variable"),
        (filter_of("<tcp srcipaddr='$IP[x]'/>"), "3:5", "'$IP[x]' is not a variable"),
        (filter_of("<tcp srcipaddr='$IP[1'/>"), "3:5", "'$IP[1' is not a variable"),
        (filter_of("<tcp srcipaddr='$IP[@1001]'/>"), "3:5", "iterator 1001 is out of range"),
        (filter_of("<tcp ipset='x'/>"), "3:5", "ipset: wanted ipsetflags beside it"),
        (filter_of("<tcp ipsetflags='src'/>"), "3:5", "ipsetflags: wanted ipset beside it"),
        (filter_of("<ip dstportstart='1'/>"), "2:3", "dstportstart: wanted protocol tcp, udp,"),
        (filter_of("<ip dstportend='1' protocol='icmp'/>"), "2:3", "dstportend: wanted protocol"),
        (filter_of("<ipv6 srcportstart='1' protocol='$P'/>"), "2:3", "srcportstart: wanted"),
        (
            filter_of("<ip match='no' srcportstart='1' protocol='tcp'/>"),
            "2:3",
            "srcportstart: wanted",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, where: str, why: str) -> None:
    """Deviation: strict."""
    with pytest.raises(FilterError, match=re.escape(f"f.xml:{where}: ") + ".*" + re.escape(why)):
        strict(text)


def test_the_place_is_a_value_too() -> None:
    with pytest.raises(FilterError) as raised:
        strict("<filter name='x'>\n  <ruel/></filter>")

    assert (raised.value.source, raised.value.position) == ("f.xml", Position(2, 3))


def test_columns_count_characters_not_bytes() -> None:
    with pytest.raises(FilterError, match=r"f\.xml:2:9: unknown element"):
        strict("<filter name='x'>\n<!--é--><a/></filter>")


def test_every_attribute_of_every_protocol_takes_a_variable_and_match_no() -> None:
    for protocol in PROTOCOLS.values():
        for attribute in protocol.attributes:
            extra = " protocol='tcp'" if "port" in attribute.name and "ip" in protocol.name else ""
            if protocol.name not in ("ip", "ipv6"):
                extra = " ipsetflags='src'" if attribute.name == "ipset" else ""
                extra = " ipset='x'" if attribute.name == "ipsetflags" else extra
            plain = f"<{protocol.name}{extra}/>" if extra else ""
            text = f"{plain}<{protocol.name} match='no' {attribute.name}='$V[@3]'/>"

            rule = the_rule(strict(filter_of(text)))

            negated = attribute.follows is None
            assert Condition(attribute.name, Variable("V", 3), negated) in rule.conditions


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("$A", Variable("A")),
        ("$A[@0]", Variable("A")),
        ("$_a9[ @ 12 ]", Variable("_a9", 12)),
        ("$A[ 2]", Variable("A", index=2)),
    ],
)
def test_variables_are_read(text: str, variable: Variable) -> None:
    rule = the_rule(strict(filter_of(f"<tcp srcipaddr='{text}'/>")))

    assert rule.conditions == (Condition("srcipaddr", variable),)


def test_positions_are_kept() -> None:
    filter_ = strict(
        "<filter name='x'>\n <filterref filter='y'/>\n   <rule action='drop'\n"
        " direction='in'/></filter>"
    )

    assert [entry.position for entry in filter_.entries] == [Position(2, 2), Position(3, 4)]


def test_a_priority_without_a_chain_is_given_in_vain() -> None:
    assert strict("<filter name='x' priority='7'/>").priority == 0
    assert strict("<filter name='x' chain='root' priority='7'/>").priority == 7
    assert strict("<filter name='x' chain='arp' priority=''/>").priority == -500


def test_a_document_is_utf_8_whatever_it_says() -> None:
    """As the page has it; a text that was saved anew may well say what it was before."""
    text = "<?xml version='1.0' encoding='{}'?>" + filter_of("<tcp comment='é'/>")
    for encoding in ("utf-8", "utf-16", "iso-8859-1", "none"):
        filter_ = parse_untrusted(text.format(encoding).encode())
        assert the_rule(filter_).conditions == (Condition("comment", "é"),)
    with pytest.raises(FilterError, match="not XML"):
        parse_untrusted(text.format("iso-8859-1").encode("iso-8859-1"))


# What differs from libvirt on purpose: multiplexer-filter(5) has an item for each.


def test_igmp_over_ipv6_is_a_protocol() -> None:
    """Deviation: igmp-ipv6."""
    assert the_rule(strict(filter_of("<igmp-ipv6/>"))).protocol == "igmp-ipv6"
    assert the_rule(lenient(filter_of("<igmp-ipv6/>"))).protocol == "igmp-ipv6"


@pytest.mark.parametrize("protocol", ["icmp", "tcp", "all-ipv6"])
def test_l3_rules_have_all_mac_attributes(protocol: str) -> None:
    """Deviation: l3-mac."""
    text = f"<{protocol} dstmacaddr='1:2:3:4:5:6' dstmacmask='ff:ff:ff:0:0:0'/>"

    assert len(the_rule(strict(filter_of(text))).conditions) == 2


def test_the_end_of_an_ipv6_range_is_an_ipv6_address() -> None:
    """Deviation: ipv6-range."""
    rule = the_rule(strict(filter_of("<tcp-ipv6 dstipfrom='::1' dstipto='::2'/>")))

    assert rule.conditions[1] == Condition("dstipto", IPv6Address("::2"))


def test_a_destination_port_has_a_negation_of_its_own() -> None:
    """Deviation: port-negation."""
    rule = the_rule(strict(filter_of("<tcp srcportstart='1'/><tcp match='no' dstportstart='2'/>")))

    assert [each.negated for each in rule.conditions] == [False, True]


def test_ipset_and_flags_are_kept_for_every_l3_protocol() -> None:
    """Deviation: ipset."""
    rule = the_rule(strict(filter_of("<udp ipset='web' ipsetflags='src,dst'/>")))

    assert [each.attribute for each in rule.conditions] == ["ipset", "ipsetflags"]


def test_tcp_flags_are_kept_over_ipv6() -> None:
    """Deviation: tcp-ipv6-flags."""
    rule = the_rule(strict(filter_of("<tcp-ipv6 flags='SYN/SYN'/>")))

    assert [each.attribute for each in rule.conditions] == ["flags"]


def test_addresses_are_written_in_one_way() -> None:
    """Deviation: addresses."""
    for address in ("10.1", "010.1.2.3", "0x0a.1.2.3", "167772161"):
        with pytest.raises(FilterError, match="is not an IPv4 address"):
            lenient(filter_of(f"<ip srcipaddr='{address}'/>"))
    with pytest.raises(FilterError, match="is not an IPv6 address"):
        lenient(filter_of("<ipv6 srcipaddr='fe80::1%lo'/>"))


def test_a_code_of_ipv6_without_a_type_is_negated_as_written() -> None:
    """Deviation: ipv6-code."""
    rule = the_rule(strict(filter_of("<ipv6 match='no' code='1'/>")))

    assert rule.conditions == (Condition("code", Number(1), negated=True),)


def test_ports_of_udplite_may_be_asked_for() -> None:
    """Deviation: udplite-ports."""
    rule = the_rule(strict(filter_of("<ip protocol='udplite' dstportstart='9'/>")))

    assert [each.attribute for each in rule.conditions] == ["protocol", "dstportstart"]


def test_ports_beside_a_negated_protocol_are_refused() -> None:
    """Deviation: negated-protocol."""
    text = filter_of("<ip dstportstart='9'/><ip match='no' protocol='tcp'/>")

    with pytest.raises(FilterError, match="dstportstart: wanted protocol"):
        lenient(text)


def test_both_names_of_stp_attributes_are_read() -> None:
    """Deviation: stp-names."""
    page = the_rule(strict(filter_of("<stp port='1' port_hi='2' msg-age='3' msg-age-hi='4'/>")))
    code = the_rule(strict(filter_of("<stp port='1' port-hi='2' age='3' age-hi='4'/>")))

    assert page == code


def test_an_stp_chain_has_the_default_priority_of_the_page() -> None:
    """Deviation: stp-priority."""
    assert strict("<filter name='x' chain='stp-x'/>").priority == -810


# Lenient reading.


def test_lenient_passes_over_unknown_attributes_children_and_text() -> None:
    filter_ = lenient(
        "<filter name='a b' x='1' chain=''>text<?pi?><foo><rule/></foo><uuid/>"
        "<rule action='drop' direction='in' y='1'>t<tcp z='1' dscp='3'>u<v/></tcp></rule>"
        "<filterref filter='c d' q='1'><w/></filterref></filter>"
    )

    assert filter_ == Filter(
        "a b",
        entries=(
            Rule(Action.DROP, Direction.IN, "tcp", (Condition("dscp", Number(3)),)),
            Reference("c d"),
        ),
    )


def test_lenient_takes_an_unknown_protocol_for_an_empty_body() -> None:
    assert the_rule(lenient(filter_of("<dccp dstportstart='1'/>"))) == Rule(
        Action.DROP, Direction.IN
    )


def test_lenient_lets_the_first_known_protocol_decide_and_merges_its_like() -> None:
    rule = the_rule(
        lenient(filter_of("<foo/><tcp dscp='1'/><udp dscp='2'/><tcp match='no' option='3'/>"))
    )

    assert rule == Rule(
        Action.DROP,
        Direction.IN,
        "tcp",
        (Condition("dscp", Number(1)), Condition("option", Number(3), True)),
    )


def test_lenient_takes_the_last_of_two_values() -> None:
    rule = the_rule(lenient(filter_of("<tcp dscp='1'/><tcp match='no' dscp='2'/>")))

    assert rule.conditions == (Condition("dscp", Number(2), True),)


@pytest.mark.parametrize(
    ("written", "priority"), [("", 500), ("abc", 500), ("1001", 500), ("-1000", -1000), ("7", 7)]
)
def test_lenient_takes_500_for_a_priority_that_is_none(written: str, priority: int) -> None:
    text = filter_of("", f"action='drop' direction='in' priority='{written}'")

    assert the_rule(lenient(text)).priority == priority


@pytest.mark.parametrize(
    ("written", "on"), [("0", False), ("False", False), ("no", True), ("", True), ("1", True)]
)
def test_lenient_turns_statematch_off_by_two_words_only(written: str, on: bool) -> None:
    text = filter_of("", f"action='drop' direction='in' statematch='{written}'")

    assert the_rule(lenient(text)).statematch is on


@pytest.mark.parametrize(("written", "negated"), [("no", True), ("foo", False), ("No", False)])
def test_lenient_negates_by_one_word_only(written: str, negated: bool) -> None:
    rule = the_rule(lenient(filter_of(f"<tcp match='{written}' dscp='1'/>")))

    assert rule.conditions == (Condition("dscp", Number(1), negated),)


def test_lenient_takes_any_other_word_for_false() -> None:
    rule = the_rule(lenient(filter_of("<arp gratuitous='perhaps'/>")))

    assert rule.conditions == (Condition("gratuitous", False),)


def test_lenient_passes_over_parameters_that_are_none() -> None:
    filter_ = lenient(
        "<filter name='x'><filterref filter='y'><parameter name='A-B' value='1'/>"
        "<parameter name='A' value='10.0.0.0/8'/><parameter name='A'/><parameter value='1'/>"
        "<parameter name='A' value='2'/></filterref></filter>"
    )

    assert filter_.entries == (Reference("y", (Parameter("A", ("2",)),)),)


def test_lenient_takes_a_set_without_flags_which_then_has_no_effect() -> None:
    rule = the_rule(lenient(filter_of("<all ipset='x'/>")))

    assert rule.conditions == (Condition("ipset", "x"),)


@pytest.mark.parametrize(
    "text",
    [
        "<filter/>",
        "<filter name=''/>",
        "<filter name='x' chain='foo'/>",
        "<filter name='x' chain='arp' priority='1001'/>",
        "<filter name='x' priority='1001'/>",
        "<filter name='x'><uuid>12</uuid></filter>",
        "<filter name='x'><filterref/></filter>",
        filter_of("", "direction='in'"),
        filter_of("", "action='deny' direction='in'"),
        filter_of("<tcp dscp='64'/>"),
        filter_of("<ip dstportstart='1'/>"),
    ],
)
def test_lenient_refuses_what_libvirt_refuses(text: str) -> None:
    with pytest.raises(FilterError, match=r"^f\.xml:"):
        lenient(text)
