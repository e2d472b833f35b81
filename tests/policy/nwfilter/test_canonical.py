"""The one text of a filter: golden, and read back as the same filter."""

from hypothesis import given

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.syntax import Filter
from tests.support.nwfilters import documents

WRITTEN = b"""\
<?xml version='1.0'?>
<!-- what virsh would write at the top -->
<filter chain="ipv4-Own" name='golden'>
  <filterref filter='other'>
    <parameter name='PORT' value='80'/>
    <parameter value='10.0.0.2' name='IP'/>
    <parameter name='PORT' value='22'/>
  </filterref>
  <rule statematch='FALSE' action='accept' direction='in'>
    <tcp match='no' dstportstart='0x50' srcipaddr='$IP[ @0 ]' srcipmask='255.0.0.0'/>
    <tcp flags='ack,syn/SYN' state='related NEW' connlimit-above='010'/>
  </rule>
  <uuid> 6EF53069BA3494A0D33D17751B9B8CB1
  </uuid>
  <rule action='return' direction='out' priority='-7'>
    <mac protocolid='0X0806' srcmacaddr='0:1:2:A:b:C' dstmacaddr='$M[@2]' match='yes'/>
  </rule>
  <rule action='drop' direction='inout' priority='1000'/>
  <rule action='reject' direction='out'><stp match='no' port_hi='1f' msg-age='2' port='3'/></rule>
  <rule action='continue' direction='out'><all-ipv6/></rule>
  <rule action='drop' direction='out'>
    <arp comment='a &lt; "b" &amp; it&apos;s&#10;' gratuitous='1' opcode='2'
         arpsrcipaddr='$IP[3]'/>
  </rule>
</filter>
"""

PRINTED = """\
<filter name='golden' chain='ipv4-Own' priority='-700'>
  <uuid>6ef53069-ba34-94a0-d33d-17751b9b8cb1</uuid>
  <filterref filter='other'>
    <parameter name='IP' value='10.0.0.2'/>
    <parameter name='PORT' value='80'/>
    <parameter name='PORT' value='22'/>
  </filterref>
  <rule action='accept' direction='in' priority='500' statematch='false'>
    <tcp connlimit-above='10' state='NEW,RELATED' flags='SYN,ACK/SYN'/>
    <tcp match='no' srcipaddr='$IP' srcipmask='8' dstportstart='0x50'/>
  </rule>
  <rule action='return' direction='out' priority='-7'>
    <mac srcmacaddr='00:01:02:0a:0b:0c' dstmacaddr='$M[@2]' protocolid='arp'/>
  </rule>
  <rule action='drop' direction='inout' priority='1000'/>
  <rule action='reject' direction='out' priority='500'>
    <stp match='no' port='3' port-hi='0x1f' age='2'/>
  </rule>
  <rule action='continue' direction='out' priority='500'>
    <all-ipv6/>
  </rule>
  <rule action='drop' direction='out' priority='500'>
    <arp opcode='Reply' arpsrcipaddr='$IP[3]' gratuitous='true' comment='a &lt; &quot;b&quot; &amp; it&apos;s&#10;'/>
  </rule>
</filter>
"""  # noqa: E501 - it is printed so


def test_the_canonical_text_is_the_golden_one() -> None:
    assert canonical(parse_untrusted(WRITTEN)) == PRINTED
    assert canonical(parse_untrusted(PRINTED.encode())) == PRINTED


def test_blanks_of_a_comment_are_read_back() -> None:
    """Deviation: blanks."""
    text = b"<filter name='x'><rule action='drop' direction='in'><ip comment='a&#10;&#9;&#13;b'/></rule></filter>"  # noqa: E501
    filter_ = parse_untrusted(text)

    assert "comment='a&#10;&#9;&#13;b'" in canonical(filter_)
    assert parse_untrusted(canonical(filter_).encode()) == filter_


def test_positive_attributes_come_before_negated_ones() -> None:
    """Deviation: element-order."""
    lines = (
        "<filter name='x'><rule action='drop' direction='in'>",
        "<mac protocolid='arp' dstmacaddr='1:2:3:4:5:6'/><mac match='no' srcmacaddr='$MAC'/>",
        "</rule></filter>",
    )

    printed = canonical(parse_untrusted("".join(lines).encode())).splitlines()

    assert printed[2:4] == [
        "    <mac dstmacaddr='01:02:03:04:05:06' protocolid='arp'/>",
        "    <mac match='no' srcmacaddr='$MAC'/>",
    ]


def test_a_filter_without_anything_is_one_element() -> None:
    assert canonical(Filter("x")) == "<filter name='x' chain='root'/>\n"


def test_a_priority_is_printed_where_reading_would_miss_it() -> None:
    """Deviation: zero-priority."""
    printed = canonical(Filter("x", "arp", 0))

    assert printed == "<filter name='x' chain='arp' priority='0'/>\n"
    assert parse_untrusted(printed.encode()).priority == 0


@given(documents())
def test_reading_the_canonical_text_gives_the_filter(filter_: Filter) -> None:
    text = canonical(filter_)

    assert parse_untrusted(text.encode()) == filter_
    assert parse_untrusted(text.encode(), lenient=True) == filter_
    assert canonical(parse_untrusted(text.encode())) == text
