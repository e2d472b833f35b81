"""The taps of trusted users, which the engine has for as long as they are attached."""

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import trio.testing

from multiplexer.daemon import channel, inspection, lending
from pfinet_client.tap import open_tap
from pfinet_proto.attach import (
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Tap,
    Transport,
    Welcome,
)
from pfinet_proto.control import Reload, Status, VifShow
from pfinet_proto.values import VifName
from tests.daemon.siblings import ALICE, STATIC, Attacher, Place, Running, running
from tests.support.netns import NetworkNamespace

TRUSTED = STATIC + "trusted_tap = true\n"
WEB = VifName.parse("web")

TIMEOUT_S = 20
TUN_NODE = "/dev/net/tun"
TUNSETIFF, TUNGETIFF, TUNSETVNETHDRSZ = 0x400454CA, 0x800454D2, 0x400454D8
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

BOTH = (Transport.TAP, Transport.STREAM)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    namespace = NetworkNamespace.create(f"lending{os.getpid()}")
    yield namespace
    namespace.delete()


def make_tap(namespace: NetworkNamespace, offload: Offload) -> int:
    with namespace.entered():
        return open_tap("tap0", offload)


async def greet(client: Attacher, offload: Offload = Offload.CSUM) -> Welcome:
    """Say hello, offering a tap, and return the answer, which must come without descriptors."""
    await client.say(Hello(offload=offload, transports=BOTH))
    welcome, fds = await client.hear()
    assert isinstance(welcome, Welcome), welcome
    assert fds == []
    return welcome


async def is_free(daemon: Running) -> bool:
    return (await daemon.ask(VifShow(WEB))).attached is None


def name_of(tap: int) -> bytes:
    name: bytes = fcntl.ioctl(tap, TUNGETIFF, bytes(40))[:16]
    return name.rstrip(b"\0")


@pytest.mark.parametrize("offload", [Offload(0), Offload.CSUM])
async def test_the_engine_gets_the_tap_of_a_trusted_client(
    place: Place, namespace: NetworkNamespace, offload: Offload
) -> None:
    tap = make_tap(namespace, offload)
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as client:
        welcome = await greet(client, offload)
        await client.say(Tap(), [tap])
        await daemon.engine.wait_heard(channel.Attach)

        attached = daemon.engine.all(channel.Attach)[0]
        assert welcome.transport is Transport.TAP
        assert (attached.transport, attached.offload) == ("tap", offload)
        assert attached.vnet == bool(offload)
        assert name_of(daemon.engine.taps[attached.port]) == b"tap0"
        shown = (await daemon.ask(VifShow(WEB))).attached
        assert shown is not None
        assert shown.transport == "tap"
        os.close(tap)


async def test_nothing_of_a_tap_is_left_when_its_client_has_gone(
    place: Place, namespace: NetworkNamespace
) -> None:
    async with running(place, TRUSTED) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            await greet(client)
            tap = make_tap(namespace, Offload.CSUM)
            await client.say(Tap(), [tap])
            os.close(tap)
            await daemon.engine.wait_heard(channel.Attach)
            with namespace.entered():
                assert "tap0" in [name for _, name in socket.if_nameindex()]
        await daemon.engine.wait_heard(channel.Detach)
        while not await is_free(daemon):
            pass

        with namespace.entered():
            assert "tap0" not in [name for _, name in socket.if_nameindex()]


async def test_a_file_that_trusts_no_more_takes_effect_at_once(
    place: Place, namespace: NetworkNamespace
) -> None:
    tap = make_tap(namespace, Offload.CSUM)
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as client:
        await greet(client)
        await client.say(Tap(), [tap])
        os.close(tap)
        await daemon.engine.wait_heard(channel.Attach)
        daemon.broker.file = place.config(STATIC)
        reloaded = await daemon.ask(Reload())
        goodbye, _ = await client.hear()

        assert reloaded.changes == ("vif.web.trusted_tap: true -> false",)
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.OTHER
        await daemon.engine.wait_heard(channel.Detach)


