"""A vif's MTU that changes while a stack is on it, as the frames show that it sends."""

import attrs

from pfinet_proto.attach import Offload, Update, encode
from tests.client.client_user import ClientUser
from tests.client.fake_daemon import binding, fake_daemon
from tests.client.test_stack import COUNT, program

MTU = 1300
ETHERNET = 14

SEND = f"""
say("up")
while stack.binding.mtu != {MTU}:
    await trio.sleep(0.01)
stream = await trio.open_tcp_stream("10.9.0.2", 81)
await stream.send_all(bytes(100_000))
await stream.send_eof()
say((await stream.receive_some()).decode())
"""


def test_segments_are_as_long_as_it_says_from_then_on(each_kind: str) -> None:
    with fake_daemon((binding(1), 20001), (binding(2), 20002), offload=Offload(0)) as daemon:
        alice, bob = ClientUser(20001, daemon), ClientUser(20002, daemon)
        with (
            bob.program(program("v2", COUNT)),
            alice.program(program("v1", SEND, each_kind)) as running,
        ):
            port = daemon.ports["v1"]
            assert port.attach is not None
            port.attach.send(encode(Update(attrs.evolve(port.binding, mtu=MTU))))

            assert running.read_line() == "100000"
        assert port.longest_bytes == ETHERNET + MTU
