"""Our reading and printing of filters beside those of libvirtd, text by text.

Lenient reading accepts what it accepts, refuses what it refuses, and prints
what it prints, but for what stands in exceptions.py and beside the texts below.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

import attrs
import pytest
from hypothesis import given, settings

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.errors import FilterError
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.protocols import PROTOCOLS
from multiplexer.policy.nwfilter.syntax import Condition, Filter, Rule, arranged
from multiplexer.policy.nwfilter.values import MAX_COMMENT, Number
from multiplexer.stock import stock_filters
from tests.libvirt.exceptions import MISTAKEN, is_passed_over
from tests.support.libvirtd import Libvirtd, Refused
from tests.support.nwfilters import rules

UUID = "6ef53069-ba34-94a0-d33d-17751b9b8cb1"

REFUSED = "refused"

NUMBERS = (
    "0|7|010|0x1f|1f|0X1F|fF| 7|7 |+7|-1|255|256|ff|100|0x100|65535|65536|ffff||abc|0x|4294967295"
    "|4294967296|99999999999999999999|1.5"
)

#: Values of attributes, as texts between bars.
TEXTS = {
    "mac srcmacaddr": "1:2:3:4:5:6|01:02:03:04:05:06|AA:bb:CC:dd:EE:ff|1:2:3:4:5|1:2:3:4:5:6:7"
    "|001:2:3:4:5:6|1-2-3-4-5-6| 1:2:3:4:5:6|g:2:3:4:5:6|",
    "mac srcmacmask": "ff:ff:ff:0:0:0|ff:0:ff:0:0:0|0:0:0:0:0:0|ff:ff:ff:ff:ff:ff|fe:0:0:0:0:0|24"
    "|",
    "mac protocolid": f"{NUMBERS}|arp|ARP|IPv4|vlan|0x800|2048|0x5ff|600|1536|0x600|86dd",
    "mac comment": f"|a b|$x|$x y|{'x' * 300}|&lt;&gt;&amp;&quot;&apos;|é",
    "vlan vlanid": "0|4095|4096|0xfff|fff",
    "vlan encap-protocol": "0x3c|0x3b|59|60|arp|IPV4|vlan|3c|ffff",
    # Of 32 bits it takes -1 for the highest, which the language has not.
    "stp root-cost": NUMBERS.replace("|-1|", "|"),
    "stp flags": NUMBERS,
    "arp hwtype": NUMBERS,
    "arp opcode": "Request|request|10|0x3|3|12|inarp_request|ARP_NAK|foo|65536|0x4d",
    "arp gratuitous": "true|TRUE|yes|1|false|no|0|x|",
    "arp arpsrcipaddr": "10.1.2.3|300.1.1.1|::1|10.1.2.3 | 10.1.2.3|",
    "arp arpsrcipmask": "8|33|255.0.0.0|255.0.255.0|0|0.0.0.0|08| 8|8 |ff::|0x8|",
    "ip protocol": "tcp|TCP|6|0x6|0xfd|58|icmpv6|255|256|foo|udplite|136|igmp|2",
    "ip dscp": "0|63|64|0x3f|3f",
    "ipv6 srcipaddr": "::1|FFFF::1|::ffff:1.2.3.4|::1.2.3.4|1.2.3.4|::12345|1:2:3:4:5:6:7:8"
    "|1:0:0:2:0:0:0:3|1:0:2:3:4:5:6:7|::1:2|::",
    "ipv6 srcipmask": "10|128|129|ffff::|ffff:ffff:fc00::|ff:ff::|::",
    "tcp flags": "SYN/SYN|SYN,ACK/SYN|syn,ack/syn|ALL/NONE|all/none|SYN|SYN/|/SYN|/|SYN/SYN/SYN"
    "|FIN,SYN,RST,PSH,ACK,URG/ACK|SYN, ACK/SYN|SYN ACK/SYN|ALL,SYN/SYN|NONE,SYN/SYN| SYN/SYN"
    "|SYM/SYN|SYN/SYM",
    "tcp connlimit-above": "1|0x10|65535|65536|010| 5|a|",
    "tcp state": "NEW|new|NEW,ESTABLISHED|NEW ESTABLISHED|NEW, ESTABLISHED|ESTABLISHED,NEW"
    "|NEW,NONE|NONE||INVALID,RELATED|FOO|NEW,FOO|,NEW|NEW,|  NEW|NEW;RELATED",
    "tcp srcportstart": "$A|$A[@1]|$A[ @1 ]|$A[@ 1]|$A[1]|$A[ 1 ]|$A[|$A[@1001]|$A[@1000]|$A[1001]"
    "|$A[99999999999]|$A-B|$A[@]|$A[]|$A [1]|$A[010]|$A[0x10]",
    "all ipset": f"a|a b|{'x' * 31}|{'x' * 32}|a/b|-x|+a:b.c_d|$X",
    "all ipsetflags": "src|SRC,dst|src,dst,src,dst,src,dst|src,dst,src,dst,src,dst,src||src,|foo"
    "|src dst|,src|src, dst|$F",
    "icmp type": "0|255|256",
}

#: What an attribute needs beside it.
BESIDE = {"all ipset": "ipsetflags='src'", "all ipsetflags": "ipset='s'"}

BODIES = (
    "",
    "text",
    "<mac/>",
    "<foo/>",
    "<foo/><tcp dscp='1'/>",
    "<tcp dscp='1'/><udp dscp='2'/>",
    "<tcp dscp='1'/><tcp match='no' dscp='2'/>",
    "<tcp match='foo' dscp='2'/>",
    "<tcp match='No' dscp='2'/>",
    "<tcp foo='1'/>",
    "<tcp><x/></tcp>",
    "<tcp srcportstart='5' srcportend='3'/>",
    "<ip dstportstart='5'/>",
    "<ip dstportstart='5' protocol='tcp'/>",
    "<ip dstportstart='5' protocol='33'/>",
    "<ip dstportstart='5' protocol='$P'/>",
    "<ip dstportend='5' protocol='icmp'/>",
    "<ipv6 srcportend='5'/>",
    "<all ipset='a'/>",
    "<all ipsetflags='src'/>",
    "<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='8' arpdstipaddr='10.0.0.1'/>",
    "<ipv6 type='1'/><ipv6 match='no' code='1' codeend='2' typeend='3'/>",
    "<icmp match='no' code='1'/>",
    "<icmp match='no' type='1'/><icmp code='2'/>",
    "<tcp match='no' state='NEW'/>",
    "<tcp match='no' srcipmask='8'/>",
    "<mac match='no' srcmacmask='ff:0:0:0:0:0'/>",
)

RULE_ATTRIBUTES = (
    *(f"statematch='{word}'" for word in ("0", "false", "FALSE", "no", "1", "true", "", "x")),
    *(
        f"priority='{word}'"
        for word in ("0", "-1000", "1000", "1001", "abc", "", "0x10", "010", " 5", "5 ", "+5")
    ),
)

CHAINS = (
    "|root|rootx|arp|arpfoo|arp-xyz|mac|vlan|ipv4|ipv6|rarp|tcp|ARP|arp foo|arp/x|arp-45678901"
    "|arp-456789012|arp.:_-x|ipv4ip"
)

FILTERS = (
    *(f"name='x' chain='{chain}'" for chain in CHAINS.split("|")),
    *(
        f"name='x' chain='arp' priority='{word}'"
        for word in ("", "-500", "1000", "1001", "-1001", "abc", "0x10", "010", " 5", "5 ", "+5")
    ),
    *(f"name='x' priority='{word}'" for word in ("5", "1001", "abc")),
    "name=''",
    "",
    "name='a b'",
    "name='a/b'",
    "name='é'",
    "name='a:b'",
    "name='x' foo='1'",
)

CHILDREN = (
    "<filterref/>",
    "<filterref filter='a b'/>",
    "<filterref filter='y'><parameter name='A' value='1'/><parameter name='A' value='2'/>"
    "<parameter name='A' value='1'/><parameter name='B' value='x'/></filterref>",
    "<filterref filter='y'><parameter name='A-B' value='1'/><parameter name='C' value='1/2'/>"
    "<parameter name='D'/><parameter value='3'/><x/></filterref>",
    "<filterref filter='y'><parameter name='Z' value='1'/><parameter name='a' value='1'/>"
    "<parameter name='B' value='1'/></filterref>",
    "<foo/>",
    "text",
    "<uuid>12</uuid>",
)


def in_rule(body: str, attributes: str = "") -> str:
    return (
        f"<filter name='x'><uuid>{UUID}</uuid>"
        f"<rule action='drop' direction='in' {attributes}>{body}</rule></filter>"
    )


def documents() -> Iterator[str]:
    for name, texts in TEXTS.items():
        protocol, attribute = name.split()
        for text in texts.split("|"):
            yield in_rule(f"<{protocol} {attribute}='{text}' {BESIDE.get(name, '')}/>")
    for body in BODIES:
        yield in_rule(body)
    for attributes in RULE_ATTRIBUTES:
        yield in_rule("<tcp/>", attributes)
    for attributes in ("action='drop'", "direction='in'", "action='Drop' direction='in'"):
        yield f"<filter name='x'><uuid>{UUID}</uuid><rule {attributes}/></filter>"
    for attributes in FILTERS:
        yield f"<filter {attributes}><uuid>{UUID}</uuid></filter>"
    for child in CHILDREN:
        yield f"<filter name='x'><uuid>{UUID}</uuid>{child}</filter>"
    for uuid in (UUID.upper(), UUID.replace("-", ""), f" {UUID}\n", UUID[:10], "x" * 36):
        yield f"<filter name='x'><uuid>{uuid}</uuid></filter>"


def ours(document: str) -> str:
    try:
        return canonical(parse_untrusted(document.encode(), lenient=True))
    except FilterError:
        return REFUSED


def theirs(libvirtd: Libvirtd, document: str) -> str:
    try:
        return libvirtd.dump(document, UUID)
    except Refused:
        return REFUSED


def test_texts_are_read_and_printed_alike(libvirtd: Libvirtd) -> None:
    different = {}
    compared = list(documents())
    for document in compared:
        mine, other = ours(document), theirs(libvirtd, document)
        if mine != other:
            different[document] = (mine, other)

    assert different == {}
    assert len(compared) > 400


def is_strictly_read(document: str) -> bool:
    try:
        parse_untrusted(document.encode())
    except FilterError:
        return False
    return True


def test_what_its_schema_takes_is_read_strictly_too(libvirtd: Libvirtd) -> None:
    """So a filter that `virsh nwfilter-define --validate` takes is one of ours."""
    refused = []
    for document in documents():
        # Its schema cuts the blank off, and then it takes 500 for what it cannot read.
        if is_strictly_read(document) or "priority='5 '" in document:
            continue
        with suppress(Refused):
            libvirtd.dump(document, UUID, "--validate")
            refused.append(document)

    assert refused == []


@pytest.mark.parametrize("name", stock_filters())
def test_a_stock_filter_is_printed_alike(libvirtd: Libvirtd, name: str) -> None:
    text = canonical(attrs.evolve(stock_filters()[name], uuid=UUID))

    assert libvirtd.dump(text, UUID) == text


def comparable(rule: Rule, name: str) -> bool:
    (condition,) = (each for each in rule.conditions if each.attribute == name)
    value = condition.value
    # blanks; it cuts comments by bytes, within characters; and reading a dscp, it overwrites
    # what kind of value the comment is, and prints that as a number.
    if name == "comment" and isinstance(value, str):
        spoilt = any(each.attribute == "dscp" for each in rule.conditions)
        cut = len(value.encode()) > MAX_COMMENT
        return not spoilt and not cut and not re.search(r"[\t\n\r]", value)
    # udplite-ports
    is_port = name.endswith(("portstart", "portend"))
    return not is_passed_over(rule.protocol or "mac", name) and not (
        is_port and is_of_udplite(rule)
    )


def is_of_udplite(rule: Rule) -> bool:
    return Condition("protocol", Number(136)) in rule.conditions


def shared(rule: Rule) -> Rule:
    """Return what of *rule* libvirt means to read as we do."""
    if rule.protocol is None:
        return rule
    kept = [each for each in rule.conditions if comparable(rule, each.attribute)]
    return attrs.evolve(rule, conditions=arranged(rule.protocol, kept))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(rules())
def test_rules_are_kept_alike(libvirtd: Libvirtd, rule: Rule) -> None:
    """What is printed there reads as what we print; element-order is all that differs."""
    if rule.protocol in MISTAKEN:
        return
    text = canonical(Filter("x", uuid=UUID, entries=(shared(rule),)))

    assert canonical(parse_untrusted(libvirtd.dump(text, UUID).encode(), lenient=True)) == text


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS.keys() - MISTAKEN))
def test_attributes_are_printed_in_the_same_order(libvirtd: Libvirtd, protocol: str) -> None:
    given = [
        "protocol='tcp'" if name == "protocol" else f"{name}='$V'"
        for name in PROTOCOLS[protocol].table
        if not is_passed_over(protocol, name)
    ]
    document = in_rule(f"<{protocol} {' '.join(reversed(given))}/>")

    assert libvirtd.dump(document, UUID) == ours(document)