async def test_a_tap_that_is_trusted_no_more_when_it_comes_is_not_taken(
    place: Place, namespace: NetworkNamespace
) -> None:
    tap = make_tap(namespace, Offload.CSUM)
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as client:
        await greet(client)
        daemon.broker.file = place.config(STATIC)
        await daemon.ask(Reload())
        await client.say(Tap(), [tap])
        os.close(tap)
        goodbye, _ = await client.hear()
        await client.wait_closed()

        assert isinstance(goodbye, Goodbye)
        assert "not trusted any more" in goodbye.text
        assert daemon.engine.all(channel.Attach) == []
        assert await is_free(daemon)


async def test_who_waits_for_its_predecessor_to_go_gets_what_is_allowed_then(
    place: Place,
) -> None:
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as first:
        welcome, data = await first.attach()
        daemon.engine.withheld.add(channel.Detach)
        async with daemon.attacher("web", ALICE) as second:
            await second.say(Hello(transports=BOTH, cookie=welcome.cookie))
            await daemon.engine.wait_heard(channel.Detach)
            daemon.broker.file = place.config(STATIC)
            await daemon.ask(Reload())
            await daemon.engine.release()
            again, fds = await second.hear()
            channel.close_all(fds)

        assert isinstance(again, Welcome)
        assert again.transport is Transport.STREAM
        data.close()


async def test_who_cannot_be_served_sends_nobody_away(place: Place) -> None:
    async with running(place, STATIC) as daemon, daemon.attacher("web", ALICE) as first:
        welcome, data = await first.attach()
        async with daemon.attacher("web", ALICE) as second:
            await second.say(Hello(transports=(Transport.TAP,), cookie=welcome.cookie))
            refused, _ = await second.hear()

        assert isinstance(refused, Refused)
        assert not await is_free(daemon)
        data.close()


async def test_a_vif_that_is_not_trusted_takes_no_tap(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            await client.say(Hello(transports=BOTH))
            welcome, fds = await client.hear()
            channel.close_all(fds)
            assert isinstance(welcome, Welcome)
            assert welcome.transport is Transport.STREAM
        while not await is_free(daemon):
            pass
        async with daemon.attacher("web", ALICE) as client:
            await client.say(Hello(transports=(Transport.TAP,)))
            refused, _ = await client.hear()

        assert isinstance(refused, Refused)
        assert refused.code is RefusedCode.NO_TRANSPORT


async def test_a_trusted_client_may_still_have_a_stream(place: Place) -> None:
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as client:
        welcome, data = await client.attach()

        assert welcome.transport is Transport.STREAM
        data.close()


def a_file(_: NetworkNamespace) -> list[int]:
    with tempfile.TemporaryFile() as file:
        return [os.dup(file.fileno())]


def another_device(_: NetworkNamespace) -> list[int]:
    return [os.open("/dev/null", os.O_RDWR)]


def only_a_path(_: NetworkNamespace) -> list[int]:
    return [os.open(TUN_NODE, os.O_PATH)]


def no_interface(_: NetworkNamespace) -> list[int]:
    return [os.open(TUN_NODE, os.O_RDWR)]


def a_tun(namespace: NetworkNamespace) -> list[int]:
    with namespace.entered():
        (tun,) = no_interface(namespace)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("=16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    return [tun]


def without_header(namespace: NetworkNamespace) -> list[int]:
    return [make_tap(namespace, Offload(0))]


def with_another_header(namespace: NetworkNamespace) -> list[int]:
    tap = make_tap(namespace, Offload.CSUM)
    fcntl.ioctl(tap, TUNSETVNETHDRSZ, struct.pack("=i", 12))
    return [tap]


def two_taps(namespace: NetworkNamespace) -> list[int]:
    tap = make_tap(namespace, Offload.CSUM)
    return [tap, os.dup(tap)]


def nothing(_: NetworkNamespace) -> list[int]:
    return []


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (a_file, "is not of /dev/net/tun"),
        (another_device, "is not of /dev/net/tun"),
        (only_a_path, "is no tap: Bad file descriptor"),
        (no_interface, "has no interface"),
        (a_tun, "is no tap with IFF_NO_PI"),
        (without_header, "is a tap without IFF_VNET_HDR"),
        (with_another_header, "is a tap whose virtio_net_hdr is not 10 bytes"),
        (two_taps, "Tap with 2 descriptors, not 1"),
        (nothing, "Tap with 0 descriptors, not 1"),
    ],
)
async def test_what_is_no_such_tap_ends_the_attachment_before_the_engine_hears_of_it(
    place: Place,
    namespace: NetworkNamespace,
    make: Callable[[NetworkNamespace], list[int]],
    why: str,
) -> None:
    fds = make(namespace)
    async with running(place, TRUSTED) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            await greet(client)
            await client.say(Tap(), fds)
            channel.close_all(fds)
            goodbye, _ = await client.hear()
            await client.wait_closed()

        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.BAD_STREAM
        assert why in goodbye.text
        assert daemon.engine.all(channel.Attach) == []
        assert await is_free(daemon)


