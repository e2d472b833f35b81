"""The client's end of a served stack: ask for sockets, hear of the binding.

Blocking and without trio.  A wish costs a round trip to a process on this
machine that does nothing else, about 50 µs; a server that does not answer is
given up after a time, and then for good, for its late answer would be taken
for the next one's.
"""

import errno
import os
import socket
import struct

from pfinet_client.errors import StackError
from pfinet_client.locate import connect_unix, set_timeout
from pfinet_client.serving.place import none_served
from pfinet_client.serving.protocol import (
    MAX_MESSAGE_BYTES,
    Bound,
    Failed,
    Message,
    SocketMade,
    SocketWanted,
    decode_untrusted,
    encode,
)
from pfinet_proto.attach import Binding
from pfinet_proto.errors import BadMessage

#: Far above what a loaded machine needs.
TIMEOUT_S = 10.0

_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7))
_RIGHTS = struct.Struct("=i")


class StackConnection:
    """A connection to the server of a stack, from its first word until `close`."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over *sock*, and wait for the binding.

        Raises:
            StackError: if there is no stack; why, the server has said.
        """
        self._sock = sock
        self._dead = False
        # Wishes without an answer: more than one if somebody was interrupted in waiting.
        self._owed = 0
        message, _ = self._receive(0)
        if isinstance(message, Failed):
            raise StackError(message.text)
        if not isinstance(message, Bound):
            raise StackError("the process that serves the stack died")
        self._binding = message.binding
        set_timeout(sock, TIMEOUT_S)

    @property
    def binding(self) -> Binding:
        """What the stack's vif is, by what has arrived of the server's words."""
        while not self._dead:
            try:
                message, made = self._receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            self._heed(message, made)
        return self._binding

    def fileno(self) -> int:
        """Return what is readable when `binding` may have changed, or the server is gone."""
        return self._sock.fileno()

    @property
    def has_ended(self) -> bool:
        """Whether there will be no more sockets."""
        return self._dead

    def open_socket(self, family: int, kind: int, proto: int) -> int:
        """Return the descriptor, closed on exec, of a new socket of the stack (socket(2)).

        Raises:
            OSError: as the stack's socket(2), or ENETDOWN if its server is gone.
            ValueError: if a number does not fit into 32 bits.
        """
        wish = encode(SocketWanted(family, kind, proto))
        try:
            self._owed += 1
            self._sock.send(wish, socket.MSG_NOSIGNAL)
            while not self._dead:
                message, made = self._receive(0)
                if isinstance(message, SocketMade) and self._owed == 1:
                    self._owed = 0
                    return self._take(message, made)
                self._heed(message, made)
        except BlockingIOError:
            self._dead = True
            self._sock.shutdown(socket.SHUT_RDWR)
            text = f"the stack's server did not answer within {TIMEOUT_S:g} s"
            raise OSError(errno.ENETDOWN, text) from None
        except (BrokenPipeError, ConnectionResetError):
            self._dead = True
        raise OSError(errno.ENETDOWN, "the stack has ended")

    def _take(self, message: SocketMade, made: int | None) -> int:
        if message.errno:
            raise OSError(message.errno, os.strerror(message.errno))
        if made is None:
            # Lost on the way, because this process may have no more (unix(7)).
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return made

    def _heed(self, message: Message | None, made: int | None) -> None:
        """Take in what nobody waits for, and let go of the socket beside it."""
        if made is not None:
            os.close(made)
        if isinstance(message, Bound):
            self._binding = message.binding
        elif isinstance(message, SocketMade) and self._owed:
            self._owed -= 1
        else:
            self._dead = True

    def _receive(self, flags: int) -> tuple[Message | None, int | None]:
        """Return a message, None at the end or if it is none, and the descriptor beside it."""
        try:
            packet, ancillary, _, _ = self._sock.recvmsg(
                MAX_MESSAGE_BYTES + 1,
                socket.CMSG_SPACE(_RIGHTS.size),
                flags | socket.MSG_CMSG_CLOEXEC,
            )
            message = decode_untrusted(packet) if packet else None
        except (BadMessage, ConnectionResetError):
            return None, None
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and payload:
                return message, int(_RIGHTS.unpack(payload)[0])
        return message, None

    def close(self) -> None:
        """Close it; sockets that were made stay as they are.  More than once is allowed."""
        self._dead = True
        self._sock.close()


def connect(path: str) -> StackConnection:
    """Return a connection to the stack that the caller serves at *path*.

    Raises:
        StackError: if there is none, or the server there is another user's.
        OSError: if it cannot be reached; its filename is *path*.
    """
    try:
        sock = connect_unix(path, socket.SOCK_SEQPACKET, TIMEOUT_S)
    except (FileNotFoundError, ConnectionRefusedError):
        raise none_served(path) from None
    try:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(credentials)
        if uid != os.getuid():
            raise StackError(f"{path}: served by uid {uid}, you are uid {os.getuid()}")
        return StackConnection(sock)
    except BlockingIOError:
        sock.close()
        raise StackError(f"{path}: the server says nothing for {TIMEOUT_S:g} s") from None
    except BaseException:
        sock.close()
        raise
