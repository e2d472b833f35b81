"""Run a command whose sockets are a served stack's, in none of its namespaces.

    pfinet                              the command's process
      | fork --------------------------->|
      |                                  | a user namespace where it is itself,
      |                                  | a mount namespace with the vif's resolv.conf
      |                                  | the filter of sockets
      |<------------ READY, listener,    |
      |                 resolv.conf -----|
      | fork: the supervisor             | exec
      |

The user namespace only serves to mount; with the filter comes that no program
there gains privilege.  The supervisor outlives the command where that leaves
processes behind, as daemons do; `pfinet` itself ends with the command.
"""

import os
import selectors
import socket
from contextlib import ExitStack
from typing import NoReturn

from pfinet_client import idmap, netns, syscalls
from pfinet_client.command import Command, say
from pfinet_client.configuration import configuration
from pfinet_client.descriptors import close_all_but
from pfinet_client.errors import StackError
from pfinet_client.resolv import RESOLV_CONF
from pfinet_client.serving.client import StackConnection, connect
from pfinet_client.serving.supervisor import Supervisor
from pfinet_client.signals import Signals
from pfinet_client.socket_filter import filter_sockets
from pfinet_client.watch import Watch
from pfinet_proto.attach import Binding

_READY = b"ready"
_FAILED = b"failed: "
_MAX_REPORT_BYTES = 4096
_FAILED_STATUS = 125  # env(1)


def remap(path: str, command: Command) -> int:
    """Run *command* on the stack that is served at *path*; return its wait status.

    The caller must have one thread.

    Raises:
        StackError: if there is no stack, or the system does not allow it; the
            command has not run then.
    """
    with ExitStack() as closing:
        connection = connect(path)
        closing.callback(connection.close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        closing.enter_context(ours)
        signals = Signals()
        closing.callback(signals.close)
        signals.hold()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _be_command(theirs, connection.binding, command, signals)
        theirs.close()
        signals.take()
        descriptors = _wait_ready(pid, ours)
        # It leaves this directory.
        _start_supervisor(os.path.abspath(path), connection, descriptors, signals)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.close()
        selector = closing.enter_context(selectors.DefaultSelector())
        return Watch(pid, signals, selector).wait_end()


def _wait_ready(pid: int, channel: socket.socket) -> list[int]:
    """Return the listener, and resolv.conf if it is there, once the filter is in place."""
    report, descriptors, _, _ = socket.recv_fds(
        channel, _MAX_REPORT_BYTES, 2, socket.MSG_CMSG_CLOEXEC
    )
    if report == _READY:
        return descriptors
    os.waitpid(pid, 0)
    if report.startswith(_FAILED):
        raise StackError(report.removeprefix(_FAILED).decode(errors="replace"))
    raise StackError("the process of the command died")


def _be_command(
    channel: socket.socket, binding: Binding, command: Command, signals: Signals
) -> NoReturn:
    """Set up what the command sees, and become it; never returns into the parent's code."""
    status = _FAILED_STATUS
    try:
        _set_up(channel, binding)
        signals.give_back()
        status = command.inside(binding)
    except (StackError, OSError) as error:
        text = error if isinstance(error, StackError) else f"cannot remap: {error}"
        channel.send(_FAILED + str(text).encode()[: _MAX_REPORT_BYTES - len(_FAILED)])
    finally:
        os._exit(status)


def _set_up(channel: socket.socket, binding: Binding) -> None:
    uid, gid = os.getuid(), os.getgid()
    netns.leave_host(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    idmap.stay_oneself(uid, gid)
    resolv_conf = netns.make_names(configuration(binding).resolv_conf)
    if resolv_conf is None:
        say(f"{RESOLV_CONF} is missing, so the name servers of the vif are not used")
    listener = filter_sockets()
    descriptors = [listener] if resolv_conf is None else [listener, resolv_conf]
    socket.send_fds(channel, [_READY], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def _start_supervisor(
    path: str, connection: StackConnection, descriptors: list[int], signals: Signals
) -> None:
    """Fork it, away from the terminal and from whoever waits for our output's end."""
    if os.fork() != 0:
        return
    try:
        signals.give_back()
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.chdir("/")
        close_all_but(connection.fileno(), *descriptors)
        listener, *files = descriptors
        Supervisor(listener, path, connection, files[0] if files else None).supervise()
    finally:
        os._exit(0)
