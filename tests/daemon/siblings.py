"""Control with a broker and an engine that only remember what they were asked.

Everything runs in one process and one trio loop.  Clients are uids: whoever
connects is seen as what the process acts as at that moment.
"""

import contextlib
import io
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs
import trio

from multiplexer.config import parse_config
from multiplexer.daemon import channel, channel_trio, errands
from multiplexer.daemon.audit import Log
from multiplexer.daemon.control import Control, ControlBoot
from multiplexer.daemon.descriptors import refuse_fds
from multiplexer.daemon.host import System
from multiplexer.daemon.live_vif import USUAL_PATIENCE, Patience
from multiplexer.daemon.rings import Memory
from multiplexer.daemon.rundir import KINDS
from multiplexer.daemon.succession import numbered
from multiplexer.datapath.verdicts import VERDICTS
from multiplexer.model import ConfigError, Numbering
from pfinet_proto import attach as attaching
from pfinet_proto import control as asking
from pfinet_proto.attach.machine import AttachMachine, Role
from pfinet_proto.values import IPAddress, MacAddress
from tests.support.plain import acting_as

ALICE, BOB, CAROL = 20001, 20002, 20003
NAMES = {"alice": ALICE, "bob": BOB, "carol": CAROL, "root": 0}

STATION_MAC = MacAddress.parse("02:00:00:00:00:99")

NIC_MAC = MacAddress.parse("02:00:00:00:00:07")

CONFIG = """\
[daemon]
run_dir = "{run_dir}"
state_dir = "{state_dir}"
owner_uids = ["20001-20089"]
admins = ["carol"]

[uplink.wire]
kind = "nic"
interface = "nic0"
external = ["10.77.0.0/24", "fd77::/64"]

[uplink.nowhere]
kind = "none"

[network.lan]
uplink = "wire"
prefixes = ["10.77.0.0/24", "fd77::/64"]
gateways = ["10.77.0.1", "fd77::1"]
reserved = ["10.77.0.200-10.77.0.254"]

[network.lab]
mode = "hub"
uplink = "nowhere"
prefixes = ["10.78.0.0/24"]
mtu = 9000
"""

STATIC = """
[vif.web]
owner = "20001"
network = "lan"
addresses = ["10.77.0.80/24", "fd77::80/64"]
"""

R = TypeVar("R")


def system(names: dict[str, int] = NAMES, hosts: tuple[str, ...] = ("10.77.0.9",)) -> System:
    """Return a system with these users, each in a group of its own, and these addresses."""
    addresses: tuple[IPAddress, ...] = tuple(map(ip_address, hosts))
    uids = {uid: name for name, uid in names.items()}
    return System(uids.get, names.get, names.get, lambda: addresses, no_news)


def no_news() -> socket.socket:
    """Return a socket that nobody can send to."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


class Sibling:
    """One end of a channel that answers by `react` and remembers what it was asked.

    *refusals* has the error to answer a type of request with, and *once* those
    for the next of it only; what is in *withheld* is not answered until `release`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = trio.socket.from_stdlib_socket(sock)
        self.heard: list[channel.Message] = []
        self.refusals: dict[type[Any], str] = {}
        self.once: dict[type[Any], str] = {}
        self.withheld: set[type[Any]] = set()
        self._held: list[tuple[channel.Message, list[int]]] = []
        self._heard_more = trio.Event()

    async def run(self) -> None:
        while True:
            try:
                message, fds = await channel_trio.receive(self.sock)
            except channel.SiblingGone:
                return
            self.heard.append(message)
            if type(message) in self.withheld:
                self._held.append((message, fds))
            else:
                await self.answer(message, fds)
            self._heard_more.set()
            self._heard_more = trio.Event()

    async def answer(self, message: channel.Message, fds: list[int]) -> None:
        raise NotImplementedError

    def refusal(self, message: channel.Message) -> str | None:
        """Return the error to answer *message* with."""
        return self.once.pop(type(message), None) or self.refusals.get(type(message))

    async def release(self) -> None:
        """Answer what was withheld."""
        self.withheld.clear()
        while self._held:
            await self.answer(*self._held.pop(0))

    def all(self, kind: type[R]) -> list[R]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def wait_heard(self, kind: type[R], count: int = 1) -> R:
        """Return message number *count* of its kind, once it is heard."""
        while len(self.all(kind)) < count:
            await self._heard_more.wait()
        return self.all(kind)[count - 1]


