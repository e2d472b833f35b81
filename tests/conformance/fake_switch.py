"""A switch of two ports in Python, right or wrong on purpose: the suite is tested on it."""

import enum
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from pfinet_proto.errors import BadMessage
from pfinet_proto.framing import LENGTH_LEN, encode_record
from pfinet_proto.stream import StreamDecoder
from tests.conformance.way_in import ETHERNET_LEN, End, MessageEnd, Refused, Side, StreamEnd, WayIn

QUEUE_FRAMES = 1000
READ_BYTES = 65536


class Flaw(enum.Enum):
    """What a wrong switch does."""

    REORDERS = enum.auto()
    LOSES_LONG_FRAMES = enum.auto()
    ONE_WAY = enum.auto()
    FORGETS_PIECES = enum.auto()
    READS_ONE_RECORD = enum.auto()
    ENDS_ON_A_RUNT = enum.auto()
    PASSES_A_GIANT = enum.auto()
    IGNORES_BAD_LENGTHS = enum.auto()
    IGNORES_AN_EMPTY_MESSAGE = enum.auto()
    PASSES_HALF_A_RECORD = enum.auto()
    ENDS_THE_NEIGHBOUR_TOO = enum.auto()
    LETS_TWO_IN = enum.auto()
    STAYS_TAKEN = enum.auto()
    WAITS_FOR_THE_READER = enum.auto()
    CUTS_WHEN_FULL = enum.auto()
    TAKES_DESCRIPTORS = enum.auto()


class FakeSwitch(WayIn):
    """Passes each frame of one port to the other, as records or, with *messages*, as those."""

    mtu = 1500
    smallest_frame = ETHERNET_LEN

    def __init__(self, nursery: trio.Nursery, flaw: Flaw | None, messages: bool) -> None:
        self.messages = messages
        self._nursery = nursery
        self._flaw = flaw
        self._queues: dict[Side, trio.MemorySendChannel[bytes]] = {}
        self._sockets: dict[Side, trio.socket.SocketType] = {}
        self._held_back: bytes | None = None

    def ethernet(self, source: Side, size: int, number: int) -> bytes:
        addresses = b"\2to___\2from_" if source is Side.LEFT else b"\2from_\2to___"
        content = number.to_bytes(4, "big") * (size // 4)
        return (addresses + b"\x88\xb5" + content)[:size].ljust(size, b"\0")

    async def connect(self, side: Side) -> End:
        await trio.lowlevel.checkpoint()
        if side in self._queues and self._flaw is not Flaw.LETS_TWO_IN:
            raise Refused(f"{side.value} is taken")
        kind = socket.SOCK_SEQPACKET if self.messages else socket.SOCK_STREAM
        theirs, ours = socket.socketpair(socket.AF_UNIX, kind)
        send, receive = trio.open_memory_channel[bytes](QUEUE_FRAMES)
        self._queues[side] = send
        self._sockets[side] = trio.socket.from_stdlib_socket(ours)
        self._nursery.start_soon(self._serve, side, self._sockets[side], receive)
        return MessageEnd(theirs) if self.messages else StreamEnd(theirs)

    async def _serve(
        self,
        side: Side,
        sock: trio.socket.SocketType,
        queue: trio.MemoryReceiveChannel[bytes],
    ) -> None:
        try:
            with sock:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, sock, queue)
                    await (self._read_messages if self.messages else self._read)(side, sock)
                    nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError):
            pass
        self._sockets.pop(side, None)
        if self._flaw is not Flaw.STAYS_TAKEN:
            self._queues.pop(side, None)
        if self._flaw is Flaw.ENDS_THE_NEIGHBOUR_TOO and side.other in self._sockets:
            self._sockets[side.other].shutdown(socket.SHUT_RDWR)

    async def _write(
        self, sock: trio.socket.SocketType, queue: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        async for record in queue:
            if self.messages:
                await sock.send(record[LENGTH_LEN:])
            else:
                await trio.SocketStream(sock).send_all(record)

    async def _read_messages(self, side: Side, sock: trio.socket.SocketType) -> None:
        while True:
            frame, ancillary, _, _ = await sock.recvmsg(READ_BYTES, socket.CMSG_SPACE(4))
            if not frame and self._flaw is Flaw.IGNORES_AN_EMPTY_MESSAGE:
                await trio.sleep_forever()
            if not frame or not _may_pass(ancillary, self._flaw):
                break
            await self._forward(side.other, frame)

    async def _read(self, side: Side, sock: trio.socket.SocketType) -> None:
        decoder = StreamDecoder()
        while True:
            data, ancillary, _, _ = await sock.recvmsg(READ_BYTES, socket.CMSG_SPACE(4))
            if not data or not _may_pass(ancillary, self._flaw):
                break
            if self._flaw is Flaw.FORGETS_PIECES:
                decoder = StreamDecoder()
            try:
                frames = decoder.feed(data)
            except BadMessage:
                if self._flaw is not Flaw.IGNORES_BAD_LENGTHS:
                    return
                decoder = StreamDecoder()
                continue
            if self._flaw is Flaw.READS_ONE_RECORD:
                frames = frames[:1]
            for frame in frames:
                if len(frame) < ETHERNET_LEN and self._flaw is Flaw.ENDS_ON_A_RUNT:
                    return
                await self._forward(side.other, frame)
        if self._flaw is Flaw.PASSES_HALF_A_RECORD and not decoder.is_between_records:
            await self._deliver(side.other, encode_record(bytes(60)))

    async def _forward(self, to: Side, frame: bytes) -> None:
        longest = self.mtu + ETHERNET_LEN
        if self._flaw is Flaw.PASSES_A_GIANT:
            longest += 1
        if self._flaw is Flaw.LOSES_LONG_FRAMES:
            longest -= 1
        if self._flaw is Flaw.ONE_WAY and to is Side.LEFT:
            return
        if not ETHERNET_LEN <= len(frame) <= longest:
            return
        record = encode_record(frame)
        if self._flaw is Flaw.REORDERS and self._held_back is None:
            self._held_back = record
            return
        await self._deliver(to, record)
        if self._held_back is not None:
            await self._deliver(to, self._held_back)
            self._held_back = None

    async def _deliver(self, to: Side, record: bytes) -> None:
        queue = self._queues.get(to)
        if queue is None:
            return
        try:
            if self._flaw is Flaw.WAITS_FOR_THE_READER:
                await queue.send(record)
            else:
                queue.send_nowait(record)
        except trio.WouldBlock:
            if self._flaw is Flaw.CUTS_WHEN_FULL:
                await queue.send(record[: LENGTH_LEN + 20])
        except trio.BrokenResourceError:
            pass


def _may_pass(ancillary: list[tuple[int, int, bytes]], flaw: Flaw | None) -> bool:
    """Close what descriptors came; return whether they are borne."""
    for _, _, fds in ancillary:
        socket.close(int.from_bytes(fds[:4], "little"))
    return not ancillary or flaw is Flaw.TAKES_DESCRIPTORS


@asynccontextmanager
async def fake_switch(flaw: Flaw | None = None, messages: bool = False) -> AsyncIterator[WayIn]:
    """Run a fake switch, with *flaw* if it shall be wrong."""
    async with trio.open_nursery() as nursery:
        yield FakeSwitch(nursery, flaw, messages)
        nursery.cancel_scope.cancel()
