"""Who may have which vif, use it, and administer; each refusal says by what."""

from collections.abc import Mapping
from ipaddress import IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

import attrs
import pytest

from multiplexer.binding import Fault
from multiplexer.config import parse_config
from multiplexer.daemon.authorize import (
    Caller,
    HostFacts,
    Owner,
    Refused,
    build_vifs,
    check_new_vif,
    find_owner,
    keep_vifs,
    may_administer,
    may_use,
)
from multiplexer.host_port import mac_of
from multiplexer.model import (
    MAX_VIFS,
    Config,
    ConfigError,
    LinkLocal,
    OwnLimits,
    Role,
    Trust,
    Vif,
    stable_mac,
)
from pfinet_proto.control import OwnLimitsInfo, TrustInfo, VifCreate
from pfinet_proto.values import MacAddress, VifName

TEXT = """\
[daemon]
admins = ["ada", "1500", "@wheel", "@10"]
owner_uids = ["1000-1999"]
[uplink.wire]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/16", "fd00:1::/48"]
[network.lan]
uplink = "wire"
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
gateways = ["10.0.1.1", "fd00:1::1"]
reserved = ["10.0.1.2-10.0.1.9", "fd00:1::ff00/120"]
limits = { frames_per_s = 7 }
[network.island]
prefixes = ["192.168.0.0/24", "fd00:9::/48"]
"""
CONFIG = parse_config(TEXT, "m.toml")

NIC_MAC = MacAddress.parse("02:00:00:00:00:01")
FACTS = HostFacts(
    addresses=(ip_address("10.0.1.200"), ip_address("fe80::ff:fe00:99%eth0")),
    nic_macs={"wire": NIC_MAC},
    users={"alice": Owner(1001, "alice"), "1003": Owner(1003, "carol"), "root": Owner(0, "root")},
)
ALICE = Owner(1001, "alice")
ID = "0123456789abcdef" * 2


def request(name: str = "new", **changes: object) -> VifCreate:
    """Return a request for 10.0.1.10 that would be granted, but for *changes*.

    Addresses and prefixes are given as text, and split at spaces.
    """
    return VifCreate(
        name=VifName(name),
        addresses=tuple(map(ip_interface, str(changes.get("addresses", "10.0.1.10/24")).split())),
        prefixes=tuple(map(ip_network, str(changes.get("prefixes", "")).split())),
        mac=MacAddress.parse(str(changes["mac"])) if "mac" in changes else None,
        network=str(changes["network"]) if "network" in changes else None,
    )


def owner(changes: Mapping[str, object]) -> Owner | Fault:
    return find_owner(str(changes.get("owner", "alice")), FACTS)


def granted(name: str = "new", *existing: Vif, **changes: object) -> Vif:
    return check_new_vif(CONFIG, existing, request(name, **changes), owner(changes), FACTS, ID)


def refusal(*existing: Vif, **changes: object) -> Refused:
    name = str(changes.pop("name", "new"))
    with pytest.raises(Refused) as caught:
        check_new_vif(CONFIG, existing, request(name, **changes), owner(changes), FACTS, ID)
    return caught.value


def test_a_granted_vif_has_all_that_was_asked_for_and_the_limits_of_its_network() -> None:
    vif = granted(
        "new",
        addresses="10.0.1.10/24 fd00:1::10/64",
        prefixes="fd00:1::a:0/112",
        mac="02:00:00:00:00:0a",
    )

    assert vif == Vif(
        id=ID,
        name=VifName("new"),
        owner_uid=1001,
        owner_name="alice",
        network="lan",
        mac=MacAddress.parse("02:00:00:00:00:0a"),
        addresses=(ip_interface("10.0.1.10/24"), ip_interface("fd00:1::10/64")),
        prefixes=(ip_network("fd00:1::a:0/112"),),
        static=False,
    )


