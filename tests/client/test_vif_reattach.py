"""A vif whose daemon goes away, and comes back or does not."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.vif import Vif, open_vif
from pfinet_proto.attach import (
    Binding,
    Goodbye,
    GoodbyeCode,
    RefusedCode,
    Update,
    Welcome,
    encode,
)
from pfinet_proto.stream import StreamDecoder, encode_frames
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_vif import BINDING, FRAMES, OTHER_BINDING, make_attachment

TIMEOUT_S = 20


@attrs.define(eq=False)
class Side:
    """The daemon's ends of one attachment."""

    sock: socket.socket
    data: socket.socket

    def end(self) -> None:
        self.data.close()
        self.sock.close()


class Succession:
    """A vif, and the attachments that it gets one after the other, as the test allows."""

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.welcomes: list[Welcome] = []
        self.refusal: Exception | None = None
        self._waiting: list[Attachment] = []
        self._closing = ExitStack()
        self.vif = Vif(self.make(), self._attach_again)

    def make(self, binding: Binding = BINDING) -> Attachment:
        attachment, sock, data = make_attachment(binding=binding)
        self._closing.callback(attachment.close)
        self._closing.callback(sock.close)
        self._closing.callback(data.close)
        self.sides.append(Side(sock, data))
        return attachment

    def allow(self, binding: Binding = BINDING) -> None:
        """Let the next try succeed."""
        self._waiting.append(self.make(binding))

    def _attach_again(self, welcome: Welcome) -> Attachment | None:
        self.welcomes.append(welcome)
        if self.refusal is not None:
            raise self.refusal
        return self._waiting.pop() if self._waiting else None

    def close(self) -> None:
        self._closing.close()


@pytest.fixture
async def succession() -> AsyncIterator[Succession]:
    made = Succession()
    yield made
    await made.vif.aclose()
    made.close()


@pytest.fixture
async def vif(succession: Succession) -> Vif:
    return succession.vif


async def let_notice(vif: Vif) -> None:
    """Wait until the vif has noticed that its attachment is gone."""
    with trio.fail_after(TIMEOUT_S):
        while vif._tether.attachment is not None:
            await vif._tether.wait_changed()


async def let_come_back(vif: Vif) -> None:
    with trio.fail_after(TIMEOUT_S):
        while vif._tether.attachment is None:
            await vif._tether.wait_changed()


async def test_who_waits_for_frames_gets_those_of_the_next_attachment(
    succession: Succession, vif: Vif
) -> None:
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await vif.receive_frames() == FRAMES

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        succession.sides[0].end()
        succession.allow()
        succession.sides[1].data.sendall(encode_frames(FRAMES))


@pytest.mark.parametrize("noticed_by", ["data", "sock"])
async def test_the_end_of_either_socket_is_followed_by_a_new_attachment(
    succession: Succession, vif: Vif, noticed_by: str
) -> None:
    succession.allow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vif.receive_frames)
        await trio.testing.wait_all_tasks_blocked()

        getattr(succession.sides[0], noticed_by).close()

        succession.sides[1].data.sendall(encode_frames(FRAMES[:1]))


async def test_frames_that_are_sent_while_the_daemon_is_away_are_lost_without_waiting(
    succession: Succession, vif: Vif
) -> None:
    succession.sides[0].end()
    await let_notice(vif)

    with trio.testing.assert_checkpoints():
        await vif.send_frames(FRAMES[:10])
    succession.allow()
    await let_come_back(vif)
    await vif.send_frames(FRAMES[10:])

    assert StreamDecoder().feed(succession.sides[1].data.recv(65536)) == FRAMES[10:]


