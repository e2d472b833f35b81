"""The stock filters: all there, what they say, and that each is a filter like any other."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import in_judging_order, resolve
from multiplexer.policy.nwfilter.syntax import Filter, Parameter, Reference
from multiplexer.stock import stock_filters, stock_text

NAMES = sorted(stock_filters())

PARAMETERS = (
    Parameter("MAC", ("52:54:00:12:34:56",)),
    Parameter("IP", ("10.0.0.1", "10.0.0.2")),
    Parameter("IPV6", ("fd00::1",)),
    Parameter("GATEWAY_MAC", ("52:54:00:00:00:01",)),
)

OUTLINE = """\
allow-arp arp -500
  500 accept inout
allow-dhcp ipv4 -700
  100 accept out ip srcipaddr='0.0.0.0' dstipaddr='255.255.255.255' protocol='udp' srcportstart='68' dstportstart='67'
  100 accept in ip protocol='udp' srcportstart='67' dstportstart='68'
allow-dhcp-server ipv4 -700
  100 accept out ip srcipaddr='0.0.0.0' dstipaddr='255.255.255.255' protocol='udp' srcportstart='68' dstportstart='67'
  100 accept in ip srcipaddr='$DHCPSERVER' protocol='udp' srcportstart='67' dstportstart='68'
allow-dhcpv6 ipv6 -600
  100 accept out ipv6 srcipaddr='fe80::' srcipmask='10' dstipaddr='ff02::1:2' protocol='udp' srcportstart='546' dstportstart='547'
  100 accept in ipv6 protocol='udp' srcportstart='547' dstportstart='546'
allow-dhcpv6-server ipv6 -600
  100 accept out ipv6 srcipaddr='fe80::' srcipmask='10' dstipaddr='ff02::1:2' protocol='udp' srcportstart='546' dstportstart='547'
  100 accept in ipv6 srcipaddr='$DHCPSERVER' protocol='udp' srcportstart='547' dstportstart='546'
allow-incoming-ipv4 ipv4 -700
  500 accept in
allow-incoming-ipv6 ipv6 -600
  500 accept in
allow-ipv4 ipv4 -700
  500 accept inout
allow-ipv6 ipv6 -600
  500 accept inout
clean-traffic root 0
  ref no-mac-spoofing
  ref no-ip-spoofing
  -650 accept out mac protocolid='ipv4'
  ref allow-incoming-ipv4
  ref no-arp-spoofing
  -500 accept inout mac protocolid='arp'
  ref no-other-l2-traffic
  ref qemu-announce-self
clean-traffic-gateway root 0
  ref no-mac-spoofing
  ref no-ip-spoofing
  ref no-arp-spoofing
  -500 accept inout mac protocolid='arp'
  500 accept in mac srcmacaddr='$GATEWAY_MAC'
  500 accept out mac dstmacaddr='$GATEWAY_MAC'
  ref no-other-l2-traffic
  ref qemu-announce-self
no-arp-ip-spoofing arp-ip -510
  400 return out arp arpsrcipaddr='$IP'
  1000 drop out
no-arp-mac-spoofing arp-mac -520
  350 return out arp arpsrcmacaddr='$MAC'
  1000 drop out
no-arp-spoofing root 0
  ref no-arp-mac-spoofing
  ref no-arp-ip-spoofing
no-ip-multicast ipv4 -700
  500 drop out ip dstipaddr='224.0.0.0' dstipmask='4'
no-ip-spoofing ipv4-ip -710
  100 return out ip srcipaddr='0.0.0.0' protocol='udp'
  500 return out ip srcipaddr='$IP'
  1000 drop out
no-ipv6-multicast ipv6 -600
  500 drop out ipv6 dstipaddr='ff00::' dstipmask='8'
no-ipv6-spoofing ipv6-ip -610
  100 return out ipv6 srcipaddr='fe80::' srcipmask='10' protocol='udp'
  500 return out ipv6 srcipaddr='$IPV6'
  1000 drop out
no-mac-broadcast ipv4 -700
  500 drop out mac dstmacaddr='ff:ff:ff:ff:ff:ff'
no-mac-spoofing mac -800
  500 return out mac srcmacaddr='$MAC'
  500 drop out mac
no-other-l2-traffic root 0
  1000 drop inout
no-other-rarp-traffic rarp -400
  1000 drop inout
