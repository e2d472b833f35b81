"""The table of protocols: whole, and consistent in itself."""

import pytest

from multiplexer.policy.nwfilter.protocols import ALIASES, PROTOCOLS, Layer, Protocol

ADDRESSES = "srcipaddr srcipmask dstipaddr dstipmask"
MACS = "srcmacaddr srcmacmask dstmacaddr dstmacmask"
PORTS = "srcportstart srcportend dstportstart dstportend"
RANGES = "srcipfrom srcipto dstipfrom dstipto"
COMMON = "dscp connlimit-above state ipset ipsetflags"
ARP = (
    f"{MACS} hwtype protocoltype opcode arpsrcmacaddr arpdstmacaddr"
    " arpsrcipaddr arpsrcipmask arpdstipaddr arpdstipmask gratuitous comment"
)
L3 = f"{MACS} {ADDRESSES} {RANGES} {COMMON} comment"
PORTED = f"{MACS} {ADDRESSES} {RANGES} {COMMON} {PORTS} comment"
TCP = f"{MACS} {ADDRESSES} {RANGES} {COMMON} {PORTS} option flags comment"
ICMP = f"{MACS} {ADDRESSES} {RANGES} {COMMON} type code comment"

ATTRIBUTES = {
    "mac": f"{MACS} protocolid comment",
    "vlan": f"{MACS} vlanid encap-protocol comment",
    "stp": (
        "srcmacaddr srcmacmask type flags root-priority root-priority-hi"
        " root-address root-address-mask root-cost root-cost-hi"
        " sender-priority sender-priority-hi sender-address sender-address-mask"
        " port port-hi age age-hi max-age max-age-hi hello-time hello-time-hi"
        " forward-delay forward-delay-hi comment"
    ),
    "arp": ARP,
    "rarp": ARP,
    "ip": f"{MACS} {ADDRESSES} protocol {PORTS} dscp comment",
    "ipv6": f"{MACS} {ADDRESSES} protocol {PORTS} type typeend code codeend comment",
    "tcp": TCP,
    "tcp-ipv6": TCP,
    "udp": PORTED,
    "udp-ipv6": PORTED,
    "sctp": PORTED,
    "sctp-ipv6": PORTED,
    "icmp": ICMP,
    "icmpv6": ICMP,
    **{
        f"{name}{family}": L3
        for name in ("udplite", "esp", "ah", "igmp", "all")
        for family in ("", "-ipv6")
    },
}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda each: str(each.name))
def test_a_protocol_has_just_the_attributes_of_the_language(protocol: Protocol) -> None:
    assert [each.name for each in protocol.attributes] == ATTRIBUTES[protocol.name].split()


def test_every_protocol_of_the_language_is_there() -> None:
    assert PROTOCOLS.keys() == ATTRIBUTES.keys()


def test_layers_and_numbers_are_those_of_the_protocols() -> None:
    l2 = {name for name, each in PROTOCOLS.items() if each.layer is Layer.L2}

    assert l2 == {"mac", "vlan", "stp", "arp", "rarp", "ip", "ipv6"}
    assert (PROTOCOLS["igmp-ipv6"].ethertype, PROTOCOLS["igmp-ipv6"].number) == (0x86DD, 2)
    assert (PROTOCOLS["icmpv6"].ethertype, PROTOCOLS["icmpv6"].number) == (0x86DD, 58)
    assert (PROTOCOLS["all"].ethertype, PROTOCOLS["all"].number) == (0x0800, None)


def test_what_an_attribute_follows_stands_before_it() -> None:
    for protocol in PROTOCOLS.values():
        names = [each.name for each in protocol.attributes]
        assert len(set(names)) == len(names)
        for each in protocol.attributes:
            if each.follows is not None:
                assert names.index(each.follows) < names.index(each.name)


def test_mirrors_go_both_ways_within_a_protocol() -> None:
    for protocol in PROTOCOLS.values():
        for each in protocol.attributes:
            if each.mirror in protocol.table:
                assert protocol.table[each.mirror].mirror == each.name
                assert protocol.table[each.mirror].type == each.type

    tcp, arp = PROTOCOLS["tcp"].table, PROTOCOLS["arp"].table
    assert tcp["srcportend"].mirror == "dstportend"
    assert arp["arpdstipmask"].mirror == "arpsrcipmask"
    assert tcp["dscp"].mirror == "dscp"


def test_an_alias_leads_to_an_attribute_and_is_none_itself() -> None:
    for protocol, alias in ALIASES:
        assert alias not in PROTOCOLS[protocol].table
        assert PROTOCOLS[protocol].attribute(alias).name == ALIASES[protocol, alias]
