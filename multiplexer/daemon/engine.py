"""The engine process: moves frames, and obeys control and the broker.

It has no names, paths or privileges.  After set-up it enters the sandbox, and
then there is only `Engine.run` and a few lines for each command.  A command
that does not fit is answered with an error; a sibling that breaks the protocol
ends the process, and so does the end of the broker.

Control may go: frames flow on by the rules that there are, until the broker
says that there is a new one.  One that does not read what it is told is as good as
gone.  What a control asked for and did not live to see done is not done; its
successor asks which ports there are, and goes on.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import attrs

from multiplexer.daemon import channel
from multiplexer.daemon.audit import open_log
from multiplexer.daemon.descriptors import has_passrights
from multiplexer.daemon.shortage import explained
from multiplexer.datapath.engine import (
    DETACHED,
    MAX_FILTER_BYTES,
    MAX_PORTS,
    RING,
    SIGHTED,
    SIGNAL,
    Engine,
)
from pfinet_proto.attach import Offload
from pfinet_proto.values import MacAddress

FROM_BROKER = 1
FROM_CONTROL = 2

#: What control, which talks to clients, may not say: it could replace the wire.
BROKERS_ALONE = (channel.SetUplink, channel.ClearUplink, channel.SetHost, channel.NewControl)


@attrs.frozen
class EngineBoot:
    """What the engine process starts with: its channel with the broker."""

    broker: socket.socket


class EngineProcess:
    """One engine and its two masters, of which control may be away.

    *offload* is what the kernel takes on a NIC and on a tap of the host.
    """

    def __init__(self, engine: Engine, broker: socket.socket, offload: Offload) -> None:
        self._engine = engine
        self._broker = broker
        self._control: socket.socket | None = None
        self._offload = offload
        #: Whose each vif's port is.
        self._vif_ids: dict[int, str] = {}
        #: The last generation given to each uplink's packet socket.
        self._uplinks: dict[int, int] = {}
        #: The same of the host's taps.
        self._hosts: dict[int, int] = {}
        #: Parts of filters that are not whole yet, by their ports.
        self._filters: dict[int, bytearray] = {}

    def serve(self) -> None:
        """Move frames and obey until the broker goes away.

        Raises:
            SiblingGone: when it has.
            SiblingError: if broker or control sends what it must not.
        """
        try:
            while True:
                self._serve_once()
        finally:
            self._drop_control()

    def _serve_once(self) -> None:
        reason = self._engine.run()
        if reason == FROM_BROKER:
            self._obey(self._broker)
        elif reason == FROM_CONTROL and self._control is not None:
            with self._while_control_lives():
                self._obey(self._control)
        elif reason == DETACHED:
            self._tell_ended()
        elif reason == SIGHTED:
            self._tell_control(channel.Sighted())
        else:
            assert reason == SIGNAL

    @contextlib.contextmanager
    def _while_control_lives(self) -> Iterator[None]:
        try:
            yield
        except channel.SiblingGone:
            self._drop_control()

    def _drop_control(self) -> None:
        if self._control is not None:
            self._engine.unwatch(self._control.fileno())
            self._control.close()
            self._control = None

    def _take_control(self, fd: int) -> None:
        self._drop_control()
        # What was half said is not said.
        self._filters.clear()
        self._engine.abandon_filters()
        # What is not given here Python asks the kernel for, which the sandbox forbids.
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)
        self._engine.watch(fd, FROM_CONTROL)
        self._engine.tell_sightings()

    def _tell_ended(self) -> None:
        for ended in self._engine.ended():
            if ended.port in self._uplinks or ended.port in self._hosts:
                continue  # the broker watches the link itself
            why = os.strerror(ended.error) if ended.error else "closed by the client"
            if ended.error == errno.EPROTO:
                why = "record length out of range"
            elif ended.error == errno.EOVERFLOW:
                why = "ring index out of range"
            elif ended.error == errno.EBADFD:
                why = "the interface was deleted"
            if ended.error == errno.EBADMSG:
                self._tell_descriptors(ended.port, ended.generation)
            else:
                self._tell_control(channel.Detached(ended.port, ended.generation, why, False))

    def _tell_descriptors(self, port: int, generation: int) -> None:
        self._tell_control(channel.Detached(port, generation, "sent descriptors", True))

    def _tell_control(self, told: channel.Detached | channel.Sighted) -> None:
        if self._control is not None:  # else its successor sees how things are
            with self._while_control_lives():
                self._say(self._control, told)

    def _say(self, sock: socket.socket, message: channel.Message) -> None:
        """Send *message*.

        Raises:
            SiblingGone: if nobody is there, or it has stopped to read.
        """
        try:
            channel.send(sock, message)
        except BlockingIOError as error:  # `channel.bound_sending`
            raise channel.SiblingGone(f"sending {type(message).__name__}: not read") from error

    def _obey(self, sock: socket.socket) -> None:
        message, fds = channel.receive(sock)
        if isinstance(message, channel.ReadCounters):
            self._say(sock, self._read_counters(message))
            return
        if isinstance(message, channel.ReadPorts):
            self._say(sock, self._read_ports(message))
            return
        if isinstance(message, channel.ReadSightings):
            self._say(sock, self._read_sightings(message))
            return
        if isinstance(message, channel.Trace):
            traced = tuple(self._engine.trace(message.port, frame) for frame in message.frames)
            self._say(sock, channel.TraceReply(message.request, traced))
            return
        try:
            if sock is not self._broker and isinstance(message, BROKERS_ALONE):
                raise channel.SiblingError(f"{type(message).__name__} is not control's to say")
            self._apply(message, fds)
        except OSError as error:
            answer: str | None = error.strerror
        else:
            answer = None
        finally:
            channel.close_all(fds)
        request = getattr(message, "request", None)
        assert isinstance(request, int)
        self._say(sock, channel.Ack(request, answer))

    def _apply(self, message: channel.Message, fds: list[int]) -> None:
        """Do what *message* says; what it takes over is taken out of *fds*."""
        engine = self._engine
        match message:
            case channel.SetNetwork(row=row):
                engine.set_network(row)
            case channel.ClearNetwork(network=network):
                engine.clear_network(network)
            case channel.SetVif(port=port, row=row):
                engine.set_vif(port, row)
                self._vif_ids[port] = message.vif_id
            case channel.Inject(port=port, frames=frames, to_wire=to_wire):
                for frame in frames:
                    engine.inject(port, frame, to_wire=to_wire)
            case channel.ClearVif(port=port):
                engine.clear_vif(port)
                self._vif_ids.pop(port, None)
                self._hosts.pop(port, None)
            case channel.PrepareFilter():
                self._prepare_filter(message)
            case channel.CommitFilters():
                self._filters.clear()
                engine.commit_filters()
            case channel.AbandonFilters():
                self._filters.clear()
                engine.abandon_filters()
            case channel.Attach():
                self._attach(message, fds)
            case channel.Detach(port=port, generation=generation):
                if not engine.detach(port, generation):
                    self._tell_descriptors(port, generation)
            case channel.SetUplink():
                self._set_uplink(message, fds)
            case channel.ClearUplink(port=port):
                engine.clear_uplink(port)
                self._uplinks.pop(port, None)
            case channel.NewControl():
                self._take_control(fds.pop())
            case channel.SetHost():
                self._set_host(message, fds)
            case _:
                raise channel.SiblingError(f"{type(message).__name__} is not for the engine")

    def _prepare_filter(self, message: channel.PrepareFilter) -> None:
        """Take a part; what does not follow on the part before is not control's to say."""
        port, data = message.port, message.data
        held = self._filters.setdefault(port, bytearray())
        if message.offset == 0:
            held.clear()
        end = message.offset + len(data)
        if message.offset != len(held) or not end <= message.length <= MAX_FILTER_BYTES:
            raise channel.SiblingError(
                f"{len(data)} bytes at {message.offset} of a filter of {message.length},"
                f" wanted at {len(held)}"
            )
        held += data
        if end == message.length:
            del self._filters[port]
            self._engine.prepare_filter(port, bytes(held))
        elif not data:
            raise channel.SiblingError("an empty part of a filter")

    def _attach(self, message: channel.Attach, fds: list[int]) -> None:
        engine = self._engine
        port, generation = message.port, message.generation
        if message.transport == RING:
            if len(fds) != channel.RING_FDS:
                raise channel.SiblingError(f"a ring with {len(fds)} descriptors")
            kick, memory = fds
            engine.attach_ring(port, generation, kick, memory, message.offload, message.vnet)
        else:
            if len(fds) != 1:
                raise channel.SiblingError(f"{message.transport} with {len(fds)} descriptors")
            engine.attach(
                port, generation, message.transport, fds[0], message.offload, message.vnet
            )
        del fds[0]
        try:
            engine.charge(port, message.account, message.account_bytes)
        except OSError:
            engine.detach(port, generation)
            raise

    def _set_uplink(self, message: channel.SetUplink, fds: list[int]) -> None:
        port = message.port
        if port not in self._uplinks:
            self._engine.add_uplink(port)
            self._uplinks[port] = 0
        if fds or not message.present:
            self._engine.detach(port, self._uplinks[port])
        if fds:
            self._uplinks[port] += 1
            self._engine.attach_uplink(port, self._uplinks[port], fds[0], self._offload)
            fds.clear()
        self._engine.set_up(port, message.present and message.up)

    def _read_ports(self, message: channel.ReadPorts) -> channel.PortsReply:
        ports = tuple(
            channel.Port(port, self._vif_ids[port], self._engine.attached(port))
            for port in range(message.first, message.first + message.count)
            if port in self._vif_ids
        )
        return channel.PortsReply(message.request, ports)

    def _read_sightings(self, message: channel.ReadSightings) -> channel.SightingsReply:
        return channel.SightingsReply(
            message.request,
            tuple(
                channel.Sighting(
                    each.port,
                    self._vif_ids[each.port],
                    each.kind,
                    socket.inet_ntop(socket.AF_INET, each.address),
                    socket.inet_ntop(socket.AF_INET, each.server) if any(each.server) else None,
                    each.lease_s,
                )
                for each in self._engine.sighted(message.count)
                if each.port in self._vif_ids
            ),
        )

    def _set_host(self, message: channel.SetHost, fds: list[int]) -> None:
        port = message.port
        self._engine.set_vif(port, message.row)
        generation = self._hosts.setdefault(port, 0)
        if fds or not message.present:
            self._engine.detach(port, generation)
        if fds:
            self._hosts[port] = generation + 1
            self._engine.attach_tap(port, generation + 1, fds[0], self._offload)
            fds.clear()

    def _read_counters(self, message: channel.ReadCounters) -> channel.CountersReply:
        ports = range(message.first, min(message.first + message.count, MAX_PORTS))
        rows = []
        conflicts = []
        claimed = []
        for port in ports:
            count = self._engine.counters(port)
            rows.append(
                (count.rx_frames, count.rx_bytes, count.tx_frames, count.tx_bytes, *count.drops)
            )
            conflict = self._engine.conflict(port)
            if conflict is not None:
                family = socket.AF_INET if len(conflict.address) == 4 else socket.AF_INET6
                conflicts.append(
                    channel.Conflict(
                        port,
                        MacAddress(conflict.mac),
                        socket.inet_ntop(family, conflict.address),
                        conflict.count,
                    )
                )
            claimed += [
                channel.Claimed(port, socket.inet_ntop(socket.AF_INET6, address))
                for address in self._engine.claimed(port)
            ]
        return channel.CountersReply(
            message.request, message.first, tuple(rows), tuple(conflicts), tuple(claimed)
        )


def main(boot: EngineBoot) -> None:
    """Run the engine process until it is no longer wanted.

    Raises:
        SystemExit: if it cannot start; the log says why.
    """
    try:
        engine = Engine(wary=not has_passrights())
        offload = Offload.of_linux(os.uname().release)  # the sandbox would refuse to say
        engine.watch(boot.broker.fileno(), FROM_BROKER)
        engine.enter_sandbox()
    except OSError as error:
        open_log("engine").error(f"the frames' tables: {explained(error)}")
        raise SystemExit(1) from None
    channel.send(boot.broker, channel.Ready())
    try:
        EngineProcess(engine, boot.broker, offload).serve()
    except channel.SiblingGone:
        return
