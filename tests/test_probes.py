"""The frames that ask for addresses and announce them, against scapy and the datapath's checks."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

from multiplexer.datapath.engine import Engine
from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.probes import announcements, askable, questions
from pfinet_proto.values import MacAddress
from tests.datapath.core import network_row, vif_row
from tests.reference import Network, Vif

MAC = MacAddress.parse("52:54:00:00:00:01")
IPV4, IPV6 = ip_address("10.0.0.5"), ip_address("fd00::12:3456")


def test_an_arp_probe_names_no_sender() -> None:
    (frame,) = questions(MAC, [IPV4])

    expected = Ether(src=str(MAC), dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=str(MAC), psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst="10.0.0.5"
    )
    assert frame == bytes(expected)
    assert frame.hex(" ", -6) == (
        "ffffffffffff 525400000001 080600010800 060400015254 000000010000"
        " 000000000000 00000a000005"
    )


def test_a_solicitation_of_duplicate_address_detection_has_no_source_and_no_option() -> None:
    (frame,) = questions(MAC, [IPV6])

    expected = (
        Ether(src=str(MAC), dst="33:33:ff:12:34:56")
        / IPv6(src="::", dst="ff02::1:ff12:3456", hlim=255)
        / ICMPv6ND_NS(tgt=str(IPV6))
    )
    assert frame == bytes(expected)


def test_an_announcement_says_who_has_the_address() -> None:
    arp, advertisement = announcements(MAC, [IPV4, IPV6])

    assert arp == bytes(
        Ether(src=str(MAC), dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=1, hwsrc=str(MAC), psrc="10.0.0.5", hwdst="00:00:00:00:00:00", pdst="10.0.0.5")
    )
    assert advertisement == bytes(
        Ether(src=str(MAC), dst="33:33:00:00:00:01")
        / IPv6(src=str(IPV6), dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=0, S=0, O=1, tgt=str(IPV6))
        / ICMPv6NDOptDstLLAddr(lladdr=str(MAC))
    )


def test_addresses_and_narrow_prefixes_are_asked_for() -> None:
    addresses = [ip_interface("10.0.0.5/24")]
    prefixes = [ip_network("10.0.0.64/28"), ip_network("10.0.0.128/27"), ip_network("fd00::/64")]

    assert askable(addresses, prefixes) == (IPV4, *ip_network("10.0.0.64/28"))


@pytest.mark.parametrize("make", [questions, announcements])
def test_the_datapath_lets_a_vif_ask_for_what_is_its_own_and_nothing_else(make: object) -> None:
    assert callable(make)
    own = (IPv4Network("10.0.0.5/32"), IPv6Network("fd00::12:3456/128"))
    engine = Engine()
    try:
        engine.set_network(network_row(Network(id=0)))
        engine.set_vif(
            64, vif_row(Vif(port=64, network=0, mac=MAC.packed, prefixes=own), mtu=1500)
        )
        for frame in make(MAC, [IPV4, IPV6]):
            engine.inject(64, frame)
        lawful = engine.counters(64).drops
        foreign = (ip_address("10.0.0.6"), ip_address("fd00::6"))
        for frame in announcements(MAC, foreign):
            engine.inject(64, frame)
        drops = engine.counters(64).drops
    finally:
        engine.close()

    assert not any(lawful)
    assert {VERDICTS[i]: n for i, n in enumerate(drops) if n} == {"arp_sender": 1, "ipv6_src": 1}