def test_a_vif_has_the_limits_and_the_trust_that_were_asked_for() -> None:
    vif = check_new_vif(
        CONFIG,
        (),
        attrs.evolve(
            request(),
            limits=OwnLimitsInfo(bytes_per_s=5),
            trust=TrustInfo(("router", "dhcp-server"), (0x88CC,), "first-come", True),
        ),
        ALICE,
        FACTS,
        ID,
    )

    assert vif.limits == OwnLimits(bytes_per_s=5)
    assert vif.trust == Trust(frozenset(Role), (0x88CC,), LinkLocal.FIRST_COME, True)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"limits": OwnLimitsInfo(-1)}, "frames_per_s is -1, wanted 0 to 8000000000"),
        (
            {"trust": TrustInfo(("king",))},
            "role is 'king', wanted router or dhcp-server",
        ),
        (
            {"trust": TrustInfo(link_local="any")},
            "link-local is 'any', wanted eui64 or first-come",
        ),
        (
            {"trust": TrustInfo(ethertypes=(0x05FF,))},
            "EtherType is 0x05ff, wanted 0x0600 to 0xffff",
        ),
        (
            {"trust": TrustInfo(ethertypes=(0x88CC, 0x0806))},
            "EtherType 0x0806 is ARP, which every vif may send",
        ),
        ({"trust": TrustInfo(ethertypes=(0x88CC,) * 9)}, "9 EtherTypes, wanted at most 8"),
    ],
)
def test_limits_and_trust_that_cannot_be_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as caught:
        check_new_vif(CONFIG, (), attrs.evolve(request(), **asked), ALICE, FACTS, ID)

    assert (caught.value.code, caught.value.message) == ("invalid", message)


def test_a_vif_without_a_mac_has_the_stable_one_of_its_networks_nic() -> None:
    assert granted("new").mac == stable_mac(NIC_MAC, VifName("new"))
    isolated = granted("new", addresses="192.168.0.2/24")
    assert isolated.mac == stable_mac(None, VifName("new"))


def test_an_owner_given_by_number_has_a_name_only_if_the_system_knows_one() -> None:
    unknown, known = granted(owner="1002"), granted(owner="1003")

    assert (unknown.owner_uid, unknown.owner_name) == (1002, None)
    assert (known.owner_uid, known.owner_name) == (1003, "carol")


def test_a_vif_may_have_an_address_inside_its_own_prefix() -> None:
    granted(addresses="10.0.1.65/24", prefixes="10.0.1.64/28")


