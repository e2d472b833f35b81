"""A vif as a trio resource, between two ends of socket pairs and against a fake daemon."""

import os
import socket
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.testing

import pfinet_client
from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.vif import Vif, open_vif
from pfinet_proto.attach import (
    NO_OFFLOAD,
    Binding,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    RefusedCode,
    Transport,
    Update,
    Welcome,
    encode,
)
from pfinet_proto.attach.machine import AttachMachine, Role
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.stream import MAX_FRAME, VNET_LEN, StreamDecoder, encode_frames
from tests.client.fake_daemon import binding, fake_daemon

FRAMES = [bytes([number]) * (14 + number) for number in range(20)]
BINDING = binding(1)
OTHER_BINDING = attrs.evolve(BINDING, mtu=1280)


@attrs.frozen
class Ends:
    """A vif, and the daemon's ends of its two sockets."""

    vif: Vif
    attachment: Attachment
    sock: socket.socket
    data: socket.socket

    def say(self, message: Update | Goodbye) -> None:
        self.sock.send(encode(message))

    def fill_buffers(self) -> int:
        """Fill what the vif's data socket can hold; return how much that was."""
        data = self.attachment.data
        sent = 0
        try:
            while True:
                sent += data.send(bytes(65536), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return sent

    def drain(self, length: int) -> None:
        while length:
            length -= len(self.data.recv(length))


def make_attachment(
    offload: Offload = NO_OFFLOAD, binding: Binding = BINDING
) -> tuple[Attachment, socket.socket, socket.socket]:
    """Return an attachment, and the daemon's ends of its attach socket and data stream."""
    ours, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    our_data, data = socket.socketpair()
    machine = AttachMachine(Role.CLIENT)
    machine.send(Hello(offload=offload))
    welcome = Welcome(1, Transport.STREAM, offload, bytes(16), binding)
    machine.receive_untrusted(encode(welcome))
    return Attachment(ours, welcome, our_data, machine), sock, data


def make_ends(offload: Offload = NO_OFFLOAD) -> Ends:
    """Return a vif that the first end of its attachment breaks."""
    attachment, sock, data = make_attachment(offload)
    return Ends(Vif(attachment), attachment, sock, data)


def close(made: Ends) -> None:
    made.attachment.close()
    made.sock.close()
    made.data.close()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = make_ends()
    yield made
    await made.vif.aclose()
    close(made)


async def test_frames_arrive_whole_and_in_order(ends: Ends) -> None:
    await ends.vif.send_frames(FRAMES)

    assert StreamDecoder().feed(ends.data.recv(65536)) == FRAMES


async def test_frames_are_received_as_they_come(ends: Ends) -> None:
    ends.data.sendall(encode_frames(FRAMES))

    assert await ends.vif.receive_frames() == FRAMES


async def test_frames_beyond_the_wanted_number_wait_for_the_next_call(ends: Ends) -> None:
    ends.data.sendall(encode_frames(FRAMES))

    assert await ends.vif.receive_frames(max_frames=5) == FRAMES[:5]
    assert await ends.vif.receive_frames(max_frames=100) == FRAMES[5:]


async def test_a_frame_in_pieces_is_received_when_it_is_whole(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:

        async def deliver() -> None:
            for byte in encode_frames(FRAMES[:1]):
                ends.data.sendall(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(deliver)
        assert await ends.vif.receive_frames() == FRAMES[:1]


async def test_sending_waits_for_a_daemon_that_does_not_read(ends: Ends) -> None:
    filled = ends.fill_buffers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.vif.send_frames, FRAMES)
        await trio.testing.wait_all_tasks_blocked()

        ends.drain(filled)

    assert StreamDecoder().feed(ends.data.recv(65536)) == FRAMES


async def test_no_frame_at_all_can_be_sent(ends: Ends) -> None:
    with trio.testing.assert_checkpoints():
        await ends.vif.send_frames([])


@pytest.mark.parametrize("frame", [b"", bytes(MAX_FRAME + 1)])
async def test_a_frame_that_fits_no_record_sends_nothing(ends: Ends, frame: bytes) -> None:
    with pytest.raises(ValueError, match="frame of"):
        await ends.vif.send_frames([FRAMES[0], frame])
    with pytest.raises(BlockingIOError):
        ends.data.recv(1, socket.MSG_DONTWAIT)


async def test_at_least_one_frame_must_be_wanted(ends: Ends) -> None:
    with pytest.raises(ValueError, match="max_frames is 0"):
        await ends.vif.receive_frames(max_frames=0)


async def test_every_operation_is_a_checkpoint_when_it_need_not_wait(ends: Ends) -> None:
    ends.data.sendall(encode_frames(FRAMES))
    ends.say(Update(OTHER_BINDING))

    with trio.testing.assert_checkpoints():
        await ends.vif.send_frames(FRAMES)
    with trio.testing.assert_checkpoints():
        await ends.vif.receive_frames(1)
    with trio.testing.assert_checkpoints():
        await ends.vif.receive_frames(1)
    with trio.testing.assert_checkpoints():
        await ends.vif.wait_update()
    with trio.testing.assert_checkpoints():
        await ends.vif.aclose()


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_sending_never_cuts_a_frame(ends: Ends, times: int) -> None:
    """Also when it is cancelled again before the rest of the cut frame is out."""
    longest = bytes(MAX_FRAME)
    many = [longest] * 20
    for _ in range(times):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.vif.send_frames, many)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

    received: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def read_all() -> None:
            decoder = StreamDecoder()
            while FRAMES[0] not in received:
                await trio.lowlevel.wait_readable(ends.data)
                received.extend(decoder.feed(ends.data.recv(1 << 20)))

        nursery.start_soon(read_all)
        await ends.vif.send_frames(FRAMES[:1])
    assert 1 < len(received) < 20
    assert set(received) == {longest, FRAMES[0]}
    assert received[-1] == FRAMES[0]


async def test_cancelled_receiving_loses_nothing(ends: Ends) -> None:
    record = encode_frames(FRAMES[:1])
    ends.data.sendall(record[:7])
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.vif.receive_frames)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

    ends.data.sendall(record[7:])
    assert await ends.vif.receive_frames() == FRAMES[:1]


