"""A pytest plug-in: trio's own tests, on a stack.

It is loaded by a pytest of its own (`-p trio_on_stack`), which an unprivileged
user runs where trio is installed.  $STACK_KIND is `kernel`, and then
$PFINET_SOCKET tells where it is served, or `lwip`.  Each test that is a
coroutine begins with the stack's factory of sockets in its place; the resolver
is left as it is, for trio's tests bring their own.  A run in which the stack
made no socket fails.

Tests that cannot pass where a factory is set, whosever, are EXCEPTIONS: that
they fail is asserted as well.
"""

import functools
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio

from pfinet_client.stack import Stack, StackError, connect_stack, open_stack

KIND = os.environ["STACK_KIND"]


class Factory(trio.abc.SocketFactory):
    """Makes the stack's sockets, and counts them."""

    def __init__(self) -> None:
        self.made = 0
        self._stack: Stack | None = None

    @asynccontextmanager
    async def stack(self) -> AsyncIterator[None]:
        """Have a stack for the block: lwIP lives in one trio run."""
        if KIND == "kernel":
            async with connect_stack() as self._stack:
                yield
            return
        async with AsyncExitStack() as closing:
            while True:
                # The fake daemon notices a little later that the one before has gone.
                with suppress(StackError):
                    self._stack = await closing.enter_async_context(open_stack(kind="lwip"))
                    break
            yield

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> trio.socket.SocketType:
        assert self._stack is not None
        made = self._stack.socket(family, type, proto)
        if family in (trio.socket.AF_INET, trio.socket.AF_INET6):
            self.made += 1
        return made


#: With the reason of each.
EXCEPTIONS = {
    "test_open_tcp_listeners_rebind": "binds a socket of Python's own, on the host, to a port "
    "that only the stack has taken",
    "test_SocketType_connect_paths": "puts a socket of Python's own, of the host, inside trio's, "
    "and connects it to the stack",
    "test_custom_socket_factory": "asserts that no factory was set before",
}
if KIND == "lwip":
    EXCEPTIONS |= {
        "test_local_address_real": "binds 127.0.0.2; of those lwIP has 127.0.0.1 alone",
        "test_SocketType_basics": "asserts that there is a descriptor",
        "test_SocketType_resolve": "asserts trio's private class",
        "test_resolve_address_exception_in_connect_closes_socket": "asserts trio's private class",
    }

FACTORY = pytest.StashKey[Factory]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FACTORY] = Factory()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        assert isinstance(item, pytest.Function)
        if inspect.iscoroutinefunction(item.obj):
            item.obj = on_stack(config.stash[FACTORY], item.obj)
        reason = EXCEPTIONS.get(item.originalname)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def on_stack(
    factory: Factory, test: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def on_stack(*arguments: object, **named: object) -> None:
        async with factory.stack():
            trio.socket.set_custom_socket_factory(factory)
            await test(*arguments, **named)

    return on_stack


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[FACTORY].made == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    made = terminalreporter.config.stash[FACTORY].made
    terminalreporter.write_line(f"{made} sockets were the stack's")
