"""Which vifs there are: drafts have their ports, and only what is served is shown."""

import attrs
import pytest

from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.live_vif import LiveVif, bind
from multiplexer.daemon.roster import Roster
from multiplexer.model import FIRST_HOST_PORT, FIRST_VIF_PORT, MAX_VIFS, Mode, Network, Vif
from pfinet_proto.values import MacAddress, VifName

LAN = Network("lan", Mode.SWITCH, None, ())


def live(name: str, port: int = FIRST_VIF_PORT, uid: int = 1000) -> LiveVif:
    mac = MacAddress(b"\x52\x54" + port.to_bytes(4, "big"))
    vif = Vif(f"{port:032x}", VifName.parse(name), uid, None, "lan", mac)
    return LiveVif(vif, port, bind(LAN, vif))


def test_a_draft_has_what_it_claims_and_is_shown_to_nobody() -> None:
    roster, draft = Roster(), live("draft")

    roster.place(draft)

    assert roster.bound == (draft.vif,)
    assert roster.at_port(draft.port) is draft
    assert (len(roster), list(roster), roster.get(draft.name)) == (0, [], None)
    assert not roster.serves(draft)
    assert not roster.has_owner(1000)


def test_vifs_are_in_the_order_of_their_names_whatever_came_first() -> None:
    roster = Roster()
    for port, name in enumerate(("b", "c", "a"), FIRST_VIF_PORT):
        roster.enter(live(name, port))

    assert [str(each.name) for each in roster] == ["a", "b", "c"]


def test_who_walks_through_them_is_not_disturbed_by_what_goes() -> None:
    roster = Roster()
    for port, name in enumerate("abc", FIRST_VIF_PORT):
        roster.enter(live(name, port))

    for each in roster:
        roster.strike(each)

    assert len(roster) == 0


def test_a_vif_that_goes_has_its_port_until_that_is_vacated() -> None:
    roster, one = Roster(), live("one")
    roster.place(one)
    roster.enter(one)

    roster.strike(one)
    assert not roster.serves(one)
    assert roster.free_port() == one.port + 1
    roster.vacate(one.port)
    assert roster.free_port() == one.port
    assert roster.bound == ()


def test_another_vif_of_the_same_name_is_not_the_one_that_was() -> None:
    roster, former, other = Roster(), live("one"), live("one", FIRST_VIF_PORT + 1)
    roster.enter(other)

    assert roster.serves(other)
    assert not roster.serves(former)


def test_an_owner_is_one_as_long_as_any_of_theirs_is_served() -> None:
    roster = Roster()
    ours = [live("a"), live("b", FIRST_VIF_PORT + 1)]
    for each in ours:
        roster.enter(each)

    roster.strike(ours[0])
    assert roster.has_owner(1000)
    ours[1].vif = attrs.evolve(ours[1].vif, owner_uid=1001)
    roster.recount_owners()
    assert (roster.has_owner(1000), roster.has_owner(1001)) == (False, True)


def test_when_every_port_is_taken_it_says_how_many_there_can_be() -> None:
    roster = Roster()
    for port in range(FIRST_VIF_PORT, FIRST_HOST_PORT):
        roster.place(live("one", port))

    with pytest.raises(RequestFailed, match=f"there are {MAX_VIFS} vifs, and can be no more"):
        roster.free_port()
