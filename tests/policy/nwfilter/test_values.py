"""Attribute values: which texts are accepted, what they mean, and how they are printed."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.policy.nwfilter.protocols import (
    BOOLEAN,
    COUNT,
    ENCAPSULATED,
    IP_PROTOCOL,
    IPV4,
    IPV4_MASK,
    IPV6,
    IPV6_MASK,
    MAC,
    MAC_MASK,
    OPCODE,
    PROTOCOL_ID,
    PROTOCOLS,
    UINT8,
    UINT16,
    UINT32,
    VLAN_ID,
)
from multiplexer.policy.nwfilter.values import (
    Comment,
    IpsetFlags,
    IpsetName,
    Number,
    Side,
    State,
    States,
    TcpFlag,
    TcpFlagMatch,
    TcpFlags,
    Value,
    ValueType,
    shown,
)
from pfinet_proto.values import MacAddress

STATES = States()
FLAGS = TcpFlagMatch()
SIDES = IpsetFlags()
SET = IpsetName()
COMMENT = Comment()


@pytest.mark.parametrize(
    ("kind", "text", "value", "printed"),
    [
        (UINT8, "0", Number(0), "0"),
        (UINT8, "010", Number(10), "10"),
        (UINT8, " 7", Number(7), "7"),
        (UINT8, "1f", Number(31, True), "0x1f"),
        (UINT8, "0x1F", Number(31, True), "0x1f"),
        (UINT8, "255", Number(255), "255"),
        (UINT16, "65535", Number(65535), "65535"),
        (UINT32, "0xffffffff", Number(0xFFFFFFFF, True), "0xffffffff"),
        (COUNT, "10", Number(10), "10"),
        (VLAN_ID, "0xfff", Number(4095, True), "0xfff"),
        (PROTOCOL_ID, "ARP", Number(0x806), "arp"),
        (PROTOCOL_ID, "0x806", Number(0x806), "arp"),
        (PROTOCOL_ID, "2054", Number(0x806), "arp"),
        (PROTOCOL_ID, "vlan", Number(0x8100), "vlan"),
        (PROTOCOL_ID, "0x835", Number(0x835, True), "0x835"),
        (PROTOCOL_ID, "1536", Number(0x600), "1536"),
        (ENCAPSULATED, "0x3c", Number(0x3C, True), "0x3c"),
        (ENCAPSULATED, "rarp", Number(0x8035), "rarp"),
        (OPCODE, "request_REVERSE", Number(3), "Request_Reverse"),
        (OPCODE, "9", Number(9), "ARP_NAK"),
        (OPCODE, "0x4d", Number(77), "77"),
        (OPCODE, "77", Number(77), "77"),
        (IP_PROTOCOL, "UDPlite", Number(136), "udplite"),
        (IP_PROTOCOL, "58", Number(58), "icmpv6"),
        (IP_PROTOCOL, "0x6", Number(6), "tcp"),
        (MAC, "1:2:3:A:bB:c", MacAddress(bytes([1, 2, 3, 10, 187, 12])), "01:02:03:0a:bb:0c"),
        (MAC_MASK, "FF:FF:FF:FC:0:0", MacAddress(b"\xff\xff\xff\xfc\0\0"), "ff:ff:ff:fc:00:00"),
        (MAC_MASK, "0:0:0:0:0:0", MacAddress(bytes(6)), "00:00:00:00:00:00"),
        (IPV4, "10.1.2.3", IPv4Address("10.1.2.3"), "10.1.2.3"),
        (IPV6, "FFFF::0001", IPv6Address("ffff::1"), "ffff::1"),
        (IPV6, "::FFFF:a00:1", IPv6Address("::ffff:10.0.0.1"), "::ffff:10.0.0.1"),
        (IPV6, "::1:2", IPv6Address("::1:2"), "::0.1.0.2"),
        (IPV6, "::2", IPv6Address("::2"), "::2"),
        (IPV4_MASK, "24", 24, "24"),
        (IPV4_MASK, "255.255.248.0", 21, "21"),
        (IPV4_MASK, "0.0.0.0", 0, "0"),
        (IPV6_MASK, "128", 128, "128"),
        (IPV6_MASK, "ffff:ffff:fc00::", 38, "38"),
        (BOOLEAN, "yes", True, "true"),
        (BOOLEAN, "1", True, "true"),
        (BOOLEAN, "no", False, "false"),
        (COMMENT, "x" * 300, "x" * 256, "x" * 256),
        (SET, "web servers:v4", "web servers:v4", "web servers:v4"),
        (SIDES, "SRC,dst", (Side.SRC, Side.DST), "src,dst"),
        (STATES, "related,new", frozenset({State.NEW, State.RELATED}), "NEW,RELATED"),
        (STATES, "new established", frozenset({State.NEW, State.ESTABLISHED}), "NEW,ESTABLISHED"),
        (STATES, "NEW,None", frozenset({State.NONE}), "NONE"),
        (STATES, "", frozenset(), ""),
        (FLAGS, "SYN,ack/SYN", TcpFlags(TcpFlag.SYN | TcpFlag.ACK, TcpFlag.SYN), "SYN,ACK/SYN"),
        (FLAGS, "SYN, ack/,SYN", TcpFlags(TcpFlag.SYN | TcpFlag.ACK, TcpFlag.SYN), "SYN,ACK/SYN"),
        (FLAGS, "ALL/none", TcpFlags(TcpFlag(0x3F), TcpFlag(0)), "ALL/NONE"),
    ],
)
def test_a_text_means_a_value_that_has_one_canonical_text(
    kind: ValueType, text: str, value: Value, printed: str
) -> None:
    assert kind.read(text) == value
    assert kind.write(value) == printed
    assert kind.read(printed) == value


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (UINT8, "256", "'256' is out of range, wanted 0 to 255"),
        (UINT8, "-1", "'-1' is not a number, wanted 0 to 255"),
        (UINT8, "", "'' is not a number"),
        (UINT8, "1 ", "not a number"),
        (UINT8, "\N{ARABIC-INDIC DIGIT ONE}", "not a number"),
        (UINT8, "9" * 5000, "not a number"),
        (UINT16, "10000000", "out of range"),
        (COUNT, "0x10", "'0x10' is not a number, wanted 0 to 65535"),
        (VLAN_ID, "4096", "wanted 0 to 4095"),
        (PROTOCOL_ID, "0x5ff", "wanted 0x600 to 0xffff or arp, rarp, ipv4, ipv6, vlan"),
        (ENCAPSULATED, "0x3b", "wanted 60 to 65535 or arp"),
        (MAC, "1:2:3:4:5", "not a MAC address"),
        (MAC, "1:2:3:4:5:123", "not a MAC address"),
        (MAC_MASK, "ff:00:ff:00:00:00", "a one follows a zero"),
        (IPV4, "300.1.1.1", "'300.1.1.1' is not an IPv4 address"),
        (IPV4, "::1", "not an IPv4 address"),
        (IPV6, "10.0.0.1", "not an IPv6 address"),
        (IPV6, "fe80::1%eth0", "not an IPv6 address"),
        (IPV4_MASK, "33", "wanted 0 to 32"),
        (IPV4_MASK, "255.0.255.0", "a one follows a zero"),
        (IPV4_MASK, "ff::", "not a mask"),
        (IPV6_MASK, "129", "wanted 0 to 128"),
        (BOOLEAN, "TRUE", "'TRUE' is not true or false"),
        (BOOLEAN, "maybe", "'maybe' is not true or false"),
        (SET, "a" * 32, "not the name of a set"),
        (SET, "a/b", "not the name of a set"),
        (SIDES, "src,dst,src,dst,src,dst,src", "1 to 6 of src and dst"),
        (SIDES, "", "1 to 6 of src and dst"),
        (STATES, "NEW,OLD", "not a list of states"),
        (FLAGS, "SYN", "has no slash"),
        (FLAGS, "URG,PSH,RST,FIN/", "has no flags at one side, wanted NONE for none"),
        (FLAGS, "/SYN", "has no flags at one side"),
        (FLAGS, "SYN/SYM", "no such TCP flag: 'SYM'"),
    ],
)
def test_what_is_not_of_its_type_is_refused_with_what_was_wanted(
    kind: ValueType, text: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why.replace("'", ".")):
        kind.read(text)


def test_lenient_takes_any_other_word_for_false() -> None:
    assert BOOLEAN.read_lenient("maybe") is False
    assert BOOLEAN.read_lenient("TRUE") is False
    assert BOOLEAN.read_lenient("yes") is True
    with pytest.raises(ValueError, match="not a number"):
        UINT8.read_lenient("maybe")


def test_lenient_takes_no_flags_for_none() -> None:
    assert FLAGS.read_lenient("SYN/") == TcpFlags(TcpFlag.SYN, TcpFlag(0))
    assert FLAGS.read_lenient("/") == TcpFlags(TcpFlag(0), TcpFlag(0))


def test_a_message_quotes_hostile_text_escaped_and_short() -> None:
    assert shown("\x1b[2J") == r"'\x1b[2J'"
    assert len(shown("x" * 10**6)) < 100


ALL_TYPES = sorted(
    {each.type for protocol in PROTOCOLS.values() for each in protocol.attributes},
    key=lambda kind: kind.name,
)


@pytest.mark.parametrize("kind", ALL_TYPES, ids=lambda kind: str(kind.name))
@given(text=st.text(max_size=30) | st.from_regex(r"[0-9a-fA-FxX:./, ]{0,20}", fullmatch=True))
def test_any_text_is_refused_or_has_a_canonical_form(kind: ValueType, text: str) -> None:
    try:
        value = kind.read(text)
    except ValueError:
        return

    assert kind.read(kind.write(value)) == value
