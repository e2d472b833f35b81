"""Control and engine as the tests need them: they do what they are told.

The control puppet hands on what a connection to the control socket says, one
line for each datagram, and reports there all that it hears.  A message of the
broker is reported with the type and name of each socket that came with it.  To
keep an attachment, it takes the next client of the sockets that it got last.
"""

import json
import re
import select
import socket
import sys

import attrs

from multiplexer.daemon import channel


@attrs.frozen
class ControlBoot:
    broker: socket.socket
    engine: socket.socket
    listener: socket.socket


@attrs.frozen
class EngineBoot:
    broker: socket.socket


def main(boot: ControlBoot | EngineBoot) -> None:
    if isinstance(boot, EngineBoot):
        run_engine(boot)
    else:
        run_control(boot)


def run_engine(boot: EngineBoot) -> None:
    """Say all that the broker says on to control."""
    channel.send(boot.broker, channel.Ready())
    control: socket.socket | None = None
    reports: list[bytes] = []
    while True:
        message, fds = channel.receive(boot.broker)
        if isinstance(message, channel.NewControl):
            control = socket.socket(fileno=fds[0])
        else:
            assert isinstance(message, channel.SetUplink | channel.ClearUplink)
            reports.append(report("engine", message, fds))
        channel.send(boot.broker, channel.Ack(message.request))
        if control is not None:
            for line in reports:
                control.send(line)
            reports.clear()


def run_control(boot: ControlBoot) -> None:
    start, _ = channel.receive(boot.broker)
    assert isinstance(start, channel.Start)
    if "# control does not start" in start.config_text:
        sys.exit(7)
    if "# control does not take over" in start.config_text and (
        start.restarts == channel.Restarts(control=1)
    ):
        sys.exit(7)
    control = Control(boot, start)
    for vif_id in re.findall("# control opens ([0-9a-f]+)", start.config_text):
        kinds = ("attach", "stream", "bess")
        channel.send(boot.broker, channel.OpenVifSockets(0, vif_id, 1234, kinds))
        while not isinstance((received := channel.receive(boot.broker))[0], channel.Done):
            control.reports.append(report("broker", *received))
        control.reports.append(report("broker", *received))
    channel.send(boot.broker, channel.Ready())
    control.run()


class Control:
    def __init__(self, boot: ControlBoot, start: channel.Start) -> None:
        self.boot = boot
        self.connection: socket.socket | None = None
        self.reports = [report("broker", start, [])]
        self.listeners: list[socket.socket] = []

    def run(self) -> None:
        self.boot.listener.setblocking(True)
        while True:
            sources = [self.boot.broker, self.boot.engine, self.boot.listener]
            if self.connection is not None:
                sources.append(self.connection)
            for source in select.select(sources, [], [])[0]:
                if source is self.boot.broker:
                    message, fds = channel.receive(source)
                    self.reports.append(report("broker", message, fds))
                    if isinstance(message, channel.Done) and fds:
                        self.listeners = [socket.socket(fileno=fd) for fd in fds]
                elif source is self.boot.engine:
                    self.reports.append(source.recv(channel.MAX_MESSAGE_BYTES) or sys.exit(0))
                elif source is self.boot.listener:
                    self.connection = source.accept()[0]
                elif source is self.connection:  # not one that was just replaced
                    self.obey(source.recv(65536))
            self.tell()

    def tell(self) -> None:
        if self.connection is not None:
            for line in self.reports:
                self.connection.sendall(line + b"\n")
            self.reports.clear()

    def obey(self, lines: bytes) -> None:
        if not lines:
            self.connection = None
        for line in lines.splitlines():
            if b'"Keep"' in line and b'"way":"attach"' in line:
                with self.listeners[0].accept()[0] as client:
                    socket.send_fds(self.boot.broker, [line], [client.fileno()])
            else:
                self.boot.broker.send(line)


def report(by: str, message: channel.Message, fds: list[int]) -> bytes:
    sockets = [socket.socket(fileno=fd) for fd in fds]
    described = [(sock.type & 0xF, str(sock.getsockname())) for sock in sockets]
    for sock in sockets:
        if by == "engine":
            sock.close()
        else:
            sock.detach()  # stays open as long as this process
    return json.dumps(
        {"by": by, "message": json.loads(channel.encode(message)), "sockets": described}
    ).encode()