async def test_sending_to_a_daemon_that_does_not_read_ends_with_it(
    succession: Succession, vif: Vif
) -> None:
    """A program that sends and receives in turn would wait for ever otherwise."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vif.send_frames, [bytes(65000)] * 200)
        await trio.testing.wait_all_tasks_blocked()

        succession.sides[0].end()


async def test_a_frame_that_the_end_cut_is_not_continued_on_the_next_stream(
    succession: Succession, vif: Vif
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vif.send_frames, [bytes(65000)] * 200)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    succession.sides[0].end()
    await let_notice(vif)
    succession.allow()
    await let_come_back(vif)

    await vif.send_frames(FRAMES)

    assert StreamDecoder().feed(succession.sides[1].data.recv(65536)) == FRAMES


async def test_half_a_record_from_a_dying_daemon_is_forgotten(
    succession: Succession, vif: Vif
) -> None:
    whole = encode_frames(FRAMES[:3])
    succession.sides[0].data.sendall(whole[:-5])
    succession.sides[0].end()
    succession.allow()
    succession.sides[1].data.sendall(encode_frames(FRAMES[5:]))

    received: list[bytes] = []
    with trio.fail_after(TIMEOUT_S):
        while len(received) < 17:
            received += await vif.receive_frames()
    assert received == FRAMES[:2] + FRAMES[5:]


async def test_a_record_of_no_meaning_costs_the_attachment_alone(
    succession: Succession, vif: Vif
) -> None:
    succession.allow()
    succession.sides[0].data.sendall(bytes(4))
    succession.sides[1].data.sendall(encode_frames(FRAMES))

    with trio.fail_after(TIMEOUT_S):
        assert await vif.receive_frames() == FRAMES


async def test_a_binding_that_changed_meanwhile_is_an_update(
    succession: Succession, vif: Vif
) -> None:
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await vif.wait_update() == OTHER_BINDING

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        succession.sides[0].end()
        succession.allow(OTHER_BINDING)
    assert vif.binding == OTHER_BINDING


async def test_a_binding_that_did_not_change_is_none(succession: Succession, vif: Vif) -> None:
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await vif.wait_update() == OTHER_BINDING

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        succession.sides[0].end()
        succession.allow()
        await let_notice(vif)
        await let_come_back(vif)
        await trio.testing.wait_all_tasks_blocked()
        assert vif.binding == BINDING
        succession.sides[1].sock.send(encode(Update(OTHER_BINDING)))


@pytest.mark.parametrize("code", GoodbyeCode)
async def test_a_goodbye_breaks_it_only_if_it_is_final(
    succession: Succession, vif: Vif, code: GoodbyeCode
) -> None:
    final = code in (GoodbyeCode.DELETED, GoodbyeCode.OWNER_CHANGED, GoodbyeCode.TAKEN_OVER)
    succession.allow()
    succession.sides[1].data.sendall(encode_frames(FRAMES))
    succession.sides[0].sock.send(encode(Goodbye(code, "farewell")))

    with trio.fail_after(TIMEOUT_S):
        if final:
            with pytest.raises(trio.BrokenResourceError, match="farewell"):
                await vif.receive_frames()
        else:
            assert await vif.receive_frames() == FRAMES


async def test_a_final_refusal_breaks_it(succession: Succession, vif: Vif) -> None:
    succession.refusal = VifRefused(RefusedCode.GONE, "vif v1 is being deleted")
    succession.sides[0].end()

    with trio.fail_after(TIMEOUT_S):
        for wait in (vif.receive_frames, vif.wait_update, partial(vif.send_frames, FRAMES)):
            with pytest.raises(trio.BrokenResourceError, match="is being deleted"):
                await wait()


async def test_every_try_is_made_with_the_last_welcome(succession: Succession, vif: Vif) -> None:
    for number in range(2):
        succession.sides[number].end()
        await let_notice(vif)
        succession.allow(binding(1, mtu=1400 + number))
        await let_come_back(vif)

    assert succession.welcomes[0].binding.mtu == 1500
    assert succession.welcomes[-1].binding.mtu == 1400


async def test_closing_wakes_who_waits_for_the_daemon(succession: Succession, vif: Vif) -> None:
    succession.sides[0].end()
    await let_notice(vif)

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await vif.receive_frames()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await vif.aclose()


# Against a daemon.


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 0), (binding(2), 0)) as running:
        yield running


async def test_an_opened_vif_outlives_its_daemon(daemon: FakeDaemon) -> None:
    control = str(daemon.control)
    async with open_vif("v1", control=control) as one, open_vif("v2", control=control) as two:
        daemon.close()
        await let_notice(one)
        await let_notice(two)
        daemon.start()
        await let_come_back(one)
        await let_come_back(two)

        await one.send_frames(FRAMES)
        received = await two.receive_frames()
        while len(received) < len(FRAMES):
            received += await two.receive_frames()

    port = daemon.ports["v1"]
    assert received == FRAMES
    assert [hello.cookie for hello in port.hellos] == [None, port.cookies[0]]


async def test_a_vif_that_was_deleted_meanwhile_is_broken(daemon: FakeDaemon) -> None:
    async with open_vif("v1", control=str(daemon.control)) as vif:
        daemon.close()
        del daemon.ports["v1"]
        daemon.start()

        with pytest.raises(trio.BrokenResourceError, match="no vif v1"):
            await vif.receive_frames()


async def test_a_vif_that_need_not_reattach_is_broken_by_the_end(daemon: FakeDaemon) -> None:
    async with open_vif("v1", control=str(daemon.control), reattach=False) as vif:
        daemon.close()
        daemon.start()

        with pytest.raises(trio.BrokenResourceError, match="daemon closed the vif"):
            await vif.receive_frames()


async def test_what_the_program_raises_comes_out_as_it_is(daemon: FakeDaemon) -> None:
    with pytest.raises(KeyError):
        async with open_vif("v1", control=str(daemon.control)):
            raise KeyError
