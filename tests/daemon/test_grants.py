"""What a grant lets a user make, and what each refusal says."""

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.config import parse_config
from multiplexer.daemon.authorize import Caller, HostFacts, Owner, Refused, check_new_vif
from multiplexer.daemon.grants import (
    borrowed_name,
    check_granted_vif,
    first_free,
    grants_of,
    why_not_delete,
)
from multiplexer.model import AddressRange, FilterBinding, OwnLimits, Vif, stable_mac
from pfinet_proto.control import OwnLimitsInfo, TrustInfo, VifCreate
from pfinet_proto.values import IPAddress, MacAddress, VifName

TEXT = """\
[daemon]
owner_uids = ["1000-1999"]
[uplink.wire]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/16"]
[network.lan]
uplink = "wire"
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
gateways = ["10.0.1.100"]
reserved = ["10.0.1.101"]
limits = { frames_per_s = 50 }
[network.island]
prefixes = ["192.168.0.0/24"]

[grant.students]
to = ["@students"]
network = "lan"
addresses = ["10.0.1.100-10.0.1.110", "fd00:1::1:0/112"]
vifs = 2
limits = { bytes_per_s = 1000, broadcast_per_s = 0 }
filter = "web"
parameters = { PORT = 80 }

[grant.islanders]
to = ["bob", "1003"]
network = "island"
addresses = ["192.168.0.0/30"]

[network.ring]
prefixes = ["10.0.3.0/24", "fd00:3::/64"]
[grant.routers]
to = ["erin"]
network = "ring"
addresses = ["fd00:3::/64", "10.0.3.0/24"]
prefixes = true
addresses_per_vif = 1
"""
CONFIG = parse_config(TEXT, "m.toml")

NIC_MAC = MacAddress.parse("02:00:00:00:00:01")
FACTS = HostFacts(addresses=(ip_address("10.0.1.102"),), nic_macs={"wire": NIC_MAC})
ID = "0123456789abcdef" * 2

ALICE = Caller(1001, 1001, "alice", groups=frozenset({"students"}))
BOB = Caller(1002, 1002, "bob", groups=frozenset({"students"}))
CAROL = Caller(1003, 1003, None)
DAVE = Caller(1004, 1004, "dave")
ERIN = Caller(1005, 1005, "erin")


def request(**changes: Any) -> VifCreate:
    """Return a request for a vif of whatever addresses, but for *changes*."""
    return attrs.evolve(VifCreate(VifName("new")), **changes)


def at(*addresses: str) -> VifCreate:
    return request(addresses=tuple(map(ip_interface, addresses)))


def granted(
    asked: VifCreate, caller: Caller = ALICE, *existing: Vif, avoid: tuple[IPAddress, ...] = ()
) -> Vif:
    return check_granted_vif(CONFIG, existing, asked, caller, FACTS, ID, avoid=avoid)


def refusal(asked: VifCreate, caller: Caller = ALICE, *existing: Vif) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        granted(asked, caller, *existing)
    return caught.value.code, caught.value.message


def existing(name: str, address: str, caller: Caller = ALICE, grant: str | None = None) -> Vif:
    """Return a vif that is there already."""
    made = check_new_vif(
        CONFIG,
        (),
        attrs.evolve(at(address), name=VifName(name)),
        Owner(caller.uid, caller.name),
        FACTS,
        ID,
    )
    return attrs.evolve(made, grant=grant)


@pytest.mark.parametrize(
    ("caller", "grants"),
    [
        (ALICE, ["students"]),
        (BOB, ["students", "islanders"]),
        (CAROL, ["islanders"]),
        (DAVE, []),
        (Caller(65534, 65534, "bob", groups=frozenset({"students"})), []),
    ],
)
def test_a_grant_is_for_those_whom_it_names(caller: Caller, grants: list[str]) -> None:
    assert [grant.name for grant in grants_of(CONFIG, caller)] == grants


def test_a_granted_vif_is_its_makers_and_has_limits_and_filter_of_the_grant() -> None:
    vif = granted(at("10.0.1.105/24"))

    assert vif == Vif(
        id=ID,
        name=VifName("new"),
        owner_uid=1001,
        owner_name="alice",
        network="lan",
        mac=stable_mac(NIC_MAC, ID),
        addresses=(ip_interface("10.0.1.105/24"),),
        limits=OwnLimits(bytes_per_s=1000, broadcast_per_s=0),
        grant="students",
        filter=FilterBinding.of("web", {"PORT": ["80"]}),
    )


def test_a_user_may_ask_for_less_than_the_grant_gives() -> None:
    asked = OwnLimitsInfo(frames_per_s=10, bytes_per_s=999, broadcast_per_s=7)

    assert granted(request(limits=asked)).limits == OwnLimits(10, 999, 7)


def test_a_user_may_name_itself_as_the_owner() -> None:
    assert granted(request(owner="alice")) == granted(request(owner="1001")) == granted(request())


