"""The memory that client and engine share, and the stream on which they kick each other.

Both are made here, once for each attachment: a client that had made them could change
the length of the one, or let a write to the other block.  The memory is sealed before
anybody else has it.  Whoever has another's copy of both can give them to another engine,
which is why the broker keeps one.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

import attrs

from multiplexer.daemon import channel
from multiplexer.daemon.descriptors import refuse_fds
from pfinet_proto.ring import memory_bytes

#: What `channel.Session` calls an attachment by rings.
RING: Final = "ring"

SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

#: linux/memfd.h, Linux 6.3: nobody can execute it.
MFD_NOEXEC_SEAL: Final = 8

#: Room for some eighty kicks, each of which takes the kernel some 800 bytes; the engine
#: leaves up to sixteen where they are.
KICKS_BUFFER_BYTES: Final = 32 * 1024


class NoRing(ValueError):
    """Descriptors that are no end of rings."""


class Memory:
    """The memory of two rings, as a descriptor, until `close`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def made(cls, ring_bytes: int) -> Self:
        """Make one, sealed."""
        memory = cls(_create())
        try:
            os.ftruncate(memory.fileno(), memory_bytes(ring_bytes))
            fcntl.fcntl(memory.fileno(), fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            memory.close()
            raise
        return memory

    @property
    def is_sealed(self) -> bool:
        """Whether it is a memory at all, and keeps its length."""
        try:
            seals = fcntl.fcntl(self._descriptor, fcntl.F_GET_SEALS)
        except OSError:
            return False
        return seals & SEALS == SEALS

    def fileno(self) -> int:
        """Return its descriptor, -1 if it is closed."""
        return self._descriptor

    def close(self) -> None:
        """Close it; more than once is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _create() -> int:
    name, flags = "multiplexer-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)


@attrs.frozen
class RingEnd:
    """What one side of an attachment by rings has of them."""

    kicks: socket.socket
    memory: Memory

    @classmethod
    def taken(cls, fds: Sequence[int]) -> Self:
        """Take over the descriptors that another process of ours sent, in the order of `fds`.

        Raises:
            NoRing: if they are no end of rings; they are closed then.
        """
        memory = Memory(fds[-1])
        try:
            (kicks,) = channel.as_sockets(fds[:-1])
        except (OSError, ValueError):
            memory.close()
            raise NoRing(f"{len(fds)} descriptors are no end of rings") from None
        end = cls(kicks, memory)
        if (kicks.family, kicks.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or (
            not memory.is_sealed
        ):
            end.close()
            raise NoRing("the memory or the stream is none")
        return end

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors, in the order in which they are sent, to clients as well."""
        return (self.kicks.fileno(), self.memory.fileno())

    def close(self) -> None:
        """Close both."""
        self.kicks.close()
        self.memory.close()


@contextmanager
def made_rings(ring_bytes: int) -> Iterator[tuple[RingEnd, RingEnd]]:
    """Give the ends of the engine and of the client, until the context ends.

    Raises:
        OSError: if the system has no more of what they take.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        refuse_fds(ours)
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KICKS_BUFFER_BYTES)
        memory = Memory.made(ring_bytes)
        try:
            yield RingEnd(ours, memory), RingEnd(theirs, memory)
        finally:
            memory.close()
