"""What `vif set` makes of a vif, and what it is refused for."""

from ipaddress import ip_interface, ip_network
from typing import Any

import attrs
import pytest

from multiplexer.config import parse_config
from multiplexer.daemon.amend import DEFAULTS, amended
from multiplexer.daemon.authorize import HostFacts, Owner, Refused, check_changed_vif
from multiplexer.model import LinkLocal, OwnLimits, Role, Trust, Vif, stable_mac
from pfinet_proto.control import OwnLimitsInfo, TrustChange, VifSet
from pfinet_proto.values import IPInterface, MacAddress, VifName

CONFIG = parse_config(
    """\
[daemon]
owner_uids = ["1000-1999"]
[uplink.wire]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/16", "fd00:1::/48"]
[network.lan]
uplink = "wire"
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
gateways = ["10.0.1.1"]
[network.island]
prefixes = ["192.168.0.0/24"]
""",
    "m.toml",
)
NIC_MAC = MacAddress.parse("02:00:00:00:00:01")
FACTS = HostFacts(
    nic_macs={"wire": NIC_MAC},
    users={"bob": Owner(1002, "bob"), "root": Owner(0, "root")},
)

FIVE, SIX, SEVEN = map(ip_interface, ("10.0.1.5/24", "10.0.1.6/24", "10.0.1.7/24"))
PREFIX = ip_network("fd00:1::5:0/112")
ONE = Vif(
    id="a" * 32,
    name=VifName("one"),
    owner_uid=1001,
    owner_name="alice",
    network="lan",
    mac=MacAddress.parse("52:54:00:00:00:0a"),
    addresses=(FIVE, SIX),
    prefixes=(PREFIX,),
    limits=OwnLimits(frames_per_s=5, bytes_per_s=6),
    trust=Trust(frozenset({Role.ROUTER}), (0x88CC,), LinkLocal.FIRST_COME, trusted_tap=True),
    grant="students",
)


def after(vif: Vif = ONE, **changes: Any) -> Vif:
    change = attrs.evolve(VifSet(ONE.name), **changes)
    return amended(CONFIG, vif, change, FACTS)


