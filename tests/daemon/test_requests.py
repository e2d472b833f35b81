"""Each operation of the control socket: what it does, for whom, and what a failure leaves."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from multiplexer.daemon import channel, channel_trio
from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.policy import decode_vif
from pfinet_proto.control import (
    AsideInfo,
    Conflict,
    ControlError,
    ErrorCode,
    Holder,
    NetworkList,
    NetworkShow,
    Reload,
    Request,
    Status,
    UplinkList,
    UplinkShow,
    VifCreate,
    VifDelete,
    VifList,
    VifLocate,
    VifSet,
    VifShow,
    VifTrace,
)
from pfinet_proto.values import MacAddress, VifName
from tests.daemon.siblings import (
    ALICE,
    BOB,
    CAROL,
    NIC_MAC,
    STATIC,
    Place,
    Running,
    no_room,
    running,
)

NOBODY = 20009


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


def a_vif(name: str, owner: str, *addresses: str, mac: str | None = None) -> VifCreate:
    return VifCreate(
        VifName.parse(name),
        owner,
        tuple(map(ip_interface, addresses)),
        mac=MacAddress.parse(mac) if mac is not None else None,
    )


ONE = a_vif("one", "alice", "10.77.0.11/24", "fd77::11/64")
TWO = a_vif("two", "20002", "10.78.0.12/24", mac="52:54:00:00:00:02")

GRANT = """
[grant.some]
to = ["@bob"]
network = "lan"
addresses = ["10.77.0.32/28"]
limits = { frames_per_s = 5 }
"""

WEB = VifName.parse("web")


async def refusal(daemon: Running, request: Request[object], uid: int = 0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await daemon.ask(request, uid)
    return caught.value


def is_socket(path: str) -> bool:
    return Path(path).is_socket()


async def names(daemon: Running, uid: int) -> list[str]:
    return [str(vif.name) for vif in (await daemon.ask(VifList(), uid)).vifs]


async def test_a_new_vif_is_known_to_engine_broker_and_its_owner(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(ONE)

        row = decode_vif(daemon.engine.all(channel.SetVif)[0].row)
        assert row.mac == made.mac
        assert ip_network("10.77.0.11/32") in row.prefixes
        opened = daemon.broker.all(channel.OpenVifSockets)[0]
        assert (opened.vif_id, opened.uid) == (made.id, ALICE)
        assert opened.kinds == ("attach", "stream", "bess")
        assert daemon.broker.all(channel.SetMemberships)[-1].macs == (made.mac,)
        assert (made.owner_uid, made.owner_name, made.network) == (ALICE, "alice", "lan")
        assert (made.source, made.attached) == ("dynamic", None)
        assert await daemon.ask(VifShow(ONE.name), ALICE) == made
        assert any(
            line.startswith("audit: vif-created name=one owner=alice uid=20001 network=lan")
            for line in daemon.log
        )


async def test_a_vif_of_an_unbridged_network_is_no_member_of_the_nic(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(TWO)

        assert daemon.broker.all(channel.SetMemberships)[-1].macs == ()


async def test_a_vif_is_there_after_a_restart_as_it_was(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(ONE)

    async with running(place) as daemon:
        assert await daemon.ask(VifShow(ONE.name)) == made
        assert daemon.broker.all(channel.SetMemberships)[-1].macs == (made.mac,)


async def test_users_see_their_own_vifs_and_administrators_all(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        await daemon.ask(ONE)
        await daemon.ask(TWO, CAROL)

        assert await names(daemon, 0) == ["one", "two", "web"]
        assert await names(daemon, CAROL) == ["one", "two", "web"]
        assert await names(daemon, ALICE) == ["one", "web"]
        assert await names(daemon, BOB) == ["two"]
        assert await names(daemon, NOBODY) == []
        error = await refusal(daemon, VifShow(ONE.name), BOB)
        assert (error.code, str(error)) == (ErrorCode.NOT_FOUND, 'there is no vif "one"')


@pytest.mark.parametrize("request_", [ONE, VifDelete(WEB)], ids=["create", "delete"])
async def test_users_make_and_delete_nothing_and_it_is_noted(
    place: Place, request_: VifCreate | VifDelete
) -> None:
    async with running(place, STATIC) as daemon:
        error = await refusal(daemon, request_, ALICE)

        assert error.code is ErrorCode.FORBIDDEN
        assert await names(daemon, 0) == ["web"]
        assert any("request=vif." in line and "why=" in line for line in daemon.log)


async def test_who_is_in_the_group_of_a_grant_makes_and_deletes_by_it(place: Place) -> None:
    async with running(place, GRANT) as daemon:
        mine = attrs.evolve(ONE, owner=None, addresses=())
        made = await daemon.ask(mine, BOB)
        error = await refusal(daemon, mine, ALICE)
        await refusal(daemon, VifDelete(ONE.name), ALICE)
        await daemon.ask(VifDelete(ONE.name), BOB)

        row = decode_vif(daemon.engine.all(channel.SetVif)[-1].row)
        assert row.limits.frames_per_s == 5
        assert made.addresses == (ip_interface("10.77.0.32/24"),)
        assert (made.owner_uid, made.grant) == (BOB, "some")
        assert error.code is ErrorCode.FORBIDDEN
        created, refused, hidden, deleted = (
            line for line in daemon.log if line.startswith("audit:")
        )
        assert created.startswith('audit: vif-created by="uid 20002 ')
        assert created.endswith("bound=10.77.0.32/24 frames_per_s=5 grant=some")
        assert 'request=vif.create name=one why="uid 20001 is no administrator' in refused
        assert 'request=vif.delete name=one why="the vif is another user' in hidden
        assert deleted.startswith('audit: vif-deleted by="uid 20002 ')
        assert await names(daemon, 0) == []


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (a_vif("web", "alice", "10.77.0.11/24"), "conflict", 'a vif "web" already'),
        (a_vif("one", "alice", "10.77.0.80/24"), "conflict", 'that of vif "web"'),
        (a_vif("one", "alice", "10.77.0.9/24"), "conflict", "an address of the host"),
        (a_vif("one", "alice", "10.77.0.1/24"), "conflict", "gateway"),
        (a_vif("one", "alice", "10.77.0.201/24"), "conflict", "reserved range"),
        (a_vif("one", "alice", "10.77.0.255/24"), "invalid", "broadcast address"),
        (a_vif("one", "alice", "192.0.2.1/24"), "invalid", "outside every network"),
        (a_vif("one", "dave", "10.77.0.11/24"), "invalid", "no user is named 'dave'"),
        (a_vif("one", "0", "10.77.0.11/24"), "invalid", "uid 0 may own no vif"),
        (a_vif("one", "alice", "10.77.0.11/24", mac=str(NIC_MAC)), "conflict", "the NIC"),
    ],
)
async def test_what_cannot_be_is_refused_saying_by_what(
    place: Place, request_: VifCreate, code: str, message: str
) -> None:
    async with running(place, STATIC) as daemon:
        error = await refusal(daemon, request_)

        assert (error.code, message in str(error)) == (code, True), str(error)
        assert await names(daemon, 0) == ["web"]
        assert len(daemon.broker.sockets) == 1


@pytest.mark.parametrize("step", [channel.SetVif, channel.OpenVifSockets, channel.SetMemberships])
async def test_a_vif_that_fails_half_way_is_undone(place: Place, step: type[object]) -> None:
    async with running(place) as daemon:
        sibling = daemon.engine if step is channel.SetVif else daemon.broker
        sibling.refusals[step] = "cannot today"
        error = await refusal(daemon, ONE)
        sibling.refusals.clear()

        assert error.code is ErrorCode.UNAVAILABLE
        assert str(error).endswith("cannot today")
        assert await names(daemon, 0) == []
        assert daemon.broker.sockets == set()
        assert len(daemon.engine.all(channel.ClearVif)) == (step is not channel.SetVif)
        await daemon.ask(ONE)

    async with running(place) as daemon:
        assert await names(daemon, 0) == ["one"]


async def test_a_vif_that_cannot_be_kept_is_undone(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        with no_room():
            error = await refusal(daemon, TWO)
            kept = await refusal(daemon, VifDelete(ONE.name))

        assert (error.code, kept.code) == (ErrorCode.UNAVAILABLE, ErrorCode.UNAVAILABLE)
        assert await names(daemon, 0) == ["one"]
        assert len(daemon.broker.sockets) == 1
        await daemon.ask(TWO)


async def test_a_deleted_vif_is_gone_and_all_it_had_is_free(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(ONE)
        await daemon.ask(VifDelete(ONE.name), CAROL)

        assert await names(daemon, 0) == []
        port = daemon.engine.all(channel.SetVif)[0].port
        assert daemon.engine.all(channel.ClearVif)[-1].port == port
        assert daemon.engine.ports == {}
        assert daemon.broker.sockets == set()
        assert daemon.broker.all(channel.SetMemberships)[-1].macs == ()
        assert any(line.startswith("audit: vif-deleted name=one by=") for line in daemon.log)
        again = await daemon.ask(ONE)
        assert again.id != made.id
        assert daemon.engine.all(channel.SetVif)[-1].port == port

    async with running(place) as daemon:
        assert await names(daemon, 0) == ["one"]


async def test_a_vif_of_the_file_is_not_deleted_but_shown_where_it_is(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        error = await refusal(daemon, VifDelete(WEB))

        line = place.config(STATIC).splitlines().index("[vif.web]") + 1
        assert str(error) == f'vif "web" is defined in multiplexer.toml:{line}: vif.web'


async def test_a_vif_that_may_not_be_any_more_is_set_aside_until_it_is_deleted(
    place: Place,
) -> None:
    async with running(place) as daemon:
        await daemon.ask(a_vif("old", "alice", "10.77.0.80/24"))

    async with running(place, STATIC) as daemon:
        assert await names(daemon, 0) == ["web"]
        assert any("vif old is set aside" in line for line in daemon.log)
        assert (await daemon.ask(Status())).set_aside == 1
        error = await refusal(daemon, a_vif("old", "alice", "10.77.0.81/24"))
        assert (error.code, "delete it first" in str(error)) == (ErrorCode.CONFLICT, True)
        await daemon.ask(VifDelete(VifName.parse("old")))
        await daemon.ask(a_vif("old", "alice", "10.77.0.81/24"))


@pytest.mark.parametrize(
    ("uid", "said"),
    [
        (0, 'is set aside, since address 10.77.0.80 is that of vif "web"'),
        (BOB, "is set aside: delete it first"),
        (ALICE, 'there is a vif "old" already'),
    ],
)
async def test_why_a_vif_is_set_aside_is_for_who_may_see_whom_it_names(
    place: Place, uid: int, said: str
) -> None:
    async with running(place) as daemon:
        await daemon.ask(a_vif("old", "bob", "10.77.0.80/24"))

    granted = GRANT.replace('"bob"', '"alice", "bob"')
    async with running(place, STATIC + granted) as daemon:
        error = await refusal(daemon, VifCreate(VifName("old")), uid)

        assert said in str(error)


@pytest.mark.parametrize(
    ("uid", "why"), [(0, 'address 10.77.0.80 is that of vif "web"'), (BOB, None)]
)
async def test_a_vif_that_is_set_aside_is_shown_to_who_may_see_it(
    place: Place, uid: int, why: str | None
) -> None:
    old = VifName("old")
    async with running(place) as daemon:
        await daemon.ask(a_vif("old", "bob", "10.77.0.80/24"))

    async with running(place, STATIC) as daemon:
        address = ip_interface("10.77.0.80/24")
        assert (await daemon.ask(VifList(), uid)).aside == (
            AsideInfo(old, BOB, "bob", "lan", (address,), (), why),
        )
        error = await refusal(daemon, VifShow(old), uid)
        since = "" if why is None else f", since {why}"
        assert (error.code, str(error)) == (
            ErrorCode.CONFLICT,
            f'vif "old" is set aside{since}',
        )
        assert (await daemon.ask(VifList(), ALICE)).aside == ()
        assert (await refusal(daemon, VifShow(old), ALICE)).code is ErrorCode.NOT_FOUND


async def test_a_vif_that_is_set_aside_is_still_one_of_those_of_its_grant(place: Place) -> None:
    granted = GRANT.replace("10.77.0.32/28", "10.77.0.80/31")
    async with running(place, granted) as daemon:
        await daemon.ask(VifCreate(VifName("old")), BOB)

    async with running(place, STATIC + granted) as daemon:
        assert await names(daemon, BOB) == []
        error = await refusal(daemon, VifCreate(VifName("new")), BOB)
        assert str(error) == 'grant "some": you have 1 vif, which is all it gives'
        await daemon.ask(VifDelete(VifName("old")), BOB)
        await daemon.ask(VifCreate(VifName("new")), BOB)


async def test_a_vif_that_is_not_there_cannot_be_deleted(place: Place) -> None:
    async with running(place) as daemon:
        error = await refusal(daemon, VifDelete(ONE.name))

        assert (error.code, str(error)) == (ErrorCode.NOT_FOUND, 'there is no vif "one"')


async def test_an_administrator_whom_a_grant_names_may_leave_the_addresses_to_it(
    place: Place,
) -> None:
    async with running(place, GRANT.replace("@bob", "carol")) as daemon:
        made = await daemon.ask(VifCreate(VifName("cc"), network="lan"), CAROL)
        elsewhere = await daemon.ask(a_vif("dd", "alice", "10.78.0.12/24"), CAROL)
        error = await refusal(daemon, VifCreate(VifName("ee"), "alice", network="lan"), CAROL)

        assert (made.owner_uid, made.addresses) == (CAROL, (ip_interface("10.77.0.32/24"),))
        assert (made.grant, elsewhere.grant) == ("some", None)
        assert str(error) == 'vif "ee" has no address and no prefix'


@pytest.mark.parametrize(
    "request_",
    [VifDelete(WEB), VifShow(WEB), VifLocate(WEB), VifTrace(WEB, ())],
    ids=["delete", "show", "locate", "trace"],
)
async def test_who_asks_for_what_is_anothers_is_noted_and_told_nothing(
    place: Place, request_: Request[object]
) -> None:
    async with running(place, STATIC) as daemon:
        assert (await refusal(daemon, request_, BOB)).code is ErrorCode.NOT_FOUND

        (line,) = [line for line in daemon.log if "audit: refused" in line]
        assert line.endswith('name=web why="the vif is another user\'s"')


async def test_nobody_else_changes_or_reloads_and_the_log_says_why(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        for request in (VifSet(WEB, add_addresses=(ip_interface("10.77.0.81/24"),)), Reload()):
            await refusal(daemon, request, ALICE)

        noted = [line for line in daemon.log if "audit: refused" in line]
        assert ["is no administrator" in line for line in noted] == [True, True]


@pytest.mark.parametrize(
    ("up", "addresses", "error", "reached"),
    [
        (True, ("10.77.0.9",), None, ("lan",)),
        (True, (), None, ()),
        (False, ("10.77.0.9",), None, ()),
        (True, ("10.77.0.9",), "no route", ()),
    ],
)
async def test_the_status_names_the_networks_that_the_host_reaches_now(
    place: Place, up: bool, addresses: tuple[str, ...], error: str | None, reached: tuple[str, ...]
) -> None:
    hosted = place.config().replace("[network.lan]", "[network.lan]\nhost = true")
    async with running(place) as daemon:
        daemon.broker.file = hosted
        await daemon.ask(Reload())
        assert (await daemon.ask(Status())).host_networks == ()
        state = channel.HostPort("lan", True, up, addresses, error)
        await channel_trio.send(daemon.broker.sock, state)
        await trio.testing.wait_all_tasks_blocked()

        assert (await daemon.ask(Status())).host_networks == reached


async def test_two_at_once_do_not_get_one_address(place: Place) -> None:
    async with running(place) as daemon:
        outcomes: list[str] = []

        async def create(name: str) -> None:
            try:
                await daemon.ask(a_vif(name, "alice", "10.77.0.11/24"))
                outcomes.append("made")
            except ControlError as error:
                outcomes.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create, "one")
            nursery.start_soon(create, "two")

        assert sorted(outcomes) == ["conflict", "made"]


async def test_where_to_attach_is_told_to_the_owner_alone(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        located = await daemon.ask(VifLocate(), ALICE)

        assert str(located.name) == "web"
        assert located.kinds == ("attach", "stream", "bess")
        assert is_socket(located.path("attach"))
        assert await daemon.ask(VifLocate(located.name), ALICE) == located
        for uid in (0, BOB):
            error = await refusal(daemon, VifLocate(located.name), uid)
            assert str(error) == f'uid {uid} owns no vif "web"'
        assert str(await refusal(daemon, VifLocate(), BOB)) == "uid 20002 owns no vif"


async def test_the_owner_of_two_vifs_has_to_say_which(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        await daemon.ask(ONE)
        error = await refusal(daemon, VifLocate(), ALICE)

        assert str(error) == ("uid 20001 owns more than one vif: name one by --vif, of one, web")


async def test_a_static_vif_keeps_its_id_over_a_restart(place: Place) -> None:
    """Its sockets keep their paths, which clients remember."""
    async with running(place, STATIC) as daemon:
        before = (await daemon.ask(VifShow(WEB))).id

    async with running(place, STATIC) as daemon:
        assert (await daemon.ask(VifShow(WEB))).id == before


async def test_counters_conflicts_and_holder_are_shown(place: Place) -> None:
    stranger = MacAddress.parse("02:00:00:00:00:66")
    async with running(place) as daemon:
        await daemon.ask(ONE)
        await daemon.ask(TWO)
        port = daemon.engine.all(channel.SetVif)[0].port
        drops = [0] * len(VERDICTS)
        drops[0], drops[VERDICTS.index("src_mac")] = 90, 7
        daemon.engine.rows[port] = (1, 2, 3, 4, *drops)
        daemon.engine.conflicts = (channel.Conflict(port, stranger, "fd77::11", 5),)
        daemon.engine.claimed = (channel.Claimed(port, "fe80::a1b2:c3d4:e5f6:7"),)
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            shown = await daemon.ask(VifShow(ONE.name), ALICE)
            status = await daemon.ask(Status())
            data.close()

        counters = shown.counters
        assert (counters.rx_frames, counters.rx_bytes) == (1, 2)
        assert (counters.tx_frames, counters.tx_bytes) == (3, 4)
        assert counters.drops == {"src_mac": 7}
        assert shown.conflicts == (Conflict(stranger, ip_address("fd77::11"), 5),)
        assert shown.claimed == (ip_address("fe80::a1b2:c3d4:e5f6:7"),)
        assert (await daemon.ask(VifShow(TWO.name))).claimed == ()
        assert shown.attached is not None
        assert shown.attached == Holder(ALICE, shown.attached.pid, "stream", 1, 0)
        assert (status.vifs, status.attached) == (2, 1)
        other = (await daemon.ask(VifShow(TWO.name))).counters
        assert (other.rx_frames, other.drops) == (0, {})


async def test_the_counters_of_a_full_daemon_are_asked_in_parts(place: Place) -> None:
    async with running(place) as daemon:
        for number in range(2, 152):
            await daemon.ask(a_vif(f"v{number}", "alice", f"10.78.0.{number}/24"))
        daemon.engine.heard.clear()
        vifs = (await daemon.ask(VifList())).vifs

        asked = [(read.first, read.count) for read in daemon.engine.all(channel.ReadCounters)]
        assert len(vifs) == 150
        assert asked == [(64, 128), (192, 22)]


async def test_everybody_sees_status_networks_and_uplinks(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        status = await daemon.ask(Status(), NOBODY)
        networks = (await daemon.ask(NetworkList(), NOBODY)).networks
        uplinks = (await daemon.ask(UplinkList(), NOBODY)).uplinks

        assert (status.networks, status.uplinks, status.vifs, status.attached) == (2, 2, 1, 0)
        assert (status.config, status.passrights) == ("multiplexer.toml", True)
        lan, lab = networks
        assert (lan.name, lan.mode, lan.uplink, lan.uplink_port, lan.vifs) == (
            "lan", "switch", "wire", True, 1,
        )  # fmt: skip
        assert (lab.name, lab.mode, lab.uplink_port, lab.mtu) == ("lab", "hub", False, 9000)
        assert lan.reserved == ("10.77.0.200-10.77.0.254",)
        wire, nowhere = uplinks
        assert (wire.present, wire.up, wire.mac, wire.networks) == (True, True, NIC_MAC, ("lan",))
        assert wire.counters is not None
        assert (nowhere.kind, nowhere.interface, nowhere.counters) == ("none", None, None)
        assert await daemon.ask(NetworkShow("lab"), NOBODY) == lab
        assert await daemon.ask(UplinkShow("wire"), NOBODY) == wire
        for request in (NetworkShow("x"), UplinkShow("x")):
            assert (await refusal(daemon, request)).code is ErrorCode.NOT_FOUND


async def test_a_nic_that_goes_is_shown_gone(place: Place) -> None:
    async with running(place) as daemon, daemon.asker() as asker:
        await daemon.broker.tell_uplink(None)
        while (await asker.ask(UplinkShow("wire"))).present:
            pass


async def test_a_mac_does_not_depend_on_the_nic_being_there_at_start(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        before = (await daemon.ask(VifList())).vifs

    async with running(place, STATIC, nic_mac=None) as daemon:
        assert (await daemon.ask(VifList())).vifs == before
