"""A pytest plug-in: trio's own tests, on a stack.

It is loaded by a pytest of its own (`-p trio_on_stack`), which an unprivileged
user runs where trio is installed, with the path of a served stack in
$PFINET_SOCKET.  Each test that is a coroutine begins with the stack's factory
of sockets in its place; the resolver is left as it is, for trio's tests bring
their own.  A run in which the stack made no socket fails.

Tests that cannot pass where a factory is set, whosever, are EXCEPTIONS: that
they fail is asserted as well.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable

import pytest
import trio

from pfinet_client.serving.client import connect
from pfinet_client.serving.place import socket_path
from pfinet_client.stack import Stack


class Factory(trio.abc.SocketFactory):
    """Makes the stack's sockets, and counts them."""

    def __init__(self) -> None:
        self.made = 0
        self._stack = Stack(connect(socket_path()))

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> trio.socket.SocketType:
        made = self._stack.socket(family, type, proto)
        if family in (trio.socket.AF_INET, trio.socket.AF_INET6):
            self.made += 1
        return made

    def close(self) -> None:
        self._stack.close()


#: With the reason of each.
EXCEPTIONS = {
    "test_open_tcp_listeners_rebind": "binds a socket of Python's own, on the host, to a port "
    "that only the stack has taken",
    "test_SocketType_connect_paths": "puts a socket of Python's own, of the host, inside trio's, "
    "and connects it to the stack",
    "test_custom_socket_factory": "asserts that no factory was set before",
}

FACTORY = pytest.StashKey[Factory]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FACTORY] = Factory()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[FACTORY].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        assert isinstance(item, pytest.Function)
        if inspect.iscoroutinefunction(item.obj):
            item.obj = on_stack(config.stash[FACTORY], item.obj)
        if item.name in EXCEPTIONS:
            item.add_marker(pytest.mark.xfail(reason=EXCEPTIONS[item.name], strict=True))


def on_stack(
    factory: Factory, test: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def on_stack(*arguments: object, **named: object) -> None:
        trio.socket.set_custom_socket_factory(factory)
        await test(*arguments, **named)

    return on_stack


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[FACTORY].made == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    made = terminalreporter.config.stash[FACTORY].made
    terminalreporter.write_line(f"{made} sockets were the stack's")
