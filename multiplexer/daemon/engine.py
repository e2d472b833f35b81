"""The engine process: moves frames, and obeys control and the broker.

It has no names, paths or privileges.  After set-up it enters the sandbox, and
then there is only `Engine.run` and a few lines for each command.  A command
that does not fit is answered with an error; a sibling that breaks the protocol
or goes away ends the process, and the broker starts a new one.
"""

import errno
import os
import socket

import attrs

from multiplexer.daemon import channel
from multiplexer.datapath.engine import DETACHED, MAX_PORTS, SIGNAL, Engine
from pfinet_proto.values import MacAddress

FROM_BROKER = 1
FROM_CONTROL = 2


@attrs.frozen
class EngineBoot:
    """What the engine process starts with: its two channels."""

    broker: socket.socket
    control: socket.socket


class EngineProcess:
    """One engine and its two masters."""

    def __init__(self, engine: Engine, boot: EngineBoot) -> None:
        self._engine = engine
        self._boot = boot
        #: The last generation given to each uplink's packet socket.
        self._uplinks: dict[int, int] = {}

    def serve(self) -> None:
        """Move frames and obey until a sibling goes away."""
        while True:
            reason = self._engine.run()
            if reason == FROM_BROKER:
                self._obey(self._boot.broker)
            elif reason == FROM_CONTROL:
                self._obey(self._boot.control)
            elif reason == DETACHED:
                self._tell_ended()
            else:
                assert reason == SIGNAL

    def _tell_ended(self) -> None:
        for ended in self._engine.ended():
            if ended.port in self._uplinks:
                continue  # the broker watches the link itself
            why = os.strerror(ended.error) if ended.error else "closed by the client"
            if ended.error == errno.EPROTO:
                why = "record length out of range"
            channel.send(
                self._boot.control, channel.Detached(ended.port, ended.generation, why)
            )

    def _obey(self, sock: socket.socket) -> None:
        message, fds = channel.receive(sock)
        if isinstance(message, channel.ReadCounters):
            channel.send(sock, self._read_counters(message))
            return
        if isinstance(message, channel.Trace):
            traced = tuple(self._engine.trace(message.port, frame) for frame in message.frames)
            channel.send(sock, channel.TraceReply(message.request, traced))
            return
        try:
            self._apply(message, fds)
        except OSError as error:
            answer: str | None = error.strerror
        else:
            answer = None
        finally:
            channel.close_all(fds)
        request = getattr(message, "request", None)
        assert isinstance(request, int)
        channel.send(sock, channel.Ack(request, answer))

    def _apply(self, message: channel.Message, fds: list[int]) -> None:
        """Do what *message* says; what it takes over is taken out of *fds*."""
        engine = self._engine
        match message:
            case channel.SetNetwork(row=row):
                engine.set_network(row)
            case channel.SetVif(port=port, row=row):
                engine.set_vif(port, row)
            case channel.ClearVif(port=port):
                engine.clear_vif(port)
            case channel.Attach():
                engine.attach(
                    message.port,
                    message.generation,
                    message.transport,
                    fds[0],
                    message.offload,
                    message.vnet,
                )
                fds.clear()
                engine.charge(message.port, message.account, message.account_bytes)
            case channel.Detach(port=port, generation=generation):
                engine.detach(port, generation)
            case channel.SetUplink():
                self._set_uplink(message, fds)
            case _:
                raise channel.SiblingError(f"{type(message).__name__} is not for the engine")

    def _set_uplink(self, message: channel.SetUplink, fds: list[int]) -> None:
        port = message.port
        if port not in self._uplinks:
            self._engine.add_uplink(port)
            self._uplinks[port] = 0
        if fds or not message.present:
            self._engine.detach(port, self._uplinks[port])
        if fds:
            self._uplinks[port] += 1
            self._engine.attach_uplink(port, self._uplinks[port], fds[0])
            fds.clear()
        self._engine.set_up(port, message.present and message.up)

    def _read_counters(self, message: channel.ReadCounters) -> channel.CountersReply:
        ports = range(message.first, min(message.first + message.count, MAX_PORTS))
        rows = []
        conflicts = []
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
        return channel.CountersReply(
            message.request, message.first, tuple(rows), tuple(conflicts)
        )


def main(boot: EngineBoot) -> None:
    """Run the engine process until it is no longer wanted."""
    engine = Engine()
    engine.watch(boot.broker.fileno(), FROM_BROKER)
    engine.watch(boot.control.fileno(), FROM_CONTROL)
    engine.enter_sandbox()
    channel.send(boot.broker, channel.Ready())
    try:
        EngineProcess(engine, boot).serve()
    except channel.SiblingGone:
        return
