"""What every way into a vif must do, whatever is behind it.

A way in is two vifs of one network, left and right, and sockets on which
frames travel: as records (proto/SPEC.md, section 4), or each as a message
(section 6).  `check_way_in` runs all checks for its form; each may also be run
by itself, on a way in where nobody is attached.

A check that waits for what never comes is ended by GUARD_S: that is a failure,
not a measurement.
"""

import abc
import array
import enum
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import trio

from pfinet_proto.framing import LENGTH_LEN, encode_record
from pfinet_proto.stream import MAX_FRAME, VNET_LEN, StreamDecoder

GUARD_S = 20.0

ETHERNET_LEN = 14

#: What is on its way at once where a check is not about full queues.
WINDOW = 50


class Side(enum.Enum):
    """One of the two vifs."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def other(self) -> "Side":
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


class Refused(Exception):
    """The way in does not let this client attach."""


class End(abc.ABC):
    """A client's end of a way in."""

    @abc.abstractmethod
    async def send(self, data: bytes) -> None:
        """Send *data* as it is, in one piece."""

    @abc.abstractmethod
    async def send_frames(self, frames: Iterable[bytes]) -> None:
        """Send *frames*, each as this way in has it."""

    @abc.abstractmethod
    async def receive_frames(self, count: int = 1) -> list[bytes]:
        """Wait for *count* frames."""

    @abc.abstractmethod
    async def wait_detached(self) -> None:
        """Wait until the other side closes; what comes before does not matter."""

    @abc.abstractmethod
    async def send_descriptor(self, frame: bytes) -> None:
        """Send *frame* with a descriptor beside it.

        Raises:
            OSError: if the kernel does not let it pass.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Leave."""


