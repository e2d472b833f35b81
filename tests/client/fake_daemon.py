"""A daemon that believes everybody: control, attach, and a hub of data streams.

It speaks through pfinet_proto alone, so that what is tested is the client.
"""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attrs import define, evolve, field

from pfinet_proto.attach import (
    COOKIE_LEN,
    MAX_MESSAGE_BYTES,
    Binding,
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Transport,
    Welcome,
    decode_untrusted,
    encode,
)
from pfinet_proto.control import (
    MAX_REQUEST_BYTES,
    Conflict,
    ControlError,
    Counters,
    Deleted,
    ErrorCode,
    FrameDecoder,
    Holder,
    LimitsInfo,
    Located,
    NetworkInfo,
    NetworkShow,
    Reply,
    Result,
    VifBorrow,
    VifCreate,
    VifDelete,
    VifInfo,
    VifList,
    VifLocate,
    Vifs,
    VifShow,
    decode_request_untrusted,
    encode_reply,
)
from pfinet_proto.stream import StreamDecoder, encode_frames
from pfinet_proto.values import MacAddress, VifName

#: struct ucred: pid, uid, gid (unix(7)).
_UCRED = struct.Struct("=iII")
#: What a kernel of today can do, and this daemon takes.
EVERY_OFFLOAD = Offload(0x1F)


def binding(number: int, **changes: Any) -> Binding:
    """Return the binding of the vif `vN`, 10.9.0.N and fd09::N, gateways at 254."""
    plain = Binding(
        vif=VifName(f"v{number}"),
        network="lab",
        mac=MacAddress(bytes([0x52, 0x54, 0, 0, 0, number])),
        mtu=1500,
        addresses=(ip_interface(f"10.9.0.{number}/24"), ip_interface(f"fd09::{number}/64")),
        gateways=(ip_address("10.9.0.254"), ip_address("fd09::254")),
        dns=(ip_address("10.9.0.53"), ip_address("fd09::53")),
        search=("lab.example",),
    )
    return evolve(plain, **changes)


@define(eq=False)
class Port:
    """A vif of the fake: its binding, and who is attached."""

    binding: Binding
    owner: int
    grant: str | None = None
    holder: Holder | None = None
    attach: socket.socket | None = None
    data: socket.socket | None = None
    records: list[bytes] = field(factory=list)
    """What its client sent: the first thousand, for those that follow are bulk."""
    longest_bytes: int = 0
    """Of all records that its client sent."""
    refusals: list[Refused] = field(factory=list)
    """What the next clients are told instead of a welcome."""
    turns_away_returning: bool = False
    """Whether who shows a cookie is told to try later."""
    hellos: list[Hello] = field(factory=list)
    """Of all its clients, refused ones too."""
    cookies: list[bytes] = field(factory=list)
    """Of all its welcomes."""
    attached: threading.Event = field(factory=threading.Event)
    detached: threading.Event = field(factory=threading.Event)