LAN = 'network "lan"'
REFUSED: dict[str, tuple[dict[str, object], str, str]] = {
    "a reserved address": (
        {"addresses": "10.0.1.9/24"},
        "conflict",
        f"address 10.0.1.9 is in the reserved range 10.0.1.2-10.0.1.9 of {LAN}",
    ),
    "a prefix over a reserved range": (
        {"addresses": "", "prefixes": "fd00:1::f000/116"},
        "conflict",
        f"prefix fd00:1::f000/116 overlaps the reserved range fd00:1::ff00-fd00:1::ffff of {LAN}",
    ),
    "no address at all": (
        {"addresses": ""},
        "invalid",
        'vif "new" has no address and no prefix',
    ),
    "outside every network": (
        {"addresses": "10.0.2.10/24"},
        "invalid",
        "address 10.0.2.10 is outside every network",
    ),
    "a prefix wider than its network": (
        {"addresses": "", "prefixes": "10.0.0.0/16"},
        "invalid",
        "prefix 10.0.0.0/16 is outside every network",
    ),
    "outside the named network": (
        {"network": "island"},
        "invalid",
        'address 10.0.1.10 is in network "lan",'
        ' the vif in "island" (192.168.0.0/24 and fd00:9::/48)',
    ),
    "in two networks": (
        {"addresses": "10.0.1.10/24 192.168.0.10/24"},
        "invalid",
        'address 192.168.0.10 is in network "island",'
        ' the vif in "lan" (10.0.1.0/24 and fd00:1::/64)',
    ),
    "an unknown network": (
        {"network": "moon"},
        "not_found",
        "no network is named 'moon'",
    ),
    "a shorter length": (
        {"addresses": "10.0.1.10/16"},
        "invalid",
        f"address 10.0.1.10 has length /16, wanted /24 as in {LAN}",
    ),
    "a host's length": (
        {"addresses": "fd00:1::10/128"},
        "invalid",
        f"address fd00:1::10 has length /128, wanted /64 as in {LAN}",
    ),
    "a network address": (
        {"addresses": "10.0.1.0/24"},
        "invalid",
        "address 10.0.1.0 is the network address of 10.0.1.0/24",
    ),
    "a broadcast address": (
        {"addresses": "10.0.1.255/24"},
        "invalid",
        "address 10.0.1.255 is the broadcast address of 10.0.1.0/24",
    ),
    "an anycast address": (
        {"addresses": "fd00:1::/64"},
        "invalid",
        "address fd00:1:: is the subnet-router anycast address of fd00:1::/64",
    ),
    "a prefix with a broadcast address": (
        {"addresses": "", "prefixes": "10.0.1.240/28"},
        "invalid",
        "prefix 10.0.1.240/28 holds 10.0.1.255, the broadcast address of 10.0.1.0/24",
    ),
    "multicast": (
        {"addresses": "224.0.0.5/24"},
        "invalid",
        "address 224.0.0.5 is multicast",
    ),
    "loopback": ({"addresses": "127.0.0.1/8"}, "invalid", "address 127.0.0.1 is loopback"),
    "loopback beside a good one": (
        {"addresses": "10.0.1.10/24 ::1/128"},
        "invalid",
        "address ::1 is loopback",
    ),
    "unspecified": (
        {"addresses": "0.0.0.0/0"},
        "invalid",
        "address 0.0.0.0 is the unspecified address",
    ),
    "link-local": (
        {"addresses": "fe80::5/64"},
        "invalid",
        "address fe80::5 is link-local",
    ),
    "limited broadcast": (
        {"addresses": "255.255.255.255/32"},
        "invalid",
        "address 255.255.255.255 is the broadcast address",
    ),
    "the gateway": (
        {"addresses": "10.0.1.1/24"},
        "conflict",
        f"address 10.0.1.1 is the gateway of {LAN}",
    ),
    "a prefix with the gateway": (
        {"addresses": "", "prefixes": "10.0.1.1/32"},
        "conflict",
        f"prefix 10.0.1.1/32 is the gateway of {LAN}",
    ),
    "an address of the host": (
        {"addresses": "10.0.1.200/24"},
        "conflict",
        "address 10.0.1.200 is an address of the host",
    ),
    "a prefix with an address of the host": (
        {"addresses": "", "prefixes": "10.0.1.192/27"},
        "conflict",
        "prefix 10.0.1.192/27 holds 10.0.1.200, an address of the host",
    ),
    "the NIC's MAC": (
        {"mac": "02:00:00:00:00:01"},
        "conflict",
        'MAC 02:00:00:00:00:01 is that of the NIC of uplink "wire"',
    ),
    "a group MAC": (
        {"mac": "33:33:00:00:00:01"},
        "invalid",
        "MAC 33:33:00:00:00:01 is a group address",
    ),
    "no MAC": (
        {"mac": "00:00:00:00:00:00"},
        "invalid",
        "MAC 00:00:00:00:00:00 is no address",
    ),
    "one address twice": (
        {"addresses": "10.0.1.10/24 10.0.1.10/24"},
        "invalid",
        "address 10.0.1.10 is given twice",
    ),
    "a prefix in a prefix": (
        {"prefixes": "10.0.1.64/28 10.0.1.72/29"},
        "invalid",
        "prefix 10.0.1.72/29 overlaps prefix 10.0.1.64/28",
    ),
    "more addresses than a row holds": (
        {"addresses": " ".join(f"10.0.1.{n}/24" for n in range(10, 27))},
        "invalid",
        "17 IPv4 addresses and prefixes, those that stacks make of the MAC included;"
        " a vif has at most 16",
    ),
    "more addresses than a row holds with the derived ones": (
        {"addresses": " ".join(f"fd00:1::1:{n}/64" for n in range(31))},
        "invalid",
        "33 IPv6 addresses and prefixes, those that stacks make of the MAC included;"
        " a vif has at most 32",
    ),
    "an unknown user": ({"owner": "mallory"}, "invalid", "no user is named 'mallory'"),
    "a uid out of range": (
        {"owner": "2000"},
        "invalid",
        "uid 2000 may own no vif, wanted one of 1000-1999 (daemon.owner_uids)",
    ),
    "root": (
        {"owner": "root"},
        "invalid",
        "uid 0 may own no vif, wanted one of 1000-1999 (daemon.owner_uids)",
    ),
    "the overflow uid": ({"owner": "65534"}, "invalid", "uid 65534 is nobody's own"),
    "a uid that is none": ({"owner": "4294967295"}, "invalid", "no user is named '4294967295'"),
}