qemu-announce-self root 0
  500 accept out mac protocolid='0x835'
  ref qemu-announce-self-rarp
  ref no-other-rarp-traffic
qemu-announce-self-rarp rarp -400
  500 accept out rarp srcmacaddr='$MAC' dstmacaddr='ff:ff:ff:ff:ff:ff' opcode='Request_Reverse' arpsrcmacaddr='$MAC' arpdstmacaddr='$MAC' arpsrcipaddr='0.0.0.0' arpdstipaddr='0.0.0.0'
  500 accept in rarp dstmacaddr='ff:ff:ff:ff:ff:ff' opcode='Request_Reverse' arpsrcmacaddr='$MAC' arpdstmacaddr='$MAC' arpsrcipaddr='0.0.0.0' arpdstipaddr='0.0.0.0'
"""  # noqa: E501 - a rule is a line

#: Filter, priority, action and direction in the order in which they are judged.
CLEAN_TRAFFIC = [
    "clean-traffic root -650 accept out",
    "clean-traffic root -500 accept inout",
    "qemu-announce-self root 500 accept out",
    "no-other-l2-traffic root 1000 drop inout",
    "no-ip-spoofing ipv4-ip 100 return out",
    "no-arp-mac-spoofing arp-mac 350 return out",
    "no-arp-ip-spoofing arp-ip 400 return out",
    "no-arp-ip-spoofing arp-ip 400 return out",
    "no-mac-spoofing mac 500 return out",
    "no-mac-spoofing mac 500 drop out",
    "no-ip-spoofing ipv4-ip 500 return out",
    "no-ip-spoofing ipv4-ip 500 return out",
    "allow-incoming-ipv4 ipv4 500 accept in",
    "qemu-announce-self-rarp rarp 500 accept out",
    "qemu-announce-self-rarp rarp 500 accept in",
    "no-ip-spoofing ipv4-ip 1000 drop out",
    "no-arp-mac-spoofing arp-mac 1000 drop out",
    "no-arp-ip-spoofing arp-ip 1000 drop out",
    "no-other-rarp-traffic rarp 1000 drop inout",
]


def outline(filter_: Filter) -> Iterator[str]:
    """Yield the lines of OUTLINE that say what *filter_* is."""
    yield f"{filter_.name} {filter_.chain} {filter_.priority}"
    for entry in filter_.entries:
        if isinstance(entry, Reference):
            yield f"  ref {entry.filter}"
        else:
            lines = canonical(Filter("x", entries=(entry,))).splitlines()[2:-2]
            said = "".join(f" {line.strip().strip('</>')}" for line in lines)
            yield f"  {entry.priority} {entry.action.value} {entry.direction.value}{said}"


def test_the_stock_filters_are_the_24_of_the_language_and_say_what_they_should() -> None:
    lines = [line for each in stock_filters().values() for line in outline(each)]

    assert "\n".join(lines) + "\n" == OUTLINE
    assert len(NAMES) == 24


@pytest.mark.parametrize("name", NAMES)
def test_a_stock_filter_is_named_as_its_file_and_has_no_uuid(name: str) -> None:
    filter_ = stock_filters()[name]

    assert (filter_.name, filter_.uuid) == (name, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_stock_filter_is_read_printed_and_laid_out(name: str) -> None:
    filter_ = stock_filters()[name]
    extra = [Parameter("DHCPSERVER", ("fd00::2" if "v6" in name else "10.0.0.254",))]

    assert parse_untrusted(stock_text(name).encode(), lenient=True) == filter_
    assert parse_untrusted(canonical(filter_).encode()) == filter_
    assert resolve(name, stock_filters(), (*PARAMETERS, *extra))


def test_clean_traffic_is_judged_in_this_order() -> None:
    rules = in_judging_order(resolve("clean-traffic", stock_filters(), PARAMETERS))

    assert [
        f"{each.filter} {each.chain} {each.priority} {each.action.value} {each.direction.value}"
        for each in rules
    ] == CLEAN_TRAFFIC


def test_what_is_no_stock_filter_has_no_text() -> None:
    with pytest.raises(KeyError):
        stock_text("../stock/clean-traffic")


def test_stock_filters_are_installed(tmp_path: Path) -> None:
    """They are data of the package, which an installation could forget."""
    asked = "from multiplexer.stock import stock_filters; print(*stock_filters())"
    command = [sys.executable, "-P", "-c", asked]

    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    assert done.stdout.split() == NAMES
