"""Open a stack, and close it.

The stack of a program is a process that the program starts
(`pfinet_client.serving.helper`), for a process must have one thread to enter
fresh namespaces, and a program keeps its own.
"""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Literal

import trio

from pfinet_client.errors import StackError
from pfinet_client.failures import EXPECTED, explain
from pfinet_client.serving import client
from pfinet_client.serving.client import StackConnection
from pfinet_client.serving.place import socket_path
from pfinet_client.stack.served import ServedStack
from pfinet_client.stack.stack import Stack

#: The module that is run, not imported.
_HELPER = "pfinet_client.serving.helper"


@asynccontextmanager
async def open_stack(
    vif: str | None = None,
    kind: Literal["kernel", "lwip"] = "kernel",
    *,
    control: str | None = None,
) -> AsyncIterator[Stack]:
    """Attach to *vif*, or to the caller's only one, and make a stack there.

    *kind* says whose: ``kernel``, Linux's own in a network namespace, held by a
    process that this program starts and that ends with it; or ``lwip``, inside
    this program, one at a time, without any socket of the host, as far as pfinet(1)
    says.  *control* is the path of the daemon's control socket, else
    $MULTIPLEXER_CONTROL, else the usual one.

    What changes of the vif changes in the stack.  While the daemon is away
    frames are lost, and connections wait; the process of a kernel stack says so on
    the standard error.  What a connection has not sent yet is lost at the end, and
    one that is still open is of no use any more: it fails.

    Raises:
        StackError: if there can be no stack; its text says why.
        ValueError: if *kind* is unknown.
    """
    if kind not in _KINDS:
        raise ValueError(f'kind is {kind!r}, not "kernel" or "lwip"')
    async with AsyncExitStack() as closing:
        yield await closing.enter_async_context(_KINDS[kind](vif, control))


@asynccontextmanager
async def _open_lwip(vif: str | None, control: str | None) -> AsyncIterator[Stack]:
    try:
        from pfinet_client.stack.lwip.stack import open_lwip
    except ImportError as error:
        raise StackError(f"this installation was built without lwip: {error}") from error
    async with AsyncExitStack() as closing:
        try:
            stack = await closing.enter_async_context(open_lwip(vif, control))
        except EXPECTED as error:
            raise StackError(explain(error)) from error
        yield stack


@asynccontextmanager
async def _open_kernel(vif: str | None, control: str | None) -> AsyncIterator[Stack]:
    options: list[str] = []
    if vif is not None:
        options += ["--vif", vif]
    if control is not None:
        options += ["--control", control]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, _helper(theirs, options) as process:
        stack = ServedStack(await _wait_connection(ours))
        try:
            yield stack
        finally:
            stack.close()
            # It detaches from the vif, which is free when it has ended.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(process.wait)


async def _wait_connection(sock: socket.socket) -> StackConnection:
    await trio.lowlevel.wait_readable(sock)
    return StackConnection(sock)


_KINDS = {"kernel": _open_kernel, "lwip": _open_lwip}


@contextmanager
def _helper(sock: socket.socket, options: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the helper, with *sock* for it; what it serves must be closed before the end."""
    argv = [sys.executable, "-P", "-m", _HELPER, str(sock.fileno()), *options]
    with sock:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            pass_fds=[sock.fileno()],
            # A terminal's ^C is the program's to handle.
            process_group=0,
        )
    try:
        yield process
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()


@asynccontextmanager
async def connect_stack(path: str | None = None) -> AsyncIterator[Stack]:
    """Use the stack that `pfinet serve` of the same user runs at *path*.

    Without *path* it is $PFINET_SOCKET, or `pfinet` in $XDG_RUNTIME_DIR.

    Raises:
        StackError: if there is no stack, or another user's.
        OSError: if its server cannot be reached.
    """
    where = socket_path(path)
    stack = ServedStack(await trio.to_thread.run_sync(partial(client.connect, where)))
    try:
        yield stack
    finally:
        stack.close()
