"""Make the sockets of remapped programs, for as long as there is one.

The supervisor is a process beside the program, in no namespace and with no
terminal.  Each wish is one round trip to the stack's server; what the stack
refuses the program is refused, with the same errno, and without a stack its
network is down.  A stack that is served anew in the same place is used then.

Wishes are taken at once, by a thread, and wait for their turn here: one that was
not taken yet a signal interrupts, as it interrupts no socket(2) of the kernel's.

When the supervisor dies, the kernel lets every call that waits, and all that
follow, fail with ENOSYS.
"""

import errno
import os
import select
from contextlib import suppress

from pfinet_client.configuration import configuration
from pfinet_client.errors import StackError
from pfinet_client.resolv import rewrite_names
from pfinet_client.serving.client import StackConnection, connect
from pfinet_client.socket_filter import Wish, grant, read_wish, refuse, take_wishes


class Supervisor:
    """Grants the wishes at *listener* by the stack that is served at *path*.

    *resolv_conf* is the file of that name in the programs' sight, if there is one.
    """

    def __init__(
        self, listener: int, path: str, connection: StackConnection, resolv_conf: int | None
    ) -> None:
        self._listener = listener
        self._path = path
        self._connection = connection
        self._resolv_conf = resolv_conf
        self._binding = connection.binding

    def supervise(self) -> None:
        """Block until no process is left that could have a wish."""
        taken = take_wishes(self._listener)
        while True:
            poll = select.poll()
            poll.register(taken, select.POLLIN)
            if not self._connection.has_ended:
                poll.register(self._connection.fileno(), select.POLLIN)
            events = dict(poll.poll())
            if self._connection.fileno() in events:
                self._follow_binding()
            if taken in events:
                wish = read_wish(taken)
                if wish is None:
                    return
                self._serve(wish)

    def _serve(self, wish: Wish) -> None:
        try:
            made = self._make(wish)
            try:
                grant(self._listener, wish, made)
            finally:
                os.close(made)
        except OSError as error:
            refuse(self._listener, wish, error.errno or errno.EIO)

    def _make(self, wish: Wish) -> int:
        if not self._connection.has_ended:
            # What it says of its end shows before it is asked in vain.
            self._follow_binding()
        if self._connection.has_ended:
            self._connect_again()
        return self._connection.open_socket(wish.family, wish.type, wish.proto)

    def _connect_again(self) -> None:
        try:
            connection = connect(self._path)
        except (StackError, OSError) as error:
            raise OSError(errno.ENETDOWN, str(error)) from error
        self._connection.close()
        self._connection = connection
        self._follow_binding()

    def _follow_binding(self) -> None:
        binding = self._connection.binding
        if binding != self._binding and self._resolv_conf is not None:
            with suppress(OSError):
                rewrite_names(self._resolv_conf, configuration(binding).resolv_conf)
        self._binding = binding