class FakeBroker(Sibling):
    """A broker whose sockets everybody may connect to."""

    def __init__(self, sock: socket.socket, run_dir: Path) -> None:
        super().__init__(sock)
        self._run_dir = run_dir
        self.uids: dict[str, int] = {}
        self._open: dict[str, list[socket.socket]] = {}
        self.kept: dict[str, tuple[channel.Kept, list[Memory]]] = {}
        #: Of those, whose ring no engine serves.
        self.adrift: set[str] = set()
        #: What a reload finds.
        self.file = ""
        self.uplinks: tuple[channel.UplinkState, ...] = ()
        self._numbering = Numbering()
        self._nics: Collection[str] = ()

    async def start(self, text: str, nic_mac: MacAddress | None = NIC_MAC) -> None:
        with contextlib.suppress(ConfigError):
            self._numbering = parse_config(text, "multiplexer.toml").numbering
        self._nics = self._numbering.nics.keys()
        start = channel.Start(
            text,
            "multiplexer.toml",
            channel.Features(passrights=True),
            time.monotonic_ns(),
            channel.Restarts(),
            inherited=len(self.kept),
            networks=numbered(self._numbering.networks),
            nics=numbered(self._numbering.nics),
        )
        await channel_trio.send(self.sock, start)
        await self.tell_uplink(nic_mac)
        for kept, descriptors in self.kept.values():
            adrift = kept.vif_id in self.adrift
            given = descriptors if adrift else descriptors[:1]
            fds = [each.fileno() for each in given]
            await channel_trio.send(self.sock, channel.Inherited(kept, adrift), fds)

    async def ask_reload(self) -> None:
        await channel_trio.send(self.sock, channel.ReloadAsked())

    async def tell_uplink(self, mac: MacAddress | None = NIC_MAC) -> None:
        state = channel.UplinkState("wire", mac is not None, mac is not None, mac, 1500)
        await channel_trio.send(self.sock, state)

    async def answer(self, message: channel.Message, fds: list[int]) -> None:
        if isinstance(message, channel.Ready):
            return
        if isinstance(message, channel.PrepareReload):
            await channel_trio.send(self.sock, self._prepared(message.request))
            return
        assert isinstance(message, (*errands.REQUESTS, channel.CommitReload, channel.EndReload))
        refusal = self.refusal(message)
        if isinstance(message, channel.CommitReload) and refusal is None:
            self._nics = parse_config(self.file, "multiplexer.toml").numbering.nics.keys()
        if isinstance(message, channel.SetMemberships) and message.uplink not in self._nics:
            refusal = "not a nic of the file"
        done = channel.Done(message.request, refusal)
        if isinstance(message, channel.OpenVifSockets) and refusal is None:
            listeners = self._listeners(message)
            await channel_trio.send(self.sock, done, [sock.fileno() for sock in listeners])
            return
        if isinstance(message, channel.CloseVifSockets) and refusal is None:
            shutil.rmtree(self._run_dir / "vif" / message.vif_id)
            self._close(message.vif_id)
        if isinstance(message, channel.Keep):
            if refusal is None:
                assert message.kept.vif_id not in self.kept
                self.kept[message.kept.vif_id] = (message.kept, [*map(Memory, fds)])
            else:
                channel.close_all(fds)
        if isinstance(message, channel.Forget):
            self.forget(message.vif_id)
        await channel_trio.send(self.sock, done)

    def _prepared(self, request: int) -> channel.ReloadPrepared:
        try:
            parse_config(self.file, "multiplexer.toml")
        except ConfigError as error:
            return channel.ReloadPrepared(request, "", (), error.problems)
        return channel.ReloadPrepared(request, self.file, self.uplinks, ())

    def forget(self, vif_id: str) -> None:
        if vif_id in self.kept:
            for descriptor in self.kept.pop(vif_id)[1]:
                descriptor.close()
            self.adrift.discard(vif_id)

    def _listeners(self, message: channel.OpenVifSockets) -> list[socket.socket]:
        self.uids[message.vif_id] = message.uid
        if message.vif_id not in self._open:
            folder = self._run_dir / "vif" / message.vif_id
            folder.mkdir(parents=True)
            self._open[message.vif_id] = [
                listen(folder / kind, KINDS[kind]) for kind in message.kinds
            ]
        return self._open[message.vif_id]

    def _close(self, vif_id: str) -> None:
        del self.uids[vif_id]
        for listener in self._open.pop(vif_id):
            listener.close()

    def close(self) -> None:
        for vif_id in tuple(self._open):
            self._close(vif_id)
        for vif_id in tuple(self.kept):
            self.forget(vif_id)

    @property
    def sockets(self) -> set[str]:
        """The ids of the vifs that have sockets."""
        return {entry.name for entry in (self._run_dir / "vif").iterdir()}