def refusal(vif: Vif = ONE, **changes: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        after(vif, **changes)
    return caught.value


def test_what_is_not_named_stays() -> None:
    assert after() == ONE


@pytest.mark.parametrize(
    ("changes", "addresses"),
    [
        ({"addresses": (SEVEN,)}, (SEVEN,)),
        ({"addresses": ()}, ()),
        ({"add_addresses": (SEVEN,)}, (FIVE, SIX, SEVEN)),
        ({"remove_addresses": (FIVE,)}, (SIX,)),
        ({"remove_addresses": (FIVE,), "add_addresses": (SEVEN,)}, (SIX, SEVEN)),
        ({"addresses": (SEVEN,), "add_addresses": (FIVE,)}, (SEVEN, FIVE)),
    ],
)
def test_addresses_are_replaced_removed_and_added(
    changes: dict[str, Any], addresses: tuple[IPInterface, ...]
) -> None:
    assert after(**changes) == attrs.evolve(ONE, addresses=addresses)


def test_prefixes_go_the_same_way_as_addresses() -> None:
    other = ip_network("fd00:1::6:0/112")

    assert after(add_prefixes=(other,)).prefixes == (PREFIX, other)
    assert after(remove_prefixes=(PREFIX,)).prefixes == ()
    assert after(prefixes=(other,)).prefixes == (other,)


def test_what_is_not_bound_cannot_be_removed() -> None:
    error = refusal(remove_addresses=(SEVEN,))

    assert (error.code, str(error)) == (
        "invalid",
        "10.0.1.7/24 is not bound, so it cannot be removed",
    )


def test_limits_change_one_by_one_and_go_back_to_the_networks() -> None:
    vif = after(limits=OwnLimitsInfo(copies_per_s=9), defaults=("bytes_per_s",))

    assert vif.limits == OwnLimits(frames_per_s=5, copies_per_s=9)


def test_a_limit_out_of_range_is_refused() -> None:
    assert "wanted 0 to" in str(refusal(limits=OwnLimitsInfo(frames_per_s=-1)))


def test_trust_changes_part_by_part_and_can_be_taken_away() -> None:
    more = after(trust=TrustChange(roles=("dhcp-server",))).trust
    none = after(trust=TrustChange((), (), None, False), defaults=("link_local",)).trust

    assert more == attrs.evolve(ONE.trust, roles=frozenset({Role.DHCP_SERVER}))
    assert none == Trust()
    assert after(trust=TrustChange(link_local="eui64")).trust.link_local is LinkLocal.EUI64


def test_a_role_that_there_is_not_is_refused() -> None:
    assert "wanted router or dhcp-server" in str(refusal(trust=TrustChange(roles=("king",))))


def test_the_mac_changes_and_goes_back_to_the_stable_one() -> None:
    other = MacAddress.parse("52:54:00:00:00:0b")

    assert after(mac=other).mac == other
    assert after(defaults=("mac",)).mac == stable_mac(NIC_MAC, ONE.id)
    granted_by_nobody = attrs.evolve(ONE, grant=None)
    assert after(granted_by_nobody, defaults=("mac",)).mac == stable_mac(NIC_MAC, ONE.name)


def test_another_owner_has_it_by_the_administrators_word_not_by_a_grant() -> None:
    vif = after(owner="bob")

    assert (vif.owner_uid, vif.owner_name, vif.grant) == (1002, "bob", None)


def test_the_same_owner_keeps_its_grant() -> None:
    same = HostFacts(users={"alice": Owner(1001, "alice")})

    assert amended(CONFIG, ONE, VifSet(ONE.name, owner="alice"), same) == ONE


def test_an_ephemeral_vif_gets_no_other_owner() -> None:
    error = refusal(attrs.evolve(ONE, ephemeral=True), owner="bob")

    assert (error.code, error.field) == ("conflict", "owner")


def test_an_unknown_owner_is_refused_by_name() -> None:
    assert str(refusal(owner="dave")) == "no user is named 'dave'"


def test_what_has_no_default_is_refused_saying_what_has() -> None:
    message = str(refusal(defaults=("owner",)))

    assert message == f"'owner' has no default, wanted one of {', '.join(DEFAULTS)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"mac": NIC_MAC, "defaults": ("mac",)},
        {"limits": OwnLimitsInfo(frames_per_s=0), "defaults": ("frames_per_s",)},
        {"trust": TrustChange(link_local="eui64"), "defaults": ("link_local",)},
    ],
)
def test_a_value_and_the_default_at_once_are_refused(changes: dict[str, Any]) -> None:
    assert str(refusal(**changes)).endswith("and the default, wanted one")


TWO = Vif("b" * 32, VifName("two"), 1002, None, "lan", MacAddress(b"\2\0\0\0\0\2"), (SEVEN,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"add_addresses": (SEVEN,)}, 'that of vif "two"'),
        ({"mac": TWO.mac}, 'that of vif "two"'),
        ({"mac": NIC_MAC}, "that of the NIC"),
        ({"addresses": (ip_interface("10.0.1.1/24"),)}, "the gateway"),
        ({"addresses": (ip_interface("192.168.0.5/24"),)}, 'is in network "island", the vif in'),
        ({"addresses": (), "prefixes": ()}, "has no address and no prefix"),
        ({"add_addresses": (FIVE,)}, "is given twice"),
        ({"owner": "root"}, "uid 0 may own no vif"),
    ],
)
def test_a_changed_vif_is_judged_as_a_new_one(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        check_changed_vif(CONFIG, (TWO,), after(**changes), FACTS)


def test_a_changed_vif_may_keep_what_it_has() -> None:
    check_changed_vif(CONFIG, (TWO,), after(remove_addresses=(FIVE,)), FACTS)
