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
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from multiplexer.daemon import audit, channel, notify
from multiplexer.daemon.admission import Admission, Refused
from multiplexer.daemon.child import Child
from multiplexer.daemon.errands import REQUESTS, Errands, Request, subject_of
from multiplexer.daemon.family import GRACE_S, ChildFailed, Family, Roles
from multiplexer.daemon.fdstore import FdStore
from multiplexer.daemon.ports import Ports
from multiplexer.daemon.reloads import STEPS, Reloads
from multiplexer.daemon.restarts import RestartBudget, counted
from multiplexer.daemon.rundir import RunDirectory
from multiplexer.daemon.shortage import explained, naming
from multiplexer.daemon.signals import RELOAD_SIGNAL
from multiplexer.daemon.succession import Succession
from multiplexer.model import Config
from multiplexer.uplinks.host_tap import HostTaps
from multiplexer.uplinks.nic import LinkWatch

#: How long the last restart must be past for rings to outlive their engine.
RINGS_LAST_S: Final = 5.0

#: When ports are looked at again of which the kernel could not tell.
LOOK_AGAIN_S: Final = 5.0


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
        self._links = links
        self._signals = signals
        self._log = log
        self._notifier = notifier
        self._store = FdStore()
        self._run_directory = run_directory
        self._budget = RestartBudget()
        self._restarts = channel.Restarts()
        self._selector = selectors.DefaultSelector()
        self._family = Family(roles, listener, self._selector)
        current = succession.current
        self._errands = Errands(
            _admit(current.config), run_directory, self._store, current.nics, hosts
        )
        self._ports = Ports(succession, hosts, links, self._family, log)
        self._reloads = Reloads(
            succession,
            self._ports,
            self._errands,
            _admit,
            self._family,
            log,
            notifier,
        )
        self._stop_signal: int | None = None

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
                    if not is_running and self._family.is_ready:
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

    def _turn(self, timeout_s: float | None = None) -> None:
        """Wait for something to happen, and react to it.

        Raises:
            ChildFailed: if it was the end of a child.
        """
        self._family.choose_events()
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
        engine = self._family.engine
        if engine is None:
            with naming("the process engine"):
                engine = self._family.start_engine(self._on_engine)
            self._ports.introduce(engine)
        if self._family.control is None:
            with naming("the process control"):
                control = self._family.start_control(
                    engine, next(self._ports.numbers), self._on_control
                )
            start = self._succession.current.start
            self._family.say(
                control, attrs.evolve(start, restarts=self._restarts, inherited=len(self._store))
            )
            self._ports.describe(control)
            for stored in self._store:
                inherited = channel.Inherited(stored.kept, stored.adrift)
                self._family.say(control, inherited, stored.bequest)

    def _forget_attachments(self) -> None:
        self._run_directory.close_connections(self._store.take_all())

    def _prepare_restart(self, failure: ChildFailed) -> bool:
        """Make ready to start what has to be; False if that has been too often."""
        # Of a file that is in force and only partly applied nobody knows what is.
        now_s = time.monotonic()
        alone = not self._reloads.give_up() and failure.engine_goes_on
        if not alone:
            self._family.kill()
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

    def _stop_children(self) -> None:
        """End control while it is still answered, then the engine."""
        control = self._family.control
        if control is not None:
            control.process.signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_S
            try:
                while (left_s := deadline - time.monotonic()) > 0:
                    self._turn(left_s)
            except ChildFailed:
                pass
        for child, end in self._family.stop():
            # The one that failed may be seen after the one that it took along.
            self._log.error(f"{child.name} ended with {end}")

    # What they say

    def _on_engine(self, message: channel.Message, fds: list[int]) -> None:
        engine = self._family.engine
        assert engine is not None
        match message:
            case channel.Ready():
                engine.ready = True
            case channel.Ack(request=request, error=error):
                if error is not None:
                    self._log.error(f"engine cannot do as told: {error}")
                    self._ports.note_refusal()
                self._reloads.on_ack(request)
            case _:
                channel.close_all(fds)
                raise channel.SiblingError(f"{type(message).__name__} is not for the broker")

    def _on_control(self, message: channel.Message, fds: list[int]) -> None:
        control = self._family.control
        assert control is not None
        if isinstance(message, REQUESTS):
            self._answer(control, message, fds)
            self._ports.tell_hosts()
        elif isinstance(message, channel.Ready):
            control.ready = True
            self._errands.end_unclaimed()
            self._ports.tell_hosts()
            self._ports.give_hosts()
            self._reloads.on_ready(control)
        elif isinstance(message, STEPS):
            self._reloads.take(control, message)
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


def _admit(config: Config) -> Admission:
    return Admission(config, _user_name)


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