def own_descriptor(sock: trio.socket.SocketType) -> list[tuple[int, int, bytes]]:
    """Return a control message that carries *sock* itself."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]).tobytes())]


class StreamEnd(End):
    """A stream of records.

    *companions* are sockets that live and die with it.
    """

    def __init__(
        self, data: socket.socket, *companions: socket.socket, vnet: bool = False
    ) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(data))
        self._companions = companions
        self._decoder = StreamDecoder(vnet=vnet)
        self._received: list[bytes] = []

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        await self.send(b"".join(map(encode_record, frames)))

    async def receive_frames(self, count: int = 1) -> list[bytes]:
        """Wait for *count* frames; nothing may follow a half one but its rest."""
        while len(self._received) < count:
            data = await self._stream.receive_some()
            assert data, f"detached after {len(self._received)} of {count} frames"
            self._received += self._decoder.feed(data)
        frames, self._received = self._received[:count], self._received[count:]
        return frames

    async def wait_detached(self) -> None:
        try:
            while await self._stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass

    async def send_descriptor(self, frame: bytes) -> None:
        sock = self._stream.socket
        await sock.sendmsg([encode_record(frame)], own_descriptor(sock))

    async def aclose(self) -> None:
        for companion in self._companions:
            companion.close()
        await self._stream.aclose()


class MessageEnd(End):
    """A packet socket, where each message is a frame."""

    def __init__(self, data: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(data)

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send(data)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            await self.send(frame)

    async def receive_frames(self, count: int = 1) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < count:
            frames.append(await self._socket.recv(MAX_FRAME + 1))
            assert frames[-1], f"detached after {len(frames) - 1} of {count} frames"
        return frames

    async def wait_detached(self) -> None:
        with suppress(OSError):
            while await self._socket.recv(MAX_FRAME):
                pass

    async def send_descriptor(self, frame: bytes) -> None:
        await self._socket.sendmsg([frame], own_descriptor(self._socket))

    async def aclose(self) -> None:
        self._socket.close()
        await trio.lowlevel.checkpoint()


class WayIn(abc.ABC):
    """Two vifs of one network, and how to attach to them.

    *smallest_frame* and the MTU bound the frames that may pass; with *vnet* a
    virtio_net_hdr goes ahead of each, and counts in no size here.  With *messages*
    each frame is one, else a record of a stream.
    """

    mtu: int
    smallest_frame: int
    vnet: bool = False
    messages: bool = False

    @abc.abstractmethod
    async def connect(self, side: Side) -> End:
        """Attach to the vif of that side.

        Raises:
            Refused: if the way in says so; it may also close what it accepted.
        """

    @abc.abstractmethod
    def ethernet(self, source: Side, size: int, number: int) -> bytes:
        """Return a frame of *size* bytes from *source* to the other side, told by its *number*."""

    def frame(self, source: Side, size: int, number: int) -> bytes:
        """Return what a record or message for that frame holds."""
        return bytes(VNET_LEN if self.vnet else 0) + self.ethernet(source, size, number)

    @property
    def max_payload(self) -> int:
        return MAX_FRAME + (VNET_LEN if self.vnet else 0)


Check = Callable[[WayIn], Awaitable[None]]
Make = Callable[[], AbstractAsyncContextManager[WayIn]]


@asynccontextmanager
async def both(way: WayIn) -> AsyncIterator[tuple[End, End]]:
    """Attach to both vifs; where a way in does not say when that is done, frames show it."""
    left = await way.connect(Side.LEFT)
    try:
        right = await way.connect(Side.RIGHT)
        try:
            knock, last = (way.frame(Side.LEFT, 61, number) for number in (1, 2))
            await _send_until_arrived(knock, left, right)
            await left.send_frames([last])
            while await right.receive_frames() != [last]:
                pass
            yield left, right
        finally:
            await right.aclose()
    finally:
        await left.aclose()


def sizes(way: WayIn) -> list[int]:
    """Return the sizes where something may go wrong: small ones, edges of powers of two, long."""
    longest = way.mtu + ETHERNET_LEN
    edges = {(1 << power) + step for power in range(6, 17) for step in (-1, 0, 1)}
    small = range(way.smallest_frame, way.smallest_frame + 64)
    wanted = edges | set(small) | set(range(longest - 4, longest + 1))
    return sorted(size for size in wanted if way.smallest_frame <= size <= longest)


async def exchange(sender: End, receiver: End, frames: list[bytes]) -> None:
    """Send *frames*, no more at once than surely fit, and see them arrive."""
    for at in range(0, len(frames), WINDOW):
        window = frames[at : at + WINDOW]
        await sender.send_frames(window)
        assert await receiver.receive_frames(len(window)) == window


async def frames_of_every_size_pass_both_ways(way: WayIn) -> None:
    async with both(way) as (left, right):
        for side, sender, receiver in ((Side.LEFT, left, right), (Side.RIGHT, right, left)):
            frames = [way.frame(side, size, number) for number, size in enumerate(sizes(way))]
            await exchange(sender, receiver, frames)


async def frames_keep_their_order(way: WayIn) -> None:
    async with both(way) as (left, right):
        frames = [way.frame(Side.LEFT, 60 + number % 7, number) for number in range(2000)]
        await exchange(left, right, frames)


async def frames_pass_both_ways_at_once(way: WayIn) -> None:
    async with both(way) as (left, right), trio.open_nursery() as nursery:
        for side, sender, receiver in ((Side.LEFT, left, right), (Side.RIGHT, right, left)):
            frames = [way.frame(side, 200, number) for number in range(500)]
            nursery.start_soon(exchange, sender, receiver, frames)


async def many_records_may_come_in_one_write(way: WayIn) -> None:
    async with both(way) as (left, right):
        frames = [way.frame(Side.LEFT, 60, number) for number in range(200)]
        await left.send_frames(frames)
        assert await right.receive_frames(len(frames)) == frames


async def a_record_may_come_in_many_writes(way: WayIn) -> None:
    """Byte by byte, then in pieces of every length that straddle the records."""
    async with both(way) as (left, right):
        frames = [way.frame(Side.LEFT, 60 + number, number) for number in range(5)]
        data = b"".join(map(encode_record, frames))
        for length in (1, 2, 3, 5, 7, 64, 71):
            for at in range(0, len(data), length):
                await left.send(data[at : at + length])
            assert await right.receive_frames(len(frames)) == frames


async def a_runt_and_a_giant_are_dropped_and_no_more(way: WayIn) -> None:
    async with both(way) as (left, right):
        head = bytes(VNET_LEN if way.vnet else 0)
        giant = way.frame(Side.LEFT, way.mtu + ETHERNET_LEN + 1, 1)
        good = way.frame(Side.LEFT, 60, 2)
        await left.send_frames([head + b"\0", head + bytes(13), giant, good])
        assert await right.receive_frames() == [good]


async def an_empty_message_ends_the_connection(way: WayIn) -> None:
    """It cannot be told from the end."""
    await _ends_the_connection(way, b"")


async def a_length_of_0_ends_the_connection(way: WayIn) -> None:
    await _ends_the_connection(way, bytes(LENGTH_LEN))


async def a_length_of_one_too_much_ends_the_connection(way: WayIn) -> None:
    await _ends_the_connection(way, (way.max_payload + 1).to_bytes(LENGTH_LEN, "big"))


async def the_greatest_length_ends_the_connection(way: WayIn) -> None:
    await _ends_the_connection(way, b"\xff" * LENGTH_LEN)


async def _ends_the_connection(way: WayIn, data: bytes) -> None:
    """*data* costs its sender the connection; the neighbour notices nothing."""
    async with both(way) as (left, right):
        await left.send(data)
        await left.wait_detached()
        async with _come_back(way, Side.LEFT, right) as again:
            await _talk(way, again, right)


async def half_a_record_before_the_end_detaches_that_client_alone(way: WayIn) -> None:
    async with both(way) as (left, right):
        await left.send(encode_record(way.frame(Side.LEFT, 100, 1))[:50])
        await left.aclose()
        async with _come_back(way, Side.LEFT, right) as again:
            await _talk(way, again, right)


async def a_second_client_is_refused_until_the_first_has_left(way: WayIn) -> None:
    async with both(way) as (left, right):
        for _ in range(3):
            assert await _is_refused(way, Side.LEFT)
        await _talk(way, left, right)
        await left.aclose()
        async with _come_back(way, Side.LEFT, right) as again:
            assert await _is_refused(way, Side.LEFT)
            await _talk(way, again, right)


async def who_does_not_read_costs_the_sender_nothing(way: WayIn) -> None:
    """Frames that find the queue full are dropped whole; those that arrive keep their order."""
    async with both(way) as (left, right):
        size = min(way.mtu + ETHERNET_LEN, 1514)
        frames = [way.frame(Side.LEFT, size, number) for number in range(16_000)]
        for at in range(0, len(frames), WINDOW):
            await left.send_frames(frames[at : at + WINDOW])
        last = way.frame(Side.LEFT, 60, 0xFFFF)
        arrived = await _send_until_arrived(last, left, right)
        assert 0 < len(arrived) < len(frames)
        rest = iter(frames)
        assert all(frame in rest for frame in arrived)


async def _send_until_arrived(frame: bytes, sender: End, receiver: End) -> list[bytes]:
    """Send *frame* until it is not dropped; return what arrived before it."""
    before = []
    arrived = False
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            while not arrived:
                await sender.send_frames([frame])

        nursery.start_soon(send)
        while (found := (await receiver.receive_frames())[0]) != frame:
            before.append(found)
        arrived = True
    return before


async def descriptors_are_not_taken(way: WayIn) -> None:
    """The kernel refuses to send them, or else they cost the connection."""
    async with both(way) as (left, right):
        try:
            await left.send_descriptor(way.frame(Side.LEFT, 60, 1))
        except PermissionError:
            await _talk(way, left, right)
        else:
            await left.wait_detached()


async def _talk(way: WayIn, left: End, right: End) -> None:
    for number in range(3):
        there, back = way.frame(Side.LEFT, 90, number), way.frame(Side.RIGHT, 90, number)
        await left.send_frames([there])
        assert await right.receive_frames() == [there]
        await right.send_frames([back])
        assert await left.receive_frames() == [back]


async def _is_refused(way: WayIn, side: Side) -> bool:
    try:
        end = await way.connect(side)
    except Refused:
        return True
    try:
        await end.wait_detached()
    finally:
        await end.aclose()
    return True


@asynccontextmanager
async def _come_back(way: WayIn, side: Side, witness: End) -> AsyncIterator[End]:
    """Attach again as soon as the vif is free: try until *witness* sees a frame of ours."""
    frame = way.frame(side, 77, 7777)
    arrived = False
    while not arrived:
        try:
            end = await way.connect(side)
        except Refused:
            continue
        try:
            arrived = await _gets_through(end, witness, frame)
            if arrived:
                yield end
        finally:
            await end.aclose()


async def _gets_through(end: End, witness: End, frame: bytes) -> bool:
    arrived = False
    async with trio.open_nursery() as nursery:

        async def give_up_when_refused() -> None:
            await end.wait_detached()
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up_when_refused)
        try:
            await end.send_frames([frame])
        except trio.BrokenResourceError:
            return False
        assert await witness.receive_frames() == [frame]
        arrived = True
        nursery.cancel_scope.cancel()
    return arrived


CHECKS: tuple[Check, ...] = (
    frames_of_every_size_pass_both_ways,
    frames_keep_their_order,
    frames_pass_both_ways_at_once,
    a_runt_and_a_giant_are_dropped_and_no_more,
    a_second_client_is_refused_until_the_first_has_left,
    who_does_not_read_costs_the_sender_nothing,
    descriptors_are_not_taken,
)

STREAM_CHECKS: tuple[Check, ...] = (
    *CHECKS,
    many_records_may_come_in_one_write,
    a_record_may_come_in_many_writes,
    a_length_of_0_ends_the_connection,
    a_length_of_one_too_much_ends_the_connection,
    the_greatest_length_ends_the_connection,
    half_a_record_before_the_end_detaches_that_client_alone,
)

MESSAGE_CHECKS: tuple[Check, ...] = (*CHECKS, an_empty_message_ends_the_connection)


async def run_check(check: Check, make: Make) -> None:
    """Run one check on a way in of its own."""
    async with make() as way:
        with trio.fail_after(GUARD_S):
            await check(way)


async def check_way_in(make: Make) -> None:
    """Run every check for its form, each on a way in that *make* makes for it."""
    async with make() as way:
        checks = MESSAGE_CHECKS if way.messages else STREAM_CHECKS
    for check in checks:
        await run_check(check, make)
