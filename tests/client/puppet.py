"""A program on a stack that does what a test tells it, one call at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from tests.client.client_user import ClientUser, RunningStack
from tests.client.test_stack import program

#: Reads a line that awaits one of these, and says what it returned or raised.
#: A listener is known by its port, and the last connection is the one spoken of.
_CALLS = """
import errno, struct
listeners, connections = {}, []

def make(host, options):
    sock = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for name, value in options.items():
        level = socket.IPPROTO_TCP if name.startswith("TCP") else socket.SOL_SOCKET
        sock.setsockopt(level, getattr(socket, name), value)
    return sock

async def tell(value):
    return value

async def listen(port, host="0.0.0.0", backlog=8, **options):
    listeners[port] = sock = make(host, options)
    await sock.bind((host, port))
    sock.listen(backlog)

async def accept(port):
    made, peer = await listeners[port].accept()
    connections.append(made)
    return peer[0]

async def connect(host, port, own_port=0, **options):
    sock = make(host, options)
    await sock.bind(("::" if ":" in host else "0.0.0.0", own_port))
    await sock.connect((host, port))
    connections.append(sock)
    return sock.getsockname()[0]

async def send(data):
    return await connections[-1].send(data)

async def send_until_it_fails():
    while True:
        await connections[-1].send(b"x")
        # Another turn of the loop is not enough for what is under way.
        await trio.sleep(0.01)

async def recv():
    return await connections[-1].recv(100)

async def shut():
    connections[-1].shutdown(socket.SHUT_WR)

async def close():
    connections.pop().close()

async def abort():
    linger = struct.pack("ii", 1, 0)
    connections[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    await close()

async def bind(port):
    with trio.socket.socket() as sock:
        await sock.bind(("0.0.0.0", port))

async def bind_once_it_is_free(port):
    while True:
        try:
            return await bind(port)
        except OSError:
            await trio.sleep(0.01)

say("up")
while line := await wait_line():
    try:
        say(repr(await eval(line)))
    except OSError as error:
        say(errno.errorcode[error.errno])
"""


@frozen
class Puppet:
    """A running puppet."""

    running: RunningStack

    def do(self, call: str) -> str:
        """Return what a call returned, as Python writes it, or the name of its errno."""
        self.begin(call)
        return self.end()

    def begin(self, call: str) -> None:
        self.running.say(call)

    def end(self) -> str:
        return self.running.read_line()


@contextmanager
def puppet(user: ClientUser, vif: str, kind: str) -> Iterator[Puppet]:
    """Run a puppet on a stack of that *kind*."""
    with user.program(program(vif, _CALLS, kind)) as running:
        yield Puppet(running)