def test_who_asks_for_no_address_gets_the_first_free_one_of_each_family() -> None:
    """.100 is the gateway, .101 reserved, .102 the host's, .103 another's."""
    other = existing("other", "10.0.1.103/24", DAVE)

    vif = granted(request(), ALICE, other, avoid=(ip_address("10.0.1.104"),))

    assert vif.addresses == (ip_interface("10.0.1.105/24"), ip_interface("fd00:1::1:0/64"))


def test_the_network_and_broadcast_addresses_are_not_free() -> None:
    assert granted(request(), CAROL).addresses == (ip_interface("192.168.0.1/24"),)


def test_the_first_grant_that_allows_it_is_taken() -> None:
    assert granted(request(), BOB).grant == "students"
    assert granted(request(network="island"), BOB).grant == "islanders"
    assert granted(at("192.168.0.2/24"), BOB).grant == "islanders"


@pytest.mark.parametrize(
    ("asked", "caller", "message"),
    [
        (
            request(),
            DAVE,
            "uid 1004 is no administrator (root, or of daemon.admins), and no grant names it",
        ),
        (
            request(owner="bob"),
            ALICE,
            "only an administrator makes a vif for another user, here 'bob'",
        ),
        (
            request(mac=MacAddress.parse("02:00:00:00:00:0a")),
            ALICE,
            "only an administrator chooses a MAC address",
        ),
        (
            request(force=True),
            ALICE,
            "only an administrator makes a vif for an address that is in use on the wire",
        ),
        (
            request(trust=TrustInfo(roles=("router",))),
            ALICE,
            "only an administrator gives roles, EtherTypes, link-local addresses or a trusted tap",
        ),
        (
            request(network="island"),
            ALICE,
            'grant "students": it is for network "lan", not "island"',
        ),
        (
            at("10.0.1.105/24", "10.0.1.111/24"),
            ALICE,
            'grant "students": address 10.0.1.111 is not in'
            " 10.0.1.100-10.0.1.110 or fd00:1::1:0-fd00:1::1:ffff",
        ),
        (
            request(prefixes=(ip_network("10.0.1.104/30"),)),
            ALICE,
            'grant "students": prefix 10.0.1.104/30 is more than an address,'
            " which is all it gives",
        ),
        (
            at(*(f"10.0.1.10{number}/24" for number in range(3, 8))),
            ALICE,
            'grant "students": 5 addresses, wanted at most 4 for a vif',
        ),
        (
            request(prefixes=(ip_network("fd00:2::/127"),)),
            ERIN,
            'grant "routers": prefix fd00:2::/127 is not in'
            " fd00:3::-fd00:3::ffff:ffff:ffff:ffff or 10.0.3.0-10.0.3.255",
        ),
        (
            request(prefixes=(ip_network("fd00:3::1:0/112"), ip_network("fd00:3::2:0/112"))),
            ERIN,
            'grant "routers": 2 addresses and prefixes, wanted at most 1 for a vif',
        ),
        (
            request(prefixes=(ip_network("fd00:3:0:0:4000::/66"),)),
            ERIN,
            'grant "routers": prefix fd00:3:0:0:4000::/66 holds some'
            " that stacks make of a MAC (with ff:fe in it)",
        ),
        (
            at("fd00:3::5054:ff:fe00:1/64"),
            ERIN,
            'grant "routers": address fd00:3::5054:ff:fe00:1 is one'
            " that stacks make of a MAC (with ff:fe in it)",
        ),
        (
            request(limits=OwnLimitsInfo(bytes_per_s=1001)),
            ALICE,
            'grant "students": bytes_per_s is 1001, wanted at most 1000',
        ),
        (
            request(limits=OwnLimitsInfo(bytes_per_s=0)),
            ALICE,
            'grant "students": bytes_per_s is no limit, wanted at most 1000',
        ),
        (
            request(limits=OwnLimitsInfo(frames_per_s=51)),
            ALICE,
            'grant "students": frames_per_s is 51, wanted at most 50',
        ),
        (
            attrs.evolve(at("10.0.2.1/24"), network="island"),
            BOB,
            'grant "islanders": address 10.0.2.1 is not in 192.168.0.0-192.168.0.3',
        ),
        (
            request(network="ring"),
            BOB,
            'grant "students": it is for network "lan", not "ring";'
            ' grant "islanders": it is for network "island", not "ring"',
        ),
        (
            at("10.0.2.1/24"),
            BOB,
            'grant "students": address 10.0.2.1 is not in'
            " 10.0.1.100-10.0.1.110 or fd00:1::1:0-fd00:1::1:ffff;"
            ' grant "islanders": address 10.0.2.1 is not in 192.168.0.0-192.168.0.3',
        ),
    ],
)
def test_a_refusal_says_which_grant_and_which_limit(
    asked: VifCreate, caller: Caller, message: str
) -> None:
    assert refusal(asked, caller) == ("forbidden", message)


