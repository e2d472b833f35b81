"""Make sockets on a stack for programs that are not in it: the task of a served stack.

A socket belongs for ever to the network namespace that it was made in, so who
is given one by SCM_RIGHTS uses the stack without entering it.  The server is
the process inside: one thread, that answers one wish at a time of each client
in turn, and never waits for one.

At its end, also where its parent was killed, it ends the connections that
programs still have: nothing would ever come of them.

Its clients are the same user's, which SO_PEERCRED tells at each connection
(inside, that user is root), and each costs a descriptor.  One that does not
read what it asked for is let go.
"""

import array
import errno
import os
import selectors
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from types import FrameType

from attrs import define

from pfinet_client.descriptors import allow_many, close_all_but
from pfinet_client.serving.protocol import (
    MAX_MESSAGE_BYTES,
    Bound,
    Message,
    SocketMade,
    SocketWanted,
    decode_untrusted,
    encode,
)
from pfinet_client.signals import FORWARDED
from pfinet_client.sock_diag import end_connections
from pfinet_proto.attach import Binding
from pfinet_proto.errors import BadMessage

#: What a stack has of its own; netlink tells of its addresses and routes.
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
#: Settings of the whole stack: who may use it may bind any port, and ping.
_SYSCTLS = {"ipv4/ip_unprivileged_port_start": "0", "ipv4/ping_group_range": "0 0"}
#: What ends the server, and by that its connections; SIGHUP comes when the parent is killed.
_ENDING = (*FORWARDED, signal.SIGINT)
_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7))
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class SocketServer:
    """The task of a stack (`kernel_stack.Task`) that is to serve sockets.

    *front* is where clients connect to, if it listens, else the connection of
    the only client, with whose end the stack ends.
    """

    def __init__(self, front: socket.socket) -> None:
        self._front = front
        self._news, self._told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The next change says what this one would have said.
        self._told.setblocking(False)
        self._ended_by: int | None = None

    def inside(self, binding: Binding) -> int:
        """Serve until the parent, or the only client, is gone; return the status to exit with."""
        # The parent's attachment and tap above all.
        close_all_but(self._front.fileno(), self._news.fileno())
        allow_many()
        for name, value in _SYSCTLS.items():
            with suppress(OSError):  # a kernel may lack it, and do without
                Path("/proc/sys/net", name).write_text(value)
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        Inside(self._front, self._news, binding).serve()
        with suppress(OSError):  # a kernel may lack it, and connections wait then
            end_connections()
        if self._ended_by is not None:
            signal.signal(self._ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), self._ended_by)
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._ended_by = number
        with suppress(OSError):  # it has ended already
            self._news.shutdown(socket.SHUT_RDWR)

    def outside(self) -> None:
        """Let go of what the child has: clients shall see its end."""
        self._front.close()
        self._news.close()

    def tell(self, binding: Binding) -> None:
        """Have the clients told of *binding*."""
        with suppress(OSError):  # the child ends
            self._told.send(encode(Bound(binding)), socket.MSG_NOSIGNAL)


@define(eq=False)
class _Client:
    sock: socket.socket
    owes_binding: bool = True
    """Whether the last binding could not be sent yet."""


class Inside:
    """The server's loop; *front*, if it listens, is the caller's to close."""

    def __init__(self, front: socket.socket, news: socket.socket, binding: Binding) -> None:
        self._binding = binding
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._front = front
        self._news = news
        self._ended = False
        self._is_listening = bool(front.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        self._selector.register(news, selectors.EVENT_READ, self._on_news)
        if self._is_listening:
            front.setblocking(False)
            self._listen()
        else:
            self._add(front)

    def serve(self) -> None:
        """Block until *news*, or the only client, has ended; then let the clients go."""
        while not self._ended:
            for key, _ in self._selector.select():
                # What an earlier one of these has let go of is closed by now.
                if key in self._selector.get_map().values():
                    key.data()
        self._selector.close()
        for sock in (self._news, *(client.sock for client in self._clients)):
            sock.close()

    def _listen(self) -> None:
        if self._front not in self._selector.get_map():
            self._selector.register(self._front, selectors.EVENT_READ, self._on_connection)

    def _on_news(self) -> None:
        message = _receive(self._news)
        if not isinstance(message, Bound):
            self._ended = True
            return
        self._binding = message.binding
        for client in list(self._clients):
            client.owes_binding = True
            self._pay(client)

    def _on_connection(self) -> None:
        try:
            sock, _ = self._front.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # The connection waits until another one ends.
                self._selector.unregister(self._front)
            return
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != os.getuid():
            sock.close()
        else:
            self._add(sock)

    def _add(self, sock: socket.socket) -> None:
        client = _Client(sock)
        self._clients.add(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._on_client(client))
        self._pay(client)

    def _pay(self, client: _Client) -> None:
        """Send the client the binding that it is owed, now or when there is room."""
        try:
            client.sock.send(encode(Bound(self._binding)), _SEND_FLAGS)
        except BlockingIOError:
            self._watch(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except OSError:
            self._drop(client)
        else:
            client.owes_binding = False
            self._watch(client, selectors.EVENT_READ)

    def _watch(self, client: _Client, events: int) -> None:
        self._selector.modify(client.sock, events, lambda: self._on_client(client))

    def _on_client(self, client: _Client) -> None:
        if client.owes_binding:
            self._pay(client)
        if client not in self._clients:
            return
        try:
            wish = _receive(client.sock)
        except BlockingIOError:
            return
        if isinstance(wish, SocketWanted):
            self._make(client, wish)
        else:
            self._drop(client)

    def _make(self, client: _Client, wish: SocketWanted) -> None:
        made = None
        try:
            if wish.family not in _FAMILIES:
                raise OSError(errno.EAFNOSUPPORT, "not of a stack")
            if min(wish.type, wish.proto) < 0:
                # Which Python takes for what is usual.
                raise OSError(errno.EINVAL, "no type, or no protocol")
            made = socket.socket(wish.family, wish.type, wish.proto)
            rights = array.array("i", [made.fileno()]).tobytes()
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            answer = SocketMade(0)
        except OSError as error:
            answer, beside = SocketMade(error.errno or errno.EINVAL), []
        try:
            client.sock.sendmsg([encode(answer)], beside, _SEND_FLAGS)
        except OSError:
            self._drop(client)
        finally:
            if made is not None:
                made.close()

    def _drop(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        self._selector.unregister(client.sock)
        client.sock.close()
        if self._is_listening:
            self._listen()
        else:
            self._ended = True


def _receive(sock: socket.socket) -> Message | None:
    """Return the next message, None at the end or if it is none.

    What descriptors come with it the kernel closes.

    Raises:
        BlockingIOError: if there is none now.
    """
    try:
        packet = sock.recv(MAX_MESSAGE_BYTES + 1, socket.MSG_DONTWAIT)
        return decode_untrusted(packet) if packet else None
    except BlockingIOError:
        raise
    except (OSError, BadMessage):
        return None
