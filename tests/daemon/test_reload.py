"""Reload in control: what a changed file becomes, and what it leaves alone."""

import errno
import os
from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Any

import attrs
import pytest
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.state import State
from multiplexer.policy import decode_network, decode_vif
from pfinet_proto.attach import Goodbye, GoodbyeCode, Update
from pfinet_proto.control import (
    ControlError,
    ErrorCode,
    NetworkList,
    NetworkShow,
    Reload,
    Reloaded,
    Request,
    UplinkList,
    VifCreate,
    VifDelete,
    VifInfo,
    VifList,
    VifShow,
)
from pfinet_proto.values import MacAddress, VifName
from tests.daemon.siblings import (
    ALICE,
    BOB,
    CAROL,
    NAMES,
    STATIC,
    Place,
    Running,
    running,
    siblings,
    system,
)

WEB, ONE = VifName.parse("web"), VifName.parse("one")
CREATE_ONE = VifCreate(ONE, "alice", (ip_interface("10.77.0.11/24"),))

OTHER = """
[vif.other]
owner = "bob"
addresses = ["10.77.0.81/24"]
"""

LAB = """
[network.lab]
mode = "hub"
uplink = "nowhere"
prefixes = ["10.78.0.0/24"]
mtu = 9000
"""


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def reload(daemon: Running, file: str, uid: int = 0, *, dry_run: bool = False) -> Reloaded:
    daemon.broker.file = file
    return await daemon.ask(Reload(dry_run), uid)


async def vifs(daemon: Running) -> dict[str, VifInfo]:
    return {str(vif.name): vif for vif in (await daemon.ask(VifList())).vifs}


def told(daemon: Running) -> list[type[object]]:
    """Return what the engine and then the broker were told, but for questions and answers."""
    quiet = (channel.ReadCounters, channel.ReadPorts, channel.Ready)
    heard = [*daemon.engine.heard, *daemon.broker.heard]
    return [type(message) for message in heard if not isinstance(message, quiet)]