@pytest.mark.parametrize(("changes", "code", "message"), REFUSED.values(), ids=REFUSED)
def test_a_binding_that_cannot_be_is_refused_by_what(
    changes: dict[str, object], code: str, message: str
) -> None:
    refused = refusal(**changes)

    assert (refused.code, str(refused)) == (code, message)


def test_a_mac_whose_link_local_address_is_the_hosts_is_refused() -> None:
    """The host's address has a scope, which is not part of it on the wire."""
    refused = refusal(mac="02:00:00:00:00:99")

    assert str(refused) == (
        "address fe80::ff:fe00:99, which stacks make of the MAC, is an address of the host"
    )


def test_the_mac_of_the_host_in_the_network_is_no_vifs() -> None:
    text = TEXT.replace("[network.lan]\n", "[network.lan]\nhost = true\n")
    wanted = request(mac=mac_of("lan"))

    with pytest.raises(Refused, match="is the host's in network"):
        check_new_vif(parse_config(text, "m.toml"), (), wanted, ALICE, FACTS, ID)


MAC_A = MacAddress.parse("02:00:00:00:00:0a")
EUI_A = MAC_A.eui64(IPv6Network("fd00:1::/64"))


def alice() -> Vif:
    return granted(
        "alice", addresses="10.0.1.10/24 fd00:1::10/64", prefixes="fd00:1::a:0/112", mac=MAC_A
    )


CLASHES: dict[str, tuple[dict[str, object], str]] = {
    "name": (
        {"name": "alice", "addresses": "10.0.1.11/24"},
        'there is a vif "alice" already',
    ),
    "MAC": (
        {"addresses": "10.0.1.11/24", "mac": MAC_A},
        f'MAC {MAC_A} is that of vif "alice"',
    ),
    "MAC in another network": (
        {"addresses": "192.168.0.11/24", "mac": MAC_A},
        f'MAC {MAC_A} is that of vif "alice"',
    ),
    "IPv4 address": (
        {"addresses": "10.0.1.11/24 10.0.1.10/24"},
        'address 10.0.1.10 is that of vif "alice"',
    ),
    "IPv6 address": (
        {"addresses": "fd00:1::10/64"},
        'address fd00:1::10 is that of vif "alice"',
    ),
    "address as a prefix": (
        {"addresses": "", "prefixes": "10.0.1.10/32"},
        'prefix 10.0.1.10/32 is that of vif "alice"',
    ),
    "address in a prefix": (
        {"addresses": "fd00:1::a:1/64"},
        'address fd00:1::a:1 overlaps prefix fd00:1::a:0/112 of vif "alice"',
    ),
    "prefix around an address": (
        {"addresses": "", "prefixes": "10.0.1.10/31"},
        'prefix 10.0.1.10/31 overlaps address 10.0.1.10 of vif "alice"',
    ),
    "prefix around a prefix": (
        {"addresses": "", "prefixes": "fd00:1::8:0/109"},
        'prefix fd00:1::8:0/109 overlaps prefix fd00:1::a:0/112 of vif "alice"',
    ),
    "derived address": (
        {"addresses": f"{EUI_A}/64"},
        f'address {EUI_A} is that which stacks of vif "alice" make of its MAC {MAC_A}',
    ),
    "prefix around a derived address": (
        {"addresses": "", "prefixes": f"{ip_network((int(EUI_A) & ~0xFF, 120))}"},
        f"prefix {ip_network((int(EUI_A) & ~0xFF, 120))} overlaps address {EUI_A},"
        ' which stacks make of the MAC, of vif "alice"',
    ),
}


