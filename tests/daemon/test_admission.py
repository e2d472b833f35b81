"""What the broker grants to control, by the configuration."""

import pytest

from multiplexer.daemon.admission import MAX_MEMBERS, Admission, Refused
from multiplexer.daemon.channel import OpenVifSockets, SetMemberships
from multiplexer.model import MAX_VIFS, Config, Daemon, StaticVif, Uplink, UplinkKind
from pfinet_proto.values import MacAddress, VifName

ID = "0123456789abcdef" * 2
STATION = MacAddress.parse("52:54:00:00:00:01")


@pytest.fixture
def admission() -> Admission:
    config = Config(
        daemon=Daemon(owner_uids=(range(1000, 2000),)),
        uplinks=(Uplink("lan", UplinkKind.NIC, "eth0"), Uplink("away", UplinkKind.NONE)),
        vifs=(StaticVif(VifName("web"), "www"), StaticVif(VifName("db"), "64055")),
    )
    return Admission(config, {33: "www", 34: "root"}.get)


@pytest.mark.parametrize("uid", [1000, 1999, 33, 64055])
def test_an_owner_by_range_by_name_and_by_number_gets_sockets(
    admission: Admission, uid: int
) -> None:
    admission.check_open(OpenVifSockets(1, ID, uid, ("attach", "stream", "bess")), ())


@pytest.mark.parametrize("uid", [0, 34, 999, 2000, 64056, 2**32 - 1])
def test_any_other_uid_is_refused(admission: Admission, uid: int) -> None:
    with pytest.raises(Refused, match=f"uid {uid} is not in"):
        admission.check_open(OpenVifSockets(1, ID, uid, ("attach",)), ())


@pytest.mark.parametrize(
    "vif_id",
    ["", "..", "../../etc" + "0" * 23, ID[:-1], ID + "0", ID.upper(), ID[:-1] + "/", ID + "\n"],
)
def test_an_id_that_is_not_32_digits_is_refused(admission: Admission, vif_id: str) -> None:
    with pytest.raises(Refused, match="vif id is"):
        admission.check_open(OpenVifSockets(1, vif_id, 1000, ("attach",)), ())
    with pytest.raises(Refused, match="vif id is"):
        admission.check_id(vif_id)


@pytest.mark.parametrize("kinds", [(), ("attach", "attach"), ("vhost",), ("attach", "../control")])
def test_kinds_that_are_none_or_unknown_or_twice_are_refused(
    admission: Admission, kinds: tuple[str, ...]
) -> None:
    with pytest.raises(Refused, match="kind"):
        admission.check_open(OpenVifSockets(1, ID, 1000, kinds), ())


def test_no_more_vifs_get_sockets_than_there_are_ports_but_one_may_be_asked_for_again(
    admission: Admission,
) -> None:
    ids = [f"{number:032x}" for number in range(MAX_VIFS)]

    admission.check_open(OpenVifSockets(1, ids[0], 1000, ("attach",)), ids)
    with pytest.raises(Refused, match="all there can be"):
        admission.check_open(OpenVifSockets(1, ID, 1000, ("attach",)), ids)


def test_a_nic_of_the_file_may_hear_for_stations(admission: Admission) -> None:
    admission.check_members(SetMemberships(1, "lan", (STATION,) * MAX_MEMBERS))
    admission.check_members(SetMemberships(1, "lan", ()))


@pytest.mark.parametrize(
    ("uplink", "macs", "why"),
    [
        ("eth0", (), "not a nic"),
        ("away", (), "not a nic"),
        ("lan", (STATION,) * (MAX_MEMBERS + 1), "at most"),
        ("lan", (MacAddress.parse("01:00:5e:00:00:01"),), "station"),
        ("lan", (STATION, MacAddress.parse("ff:ff:ff:ff:ff:ff")), "station"),
        ("lan", (MacAddress(bytes(6)),), "station"),
    ],
)
def test_other_uplinks_groups_and_too_many_are_refused(
    admission: Admission, uplink: str, macs: tuple[MacAddress, ...], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        admission.check_members(SetMemberships(1, uplink, macs))