def test_a_grant_of_prefixes_gives_them() -> None:
    prefixes = (ip_network("fd00:3::1:0/112"),)

    assert granted(request(prefixes=prefixes), ERIN).prefixes == prefixes


def test_who_asks_for_no_address_gets_no_more_than_a_vif_may_have() -> None:
    assert granted(request(), ERIN).addresses == (ip_interface("10.0.3.1/24"),)


def test_a_grant_gives_so_many_vifs_at_once_to_each_user() -> None:
    mine = existing("a", "10.0.1.103/24", grant="students")
    yours = existing("b", "10.0.1.104/24", BOB, "students")
    given = existing("c", "10.0.1.106/24")
    more = existing("d", "10.0.1.107/24", grant="students")

    assert granted(request(), ALICE, mine, yours, given).grant == "students"
    assert refusal(request(), ALICE, mine, more) == (
        "forbidden",
        'grant "students": you have 2 vifs, which is all it gives',
    )
    one = existing("e", "192.168.0.1/24", CAROL, "islanders")
    assert refusal(request(), CAROL, one) == (
        "forbidden",
        'grant "islanders": you have 1 vif, which is all it gives',
    )


def test_a_grant_with_no_address_left_says_so() -> None:
    taken = [existing(f"v{n}", f"192.168.0.{n}/24", DAVE) for n in (1, 2, 3)]

    assert refusal(request(), CAROL, *taken) == (
        "forbidden",
        'grant "islanders": no address of 192.168.0.0-192.168.0.3 is free',
    )


def test_what_a_grant_allows_keeps_the_rules_of_every_vif() -> None:
    other = existing("other", "10.0.1.103/24", DAVE)

    assert refusal(at("10.0.1.103/24"), ALICE, other) == (
        "conflict",
        "address 10.0.1.103 is taken by another vif",
    )
    assert refusal(at("10.0.1.102/24")) == (
        "conflict",
        "address 10.0.1.102 is an address of the host",
    )
    assert refusal(at("10.0.1.100/24"))[1].endswith('is the gateway of network "lan"')
    assert refusal(request(), attrs.evolve(ALICE, uid=999)) == (
        "invalid",
        "uid 999 may own no vif, wanted one of 1000-1999 (daemon.owner_uids)",
    )
    assert refusal(request(limits=OwnLimitsInfo(-1)))[0] == "invalid"


def test_a_refusal_names_the_vifs_that_its_user_may_see_and_no_others() -> None:
    own = existing("own", "10.0.1.103/24")
    others = existing("other", "fd00:1::1:3/64", BOB)

    assert refusal(at("10.0.1.103/24"), ALICE, own)[1] == 'address 10.0.1.103 is that of vif "own"'
    assert refusal(at("fd00:1::1:3/64"), ALICE, others)[1] == (
        "address fd00:1::1:3 is taken by another vif"
    )


def test_a_user_deletes_what_it_made_by_a_grant_and_nothing_else() -> None:
    own = existing("own", "10.0.1.103/24", grant="students")
    given = existing("given", "10.0.1.103/24")

    assert why_not_delete(own, ALICE) is None
    assert why_not_delete(own, BOB) == 'vif "own" is not yours'
    assert why_not_delete(given, ALICE) == (
        'vif "given" was made by an administrator, who alone may delete it'
    )
    assert why_not_delete(attrs.evolve(given, static=True), ALICE) == (
        'vif "given" is one of the configuration file, where it may be deleted'
    )


def test_a_borrowed_name_is_free_and_a_name() -> None:
    long = "n" * 31

    assert borrowed_name("lan", 1001, ()) == VifName("lan-1001-1")
    taken = {VifName("lan-1001-1"), VifName("lan-1001-3")}
    assert borrowed_name("lan", 1001, taken) == VifName("lan-1001-2")
    assert str(borrowed_name(long, 4294967294, ())) == f"{'n' * 15}-4294967294-1"


def span(first: int, last: int) -> AddressRange:
    return AddressRange(ip_address(first), ip_address(last))


spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda pair: span(pair[0], sum(pair)))
)


@given(spans, spans)
def test_the_first_free_address_is_the_one_that_counting_finds(
    ranges: list[AddressRange], taken: list[AddressRange]
) -> None:
    everything = [
        ip_address(number)
        for range_ in ranges
        for number in range(int(range_.first), int(range_.last) + 1)
    ]
    free = [a for a in everything if not any(t.first <= a <= t.last for t in taken)]  # type: ignore[operator]

    assert first_free(ranges, taken) == (free[0] if free else None)


def test_a_range_that_nobody_can_count_is_searched_at_once() -> None:
    half = ip_network("fd00::/9")
    whole = AddressRange(ip_address("fd00::"), ip_address("fdff::"))

    taken = AddressRange(half.network_address, half.broadcast_address)

    assert first_free([whole], [taken]) == ip_address("fd80::")