class FakeDaemon:
    """Listens from construction to `close`, and again from `start` to `close`."""

    def __init__(self, bindings: Sequence[tuple[Binding, int]], offload: Offload) -> None:
        self.offload = offload
        self.changed = threading.Condition()
        """Notified after each change of a port."""
        self.wire: Callable[[list[bytes]], list[bytes]] = lambda records: records
        """What becomes of records between two vifs."""
        self.created: list[VifCreate] = []
        self.borrowed: list[str] = []
        self.ports = {str(each.vif): Port(each, owner) for each, owner in bindings}
        self.directory = Path(mkdtemp(dir="/run", prefix="fake-daemon-"))
        self.directory.chmod(0o755)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.start()

    def start(self) -> None:
        """Listen, also where a run before left its sockets."""
        self._serve(self.control, socket.SOCK_STREAM, self._answer_requests)
        for name in self.ports:
            self._listen(name)

    def _listen(self, name: str) -> None:
        (self.directory / name).mkdir(mode=0o711, exist_ok=True)
        path = self.directory / name / "attach"
        self._serve(path, socket.SOCK_SEQPACKET, partial(self._greet, self.ports[name]))

    @property
    def control(self) -> Path:
        return self.directory / "control"

    def _serve(
        self, path: Path, kind: socket.SocketKind, serve: Callable[[socket.socket], None]
    ) -> None:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        self._sockets.append(listener)

        def accept() -> None:
            while True:
                client, _ = listener.accept()
                self._sockets.append(client)
                self._start(partial(serve, client))

        self._start(accept)

    def _start(self, work: Callable[[], None]) -> None:
        def serve() -> None:
            # `close` takes the sockets away from under whoever serves them.
            with suppress(OSError):
                work()

        thread = threading.Thread(target=serve)
        self._threads.append(thread)
        thread.start()

    def _answer_requests(self, client: socket.socket) -> None:
        decoder = FrameDecoder(MAX_REQUEST_BYTES)
        _, uid = _peer(client)
        with client:
            while data := client.recv(65536):
                for body in decoder.feed(data):
                    call = decode_request_untrusted(body)
                    client.sendall(encode_reply(Reply(call.id, self._answer(call.request, uid))))

    def _answer(self, request: object, uid: int) -> Result | ControlError:
        match request:
            case VifList():
                return Vifs(tuple(self._info(port) for port in self.ports.values()))
            case VifShow(name) if str(name) in self.ports:
                return self._info(self.ports[str(name)])
            case VifCreate():
                return self._create(request, uid)
            case VifBorrow(network):
                self.borrowed.append(network)
                return self._create(VifCreate(VifName("borrowed"), network=network), uid)
            case VifDelete(name) if str(name) in self.ports:
                del self.ports[str(name)]
                return Deleted()
            case VifLocate(None):
                own = [port for port in self.ports.values() if port.owner == uid]
                if len(own) != 1:
                    return ControlError(ErrorCode.CONFLICT, f"you have {len(own)} vifs, not one")
                return self._answer(VifLocate(own[0].binding.vif), uid)
            case VifLocate(VifName() as name) if str(name) in self.ports:
                return Located(name, str(self.directory / str(name)), ("attach", "stream"))
            case NetworkShow("lab"):
                return self._network()
            case VifShow(name) | VifLocate(name) | VifDelete(name):
                return ControlError(ErrorCode.NOT_FOUND, f"no vif {name}")
        return ControlError(ErrorCode.UNKNOWN_OP, f"{type(request).__name__} is not faked")

    def _create(self, request: VifCreate, uid: int) -> VifInfo:
        """Make a vif as asked, at 10.9.0.99 if that was left to us."""
        self.created.append(request)
        made = binding(99, vif=request.name, network=request.network or "lab")
        if request.addresses:
            made = evolve(made, addresses=request.addresses)
        self.ports[str(request.name)] = Port(made, uid, grant="students")
        self._listen(str(request.name))
        return self._info(self.ports[str(request.name)])

    def _network(self) -> NetworkInfo:
        return NetworkInfo(
            name="lab",
            mode="switch",
            uplink=None,
            uplink_port=False,
            prefixes=(),
            gateways=(),
            mtu=max(port.binding.mtu for port in self.ports.values()),
            dns=(),
            search=(),
            reserved=(),
            autoconf=True,
            limits=LimitsInfo(0, 0, 0, 0),
            vifs=len(self.ports),
        )

    def _info(self, port: Port) -> VifInfo:
        return VifInfo(
            name=port.binding.vif,
            id="00" * 16,
            owner_uid=port.owner,
            owner_name=None,
            network=port.binding.network,
            mac=port.binding.mac,
            addresses=port.binding.addresses,
            prefixes=port.binding.prefixes,
            source="static" if port.grant is None else "dynamic",
            grant=port.grant,
            attached=port.holder,
            counters=Counters(12, 1200, 34, 3400, {"ipv4_src": 5, "src_mac": 7}),
            conflicts=(Conflict(MacAddress(b"\x02fake!"), ip_address("10.9.0.1"), 3),),
        )

    def _greet(self, port: Port, client: socket.socket) -> None:
        data = client.recv(MAX_MESSAGE_BYTES)
        if not data:
            return
        hello = decode_untrusted(data)
        assert isinstance(hello, Hello)
        port.hellos.append(hello)
        pid, uid = _peer(client)
        refused = port.refusals.pop(0) if port.refusals else None
        if port.turns_away_returning and hello.cookie is not None:
            refused = Refused(RefusedCode.NOT_READY, "not now")
        if refused is None and port.holder is not None:
            taken = f"vif {port.binding.vif} is held by uid {port.holder.uid}"
            refused = Refused(RefusedCode.TAKEN, taken)
        if refused is not None:
            client.send(encode(refused))
            client.close()
            return
        offload = hello.offload & self.offload
        port.data, theirs = socket.socketpair()
        port.attach = client
        port.holder = Holder(uid, pid, "stream", int(offload), 0)
        port.detached.clear()
        self._sockets.append(port.data)
        port.cookies.append(os.urandom(COOKIE_LEN))
        welcome = Welcome(1, Transport.STREAM, offload, port.cookies[-1], port.binding)
        try:
            with theirs:
                socket.send_fds(client, [encode(welcome)], [theirs.fileno()])
            port.attached.set()
            self._start(partial(self._forward, port, bool(offload)))
            client.recv(1)
        finally:
            port.holder = None
            port.attached.clear()
            port.detached.set()

    def _forward(self, port: Port, vnet: bool) -> None:
        """Give what *port* sends to every other one, as a hub does."""
        assert port.data is not None
        decoder = StreamDecoder(vnet=vnet)
        while data := port.data.recv(1 << 20):
            records = decoder.feed(data)
            with self.changed:
                port.records += records[: 1000 - len(port.records)]
                port.longest_bytes = max(port.longest_bytes, *map(len, records), 0)
                self.changed.notify_all()
                records = self.wire(records)
            for other in self.ports.values():
                if other is not port and other.data is not None and records:
                    with suppress(OSError):
                        other.data.sendall(encode_frames(records, vnet=vnet))

    def say_goodbye(self, name: str, code: GoodbyeCode, text: str) -> None:
        """Tell the client of vif *name* that it is over, and end its streams."""
        port = self.ports[name]
        assert port.attach is not None
        assert port.data is not None
        port.data.shutdown(socket.SHUT_RDWR)
        port.attach.send(encode(Goodbye(code, text)))

    def inject(self, name: str, data: bytes) -> None:
        """Send *data* as it is on the data stream of vif *name*."""
        port = self.ports[name]
        assert port.data is not None
        port.data.sendall(data)

    def close(self) -> None:
        """End every connection, as a daemon that dies."""
        # A thread that was just starting may open another, and start one more.
        while self._threads:
            # Listeners first: who is sent away must not come in again.
            while self._sockets:
                sock = self._sockets.pop(0)
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._threads[0].join(0.01)
            if not self._threads[0].is_alive():
                del self._threads[0]


def _peer(client: socket.socket) -> tuple[int, int]:
    """Return the peer's process and user id."""
    ucred = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(ucred)
    return pid, uid


@contextmanager
def fake_daemon(
    *bindings: tuple[Binding, int],
    offload: Offload = EVERY_OFFLOAD,
) -> Iterator[FakeDaemon]:
    """Run a fake daemon with vifs of (binding, owner's uid)."""
    daemon = FakeDaemon(bindings, offload)
    try:
        yield daemon
    finally:
        daemon.close()