class FakeEngine(Sibling):
    """An engine that moves nothing."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        #: What is attached, by port.
        self.data: dict[int, socket.socket] = {}
        self.taps: dict[int, int] = {}
        #: Of attachments by rings, whose kicks are in `data`.
        self.memories: dict[int, int] = {}
        self.ports: dict[int, channel.Port] = {}
        self.rows: dict[int, tuple[int, ...]] = {}
        self.conflicts: tuple[channel.Conflict, ...] = ()
        self.claimed: tuple[channel.Claimed, ...] = ()
        #: The addresses of stations on the wire.
        self.stations: set[str] = set()
        #: The tables of filters that are in force, and those that are ready, by port.
        self.filters: dict[int, bytes] = {}
        self.ready: dict[int, bytes] = {}
        #: What was seen of addresses, and not asked for yet.
        self.sightings: list[channel.Sighting] = []

    async def answer(self, message: channel.Message, fds: list[int]) -> None:
        if isinstance(message, channel.ReadCounters):
            ports = range(message.first, message.first + message.count)
            nothing = (0,) * (4 + len(VERDICTS))
            rows = tuple(self.rows.get(port, nothing) for port in ports)
            conflicts = tuple(found for found in self.conflicts if found.port in ports)
            claimed = tuple(found for found in self.claimed if found.port in ports)
            reply = channel.CountersReply(message.request, message.first, rows, conflicts, claimed)
            await channel_trio.send(self.sock, reply)
            return
        if isinstance(message, channel.ReadPorts):
            wanted = range(message.first, message.first + message.count)
            there = tuple(self.ports[port] for port in wanted if port in self.ports)
            await channel_trio.send(self.sock, channel.PortsReply(message.request, there))
            return
        if isinstance(message, channel.ReadSightings):
            told = tuple(self.sightings[: message.count])
            del self.sightings[: message.count]
            await channel_trio.send(self.sock, channel.SightingsReply(message.request, told))
            return
        refusal = self.refusal(message)
        if isinstance(message, channel.SetVif) and refusal is None:
            before = self.ports.get(message.port)
            generation = before.generation if before is not None else None
            self.ports[message.port] = channel.Port(message.port, message.vif_id, generation)
        if isinstance(message, channel.PrepareFilter) and refusal is None:
            before_it = self.ready.get(message.port, b"") if message.offset else b""
            self.ready[message.port] = before_it + message.data
        if isinstance(message, channel.CommitFilters) and refusal is None:
            self.filters = {
                port: each for port, each in {**self.filters, **self.ready}.items() if each
            }
            self.ready = {}
        if isinstance(message, channel.AbandonFilters):
            self.ready = {}
        if isinstance(message, channel.Attach):
            if refusal is not None:
                channel.close_all(fds)
            elif message.transport == "tap":
                self.taps[message.port] = fds[0]
            else:
                self.data[message.port] = socket.socket(fileno=fds[0])
                for memory in fds[1:]:
                    self.memories[message.port] = memory
            if refusal is None:
                self._set_generation(message.port, message.generation)
        if isinstance(message, channel.Detach | channel.ClearVif):
            self._let_go(message.port)
        if isinstance(message, channel.ClearVif):
            self.ports.pop(message.port, None)
            self.filters.pop(message.port, None)
            self.ready.pop(message.port, None)
            self.conflicts = tuple(found for found in self.conflicts if found.port != message.port)
        if isinstance(message, channel.Inject):
            self.conflicts += tuple(self._claims_of_stations(message))
        request = getattr(message, "request", None)
        assert isinstance(request, int)
        await channel_trio.send(self.sock, channel.Ack(request, refusal))

    def _let_go(self, port: int) -> None:
        if port in self.data:
            self.data.pop(port).close()
            if port in self.memories:
                os.close(self.memories.pop(port))
        elif port in self.taps:
            os.close(self.taps.pop(port))
        else:
            return
        self._set_generation(port, None)

    def _set_generation(self, port: int, generation: int | None) -> None:
        self.ports[port] = attrs.evolve(self.ports[port], generation=generation)

    def _claims_of_stations(self, asked: channel.Inject) -> Iterator[channel.Conflict]:
        for address in self.stations:
            if any(ip_address(address).packed in frame for frame in asked.frames):
                yield channel.Conflict(asked.port, STATION_MAC, address, 1)

    async def see(self, *sightings: channel.Sighting) -> None:
        """Say that something was seen, and return when it was asked for."""
        asked = len(self.all(channel.ReadSightings))
        self.sightings += sightings
        await channel_trio.send(self.sock, channel.Sighted())
        await self.wait_heard(channel.ReadSightings, asked + 1)

    async def end_attachment(self, attached: channel.Attach, why: str) -> None:
        """Say that the attachment has ended by itself."""
        self._let_go(attached.port)
        await channel_trio.send(
            self.sock, channel.Detached(attached.port, attached.generation, why, False)
        )

    def close(self) -> None:
        for port in (*self.data, *self.taps):
            self._let_go(port)


def listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that listens at *path* for everybody."""
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    refuse_fds(listener)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(128)
    return listener


