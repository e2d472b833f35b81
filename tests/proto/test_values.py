"""MAC addresses and names of vifs."""

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given

from pfinet_proto.values import MacAddress, VifName
from tests.proto import strategies


@given(strategies.macs)
def test_a_mac_survives_its_text(mac: MacAddress) -> None:
    assert MacAddress.parse(str(mac)) == mac


def test_a_mac_is_read_in_capitals_and_written_in_small_letters() -> None:
    assert str(MacAddress.parse("52:54:00:AB:CD:EF")) == "52:54:00:ab:cd:ef"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "52-54-00-12-34-56",
        "525400123456",
        "52:54:0:12:34:56",
        "52:54:00:12:34:5g",
        " 52:54:00:12:34:56",
        "52:54:00:12:34:56\n",
    ],
)
def test_what_is_no_mac_is_refused_by_what_it_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address") as caught:
        MacAddress.parse(text)

    assert repr(text) in str(caught.value)


def test_a_mac_has_six_bytes() -> None:
    with pytest.raises(ValueError, match="5 bytes, not 6"):
        MacAddress(bytes(5))


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("ff:ff:ff:ff:ff:ff", True),
        ("01:80:c2:00:00:00", True),
        ("33:33:00:00:00:01", True),
        ("52:54:00:12:34:56", False),
        ("02:00:00:00:00:01", False),
    ],
)
def test_the_lowest_bit_of_the_first_byte_makes_a_group(text: str, group: bool) -> None:
    assert MacAddress.parse(text).is_group is group


def test_the_link_local_address_is_that_of_rfc_4291() -> None:
    """Its appendix A makes of 34-56-78-9A-BC-DE the identifier 36-56-78-FF-FE-9A-BC-DE."""
    mac = MacAddress.parse("34:56:78:9a:bc:de")

    assert mac.link_local() == IPv6Address("fe80::3656:78ff:fe9a:bcde")


def test_autoconfiguration_needs_a_prefix_of_64_bits() -> None:
    mac = MacAddress.parse("52:54:00:12:34:56")

    assert mac.eui64(IPv6Network("fd00:5::/64")) == IPv6Address("fd00:5::5054:ff:fe12:3456")
    with pytest.raises(ValueError, match="not a /64"):
        mac.eui64(IPv6Network("fd00:5::/56"))


@pytest.mark.parametrize("text", ["a", "0", "lab-1", "a-", "a" * 31])
def test_a_vif_name_is_kept_as_it_is(text: str) -> None:
    assert str(VifName.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "-a", "A", "a_b", "a.b", "a/b", "..", "a" * 32, "a\n", "ä", "a b", "a\0"]
)
def test_what_is_no_vif_name_is_refused(text: str) -> None:
    """A name becomes part of paths and of log lines."""
    with pytest.raises(ValueError, match="is not a vif name"):
        VifName.parse(text)


def test_values_are_equal_by_content_and_have_an_order() -> None:
    assert MacAddress(bytes(6)) == MacAddress.parse("00:00:00:00:00:00")
    assert len({VifName("a"), VifName("a")}) == 1
    assert sorted([VifName("b"), VifName("a")]) == [VifName("a"), VifName("b")]
