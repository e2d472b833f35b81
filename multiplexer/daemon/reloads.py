"""The steps of a reload that control asks the broker for, in the loop of the broker.

`multiplexer.daemon.succession` says what each is; here its answer is sent when
the engine has done its part, and the service manager is told.
"""

import time
from collections.abc import Callable
from typing import Final

from multiplexer.daemon import audit, channel, notify
from multiplexer.daemon.admission import Admission
from multiplexer.daemon.child import Child
from multiplexer.daemon.errands import Errands
from multiplexer.daemon.family import Family
from multiplexer.daemon.ports import Ports, state_of
from multiplexer.daemon.succession import Succession, bounded
from multiplexer.model import Config, ConfigError

STEPS: Final = (channel.PrepareReload, channel.CommitReload, channel.EndReload)
Step = channel.PrepareReload | channel.CommitReload | channel.EndReload


class Reloads:
    """One reload after the other."""

    def __init__(
        self,
        succession: Succession,
        ports: Ports,
        errands: Errands,
        admit: Callable[[Config], Admission],
        family: Family,
        log: audit.Log,
        notifier: notify.Notifier,
    ) -> None:
        self._succession = succession
        self._ports = ports
        self._errands = errands
        self._admit = admit
        self._family = family
        self._log = log
        self._notifier = notifier
        #: Whether one was asked for while no control was there to do it.
        self._waits = False
        #: What the engine has not yet answered of a commit, and the commit's number.
        self._unanswered: set[int] = set()
        self._commit: int | None = None

    def ask(self) -> None:
        """Let control reload, as soon as there is one."""
        control = self._family.control
        self._waits = control is None or not control.ready
        if control is not None and control.ready:
            self._family.say(control, channel.ReloadAsked())

    def on_ready(self, control: Child) -> None:
        """Note that *control* serves."""
        if self._waits:
            self._waits = False
            control.say(channel.ReloadAsked())

    def take(self, control: Child, step: Step) -> None:
        """Do the *step* that control asks for.

        Raises:
            SiblingError: if it is not its turn.
        """
        match step:
            case channel.PrepareReload(request=request):
                control.say(self._prepare(request))
            case channel.CommitReload(request=request):
                self._notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
                before = self._succession.current.config
                committed = self._succession.commit()
                current = self._succession.current
                self._errands.follow(self._admit(current.config), current.nics)
                self._commit = request
                self._unanswered = self._ports.follow(before, committed)
                self._answer_commit()
            case channel.EndReload(request=request):
                if self._succession.is_half_done:
                    filename = self._succession.current.config.origin.filename
                    self._log.info(f"goes by {filename} as it is now")
                    self._over()
                    self._ports.give_hosts()
                self._succession.end()
                control.say(channel.Done(request))

    def on_ack(self, request: int) -> None:
        """Note that the engine has answered an order."""
        self._unanswered.discard(request)
        self._answer_commit()

    def give_up(self) -> bool:
        """Forget a reload whose control or engine has died; return whether it was half done."""
        half_done = self._succession.is_half_done
        if half_done:
            self._over()
        self._succession.end()
        self._unanswered.clear()
        self._commit = None
        return half_done

    def _prepare(self, request: int) -> channel.ReloadPrepared:
        try:
            prepared = self._succession.prepare()
        except ConfigError as error:
            return channel.ReloadPrepared(request, "", (), bounded(error.problems))
        uplinks = tuple(state_of(nic) for nic in prepared.nics)
        return channel.ReloadPrepared(request, prepared.start.config_text, uplinks, ())

    def _answer_commit(self) -> None:
        control = self._family.control
        if self._commit is not None and not self._unanswered and control is not None:
            done = channel.Done(self._commit)
            self._commit = None
            self._family.say(control, done)

    def _over(self) -> None:
        self._notifier.tell(READY=1, STATUS="Running")
