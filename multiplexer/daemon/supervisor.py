"""The broker's loop: two processes, what control asks, and the uplinks' state.

If control dies, the next one takes over from what the store has, and the
engine and the uplinks are not touched.  If the engine dies, all starts afresh.

One turn waits for signals, the ends of the two processes, their messages and
the kernel's word that an interface has changed.  Nothing else ever waits, but
for the end of a process that was told to end.
"""

import itertools
import pwd
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import attrs

from multiplexer.daemon import audit, channel, notify, process
from multiplexer.daemon.admission import Admission, Refused
from multiplexer.daemon.child import Child, Descriptor
from multiplexer.daemon.errands import REQUESTS, Errands, Request
from multiplexer.daemon.fdstore import FdStore
from multiplexer.daemon.host_ports import HostOrders, describe_host, log_host
from multiplexer.daemon.privileges import Identity
from multiplexer.daemon.restarts import RestartBudget, counted, may_take_over
from multiplexer.daemon.rundir import RunDirectory
from multiplexer.daemon.succession import Succession, bounded
from multiplexer.model import ConfigError, port_of_host, port_of_uplink
from multiplexer.uplinks.host_tap import HostTap, HostTaps
from multiplexer.uplinks.nic import LinkWatch, NicUplink

#: How long a process may take to end when it is asked to.
GRACE_S: Final = 3.0

#: How a process ends that was asked to.
ASKED_ENDS: Final = ("exit status 0", "signal SIGTERM")

#: How long one may take to follow the other.
FOLLOW_S: Final = 0.2

#: How control ends if it sees the engine's end.
FOLLOWING: Final = "exit status 0"

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL: Final = signal.SIGHUP


#: The steps of a reload that control asks for.
RELOADS: Final = (channel.PrepareReload, channel.CommitReload, channel.EndReload)
ReloadStep = channel.PrepareReload | channel.CommitReload | channel.EndReload

OnMessage = Callable[[channel.Message, list[int]], None]


class ChildFailed(Exception):
    """Control or engine has ended, or is of no use any more.

    *engine_goes_on* if the engine is not concerned, and the next control may
    take over.
    """

    def __init__(self, why: str, *, engine_goes_on: bool) -> None:
        super().__init__(why)
        self.engine_goes_on = engine_goes_on


@attrs.frozen
class Roles:
    """What runs as control and as engine, and who each becomes."""

    control: process.Role
    engine: process.Role
    control_identity: Identity
    engine_identity: Identity