async def test_with_offload_each_frame_begins_with_its_header() -> None:
    made = make_ends(Offload.CSUM)
    header = bytes(VNET_LEN)

    await made.vif.send_frames([header + FRAMES[0]])
    assert StreamDecoder(vnet=True).feed(made.data.recv(65536)) == [header + FRAMES[0]]
    made.data.sendall(encode_frames([header + FRAMES[1]], vnet=True))
    assert await made.vif.receive_frames() == [header + FRAMES[1]]
    assert made.vif.offload is Offload.CSUM
    with pytest.raises(ValueError, match="frame of 9 bytes"):
        await made.vif.send_frames([bytes(9)])
    close(made)


async def test_an_update_changes_the_binding(ends: Ends) -> None:
    assert ends.vif.binding == BINDING
    ends.sock.send(b"PFIN\x77\x77\0\0")
    ends.say(Update(OTHER_BINDING))

    assert await ends.vif.wait_update() == OTHER_BINDING
    assert ends.vif.binding == OTHER_BINDING


async def test_goodbye_says_why_to_whoever_waits(ends: Ends) -> None:
    goodbye = Goodbye(GoodbyeCode.DELETED, "vif v1 was deleted")

    async def receive() -> None:
        with pytest.raises(trio.BrokenResourceError, match="vif v1 was deleted"):
            await ends.vif.receive_frames()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        ends.data.close()
        ends.say(goodbye)
        with pytest.raises(trio.BrokenResourceError, match="vif v1 was deleted"):
            await ends.vif.wait_update()
    for again in (ends.vif.wait_update(), ends.vif.receive_frames(), ends.vif.send_frames([])):
        with pytest.raises(trio.BrokenResourceError, match="vif v1 was deleted"):
            await again


