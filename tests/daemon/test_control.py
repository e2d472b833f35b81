"""The control process as a whole: its start, and how it ends."""

import socket
from collections.abc import Iterator
from ipaddress import ip_interface

import pytest

from multiplexer.daemon import channel, channel_trio
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.database import StateError
from multiplexer.model import ConfigError, Limits
from multiplexer.policy import decode_network, decode_vif
from pfinet_proto.control import VifCreate
from pfinet_proto.values import VifName
from tests.daemon.siblings import STATIC, Place, no_room, running, siblings

ONE = VifCreate(VifName.parse("one"), "alice", (ip_interface("10.77.0.11/24"),))


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def test_everything_is_set_up_before_it_is_ready(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        networks = [
            decode_network(message.row) for message in daemon.engine.all(channel.SetNetwork)
        ]
        kinds = [type(message) for message in daemon.engine.heard]
        said = [type(message) for message in daemon.broker.heard]

        assert [(row.id, row.uplink_port, row.mtu) for row in networks] == [
            (0, 0, 1500),
            (1, None, 9000),
        ]
        assert kinds == [
            *(channel.SetNetwork, channel.SetNetwork),
            *(channel.ReadPorts,) * 4,
            channel.SetVif,
        ]
        assert said == [channel.OpenVifSockets, channel.SetMemberships, channel.Ready]


async def test_a_vif_of_an_earlier_run_has_the_limits_that_its_network_has_now(
    place: Place,
) -> None:
    async with running(place) as daemon:
        await daemon.ask(ONE)

    slower = "[network.lan.limits]\nframes_per_s = 7\n"
    async with running(place, slower) as daemon:
        row = decode_vif(daemon.engine.all(channel.SetVif)[0].row)

    assert row.limits == Limits(frames_per_s=7)


async def failure_of_start(place: Place, extra: str = "") -> BaseException:
    """Return why control does not start."""
    async with siblings(place) as made:
        await made.broker.start(place.config(extra))
        with pytest.raises(BaseExceptionGroup) as caught:
            await made.control.run()
        assert made.broker.all(channel.Ready) == []
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def test_a_damaged_database_ends_the_start(place: Place) -> None:
    (place.state_dir / "state.db").write_bytes(b"")
    async with siblings(place) as made:
        await made.broker.start(place.config())
        with pytest.raises(StateError, match="damaged, and not touched"):
            await made.control.run()


async def test_a_vif_of_the_file_that_cannot_be_ends_the_start_with_its_line(
    place: Place,
) -> None:
    hosts_own = STATIC.replace("10.77.0.80", "10.77.0.9")
    error = await failure_of_start(place, hosts_own)

    line = place.config(hosts_own).splitlines().index("[vif.web]") + 4
    assert isinstance(error, ConfigError)
    assert error.problems == (
        f"multiplexer.toml:{line}: vif.web.addresses: address 10.77.0.9 is an address of the host",
    )


async def test_a_vif_of_the_file_that_the_broker_refuses_ends_the_start(place: Place) -> None:
    async with siblings(place) as made:
        made.broker.refusals[channel.OpenVifSockets] = "uid 20001 owns no vif of the file"
        await made.broker.start(place.config(STATIC))
        with pytest.raises(BaseExceptionGroup) as caught:
            await made.control.run()

    assert caught.group_contains(RequestFailed, match="broker: uid 20001 owns no vif")


async def test_a_full_disk_ends_the_start(place: Place) -> None:
    async with siblings(place) as made:
        await made.broker.start(place.config(STATIC))
        with no_room(), pytest.raises(StateError):
            await made.control.run()


@pytest.mark.parametrize("who", ["broker", "engine"])
async def test_a_sibling_that_goes_ends_it(place: Place, who: str) -> None:
    async with siblings(place) as made:
        sock = {"broker": made.broker.sock, "engine": made.engine.sock}[who]

        async def shut_down() -> None:
            sock.shutdown(socket.SHUT_RDWR)

        await made.broker.start(place.config(STATIC))
        with pytest.raises(BaseExceptionGroup) as caught:
            await made.run_until_it_fails(shut_down)

    assert caught.group_contains(channel.SiblingGone)


@pytest.mark.parametrize(
    ("who", "lie"),
    [
        ("broker", channel.Done(999)),
        ("engine", channel.Ack(999)),
        ("broker", channel.Ack(1)),
        ("engine", channel.Ready()),
    ],
)
async def test_a_sibling_that_lies_ends_it(place: Place, who: str, lie: channel.Message) -> None:
    async with siblings(place) as made:
        sock = {"broker": made.broker.sock, "engine": made.engine.sock}[who]
        await made.broker.start(place.config(STATIC))
        with pytest.raises(BaseExceptionGroup) as caught:
            await made.run_until_it_fails(lambda: channel_trio.send(sock, lie))

    assert caught.group_contains(channel.SiblingError)