@pytest.mark.parametrize(("changes", "message"), CLASHES.values(), ids=CLASHES)
def test_what_another_vif_has_is_refused_by_whose_it_is(
    changes: dict[str, object], message: str
) -> None:
    refused = refusal(alice(), **changes)

    assert (refused.code, str(refused)) == ("conflict", message)


def test_a_mac_whose_derived_address_another_vif_was_given_is_refused() -> None:
    squatter = granted("squatter", addresses=f"{EUI_A}/64")

    assert str(refusal(squatter, addresses="fd00:1::10/64", mac=MAC_A)) == (
        f'address {EUI_A}, which stacks make of the MAC, is that of vif "squatter"'
    )


def test_without_autoconf_an_address_that_looks_derived_is_free() -> None:
    config = parse_config(TEXT.replace("reserved", "autoconf = false\nreserved"), "m.toml")
    asked = request("holder", addresses="fd00:1::10/64", mac=MAC_A)
    holder = check_new_vif(config, (), asked, ALICE, FACTS, ID)

    other = request(addresses=f"{EUI_A}/64")

    assert check_new_vif(config, [holder], other, ALICE, FACTS, ID).addresses == other.addresses


def test_the_vif_that_the_datapath_has_no_port_for_is_refused() -> None:
    vifs = [
        attrs.evolve(granted(), name=VifName(f"v{n}"), mac=stable_mac(None, VifName(f"v{n}")))
        for n in range(MAX_VIFS)
    ]

    refused = refusal(*vifs, addresses="10.0.1.11/24")

    assert (refused.code, str(refused)) == (
        "unavailable",
        f"there are {MAX_VIFS} vifs, and no more can be",
    )


# ---- static vifs, and those of an earlier run ----

STATIC = """\
[vif.one]
owner = "alice"
addresses = ["10.0.1.10/24"]
limits = { bytes_per_s = 5 }
[vif.two]
owner = "0"
network = "island"
prefixes = ["fd00:9:0:5::/64"]
"""
IDS = {VifName("one"): "1" * 32, VifName("two"): "2" * 32}


def test_static_vifs_are_built_from_the_file_and_their_owners_may_be_anybody() -> None:
    vifs = build_vifs(parse_config(TEXT + STATIC, "m.toml"), FACTS, IDS)

    assert vifs == (
        Vif(
            id="1" * 32,
            name=VifName("one"),
            owner_uid=1001,
            owner_name="alice",
            network="lan",
            mac=stable_mac(NIC_MAC, VifName("one")),
            addresses=(ip_interface("10.0.1.10/24"),),
            limits=OwnLimits(bytes_per_s=5),
            static=True,
        ),
        Vif(
            id="2" * 32,
            name=VifName("two"),
            owner_uid=0,
            owner_name=None,
            network="island",
            mac=stable_mac(None, VifName("two")),
            prefixes=(ip_network("fd00:9:0:5::/64"),),
            static=True,
        ),
    )