async def test_goodbye_after_the_end_of_the_data_still_says_why(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.BrokenResourceError, match="bad length"):
                await ends.vif.receive_frames()

        nursery.start_soon(receive)
        ends.data.close()
        await trio.testing.wait_all_tasks_blocked()
        ends.say(Goodbye(GoodbyeCode.BAD_STREAM, "bad length"))


async def test_goodbye_without_a_text_is_told_by_its_code(ends: Ends) -> None:
    ends.say(Goodbye(GoodbyeCode.SHUTTING_DOWN))

    with pytest.raises(trio.BrokenResourceError, match="shutting down"):
        await ends.vif.wait_update()


async def test_a_daemon_that_vanishes_breaks_the_vif(ends: Ends) -> None:
    ends.data.close()
    ends.sock.close()

    with pytest.raises(trio.BrokenResourceError, match="daemon closed the vif"):
        await ends.vif.receive_frames()
    with pytest.raises(trio.BrokenResourceError):
        await ends.vif.send_frames(FRAMES)
    with pytest.raises(trio.BrokenResourceError):
        await ends.vif.wait_update()


async def test_sending_to_a_daemon_that_vanished_breaks_the_vif(ends: Ends) -> None:
    ends.data.close()
    ends.sock.close()

    with pytest.raises(trio.BrokenResourceError, match="daemon closed the vif"):
        await ends.vif.send_frames(FRAMES)


async def test_frames_that_came_before_the_end_are_received(ends: Ends) -> None:
    ends.data.sendall(encode_frames(FRAMES))
    ends.data.close()
    ends.sock.close()

    assert await ends.vif.receive_frames() == FRAMES
    with pytest.raises(trio.BrokenResourceError):
        await ends.vif.receive_frames()


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1])
async def test_a_daemon_that_breaks_the_stream_breaks_the_vif(ends: Ends, length: int) -> None:
    ends.data.sendall(length.to_bytes(4, "big"))

    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError, match=f"record of {length} bytes"):
            await ends.vif.receive_frames()


@pytest.mark.parametrize("message", [b"junk", encode(Hello())])
async def test_a_daemon_that_breaks_the_protocol_breaks_the_vif(
    ends: Ends, message: bytes
) -> None:
    ends.sock.send(message)

    with pytest.raises(trio.BrokenResourceError, match="broke the protocol"):
        await ends.vif.wait_update()


async def test_a_descriptor_beside_an_update_is_refused_and_closed(ends: Ends) -> None:
    before = set(os.listdir("/proc/self/fd"))
    socket.send_fds(ends.sock, [encode(Update(OTHER_BINDING))], [ends.sock.fileno()] * 2)

    with pytest.raises(trio.BrokenResourceError, match="2 descriptors beside Update"):
        await ends.vif.wait_update()
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("operation", ["send_frames", "receive_frames", "wait_update"])
async def test_two_tasks_cannot_do_the_same(ends: Ends, operation: str) -> None:
    ends.fill_buffers()
    operate = getattr(ends.vif, operation)
    arguments = [FRAMES] if operation == "send_frames" else []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(operate, *arguments)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await operate(*arguments)
        nursery.cancel_scope.cancel()


async def test_three_tasks_can_do_different_things(ends: Ends) -> None:
    filled = ends.fill_buffers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.vif.send_frames, FRAMES)
        nursery.start_soon(ends.vif.receive_frames)
        nursery.start_soon(ends.vif.wait_update)
        await trio.testing.wait_all_tasks_blocked()

        ends.drain(filled)
        ends.data.sendall(encode_frames(FRAMES))
        ends.say(Update(OTHER_BINDING))