@attrs.define
class Asker:
    """A connection to the control socket."""

    stream: trio.SocketStream
    _decoder: asking.FrameDecoder = attrs.field(
        factory=lambda: asking.FrameDecoder(asking.MAX_REPLY_BYTES)
    )
    _replies: list[bytes] = attrs.field(factory=list)

    async def ask(self, request: asking.Request[R]) -> R:
        """Return what the daemon answers; ControlError if it refuses."""
        await self.stream.send_all(asking.encode_request(request, 7))
        return asking.decode_reply_untrusted(await self.next_reply(), request, 7)

    async def next_reply(self) -> bytes:
        while not self._replies:
            data = await self.stream.receive_some(65536)
            assert data, "the daemon closed the connection"
            self._replies += self._decoder.feed(data)
        return self._replies.pop(0)


@attrs.define
class Attacher:
    """A connection to a vif's `attach` socket."""

    sock: trio.socket.SocketType
    machine: AttachMachine = attrs.field(factory=lambda: AttachMachine(Role.CLIENT))

    async def say(self, message: attaching.Message, fds: Sequence[int] = ()) -> None:
        ancillary = channel.rights(fds) if fds else []
        await self.sock.sendmsg([self.machine.send(message)], ancillary)

    async def hear(self) -> tuple[attaching.Message, list[int]]:
        """Return the daemon's next message and its descriptors; EOFError if it has closed."""
        data, ancillary, flags, _ = await self.sock.recvmsg(65536, channel.rights_space())
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if not data:
            raise EOFError
        fds = [fd for _, _, value in ancillary for fd in memoryview(value).cast("i")]
        return self.machine.receive_untrusted(data), fds

    async def attach(self) -> tuple[attaching.Welcome, socket.socket]:
        """Say hello, and return the answer and the data stream."""
        await self.say(attaching.Hello(offload=attaching.Offload.CSUM, client="test 1"))
        welcome, fds = await self.hear()
        assert isinstance(welcome, attaching.Welcome), welcome
        (fd,) = fds
        return welcome, socket.socket(fileno=fd)

    async def wait_closed(self) -> None:
        try:
            while True:
                await self.hear()
        except EOFError:
            return


