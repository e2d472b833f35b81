"""`vif.set`: what engine, broker, database, client and owners see, and what a failure leaves."""

import socket
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from multiplexer.daemon import channel
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.talk import tell_updates
from multiplexer.model import Vif
from multiplexer.policy import decode_vif
from pfinet_proto.attach import (
    Binding,
    Goodbye,
    GoodbyeCode,
    Message,
    Refused,
    RefusedCode,
    Update,
    decode_untrusted,
)
from pfinet_proto.attach.machine import AttachMachine, Role, State
from pfinet_proto.control import (
    ControlError,
    ErrorCode,
    OwnLimitsInfo,
    TrustChange,
    VifCreate,
    VifDelete,
    VifInfo,
    VifLocate,
    VifSet,
    VifShow,
)
from pfinet_proto.values import MacAddress, VifName
from tests.daemon.siblings import (
    ALICE,
    BOB,
    CAROL,
    STATIC,
    Place,
    Running,
    no_room,
    running,
)

NAME = VifName.parse("one")
WEB = VifName.parse("web")
ONE = VifCreate(NAME, "alice", (ip_interface("10.77.0.11/24"),))
TWELVE = ip_interface("10.77.0.12/24")
MAC = MacAddress.parse("52:54:00:00:00:0a")

#: More than the queue of a socket takes.
CHANGES = range(1000, 2000)

