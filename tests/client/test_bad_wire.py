"""Both kinds of stack over a wire that loses, repeats and reorders frames."""

import random

import pytest

from pfinet_proto.attach import Offload
from tests.client.client_user import ClientUser
from tests.client.fake_daemon import binding, fake_daemon
from tests.client.test_stack import program

LENGTH = 1 << 20

#: Sends back whatever it gets, once it has it all.
PEER = f"""
async def give_back(stream):
    data = bytearray()
    while len(data) < {LENGTH}:
        data += await stream.receive_some()
    await stream.send_all(data)
    await stream.aclose()

async with trio.open_nursery() as nursery:
    for host in ("0.0.0.0", "::"):
        await nursery.start(partial(trio.serve_tcp, give_back, 9, host=host))
    say("up")
"""

EXCHANGE = f"""
import random
sent = random.Random(1).randbytes({LENGTH})
stream = await trio.open_tcp_stream("HOST", 9)
await stream.send_all(sent)
got = bytearray()
while data := await stream.receive_some():
    got += data
say(got == sent)
"""


class BadWire:
    """Of a hundred frames one is lost, one comes twice, and five are overtaken."""

    def __init__(self) -> None:
        self._chance = random.Random(9)
        self._late: list[bytes] = []
        self.lost = 0

    def __call__(self, records: list[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for record in records:
            dice = self._chance.randrange(100)
            if dice == 0:
                self.lost += 1
                continue
            if 1 < dice <= 6:
                self._late.append(record)
                continue
            out += [record] * (2 if dice == 1 else 1)
            out += self._late
            self._late = []
        return out


@pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("kernel", "kernel"), ("lwip", "kernel"), ("lwip", "lwip")]
)
def test_a_bad_wire_delays_data_and_loses_none(ours: str, theirs: str, host: str) -> None:
    wire, exchange = BadWire(), EXCHANGE.replace("HOST", host)
    users = (binding(1), 20001), (binding(2), 20002)
    with fake_daemon(*users, offload=Offload(0)) as daemon:
        daemon.wire = wire
        with ClientUser(20002, daemon).program(program("v2", PEER, theirs)):
            done = ClientUser(20001, daemon).run_program(program("v1", exchange, ours))

    assert (done.stdout, done.stderr) == ("True\n", "")
    assert wire.lost > 0