@attrs.define(kw_only=True)
class Running:
    """A control process that serves, and those around it."""

    run_dir: Path
    control: Control
    broker: FakeBroker
    engine: FakeEngine
    text: io.StringIO

    @property
    def log(self) -> list[str]:
        """What was logged, line by line, without time and program."""
        return [line.split(": ", 1)[1] for line in self.text.getvalue().splitlines()]

    @asynccontextmanager
    async def connected(
        self, path: Path, uid: int, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> AsyncIterator[trio.socket.SocketType]:
        with closing(socket.socket(socket.AF_UNIX, kind)) as sock:
            with acting_as(uid):
                sock.connect(str(path))
            yield trio.socket.from_stdlib_socket(sock)

    @asynccontextmanager
    async def asker(self, uid: int = 0) -> AsyncIterator[Asker]:
        async with self.connected(self.run_dir / "control", uid) as sock:
            yield Asker(trio.SocketStream(sock))

    async def ask(self, request: asking.Request[R], uid: int = 0) -> R:
        async with self.asker(uid) as asker:
            return await asker.ask(request)

    async def wait_serving(self) -> None:
        await self.broker.wait_heard(channel.Ready)

    async def run_until_it_fails(self, after: Callable[[], Awaitable[None]]) -> None:
        """Run control, and *after* that it serves; raise why it ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.control.run)
            await self.wait_serving()
            await after()

    async def vif_directory(self, name: str) -> Path:
        found = [vif for vif in (await self.ask(asking.VifList())).vifs if str(vif.name) == name]
        return self.run_dir / "vif" / found[0].id

    @asynccontextmanager
    async def attacher(self, vif: str, uid: int) -> AsyncIterator[Attacher]:
        path = await self.vif_directory(vif) / "attach"
        async with self.connected(path, uid, socket.SOCK_SEQPACKET) as sock:
            yield Attacher(sock)


@attrs.define
class Place:
    """Where a daemon keeps its files, over restarts."""

    run_dir: Path
    state_dir: Path

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Self]:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            place = cls(Path(folder) / "run", Path(folder) / "state")
            place.state_dir.mkdir()
            yield place

    def config(self, extra: str = "") -> str:
        return CONFIG.format(run_dir=self.run_dir, state_dir=self.state_dir) + extra


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@asynccontextmanager
async def siblings(
    place: Place, users: System | None = None, patience: Patience = USUAL_PATIENCE
) -> AsyncIterator[Running]:
    """Make control, with siblings that serve it; who enters runs control."""
    place.run_dir.mkdir()
    (place.run_dir / "vif").mkdir()
    broker_ours, broker_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine_ours, engine_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = listen(place.run_dir / "control", socket.SOCK_STREAM)
    text = io.StringIO()
    boot = ControlBoot(broker=broker_ours, engine=engine_ours, listener=listener)
    broker = FakeBroker(broker_theirs, place.run_dir)
    engine = FakeEngine(engine_theirs)
    try:
        log = Log("control", text, journal=True)
        made = Control(boot, log, users if users is not None else system(), patience)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.run)
            nursery.start_soon(engine.run)
            yield Running(
                run_dir=place.run_dir, control=made, broker=broker, engine=engine, text=text
            )
            nursery.cancel_scope.cancel()
    finally:
        for sock in (broker_ours, broker_theirs, engine_ours, engine_theirs, listener):
            sock.close()
        broker.close()
        engine.close()
        shutil.rmtree(place.run_dir)


@asynccontextmanager
async def running(
    place: Place,
    extra: str = "",
    users: System | None = None,
    nic_mac: MacAddress | None = NIC_MAC,
    patience: Patience = USUAL_PATIENCE,
) -> AsyncIterator[Running]:
    """Run control until the context ends, and then stop it as the broker does."""
    async with siblings(place, users, patience) as made:
        await made.broker.start(place.config(extra), nic_mac)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.control.run)
            await made.wait_serving()
            yield made
            made.control.stop()
        assert not any("Traceback" in line for line in made.log), made.text.getvalue()
