"""Enter a stack that another process of the same user runs.

`pfinet run` holds descriptors of its stack's namespaces; the kernel shows them
as links in /proc/PID/fd to whoever may trace that process, which is the same
user, and lets only the user namespace's owner enter.  Root may trace and enter
whatever there is, so the owner is asked for as well: in another user's
namespaces a command would run with root's uid on that user's files.  The daemon
is asked for nothing but to say why there is no stack, or which of several is
attached.
"""

import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from pfinet_client import beacon, netns, syscalls
from pfinet_client.command import become
from pfinet_client.errors import StackError
from pfinet_client.serving.place import none_served
from pfinet_proto.control import VifInfo
from pfinet_proto.values import VifName

_LINK = re.compile(r"(user|mnt|net):\[(\d+)\]")

# struct ucred: pid, uid, gid (unix(7)).
_PEERCRED = struct.Struct("=iII")

# linux/nsfs.h
_NS_GET_USERNS = 0xB701
_NS_GET_OWNER_UID = 0xB704


def enter_and_become(
    vif: VifName, control: str, show: Callable[[], VifInfo], command: Sequence[str]
) -> int:
    """Enter the stack that runs on *vif* and become *command* there.

    *control* is the path of the daemon's control socket; *show* asks there
    about the vif.  Returns only if the command cannot be run: the status to
    exit with.

    Raises:
        StackError: if no stack runs on the vif, or the caller may not enter it.
        ControlError, BadMessage, RemoteProtocolError, OSError: of *show*.
    """
    return _become_in(vif, _find_stack(vif, control, show), command)


def join_and_become(path: str, command: Sequence[str]) -> int:
    """Enter the stack that is served at *path* and become *command* there.

    Returns only if the command cannot be run: the status to exit with.

    Raises:
        StackError: if nothing is served there, or the caller may not enter it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            raise none_served(path) from None
        except OSError as error:
            raise StackError(f"{path}: {error.strerror or error}") from error
        # Of whoever listens there: the process that holds the stack.
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _ = _PEERCRED.unpack(peer)
    if uid != os.getuid():
        raise StackError(f"{path}: who serves there is uid {uid}, you are uid {os.getuid()}")
    vif = beacon.vif_of(pid)
    if vif is None:
        raise StackError(f"the stack that is served at {path} is just being made, or ends")
    return _become_in(vif, pid, command)


def _become_in(vif: VifName, pid: int, command: Sequence[str]) -> int:
    """Enter the stack on *vif* that process *pid* runs, and become *command* there."""
    namespaces = _open_namespaces(vif, pid)
    directory = _current_directory()
    try:
        for descriptor, (_, kind) in zip(namespaces, netns.KINDS, strict=True):
            syscalls.setns(descriptor, kind)
    except OSError as error:
        raise StackError(f"cannot enter the stack on vif {vif}: {error.strerror}") from error
    finally:
        for descriptor in namespaces:
            os.close(descriptor)
    netns.soften_one_user()
    # Entering a mount namespace leads to its root.
    with suppress(OSError):
        os.chdir(directory)
    return become(command, str(vif))


def _find_stack(vif: VifName, control: str, show: Callable[[], VifInfo]) -> int:
    """Return the id of the process that runs the stack on *vif*."""
    found = beacon.find(vif, control)
    if len(found) == 1:
        return found[0]
    holder = show().attached
    if holder is None:
        raise StackError(f"no stack runs on vif {vif}")
    if holder.uid != os.getuid():
        raise StackError(
            f"the stack on vif {vif} belongs to uid {holder.uid}, you are uid {os.getuid()}"
        )
    if holder.pid not in found:
        raise StackError(f"vif {vif} is held by process {holder.pid}, which is not a `pfinet run`")
    return holder.pid


def _open_namespaces(vif: VifName, pid: int) -> tuple[int, ...]:
    """Return descriptors of the namespaces that *pid* holds, in the order of netns.KINDS."""
    try:
        # Refers to this very process, also if another should get its id.
        directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StackError(
            f"cannot look into process {pid}, which runs the stack on vif {vif}: {error.strerror}"
        ) from error
    try:
        if os.fstat(directory).st_uid != os.getuid():
            raise StackError(f"process {pid}, which runs the stack on vif {vif}, is not yours")
        found = dict(_namespace_links(directory))
        if found.keys() != {kind for kind, _ in netns.KINDS}:
            raise StackError(f"the stack on vif {vif} is just being made, or ends")
        namespaces = tuple(
            os.open(found[kind], os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            for kind, _ in netns.KINDS
        )
    finally:
        os.close(directory)
    if not _are_own(namespaces):
        for descriptor in namespaces:
            os.close(descriptor)
        raise StackError(f"process {pid} holds for vif {vif} namespaces that are not yours")
    return namespaces


def _are_own(namespaces: Sequence[int]) -> bool:
    """Return whether the caller made the first, a user namespace, and the others are in it."""
    user, *others = namespaces
    try:
        owner = fcntl.ioctl(user, _NS_GET_OWNER_UID, bytes(4))
        return struct.unpack("=I", owner) == (os.getuid(),) and all(
            _is_in(user, other) for other in others
        )
    except PermissionError:
        # What it belongs to is out of the caller's sight.
        return False


def _is_in(user: int, namespace: int) -> bool:
    found = fcntl.ioctl(namespace, _NS_GET_USERNS)
    try:
        return os.path.sameopenfile(found, user)
    finally:
        os.close(found)


def _namespace_links(directory: int) -> Iterator[tuple[str, str]]:
    """Yield the kind and name of each namespace in *directory* that is not the caller's own."""
    for link in os.listdir(directory):
        try:
            target = os.readlink(link, dir_fd=directory)
        except FileNotFoundError:
            continue
        match = _LINK.fullmatch(target)
        if match and target != os.readlink(f"/proc/self/ns/{match[1]}"):
            yield match[1], link


def _current_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
