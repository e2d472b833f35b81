"""Start a kernel stack: a child process that waits, in its own namespaces, for its task.

    parent                              child
      | fork --------------------------->|
      |                                  | unshare: nobody in a new user namespace
      |<---------------------- UNSHARED  |
      | write the id maps                |
      |  MAPPED ------------------------>| now root in it
      |                                  | mounts, tap, addresses, routes
      |<-- READY, tap, settings,         |
      |           namespaces ------------|
      |  GO ---------------------------->| the task: a command, or a server of sockets

The parent stays outside: it owns the tap and the daemon's sockets, and changes
the stack's settings from there.  With the namespaces' descriptors it keeps the
stack in existence and lets `pfinet exec` find it.  When the parent ends,
however it ends, the tap goes and the child gets SIGHUP, as from a terminal
that hung up.
"""

import os
import signal
import socket
from contextlib import suppress
from typing import NoReturn, Protocol

from pfinet_client import idmap, netns, syscalls
from pfinet_client.command import say
from pfinet_client.configuration import changes, configuration
from pfinet_client.errors import StackError
from pfinet_client.resolv import RESOLV_CONF
from pfinet_client.settings import Settings
from pfinet_client.signals import Signals
from pfinet_proto.attach import Binding, Offload

#: env(1), and nothing that a command usually returns: pfinet itself failed.
FAILED = 125

_UNSHARED = b"unshared"
_MAPPED = b"mapped"
_READY = b"ready "  # and the text of Settings.give
_GO = b"go"
_FAILED = b"failed: "
_MAX_REPORT_BYTES = 4096
#: More than the child sends.
_MAX_DESCRIPTORS = 16


class Task(Protocol):
    """What a stack is made for."""

    def inside(self, binding: Binding) -> int:
        """Do it, in the child and on the stack; return the child's exit status."""

    def outside(self) -> None:
        """Let go, in the parent, of what only the child needs: it has it by now."""

    def tell(self, binding: Binding) -> None:
        """Note, in the parent, that the stack is what *binding* says from now on."""


class KernelStack:
    """A stack whose child process is ready for its task.

    *tap* and *namespaces* (in the order of netns.KINDS) are the caller's until `close`.
    """

    def __init__(
        self,
        pid: int,
        channel: socket.socket,
        tap: int,
        namespaces: tuple[int, ...],
        settings: Settings,
        binding: Binding,
    ) -> None:
        self.pid = pid
        self.tap = tap
        self.namespaces = namespaces
        self._channel = channel
        self._settings = settings
        self._configuration = configuration(binding)

    def go(self) -> None:
        """Let the child do its task; whether it could, its exit status will tell."""
        with suppress(BrokenPipeError):
            self._channel.send(_GO)
        self._channel.close()

    def reconfigure(self, binding: Binding) -> None:
        """Let the stack be what *binding* says from now on; tell the user what cannot be."""
        new = configuration(binding)
        for action in changes(self._configuration, new):
            try:
                self._settings.apply(action)
            except OSError as error:
                say(f"vif {binding.vif}: cannot change {error.filename}: {error.strerror}")
        self._configuration = new

    def close(self) -> None:
        """Give up the stack: its interface goes away, its namespaces with the last process."""
        self._channel.close()
        self._settings.close()
        for descriptor in (self.tap, *self.namespaces):
            os.close(descriptor)


def start_stack(binding: Binding, offload: Offload, task: Task, signals: Signals) -> KernelStack:
    """Fork the child that will do *task*, and wait until its stack is ready.

    The caller must have one thread.

    Raises:
        StackError: if the system does not allow it, or its files are not as expected.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    signals.hold()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_child(theirs, binding, offload, task, signals)
    theirs.close()
    signals.take()
    try:
        return _serve_child(pid, ours, binding)
    except BaseException:
        ours.close()
        os.waitpid(pid, 0)
        raise


def _serve_child(pid: int, channel: socket.socket, binding: Binding) -> KernelStack:
    _expect(channel.recv(_MAX_REPORT_BYTES), _UNSHARED)
    for note in idmap.write_maps(pid):
        say(note)
    channel.send(_MAPPED)
    report, fds, _, _ = socket.recv_fds(
        channel, _MAX_REPORT_BYTES, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    _expect(report, _READY)
    tap, *others = fds
    namespaces, others = others[: len(netns.KINDS)], others[len(netns.KINDS) :]
    settings = Settings.take(report[len(_READY) :].decode(), others)
    return KernelStack(pid, channel, tap, tuple(namespaces), settings, binding)


def _expect(report: bytes, wanted: bytes) -> None:
    if report.startswith(_FAILED):
        raise StackError(report.removeprefix(_FAILED).decode(errors="replace"))
    if not report.startswith(wanted):
        raise StackError("the process that sets up the stack died")


def _be_child(
    channel: socket.socket,
    binding: Binding,
    offload: Offload,
    task: Task,
    signals: Signals,
) -> NoReturn:
    """Set the stack up and do the task; never returns into the parent's code."""
    status = FAILED
    try:
        _set_up(channel, binding, offload)
        if channel.recv(_MAX_REPORT_BYTES) == _GO:
            signals.give_back()
            status = task.inside(binding)
    except StackError as error:
        _report(channel, str(error))
    except OSError as error:
        _report(channel, f"cannot set up the stack: {error}")
    finally:
        os._exit(status)


def _set_up(channel: socket.socket, binding: Binding, offload: Offload) -> None:
    netns.leave_host()
    channel.send(_UNSHARED)
    if channel.recv(_MAX_REPORT_BYTES) != _MAPPED:
        return
    wanted = configuration(binding)
    resolv_conf = netns.make_mounts(wanted.resolv_conf)
    if resolv_conf is None:
        say(f"{RESOLV_CONF} is missing, so the name servers of the vif are not used")
    tap, settings = netns.make_interface(wanted, offload, resolv_conf)
    netns.soften_one_user()
    # After the last change of credentials, which would clear it.  A parent that
    # died before is noticed by the end of the channel.
    syscalls.set_parent_death_signal(signal.SIGHUP)
    namespaces = netns.open_namespaces()
    text, descriptors = settings.give()
    socket.send_fds(channel, [_READY, text.encode()], [tap, *namespaces, *descriptors])
    settings.close()
    for descriptor in (tap, *namespaces):
        os.close(descriptor)


def _report(channel: socket.socket, text: str) -> None:
    channel.send(_FAILED + text.encode()[: _MAX_REPORT_BYTES - len(_FAILED)])