def test_what_only_the_system_knows_of_static_vifs_is_said_with_their_lines() -> None:
    text = TEXT + STATIC.replace("10.0.1.10", "10.0.1.200").replace('"0"', '"bob"')
    text += 'mac = "02:00:00:00:00:01"\n'

    with pytest.raises(ConfigError) as caught:
        build_vifs(parse_config(text, "m.toml"), FACTS, IDS)

    assert caught.value.problems == (
        "m.toml:18: vif.one.addresses: address 10.0.1.200 is an address of the host",
        "m.toml:21: vif.two.owner: no user is named 'bob'",
        'm.toml:24: vif.two.mac: MAC 02:00:00:00:00:01 is that of the NIC of uplink "wire"',
    )


def test_of_an_earlier_runs_vifs_those_are_kept_that_the_file_still_allows() -> None:
    config = parse_config(TEXT + STATIC, "m.toml")
    static = build_vifs(config, FACTS, IDS)
    good = granted("good", addresses="10.0.1.11/24")
    twin = granted("twin", addresses="10.0.1.12/24", mac=good.mac)
    stored = [
        good,
        twin,
        granted("taken", addresses="10.0.1.10/24"),
        attrs.evolve(granted("lost", addresses="10.0.1.13/24"), network="gone"),
        attrs.evolve(granted("orphan", addresses="10.0.1.14/24"), owner_uid=5),
        attrs.evolve(granted("one", addresses="10.0.1.15/24")),
    ]

    kept, refused = keep_vifs(config, static, stored, FACTS)

    assert kept == (good,)
    assert {str(vif.name): str(why) for vif, why in refused} == {
        "twin": f'MAC {good.mac} is that of vif "good"',
        "taken": 'address 10.0.1.10 is that of vif "one"',
        "lost": "no network is named 'gone'",
        "orphan": "uid 5 may own no vif, wanted one of 1000-1999 (daemon.owner_uids)",
        "one": 'there is a vif "one" already',
    }


# ---- callers ----


@pytest.mark.parametrize(
    ("caller", "allowed"),
    [
        (Caller(0, 0), True),
        (Caller(1001, 1001, "ada"), True),
        (Caller(1500, 1500), True),
        (Caller(1001, 1001, "alice", groups=frozenset({"wheel"})), True),
        (Caller(1001, 10, "alice"), True),
        (Caller(1001, 1001, "alice", gids=frozenset({4, 10})), True),
        (Caller(1001, 1001, "alice"), False),
        (Caller(1001, 1500, "wheel"), False),
        (Caller(10, 1001, "alice", groups=frozenset({"ada", "1500"})), False),
        (Caller(65534, 10, "ada", groups=frozenset({"wheel"})), False),
    ],
)
def test_root_and_those_named_in_admins_administer(caller: Caller, allowed: bool) -> None:
    assert may_administer(CONFIG, caller) is allowed


def test_nobody_but_root_administers_where_no_admins_are_named() -> None:
    assert may_administer(Config(), Caller(0, 0))
    assert not may_administer(Config(), Caller(1000, 0, "root", groups=frozenset({"root"})))


@pytest.mark.parametrize(
    ("caller", "allowed"),
    [
        (Caller(1001, 1001, "alice"), True),
        (Caller(1001, 1001, "bob"), False),
        (Caller(1001, 1001, None), False),
        (Caller(1002, 1001, "alice"), False),
        (Caller(0, 0, "root"), False),
    ],
)
def test_a_vif_is_its_owners_by_uid_and_by_name(caller: Caller, allowed: bool) -> None:
    """A uid that went to somebody else does not bring its first user's vifs along."""
    assert may_use(granted(), caller) is allowed


def test_a_vif_whose_owner_has_no_name_is_its_owners_by_uid() -> None:
    vif = granted(owner="1002")

    assert may_use(vif, Caller(1002, 1))
    assert may_use(vif, Caller(1002, 1, "dora"))
    assert not may_use(vif, Caller(1001, 1))


def test_the_overflow_uid_uses_nothing() -> None:
    """It is what the kernel says of anybody whose uid is not mapped here."""
    vif = attrs.evolve(granted(), owner_uid=65534, owner_name=None)

    assert not may_use(vif, Caller(65534, 65534))