#: A change for each step that can fail.
ALL = VifSet(NAME, owner="bob", add_addresses=(TWELVE,), mac=MAC)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def refusal(daemon: Running, request: VifSet, uid: int = 0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await daemon.ask(request, uid)
    return caught.value


def lasting(vif: VifInfo) -> VifInfo:
    """Return *vif* without what only goes on."""
    return attrs.evolve(vif, attached=None)


async def test_a_change_is_there_at_once_and_after_a_restart(place: Place) -> None:
    async with running(place) as daemon:
        before = await daemon.ask(ONE)
        daemon.engine.heard.clear()
        changed = await daemon.ask(
            VifSet(
                NAME,
                addresses=(TWELVE,),
                add_prefixes=(ip_network("fd77:0:0:0:5::/80"),),
                mac=MAC,
                limits=OwnLimitsInfo(frames_per_s=7),
                trust=TrustChange(roles=("router",), ethertypes=(0x88CC,)),
            ),
            CAROL,
        )
        rows = [decode_vif(message.row) for message in daemon.engine.all(channel.SetVif)]
        ports = {message.port for message in daemon.engine.all(channel.SetVif)}

        assert changed.id == before.id
        assert (changed.addresses, changed.mac) == ((TWELVE,), MAC)
        assert len(ports) == 1
        assert ip_network("10.77.0.11/32") not in rows[-1].prefixes
        assert {ip_network("10.77.0.12/32"), ip_network("fd77:0:0:0:5::/80")} <= set(
            rows[-1].prefixes
        )
        assert (rows[-1].mac, rows[-1].limits.frames_per_s) == (MAC, 7)
        assert (rows[-1].flags, rows[-1].ethertypes) == (1, (0x88CC,))
        assert daemon.engine.all(channel.ClearVif) == []
        assert daemon.broker.all(channel.SetMemberships)[-1].macs == (MAC,)
        assert any(
            line.startswith("audit: vif-changed name=one")
            and " roles=router ethertypes=0x88cc frames_per_s=7 by=" in line
            for line in daemon.log
        )

    async with running(place) as daemon:
        assert await daemon.ask(VifShow(NAME)) == changed


async def test_an_attached_client_is_told_and_goes_on(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        async with daemon.attacher("one", ALICE) as client:
            welcome, data = await client.attach()
            with data:
                await daemon.ask(VifSet(NAME, add_addresses=(TWELVE,), mac=MAC))
                update, fds = await client.hear()

        assert isinstance(update, Update)
        assert fds == []
        assert update.binding == attrs.evolve(
            welcome.binding, mac=MAC, addresses=(*welcome.binding.addresses, TWELVE)
        )
        assert len(daemon.engine.all(channel.Attach)) == 1


async def test_what_the_stack_need_not_know_is_not_told(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            with data:
                await daemon.ask(VifSet(NAME, limits=OwnLimitsInfo(frames_per_s=7)))
                await daemon.ask(VifDelete(NAME))
                message, _ = await client.hear()

        assert isinstance(message, Goodbye)


async def test_a_client_that_reads_nothing_has_its_queue_full_and_then_the_last_binding() -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    live = LiveVif(
        Vif("a" * 32, NAME, ALICE, None, "lan", MAC), 64, Binding(NAME, "lan", MAC, 1500)
    )
    machine = AttachMachine(Role.DAEMON)
    machine.state = attached = State.ATTACHED
    client = AttachMachine(Role.CLIENT)
    client.state = attached
    heard: list[Message] = []
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_updates, live, ours, machine, live.binding)
            for mtu in CHANGES:
                live.rebind(live.vif, attrs.evolve(live.binding, mtu=mtu))
                await trio.testing.wait_all_tasks_blocked()
            while not heard or heard[-1] != Update(live.binding):
                await trio.lowlevel.wait_readable(theirs)
                heard.append(client.receive_untrusted(theirs.recv(65536)))
            nursery.cancel_scope.cancel()

    assert 1 < len(heard) < len(CHANGES)


async def test_another_owner_gets_the_sockets_and_the_former_one_is_let_go(
    place: Place,
) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(ONE)
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            with data:
                await daemon.ask(VifSet(NAME, owner="bob"))
                goodbye, _ = await client.hear()
        async with daemon.attacher("one", ALICE) as former:
            refused, _ = await former.hear()
        async with daemon.attacher("one", BOB) as client:
            _, data = await client.attach()
            data.close()

        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.OWNER_CHANGED
        assert getattr(refused, "code", None) is RefusedCode.NOT_OWNER
        assert daemon.broker.uids == {made.id: BOB}
        assert (await daemon.ask(VifLocate(), BOB)).name == NAME
        with pytest.raises(ControlError):
            await daemon.ask(VifLocate(), ALICE)
        await daemon.ask(VifDelete(NAME))
        assert daemon.broker.sockets == set()


async def test_a_client_of_the_stream_socket_is_let_go_with_the_owner(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        path = await daemon.vif_directory("one") / "stream"
        async with daemon.connected(path, ALICE) as stream:
            await daemon.engine.wait_heard(channel.Attach)
            await daemon.ask(VifSet(NAME, owner="20002"))

            assert await stream.recv(1) == b""
            assert (await daemon.ask(VifShow(NAME))).attached is None


@pytest.mark.parametrize("step", [channel.SetVif, channel.SetMemberships, channel.OpenVifSockets])
async def test_a_change_that_fails_half_way_leaves_what_was(place: Place, step: type[Any]) -> None:
    async with running(place) as daemon:
        before = await daemon.ask(ONE)
        row = daemon.engine.all(channel.SetVif)[-1].row
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            with data:
                sibling = daemon.engine if step is channel.SetVif else daemon.broker
                sibling.once[step] = "cannot today"
                error = await refusal(daemon, ALL)

                assert (error.code, str(error)[-12:]) == (ErrorCode.UNAVAILABLE, "cannot today")
                assert lasting(await daemon.ask(VifShow(NAME))) == before
                if step is not channel.SetVif:
                    assert daemon.engine.all(channel.SetVif)[-1].row == row
                assert daemon.broker.all(channel.SetMemberships)[-1].macs == (before.mac,)
                assert daemon.broker.uids == {before.id: ALICE}
                await daemon.ask(VifDelete(NAME))
                message, _ = await client.hear()
        assert isinstance(message, Goodbye)
        assert message.code is GoodbyeCode.DELETED


async def test_a_change_that_cannot_be_kept_leaves_what_was(place: Place) -> None:
    async with running(place) as daemon:
        before = await daemon.ask(ONE)
        row = daemon.engine.all(channel.SetVif)[-1].row
        with no_room():
            error = await refusal(daemon, ALL)

        assert error.code is ErrorCode.UNAVAILABLE
        assert await daemon.ask(VifShow(NAME)) == before
        assert daemon.broker.uids == {before.id: ALICE}
        assert daemon.engine.all(channel.SetVif)[-1].row == row
        assert (await daemon.ask(VifLocate(), ALICE)).name == NAME
        async with daemon.attacher("one", ALICE) as client:
            _, data = await client.attach()
            data.close()

    async with running(place) as daemon:
        assert await daemon.ask(VifShow(NAME)) == before


@pytest.mark.parametrize(
    ("request_", "uid", "code", "message"),
    [
        (VifSet(NAME, mac=MAC), ALICE, "forbidden", "is no administrator"),
        (VifSet(VifName.parse("two"), mac=MAC), 0, "not_found", 'there is no vif "two"'),
        (VifSet(WEB, mac=MAC), 0, "conflict", 'vif "web" is defined in multiplexer.toml:'),
        (
            VifSet(NAME, add_addresses=(ip_interface("10.77.0.80/24"),)),
            0,
            "conflict",
            'address 10.77.0.80 is that of vif "web"',
        ),
        (VifSet(NAME, addresses=()), 0, "invalid", "has no address and no prefix"),
        (VifSet(NAME, owner="dave"), 0, "invalid", "no user is named 'dave'"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    place: Place, request_: VifSet, uid: int, code: str, message: str
) -> None:
    async with running(place, STATIC) as daemon:
        before = await daemon.ask(ONE)
        error = await refusal(daemon, request_, uid)

        assert (error.code, message in str(error)) == (code, True), str(error)
        assert await daemon.ask(VifShow(NAME)) == before


async def test_two_at_once_do_not_get_one_address(place: Place) -> None:
    two = VifName.parse("two")
    async with running(place) as daemon:
        await daemon.ask(ONE)
        await daemon.ask(VifCreate(two, "bob", (ip_interface("10.77.0.13/24"),)))
        outcomes: list[str] = []

        async def add(name: VifName) -> None:
            try:
                await daemon.ask(VifSet(name, add_addresses=(TWELVE,)))
                outcomes.append("done")
            except ControlError as error:
                outcomes.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, NAME)
            nursery.start_soon(add, two)

        assert sorted(outcomes) == ["conflict", "done"]


async def test_until_all_of_a_change_is_done_the_vif_is_the_former_owners(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)
        path = await daemon.vif_directory("one") / "attach"
        daemon.broker.withheld.add(channel.OpenVifSockets)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.ask, VifSet(NAME, owner="bob"))
            await daemon.broker.wait_heard(channel.OpenVifSockets, 2)
            async with daemon.connected(path, BOB, socket.SOCK_SEQPACKET) as early:
                answer = await early.recv(65536)
                await daemon.broker.release()
        async with daemon.attacher("one", BOB) as client:
            _, data = await client.attach()
            data.close()

        refused = decode_untrusted(answer)
        assert isinstance(refused, Refused)
        assert refused.code is RefusedCode.NOT_OWNER
