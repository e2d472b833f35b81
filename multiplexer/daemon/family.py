"""The two processes that work for the broker: how they start, are talked to, and end.

Whatever finds that one of them has ended, or is of no use, raises `ChildFailed`; what is
then done is the supervisor's to decide.  Nothing here waits, but for the end of a process
that was told to end.
"""

import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import attrs

from multiplexer.daemon import channel, process
from multiplexer.daemon.child import Child, Descriptor
from multiplexer.daemon.privileges import Identity
from multiplexer.daemon.restarts import may_take_over

#: How long a process may take to end when it is asked to.
GRACE_S: Final = 3.0

#: How a process ends that was asked to.
ASKED_ENDS: Final = ("exit status 0", "signal SIGTERM")

#: How long one may take to follow the other.
FOLLOW_S: Final = 0.2

#: How control ends if it sees the engine's end.
FOLLOWING: Final = "exit status 0"

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


class Family:
    """Control and engine, as far as they run; *selector* calls what reacts to them."""

    def __init__(
        self, roles: Roles, listener: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        self.control: Child | None = None
        self.engine: Child | None = None
        self._roles = roles
        self._listener = listener
        self._selector = selector

    def __iter__(self) -> Iterator[Child]:
        return iter([child for child in (self.control, self.engine) if child is not None])

    @property
    def is_ready(self) -> bool:
        """Whether each that runs serves."""
        return all(child.ready for child in self)

    def choose_events(self) -> None:
        """Let the selector wait for what each of them has to wait for now."""
        for child in self:
            react = self._selector.get_key(child.sock).data
            self._selector.modify(child.sock, child.events, react)

    def start_engine(self, on_message: OnMessage) -> Child:
        """Start the engine."""
        ours, theirs = _pair()
        with theirs:
            running = process.Process.start(
                self._roles.engine,
                self._roles.engine_identity,
                {"broker": theirs},
                cpu=self._roles.engine_cpu,
            )
        self.engine = self._adopt(running, ours, on_message)
        return self.engine

    def start_control(self, engine: Child, request: int, on_message: OnMessage) -> Child:
        """Start control, with a channel to *engine*, which drops the last control's.

        The engine is told by the order that has the number *request*.
        """
        to_engine, to_control = _pair()
        channel.bound_sending(to_control)
        with to_engine:
            order = channel.NewControl(request)
            self._attempt(engine, partial(engine.give, order, to_control))
            ours, theirs = _pair()
            with theirs:
                running = process.Process.start(
                    self._roles.control,
                    self._roles.control_identity,
                    {"broker": theirs, "engine": to_engine, "listener": self._listener},
                )
        self.control = self._adopt(running, ours, on_message)
        return self.control

    def _adopt(
        self, running: process.Process, sock: socket.socket, on_message: OnMessage
    ) -> Child:
        child = Child(running, sock)
        self._selector.register(running.pidfd, selectors.EVENT_READ, partial(self._on_end, child))
        self._selector.register(
            sock, selectors.EVENT_READ, partial(self._on_channel, child, on_message)
        )
        return child

    def _disown(self, child: Child) -> None:
        self._selector.unregister(child.process.pidfd)
        self._selector.unregister(child.sock)
        child.close()
        if child is self.control:
            self.control = None
        else:
            self.engine = None

    def _on_end(self, child: Child) -> None:
        is_control = child is self.control
        self._disown(child)
        end = child.process.reap()
        ends = [f"{child.name} ended with {end}"]
        # Control ends when the engine does, and may be seen to before it: tell of both.
        patience_s = FOLLOW_S if is_control and end == FOLLOWING else 0
        for other in list(self):
            if other.process.wait(patience_s):
                self._disown(other)
                ends.append(f"{other.name} ended with {other.process.reap()}")
        raise ChildFailed(
            ", ".join(ends),
            engine_goes_on=self.engine is not None and may_take_over(child.ready, end),
        )

    def _fail(self, child: Child, why: str) -> None:
        self._disown(child)
        child.process.signal(signal.SIGKILL)
        child.process.reap()
        raise ChildFailed(why, engine_goes_on=self.engine is not None and child.ready)

    def say(
        self, child: Child, message: channel.Message, sockets: Sequence[Descriptor] = ()
    ) -> None:
        """Send *message* to *child*, now or as soon as there is room.

        Raises:
            ChildFailed: if that is no more, or of no use.
        """
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

    def kill(self) -> None:
        """End at once what is left: of no use without its sibling, and clients wait."""
        for child in list(self):
            self._disown(child)
            child.process.signal(signal.SIGKILL)
            child.process.reap()

    def stop(self) -> Sequence[tuple[Child, str]]:
        """Ask what is left to end, and see to it; return what did not end as asked, and how."""
        left = list(self)
        for child in left:
            self._disown(child)
        ends = process.stop([child.process for child in left], GRACE_S)
        return [
            (child, end) for child, end in zip(left, ends, strict=True) if end not in ASKED_ENDS
        ]


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
