"""The host gets an address that a vif has: it is told, and nobody loses anything."""

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from pathlib import Path

import attrs
import pytest

from multiplexer.daemon import hostwatch
from multiplexer.daemon.host import System
from pfinet_proto.control import ControlError, VifCreate, VifList, VifShow
from pfinet_proto.values import IPAddress, VifName
from tests.daemon.siblings import BOB, Place, Running, running, system

GRANT = """
[grant.some]
to = ["bob"]
network = "lab"
addresses = ["10.78.0.32/28"]
"""

ONE = VifCreate(VifName("one"), "bob", (ip_interface("10.78.0.32/24"),))


@attrs.define
class Changing:
    """A host whose addresses change."""

    path: Path
    addresses: tuple[IPAddress, ...] = ()
    failures: int = 0

    @property
    def system(self) -> System:
        return attrs.evolve(system(), addresses=self.ask, address_news=self.listen)

    def ask(self) -> tuple[IPAddress, ...]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return self.addresses

    def listen(self) -> socket.socket:
        news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path.unlink(missing_ok=True)
        news.bind(str(self.path))
        return news

    def change(self, *addresses: str) -> None:
        self.addresses = tuple(map(ip_address, addresses))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", str(self.path))


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


@pytest.fixture
def host(place: Place) -> Changing:
    return Changing(place.state_dir / "news")


async def wait_told(daemon: Running, addresses: tuple[IPAddress, ...]) -> None:
    """Wait until that is what `vif show` says the host has of vif one."""
    while (await daemon.ask(VifShow(ONE.name))).host_conflicts != addresses:
        pass


async def test_an_address_that_the_host_gets_is_logged_and_shown_until_it_goes(
    place: Place, host: Changing
) -> None:
    async with running(place, users=host.system) as daemon:
        made = await daemon.ask(ONE)
        assert made.host_conflicts == ()

        host.change("192.0.2.1", "10.78.0.32", "10.78.0.33", "fe80::1%eth0")
        await wait_told(daemon, (ip_address("10.78.0.32"),))
        assert "audit: host-conflict name=one address=10.78.0.32" in daemon.log
        host.change("192.0.2.1")
        await wait_told(daemon, ())
        assert "audit: host-conflict-over name=one address=10.78.0.32" in daemon.log
        assert await daemon.ask(VifShow(ONE.name)) == made


async def test_a_kernel_that_cannot_tell_is_asked_again(
    place: Place, host: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostwatch, "LOOK_AGAIN_S", 0)
    async with running(place, users=host.system) as daemon:
        await daemon.ask(ONE)
        host.failures = 2
        host.change("10.78.0.32")
        await wait_told(daemon, (ip_address("10.78.0.32"),))

        warning = "cannot see the host's addresses: No buffer space available"
        assert daemon.log.count(warning) == 2


async def test_a_prefix_that_holds_an_address_of_the_host_is_torn_too(
    place: Place, host: Changing
) -> None:
    async with running(place, users=host.system) as daemon:
        prefix = attrs.evolve(ONE, prefixes=(ip_interface("10.78.0.64/28").network,))
        await daemon.ask(prefix)

        host.change("10.78.0.70")
        await wait_told(daemon, (ip_address("10.78.0.70"),))


async def test_a_grant_does_not_give_what_the_host_has(place: Place, host: Changing) -> None:
    async with running(place, GRANT, host.system) as daemon:
        host.change("10.78.0.32")
        with pytest.raises(ControlError, match=r"10\.78\.0\.32 is an address of the host"):
            await daemon.ask(attrs.evolve(ONE, owner=None), BOB)
        made = await daemon.ask(VifCreate(VifName("mine")), BOB)

        assert made.addresses == (ip_interface("10.78.0.33/24"),)


async def test_an_administrator_sees_it_in_the_list(place: Place, host: Changing) -> None:
    async with running(place, users=host.system) as daemon:
        await daemon.ask(ONE)
        host.change("10.78.0.32")
        await wait_told(daemon, (ip_address("10.78.0.32"),))

        (listed,) = (await daemon.ask(VifList())).vifs
        assert listed.host_conflicts == (ip_address("10.78.0.32"),)
