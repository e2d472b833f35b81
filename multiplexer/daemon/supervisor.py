"""The broker's loop: two processes, what control asks, and the uplinks' state.

If control dies, the next one takes over from what the store has, and the
engine and the uplinks are not touched.  If the engine dies, all starts afresh.

One turn waits for signals, the ends of the two processes, their messages and
the kernel's word that an interface has changed.  Nothing else ever waits, but
for the end of a process that was told to end.
"""

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
from multiplexer.daemon.errands import REQUESTS, Errands, Request, subject_of
from multiplexer.daemon.fdstore import FdStore
from multiplexer.daemon.ports import Family, Ports
from multiplexer.daemon.privileges import Identity
from multiplexer.daemon.reloads import STEPS, Reloads
from multiplexer.daemon.restarts import RestartBudget, counted, may_take_over
from multiplexer.daemon.rundir import RunDirectory
from multiplexer.daemon.shortage import explained, naming
from multiplexer.daemon.succession import Succession
from multiplexer.model import Config
from multiplexer.uplinks.host_tap import HostTaps
from multiplexer.uplinks.nic import LinkWatch

#: How long a process may take to end when it is asked to.
GRACE_S: Final = 3.0

#: How a process ends that was asked to.
ASKED_ENDS: Final = ("exit status 0", "signal SIGTERM")

#: How long one may take to follow the other.
FOLLOW_S: Final = 0.2

#: How control ends if it sees the engine's end.
FOLLOWING: Final = "exit status 0"

#: How long the last restart must be past for rings to outlive their engine.
RINGS_LAST_S: Final = 5.0

#: When ports are looked at again of which the kernel could not tell.
LOOK_AGAIN_S: Final = 5.0

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL: Final = signal.SIGHUP


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
    """What runs as control and as engine, and who each becomes.

    The engine stays on the processor *engine_cpu*, unless that is None.
    """

    control: process.Role
    engine: process.Role
    control_identity: Identity
    engine_identity: Identity
    engine_cpu: int | None


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
        self._links = links
        self._signals = signals
        self._log = log
        self._notifier = notifier
        self._store = FdStore()
        self._run_directory = run_directory
        self._budget = RestartBudget()
        self._restarts = channel.Restarts()
        self._selector = selectors.DefaultSelector()
        self._family = Family()
        current = succession.current
        self._errands = Errands(
            _admit(current.config), run_directory, self._store, current.nics, hosts
        )
        self._ports = Ports(succession, hosts, links, self._family, self._say, log)
        self._reloads = Reloads(
            succession,
            self._ports,
            self._errands,
            _admit,
            self._family,
            self._say,
            log,
            notifier,
        )
        self._stop_signal: int | None = None

    @property
    def _control(self) -> Child | None:
        return self._family.control

    @property
    def _engine(self) -> Child | None:
        return self._family.engine

    def run(self) -> int:
        """Serve until a signal, or until nothing helps; return the exit status."""
        self._watch(self._signals, self._on_signal)
        self._watch(self._links.socket, self._on_links)
        is_running = False
        try:
            while self._stop_signal is None:
                try:
                    self._start_children()
                    self._turn(LOOK_AGAIN_S if self._ports.are_stale else None)
                    if self._ports.are_stale:
                        self._ports.refresh()
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
        return list(self._family)

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
        if number == RELOAD_SIGNAL:
            self._reloads.ask()
        else:
            self._stop_signal = number

    def _on_links(self) -> None:
        self._links.drain()
        self._ports.refresh()

    # Children

    def _start_children(self) -> None:
        """Start those that do not run, and tell them what there is."""
        engine = self._engine
        if engine is None:
            with naming("the process engine"):
                engine = self._family.engine = self._start_engine()
            self._ports.introduce(engine)
        if self._control is None:
            with naming("the process control"):
                control = self._family.control = self._start_control(engine)
            start = self._succession.current.start
            self._say(
                control, attrs.evolve(start, restarts=self._restarts, inherited=len(self._store))
            )
            self._ports.describe(control)
            for stored in self._store:
                inherited = channel.Inherited(stored.kept, stored.adrift)
                self._say(control, inherited, stored.bequest)

    def _start_engine(self) -> Child:
        ours, theirs = _pair()
        with theirs:
            running = process.Process.start(
                self._roles.engine,
                self._roles.engine_identity,
                {"broker": theirs},
                cpu=self._roles.engine_cpu,
            )
        return self._adopt(running, ours, self._on_engine)

    def _start_control(self, engine: Child) -> Child:
        """Start control, with a channel to *engine*, which drops the last control's."""
        to_engine, to_control = _pair()
        channel.bound_sending(to_control)
        with to_engine:
            order = channel.NewControl(next(self._ports.numbers))
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
            self._family.control = None
        else:
            self._family.engine = None

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
        self._run_directory.close_connections(self._store.take_all())

    def _prepare_restart(self, failure: ChildFailed) -> bool:
        """Make ready to start what has to be; False if that has been too often."""
        # Of a file that is in force and only partly applied nobody knows what is.
        now_s = time.monotonic()
        alone = not self._reloads.give_up() and failure.engine_goes_on
        if not alone:
            self._kill_children()
            if self._budget.was_spent_within(RINGS_LAST_S, now_s):
                self._forget_attachments()  # what is in one of the rings may be why
            else:
                self._run_directory.close_connections(self._store.cast_off())
            self._ports.reopen()
        if not self._budget.spend(now_s):
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
                    self._ports.note_refusal()
                self._reloads.on_ack(request)
            case _:
                channel.close_all(fds)
                raise channel.SiblingError(f"{type(message).__name__} is not for the broker")

    def _on_control(self, message: channel.Message, fds: list[int]) -> None:
        assert self._control is not None
        if isinstance(message, REQUESTS):
            self._answer(self._control, message, fds)
            self._ports.tell_hosts()
        elif isinstance(message, channel.Ready):
            self._control.ready = True
            self._errands.end_unclaimed()
            self._ports.tell_hosts()
            self._ports.give_hosts()
            self._reloads.on_ready(self._control)
        elif isinstance(message, STEPS):
            self._reloads.take(self._control, message)
        else:
            channel.close_all(fds)
            raise channel.SiblingError(f"{type(message).__name__} is not for the broker")

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
            error = f"{subject_of(request)}: {explained(failed)}"
            self._log.error(f"request of control failed: {error}")
        control.say(channel.Done(request.request, error), sockets)


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _admit(config: Config) -> Admission:
    return Admission(config, _user_name)


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