@pytest.mark.parametrize("operation", ["send_frames", "receive_frames", "wait_update"])
async def test_closing_wakes_who_waits(ends: Ends, operation: str) -> None:
    ends.fill_buffers()
    operate = getattr(ends.vif, operation)
    arguments = [FRAMES] if operation == "send_frames" else []

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await operate(*arguments)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await ends.vif.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await operate(*arguments)


async def test_closing_detaches_and_may_be_repeated(ends: Ends) -> None:
    await ends.vif.aclose()
    await ends.vif.aclose()

    assert ends.sock.recv(1) == b""
    assert ends.data.recv(1) == b""


async def test_closing_is_done_even_when_cancelled(ends: Ends) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await ends.vif.aclose()

    assert ends.sock.recv(1) == b""


async def test_two_opened_vifs_exchange_frames() -> None:
    with fake_daemon((binding(1), 0), (binding(2), 0)) as daemon:
        control = str(daemon.control)
        async with open_vif("v1", control=control) as one, open_vif("v2", control=control) as two:
            await one.send_frames(FRAMES)
            received = await two.receive_frames()
            while len(received) < len(FRAMES):
                received += await two.receive_frames()

            assert received == FRAMES
            assert one.binding == binding(1)
            assert one.offload == NO_OFFLOAD


async def test_offload_is_what_both_sides_can_do() -> None:
    with fake_daemon((binding(1), 0), offload=Offload.CSUM | Offload.TSO4) as daemon:
        wanted = Offload.CSUM | Offload.TSO6
        async with open_vif("v1", control=str(daemon.control), offload=wanted) as vif:
            assert vif.offload is Offload.CSUM


async def test_a_taken_vif_is_refused_with_code_and_reason() -> None:
    with fake_daemon((binding(1), 0)) as daemon:
        control = str(daemon.control)
        async with open_vif("v1", control=control):
            with pytest.raises(VifRefused, match="held by uid 0") as caught:
                async with open_vif("v1", control=control):
                    pass
    assert caught.value.code is RefusedCode.TAKEN


async def test_a_vif_that_is_not_there_is_not_found() -> None:
    with fake_daemon() as daemon, pytest.raises(ControlError, match="no vif v9") as caught:
        async with open_vif("v9", control=str(daemon.control)):
            pass
    assert caught.value.code is ErrorCode.NOT_FOUND


async def test_a_name_that_is_none_never_reaches_the_daemon() -> None:
    with pytest.raises(ValueError, match="is not a vif name"):
        async with open_vif("../v1", control="/nonexistent"):
            pass


async def test_no_daemon_is_an_error_that_names_the_socket() -> None:
    with pytest.raises(FileNotFoundError, match="/nonexistent/control"):
        async with open_vif(control="/nonexistent/control"):
            pass


async def test_opening_can_be_cancelled_and_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon takes the connection and says nothing; then it answers too late."""
    opened: list[Attachment] = []
    go = trio.Event()
    token = trio.lowlevel.current_trio_token()
    attachment, sock, data = make_attachment()

    def attach_late(*_: object) -> Attachment:
        trio.from_thread.run_sync(opened.append, attachment, trio_token=token)
        trio.from_thread.run(go.wait, trio_token=token)
        return attachment

    monkeypatch.setattr("pfinet_client.entrance.connect_attach", attach_late)
    with fake_daemon((binding(1), 0)) as daemon:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def open_it() -> None:
                    async with open_vif("v1", control=str(daemon.control)):
                        pass

                nursery.start_soon(open_it)
                while not opened:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        go.set()
        await trio.lowlevel.wait_readable(data)

    with data, sock:
        assert data.recv(1) == b""
        assert sock.recv(1) == b""


def test_the_package_has_the_library_s_names() -> None:
    assert pfinet_client.open_vif is open_vif
    assert pfinet_client.VifRefused is VifRefused
    with pytest.raises(AttributeError, match="no attribute 'open_door'"):
        pfinet_client.open_door  # noqa: B018  # the access is what is tested