async def test_a_file_that_has_not_changed_changes_nothing(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        before = told(daemon)
        reloaded = await reload(daemon, place.config(STATIC), CAROL)

        assert reloaded == Reloaded(applied=True)
        assert [kind for kind in told(daemon) if kind not in before] == [
            channel.PrepareReload,
            channel.CommitReload,
            channel.EndReload,
        ]
        assert len(daemon.engine.all(channel.SetVif)) == 1
        assert any(line.startswith("audit: reloaded changes=0 by=") for line in daemon.log)


async def test_a_dry_run_says_what_would_change_and_changes_nothing(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        reloaded = await reload(daemon, place.config(OTHER), dry_run=True)

        assert reloaded == Reloaded(False, ("vif.web: removed", "vif.other: added"))
        assert list(await vifs(daemon)) == ["web"]
        assert daemon.broker.all(channel.CommitReload) == []
        assert len(daemon.broker.all(channel.EndReload)) == 1
        assert (await reload(daemon, place.config(OTHER))).applied


async def test_vifs_of_the_file_come_and_go_and_change(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        web = (await vifs(daemon))["web"]
        async with daemon.attacher("web", ALICE) as client:
            welcome, data = await client.attach()
            with data:
                changed = STATIC.replace("10.77.0.80", "10.77.0.90")
                reloaded = await reload(daemon, place.config(changed + OTHER))
                update, _ = await client.hear()
                now = await vifs(daemon)

                assert reloaded.changes == (
                    "vif.web.addresses: 10.77.0.80/24, fd77::80/64 -> 10.77.0.90/24, fd77::80/64",
                    "vif.other: added",
                )
                assert (now["web"].id, now["web"].mac) == (web.id, web.mac)
                assert now["web"].attached is not None
                assert now["other"].owner_uid == BOB
                assert isinstance(update, Update)
                assert update.binding == attrs.evolve(
                    welcome.binding, addresses=now["web"].addresses
                )

                await reload(daemon, place.config(OTHER))
                goodbye, _ = await client.hear()
        assert isinstance(goodbye, Goodbye)
        assert (goodbye.code, goodbye.text) == (
            GoodbyeCode.DELETED,
            "vif web is not in the configuration any more",
        )
        assert daemon.broker.sockets == {now["other"].id}
        assert daemon.broker.all(channel.SetMemberships)[-1].macs == (now["other"].mac,)
        async with daemon.attacher("other", BOB) as client:
            _, data = await client.attach()
            data.close()


async def test_a_vif_that_comes_back_has_its_id_again(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        web = (await vifs(daemon))["web"]
        await reload(daemon, place.config())
        await reload(daemon, place.config(STATIC))

        assert (await vifs(daemon))["web"] == web


async def test_another_owner_in_the_file_has_the_vif_and_the_former_is_let_go(
    place: Place,
) -> None:
    async with running(place, STATIC) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            _, data = await client.attach()
            with data:
                await reload(daemon, place.config(STATIC.replace('"20001"', '"bob"')))
                goodbye, _ = await client.hear()
        async with daemon.attacher("web", BOB) as client:
            _, data = await client.attach()
            data.close()

        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.OWNER_CHANGED


async def test_what_a_network_tells_its_stacks_is_told_to_those_attached(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        await daemon.ask(CREATE_ONE)
        async with daemon.attacher("one", ALICE) as client:
            welcome, data = await client.attach()
            with data:
                text = place.config(STATIC).replace(
                    "gateways", 'mtu = 1400\ndns = ["10.77.0.1"]\ngateways', 1
                )
                await reload(daemon, text)
                update, _ = await client.hear()

        assert isinstance(update, Update)
        assert update.binding.mtu == 1400
        assert list(map(str, update.binding.dns)) == ["10.77.0.1"]
        assert update.binding.addresses == welcome.binding.addresses
        assert decode_network(daemon.engine.all(channel.SetNetwork)[-1].row).mtu == 1400
        rows = [decode_vif(message.row).mtu for message in daemon.engine.all(channel.SetVif)]
        assert rows[-3:] == [1500, 1400, 1400]


async def test_a_networks_limits_hold_for_the_vifs_that_have_none_of_their_own(
    place: Place,
) -> None:
    slower = "[network.lan.limits]\nframes_per_s = 7\n"
    async with running(place) as daemon:
        await daemon.ask(CREATE_ONE)
        await reload(daemon, place.config(slower))

        shown = (await daemon.ask(VifShow(ONE))).limits
        assert shown is not None
        assert shown.frames_per_s == 7
        assert decode_vif(daemon.engine.all(channel.SetVif)[-1].row).limits.frames_per_s == 7


async def test_networks_come_and_go_and_the_others_keep_their_numbers(place: Place) -> None:
    more = '[network.more]\nprefixes = ["10.79.0.0/24"]\n'
    first = place.config(STATIC)
    async with running(place, STATIC) as daemon:
        await reload(daemon, first.replace(LAB, "") + more)
        names = [network.name for network in (await daemon.ask(NetworkList())).networks]
        added = decode_network(daemon.engine.all(channel.SetNetwork)[-1].row)
        cleared = daemon.engine.all(channel.ClearNetwork)

        assert names == ["lan", "more"]
        assert added.id == 2
        assert [message.network for message in cleared] == [1]
        assert len(daemon.engine.all(channel.SetVif)) == 1
        await reload(daemon, first)
        assert decode_network(daemon.engine.all(channel.SetNetwork)[-1].row).id == 1


async def test_a_vif_whose_network_goes_is_set_aside_and_comes_back_with_it(place: Place) -> None:
    made_in_lab = VifCreate(ONE, "alice", (ip_interface("10.78.0.11/24"),))
    async with running(place) as daemon:
        made = await daemon.ask(made_in_lab)
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            with data:
                reloaded = await reload(daemon, place.config().replace(LAB, ""))
                goodbye, _ = await client.hear()

        warning = "vif one is set aside: no network is named 'lab'"
        assert reloaded == Reloaded(True, ("network.lab: removed",), (warning,))
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.DELETED
        assert await vifs(daemon) == {}
        assert warning in " ".join(daemon.log)
        with pytest.raises(ControlError, match="set aside"):
            await daemon.ask(made_in_lab)

        await reload(daemon, place.config())
        assert (await vifs(daemon))["one"] == made


async def test_a_vif_that_the_file_takes_the_address_of_is_set_aside(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(VifCreate(ONE, "alice", (ip_interface("10.77.0.80/24"),)))
        reloaded = await reload(daemon, place.config(STATIC))

        assert list(await vifs(daemon)) == ["web"]
        assert "vif one is set aside" in reloaded.warnings[0]
        await daemon.ask(VifDelete(ONE))
        assert (await reload(daemon, place.config(STATIC))).warnings == ()


@pytest.mark.parametrize(
    ("extra", "errors"),
    [
        ("[network.new", [(1, "not TOML")]),
        (
            "[vif.x]\nowner = 'alice'\n[vif.y]\nowner = 'alice'\naddresses = ['10.77.0.1/24']\n",
            [(1, "vif.x.addresses"), (5, "vif.y.addresses")],
        ),
        (
            "[vif.x]\nowner = 'dave'\naddresses = ['10.77.0.9/24']\n",
            [
                (2, "vif.x.owner: no user is named 'dave'"),
                (3, "vif.x.addresses: address 10.77.0.9 is an address of the host"),
            ],
        ),
    ],
    ids=["syntax", "rules", "the host"],
)
async def test_a_file_that_is_wrong_changes_nothing_and_all_of_it_is_told(
    place: Place, extra: str, errors: list[tuple[int, str]]
) -> None:
    above = place.config().count("\n")
    async with running(place) as daemon:
        await daemon.ask(CREATE_ONE)
        before = told(daemon)
        reloaded = await reload(daemon, place.config() + extra)

        assert not reloaded.applied
        assert len(reloaded.errors) == len(errors)
        for line, (below, expected) in zip(reloaded.errors, errors, strict=True):
            assert line.startswith(f"multiplexer.toml:{above + below}: {expected}"), line
        asked = [kind for kind in told(daemon) if kind not in before]
        assert set(asked) == {channel.PrepareReload, channel.EndReload}
        assert list(await vifs(daemon)) == ["one"]
        assert any("reload: nothing has changed" in line for line in daemon.log)
        assert (await reload(daemon, place.config(OTHER))).applied


async def test_a_signal_reloads_and_the_log_says_what_it_changed(place: Place) -> None:
    async with running(place) as daemon:
        daemon.broker.file = place.config(OTHER)
        await daemon.broker.ask_reload()
        await daemon.broker.wait_heard(channel.EndReload)
        daemon.broker.file = "wrong"
        await daemon.broker.ask_reload()
        await daemon.broker.wait_heard(channel.EndReload, 2)

        assert list(await vifs(daemon)) == ["other"]
        log = "\n".join(daemon.log)
        assert "reload: vif.other: added" in log
        assert "reloaded changes=1 by=SIGHUP" in log
        assert "reload: multiplexer.toml:1: not TOML" in log


async def test_users_reload_nothing_and_it_is_noted(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        with pytest.raises(ControlError) as caught:
            await reload(daemon, place.config(), ALICE)

        assert caught.value.code is ErrorCode.FORBIDDEN
        assert daemon.broker.all(channel.PrepareReload) == []
        assert any("request=reload" in line for line in daemon.log)


async def test_who_administers_is_who_the_new_file_says(place: Place) -> None:
    async with running(place) as daemon:
        await reload(daemon, place.config().replace('["carol"]', '["@bob"]'), CAROL)

        await daemon.ask(CREATE_ONE, BOB)
        with pytest.raises(ControlError, match="administrator"):
            await reload(daemon, place.config(), CAROL)


async def test_an_uplink_that_comes_and_goes_is_listed_and_heard_for(place: Place) -> None:
    mac = MacAddress.parse("02:00:00:00:00:08")
    second = '[uplink.second]\nkind = "nic"\ninterface = "nic1"\nexternal = ["10.78.0.0/24"]\n'
    text = place.config().replace('"nowhere"\npre', '"second"\npre').replace("mtu = 9000\n", "")
    async with running(place) as daemon:
        await daemon.ask(VifCreate(ONE, "alice", (ip_interface("10.78.0.11/24"),)))
        daemon.broker.uplinks = (channel.UplinkState("second", True, True, mac, 1500),)
        await reload(daemon, text + second)
        bridged = decode_network(daemon.engine.all(channel.SetNetwork)[-1].row)
        names = [uplink.name for uplink in (await daemon.ask(UplinkList())).uplinks]
        members = daemon.broker.all(channel.SetMemberships)[-1]

        assert (bridged.id, bridged.uplink_port) == (1, 1)
        assert names == ["wire", "nowhere", "second"]
        assert (members.uplink, len(members.macs)) == ("second", 1)
        await reload(daemon, place.config())
        assert decode_network(daemon.engine.all(channel.SetNetwork)[-1].row).uplink_port is None


async def test_an_uplink_goes_together_with_a_vif_behind_it(place: Place) -> None:
    """By then the broker does not know the NIC any more."""
    first = place.config(STATIC + OTHER)
    head, _, tail = first.partition("[uplink.wire]")
    without = head + "[uplink.nowhere]" + tail.partition("[uplink.nowhere]")[2]
    async with running(place, STATIC + OTHER) as daemon:
        reloaded = await reload(
            daemon, without.replace('uplink = "wire"\n', "").replace(OTHER, "")
        )

        assert reloaded.applied
        assert list(await vifs(daemon)) == ["web"]
        await daemon.ask(CREATE_ONE)
        await daemon.ask(VifDelete(ONE))


async def test_a_vif_that_is_deleted_after_a_reload_leaves_the_nic_that_it_is_behind_now(
    place: Place,
) -> None:
    bridged = place.config().replace('"nowhere"\npre', '"second"\npre')
    second = '[uplink.second]\nkind = "nic"\ninterface = "nic1"\nexternal = ["10.78.0.0/24"]\n'
    async with running(place) as daemon:
        await daemon.ask(VifCreate(ONE, "alice", (ip_interface("10.78.0.11/24"),)))
        await reload(daemon, bridged + second)
        await daemon.ask(VifDelete(ONE))

        last = daemon.broker.all(channel.SetMemberships)[-1]
        assert (last.uplink, last.macs) == ("second", ())


async def test_a_reload_that_cannot_be_committed_changes_nothing(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        daemon.broker.once[channel.CommitReload] = "cannot today"
        with pytest.raises(ControlError, match="cannot today"):
            await reload(daemon, place.config(OTHER))

        assert list(await vifs(daemon)) == ["web"]
        assert len(daemon.broker.all(channel.EndReload)) == 1
        assert (await reload(daemon, place.config(OTHER))).applied


@pytest.mark.parametrize("step", [channel.SetVif, channel.OpenVifSockets, channel.SetMemberships])
async def test_a_reload_that_fails_after_its_commit_ends_control_and_is_not_called_over(
    place: Place, step: type[object]
) -> None:
    """The broker then starts all of it afresh from the new file."""
    async with siblings(place) as daemon:
        await daemon.broker.start(place.config())

        async def go_wrong() -> None:
            sibling = daemon.engine if step is channel.SetVif else daemon.broker
            sibling.refusals[step] = "cannot today"
            await reload(daemon, place.config(OTHER))

        with pytest.raises(BaseExceptionGroup) as caught:
            await daemon.run_until_it_fails(go_wrong)

        assert caught.group_contains(channel.SiblingError, match="cannot apply the new file")
        assert daemon.broker.all(channel.EndReload) == []


async def test_a_reload_that_cannot_ask_the_system_is_refused_and_leaves_the_next_free(
    place: Place,
) -> None:
    troubles: list[OSError] = []

    def user_uid(name: str) -> int | None:
        if troubles:
            raise troubles.pop()
        return NAMES.get(name)

    users = attrs.evolve(system(), user_uid=user_uid)
    async with running(place, STATIC, users) as daemon:
        troubles.append(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        with pytest.raises(ControlError, match="Too many open files") as caught:
            await reload(daemon, place.config(OTHER))
        troubles.append(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        await daemon.broker.ask_reload()
        await daemon.broker.wait_heard(channel.EndReload, 2)

        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert list(await vifs(daemon)) == ["web"]
        assert any(
            line.startswith("reload: Too many open files (RLIMIT_NOFILE is ")
            for line in daemon.log
        )
        assert (await reload(daemon, place.config(OTHER))).applied


async def test_a_fault_that_leaves_the_file_applied_by_half_ends_control_and_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of ours")

    async with siblings(place) as daemon:
        await daemon.broker.start(place.config())

        async def go_wrong() -> None:
            monkeypatch.setattr(State, "keep_static_id", fail)
            await reload(daemon, place.config(OTHER))

        with pytest.raises(BaseExceptionGroup) as caught:
            await daemon.run_until_it_fails(go_wrong)

        assert caught.group_contains(channel.SiblingError, match="cannot apply .*: of ours")
        assert "RuntimeError: of ours" in daemon.log
        assert daemon.broker.all(channel.EndReload) == []


@pytest.mark.parametrize(
    "question",
    [NetworkList(), NetworkShow("lab"), UplinkList()],
    ids=lambda each: type(each).__name__,
)
async def test_an_answer_that_a_reload_comes_into_is_of_the_file_that_it_was_begun_with(
    place: Place, question: Request[Any]
) -> None:
    first = place.config().replace("[network.lab]\n", "[network.lab]\nhost = true\n")
    second = '[uplink.second]\nkind = "nic"\ninterface = "nic1"\nexternal = ["10.79.0.0/24"]\n'
    more = '[network.more]\nhost = true\nprefixes = ["10.79.0.0/24"]\n'
    async with running(place) as daemon:
        await reload(daemon, first)
        before = await daemon.ask(question)
        during = []

        async def ask() -> None:
            during.append(await daemon.ask(question, ALICE))

        daemon.engine.withheld.add(channel.ReadCounters)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await daemon.engine.wait_heard(
                channel.ReadCounters, len(daemon.engine.all(channel.ReadCounters)) + 1
            )
            assert (await reload(daemon, place.config().replace(LAB, "") + second + more)).applied
            await daemon.engine.release()

        assert during == [before]