@contextmanager
def caught_signals() -> Iterator[socket.socket]:
    """Have the signals above arrive as bytes on the socket that this gives, and do no more."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        for number in (*STOP_SIGNALS, RELOAD_SIGNAL):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno())
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(-1)


class Supervisor:
    """The daemon from its first child's start to its last child's end."""

    def __init__(
        self,
        succession: Succession,
        roles: Roles,
        run_directory: RunDirectory,
        listener: socket.socket,
        hosts: HostTaps,
        links: LinkWatch,
        signals: socket.socket,
        log: audit.Log,
        notifier: notify.Notifier,
    ) -> None:
        self._succession = succession
        self._roles = roles
        self._listener = listener
        self._hosts = hosts
        self._host_orders = HostOrders()
        self._links = links
        self._signals = signals
        self._log = log
        self._notifier = notifier
        self._store = FdStore()
        self._run_directory = run_directory
        current = succession.current
        admission = Admission(current.config, _user_name)
        self._errands = Errands(admission, run_directory, self._store, current.nics, hosts)
        self._budget = RestartBudget()
        self._restarts = channel.Restarts()
        self._requests = itertools.count(1)
        self._selector = selectors.DefaultSelector()
        self._control: Child | None = None
        self._engine: Child | None = None
        self._stop_signal: int | None = None
        #: Whether a reload was asked for while no control was there to do it.
        self._reload_waits = False
        #: What the engine has not yet answered of a commit, and the commit's number.
        self._uncommitted: set[int] = set()
        self._commit: int | None = None

    @property
    def _nics(self) -> Sequence[NicUplink]:
        return self._succession.current.nics

    def run(self) -> int:
        """Serve until a signal, or until nothing helps; return the exit status."""
        self._watch(self._signals, self._on_signal)
        self._watch(self._links.socket, self._on_links)
        is_running = False
        try:
            while self._stop_signal is None:
                try:
                    self._start_children()
                    self._turn()
                    if not is_running and self._is_ready():
                        is_running = True
                        self._notifier.tell(READY=1, STATUS="Running")
                        self._log.info("ready")
                except ChildFailed as failure:
                    self._log.error(str(failure))
                    if not is_running:
                        self._log.error("start-up failed")
                        return 1
                    if not self._prepare_restart(failure):
                        return 1
            self._log.info(f"stopping on {signal.Signals(self._stop_signal).name}")
            return 0
        finally:
            self._notifier.tell(STOPPING=1)
            self._stop_children()
            self._forget_attachments()
            self._selector.close()

    def _watch(self, source: socket.socket | int, react: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, react)

    @property
    def _children(self) -> list[Child]:
        return [child for child in (self._control, self._engine) if child is not None]

    def _is_ready(self) -> bool:
        return all(child.ready for child in self._children)

    def _turn(self, timeout_s: float | None = None) -> None:
        """Wait for something to happen, and react to it.

        Raises:
            ChildFailed: if it was the end of a child.
        """
        for child in self._children:
            react = self._selector.get_key(child.sock).data
            self._selector.modify(child.sock, child.events, react)
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def _on_signal(self) -> None:
        number = self._signals.recv(1)[0]
        if number != RELOAD_SIGNAL:
            self._stop_signal = number
        elif self._control is not None and self._control.ready:
            self._say(self._control, channel.ReloadAsked())
        else:
            self._reload_waits = True

    # Uplinks

    def _on_links(self) -> None:
        self._links.drain()
        self._refresh_uplinks()

    def _refresh_uplinks(self) -> None:
        for nic in self._nics:
            refresh = nic.refresh(self._links.socket)
            if refresh.changed:
                self._log_uplink(nic)
                if self._control is not None:
                    self._describe_uplink(self._control, nic)
                if self._engine is not None:
                    self._give_uplink(self._engine, nic, is_new=refresh.socket_is_new)
        self._hosts.refresh()
        self._tell_hosts()

    def _log_uplink(self, nic: NicUplink) -> None:
        name = f'uplink "{nic.name}"'
        if nic.error is not None:
            self._log.warning(f"{name} is not used: {nic.error}")
        elif nic.link is None:
            self._log.warning(f'{name}: there is no interface "{nic.interface}"')
        else:
            self._log.info(f'{name}: interface "{nic.interface}" is {"up" if nic.up else "down"}')

    def _describe_uplink(self, control: Child, nic: NicUplink) -> None:
        self._say(control, state_of(nic))

    def _give_uplink(self, engine: Child, nic: NicUplink, *, is_new: bool) -> int:
        """Tell *engine* of an uplink, and return the number of that order."""
        port = port_of_uplink(self._succession.current.config, nic.name)
        order = channel.SetUplink(next(self._requests), port, nic.present, nic.up)
        self._say(engine, order, [nic.socket] if is_new and nic.socket is not None else [])
        return order.request

    # The host's own ports

    def _tell_hosts(self) -> None:
        """Tell log, control and engine of those that have changed."""
        for host in self._hosts.take_changes():
            log_host(self._log, host)
            if self._control is not None:
                self._say(self._control, describe_host(host))
                if (
                    self._engine is not None
                    and self._control.ready
                    and not self._succession.is_half_done
                ):
                    self._give_host(self._engine, host)

    def _give_hosts(self) -> None:
        """Tell the engine of all, now that control has told it of their networks."""
        if self._engine is not None:
            for host in self._hosts:
                self._give_host(self._engine, host)

    def _give_host(self, engine: Child, host: HostTap) -> None:
        config = self._succession.current.config
        order, taps = self._host_orders.make(next(self._requests), config, host)
        self._say(engine, order, taps)

    # Children

    def _start_children(self) -> None:
        """Start those that do not run, and tell them what there is."""
        if self._engine is None:
            self._engine = self._start_engine()
            self._host_orders = HostOrders()
            for nic in self._nics:
                self._give_uplink(self._engine, nic, is_new=True)
        if self._control is None:
            self._control = self._start_control(self._engine)
            start = self._succession.current.start
            self._say(
                self._control,
                attrs.evolve(start, restarts=self._restarts, inherited=len(self._store)),
            )
            for nic in self._nics:
                self._describe_uplink(self._control, nic)
            for host in self._hosts:
                self._say(self._control, describe_host(host))
            for stored in self._store:
                self._say(self._control, channel.Inherited(stored.kept), stored.sockets)

    def _start_engine(self) -> Child:
        ours, theirs = _pair()
        with theirs:
            running = process.Process.start(
                self._roles.engine, self._roles.engine_identity, {"broker": theirs}
            )
        return self._adopt(running, ours, self._on_engine)

    def _start_control(self, engine: Child) -> Child:
        """Start control, with a channel to *engine*, which drops the last control's."""
        to_engine, to_control = _pair()
        with to_engine:
            order = channel.NewControl(next(self._requests))
            self._attempt(engine, partial(engine.give, order, to_control))
            ours, theirs = _pair()
            with theirs:
                running = process.Process.start(
                    self._roles.control,
                    self._roles.control_identity,
                    {"broker": theirs, "engine": to_engine, "listener": self._listener},
                )
        return self._adopt(running, ours, self._on_control)

    def _adopt(
        self, running: process.Process, sock: socket.socket, on_message: OnMessage
    ) -> Child:
        child = Child(running, sock)
        self._watch(running.pidfd, partial(self._on_end, child))
        self._watch(sock, partial(self._on_channel, child, on_message))
        return child

    def _disown(self, child: Child) -> None:
        self._selector.unregister(child.process.pidfd)
        self._selector.unregister(child.sock)
        child.close()
        if child is self._control:
            self._control = None
        else:
            self._engine = None

    def _on_end(self, child: Child) -> None:
        is_control = child is self._control
        self._disown(child)
        end = child.process.reap()
        ends = [f"{child.name} ended with {end}"]
        # Control ends when the engine does, and may be seen to before it: tell of both.
        patience_s = FOLLOW_S if is_control and end == FOLLOWING else 0
        for other in self._children:
            if other.process.wait(patience_s):
                self._disown(other)
                ends.append(f"{other.name} ended with {other.process.reap()}")
        raise ChildFailed(
            ", ".join(ends),
            engine_goes_on=self._engine is not None and may_take_over(child.ready, end),
        )

    def _fail(self, child: Child, why: str) -> None:
        self._disown(child)
        child.process.signal(signal.SIGKILL)
        child.process.reap()
        raise ChildFailed(why, engine_goes_on=self._engine is not None and child.ready)

    def _say(
        self, child: Child, message: channel.Message, sockets: Sequence[Descriptor] = ()
    ) -> None:
        self._attempt(child, partial(child.say, message, sockets))

    def _attempt(self, child: Child, talk: Callable[[], None]) -> None:
        try:
            talk()
        except channel.SiblingError as error:
            self._fail(child, f"{child.name} broke the protocol: {error}")
        except channel.SiblingGone:
            # Its end follows, and says more; unless it only closed the channel.
            if not child.process.wait(GRACE_S):
                self._fail(child, f"{child.name} closed its channel")
            self._on_end(child)

    def _on_channel(self, child: Child, on_message: OnMessage) -> None:
        if child.events & selectors.EVENT_WRITE:
            self._attempt(child, child.flush)
        else:
            self._attempt(child, partial(self._read, child, on_message))

    def _read(self, child: Child, on_message: OnMessage) -> None:
        try:
            message, fds = child.receive()
        except BlockingIOError:
            return  # what select() saw was room to write, which this turn has used
        on_message(message, fds)

    def _forget_attachments(self) -> None:
        for stored in self._store.take_all():
            self._run_directory.close_connections(stored.sockets)

    def _prepare_restart(self, failure: ChildFailed) -> bool:
        """Make ready to start what has to be; False if that has been too often."""
        # Of a file that is in force and only partly applied nobody knows what is.
        alone = failure.engine_goes_on and not self._succession.is_half_done
        if self._succession.is_half_done:
            self._notifier.tell(READY=1, STATUS="Running")
        self._succession.end()
        self._uncommitted.clear()
        self._commit = None
        if not alone:
            self._kill_children()
            self._forget_attachments()
            for nic in self._nics:
                nic.reopen(self._links.socket)
        if not self._budget.spend(time.monotonic()):
            self._log.error(
                f"giving up: {self._budget.limit} restarts in {self._budget.period_s:.0f} s "
                "were not enough"
            )
            return False
        self._errands.begin_anew()
        self._restarts = counted(self._restarts, engine=not alone)
        self._log.audit("restarted", role="control" if alone else "engine", why=failure)
        return True

    def _kill_children(self) -> None:
        """End at once what is left: of no use without its sibling, and clients wait."""
        for child in self._children:
            self._disown(child)
            child.process.signal(signal.SIGKILL)
            child.process.reap()

    def _stop_children(self) -> None:
        """End control while it is still answered, then the engine."""
        if self._control is not None:
            self._control.process.signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_S
            try:
                while (left_s := deadline - time.monotonic()) > 0:
                    self._turn(left_s)
            except ChildFailed:
                pass
        left = self._children
        for child in left:
            self._disown(child)
        ends = process.stop([child.process for child in left], GRACE_S)
        for child, end in zip(left, ends, strict=True):
            # The one that failed may be seen after the one that it took along.
            if end not in ASKED_ENDS:
                self._log.error(f"{child.name} ended with {end}")

    # What they say

    def _on_engine(self, message: channel.Message, fds: list[int]) -> None:
        assert self._engine is not None
        match message:
            case channel.Ready():
                self._engine.ready = True
            case channel.Ack(request=request, error=error):
                if error is not None:
                    self._log.error(f"engine cannot do as told: {error}")
                self._uncommitted.discard(request)
                self._answer_commit()
            case _:
                channel.close_all(fds)
                raise channel.SiblingError(f"{type(message).__name__} is not for the broker")

    def _on_control(self, message: channel.Message, fds: list[int]) -> None:
        assert self._control is not None
        if isinstance(message, REQUESTS):
            self._answer(self._control, message, fds)
            self._tell_hosts()
        elif isinstance(message, channel.Ready):
            self._control.ready = True
            self._errands.end_unclaimed()
            self._tell_hosts()
            self._give_hosts()
            if self._reload_waits:
                self._reload_waits = False
                self._control.say(channel.ReloadAsked())
        elif isinstance(message, RELOADS):
            self._reload(self._control, message)
        else:
            channel.close_all(fds)
            raise channel.SiblingError(f"{type(message).__name__} is not for the broker")

    # Another file

    def _reload(self, control: Child, message: ReloadStep) -> None:
        match message:
            case channel.PrepareReload():
                control.say(self._prepare_reload(message.request))
            case channel.CommitReload():
                self._commit_reload(control, message.request)
            case channel.EndReload():
                applied = self._succession.is_half_done
                self._succession.end()
                if applied:
                    self._give_hosts()
                    self._notifier.tell(READY=1, STATUS="Running")
                    self._log.info("goes by another file")
                control.say(channel.Done(message.request))

    def _prepare_reload(self, request: int) -> channel.ReloadPrepared:
        try:
            prepared = self._succession.prepare()
        except ConfigError as error:
            return channel.ReloadPrepared(request, "", (), bounded(error.problems))
        uplinks = tuple(state_of(nic) for nic in prepared.nics)
        return channel.ReloadPrepared(request, prepared.start.config_text, uplinks, ())

    def _commit_reload(self, control: Child, request: int) -> None:
        """Go by the file that is prepared; control is answered when the engine has its ports."""
        self._notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        before = self._succession.current.config
        committed = self._succession.commit()
        current = self._succession.current
        self._errands.follow(Admission(current.config, _user_name), current.nics)
        gone = self._hosts.follow(current.config.networks)
        self._commit = request
        if self._engine is not None:
            numbers = self._requests
            orders: list[channel.ClearUplink | channel.ClearVif] = [
                *(channel.ClearUplink(next(numbers), port) for port in committed.cleared),
                *(channel.ClearVif(next(numbers), port_of_host(before, name)) for name in gone),
            ]
            for order in orders:
                self._say(self._engine, order)
            self._uncommitted = {order.request for order in orders}
            for nic in committed.fresh:
                self._describe_uplink(control, nic)
                self._uncommitted.add(self._give_uplink(self._engine, nic, is_new=True))
        self._refresh_uplinks()
        self._answer_commit()

    def _answer_commit(self) -> None:
        if self._commit is not None and not self._uncommitted and self._control is not None:
            done = channel.Done(self._commit)
            self._commit = None
            self._say(self._control, done)

    def _answer(self, control: Child, request: Request, fds: list[int]) -> None:
        """Do what control asks for, and say so."""
        error: str | None = None
        sockets: Sequence[socket.socket] = ()
        try:
            sockets = self._errands.run(request, fds)
        except Refused as refused:
            error = str(refused)
            self._log.audit("request-refused", by="control", why=error)
        except OSError as failed:
            error = str(failed)
            self._log.error(f"request of control failed: {error}")
        control.say(channel.Done(request.request, error), sockets)


def state_of(nic: NicUplink) -> channel.UplinkState:
    """Return the message that tells control how *nic* is."""
    last = nic.last
    mac, mtu = (last.mac, last.mtu) if last is not None else (None, None)
    return channel.UplinkState(nic.name, nic.present, nic.up, mac, mtu, nic.error)


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