async def test_descriptors_get_in_only_while_the_tap_is_due(
    place: Place, namespace: NetworkNamespace
) -> None:
    tap = make_tap(namespace, Offload.CSUM)
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as client:
        with pytest.raises(PermissionError):
            await client.sock.sendmsg([b"early"], channel.rights([tap]))
        await greet(client)
        await client.say(Tap(), [tap])
        await daemon.engine.wait_heard(channel.Attach)

        with pytest.raises(PermissionError):
            await client.sock.sendmsg([b"late"], channel.rights([tap]))
        os.close(tap)


def hang(_: int, vnet: bool) -> str | None:
    signal.pause()
    return None


async def test_who_lends_what_takes_for_ever_to_look_at_is_let_in_no_more(
    place: Place, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(inspection, "why_no_tap", hang)
    reader, writer = os.pipe()
    async with running(place, TRUSTED) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            await greet(client)
            await client.say(Tap(), [writer])
            os.close(writer)
            goodbye, _ = await client.hear()
            await client.wait_closed()

        assert isinstance(goodbye, Goodbye)
        assert goodbye.text == "sent descriptors"
        assert (await daemon.ask(Status())).shut_out == 1
        assert await is_free(daemon)
    assert select.select([reader], [], [], TIMEOUT_S)[0]
    assert os.read(reader, 1) == b"", "somebody has it yet"
    os.close(reader)


async def test_a_second_descriptor_ends_the_attachment_and_shuts_the_user_out(
    place: Place, namespace: NetworkNamespace
) -> None:
    tap = make_tap(namespace, Offload.CSUM)
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as client:
        await greet(client)
        # Both wait there before the first is taken.
        await client.say(Tap(), [tap])
        await client.sock.sendmsg([b"x"], channel.rights([tap]))
        goodbye, _ = await client.hear()
        await client.wait_closed()
        os.close(tap)

        assert isinstance(goodbye, Goodbye)
        assert goodbye.text == "sent descriptors"
        assert (await daemon.ask(Status())).shut_out == 1
        assert await is_free(daemon)


async def test_the_vif_is_taken_while_the_tap_is_due(place: Place) -> None:
    async with running(place, TRUSTED) as daemon, daemon.attacher("web", ALICE) as first:
        await greet(first)
        async with daemon.attacher("web", ALICE) as second:
            await second.say(Hello(transports=BOTH))
            refused, _ = await second.hear()

        assert isinstance(refused, Refused)
        assert refused.code is RefusedCode.TAKEN


async def test_a_client_whose_tap_does_not_come_loses_the_vif(
    place: Place, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(place, TRUSTED) as daemon:
        async with daemon.attacher("web", ALICE) as client:
            await greet(client)
            before_s = trio.current_time()
            with suppress(EOFError):
                await client.hear()

            assert trio.current_time() - before_s >= lending.TAP_TIMEOUT_S
        assert daemon.engine.all(channel.Attach) == []
        assert await is_free(daemon)


async def test_a_tap_that_the_engine_refuses_is_let_go(
    place: Place, namespace: NetworkNamespace
) -> None:
    async with running(place, TRUSTED) as daemon:
        daemon.engine.refusals[channel.Attach] = os.strerror(errno.EBADFD)
        async with daemon.attacher("web", ALICE) as client:
            await greet(client)
            tap = make_tap(namespace, Offload.CSUM)
            await client.say(Tap(), [tap])
            os.close(tap)
            goodbye, _ = await client.hear()
            assert isinstance(goodbye, Goodbye)
            await client.wait_closed()

        with namespace.entered():
            assert "tap0" not in [name for _, name in socket.if_nameindex()]
        assert await is_free(daemon)
