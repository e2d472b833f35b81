"""A fake daemon with the vifs of two users."""

from collections.abc import Iterator

import pytest

from tests.client.client_user import ClientUser
from tests.client.fake_daemon import FakeDaemon, Port, binding, fake_daemon
from tests.client.remapped import Remapped
from tests.client.test_serve import served
from tests.support.lab import package_with_lwip_source


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 20001), (binding(2), 20002)) as running:
        yield running


@pytest.fixture
def port(daemon: FakeDaemon) -> Port:
    """The vif of alice."""
    return daemon.ports["v1"]


@pytest.fixture
def alice(daemon: FakeDaemon) -> ClientUser:
    return ClientUser(20001, daemon)


@pytest.fixture
def bob(daemon: FakeDaemon) -> ClientUser:
    return ClientUser(20002, daemon)


@pytest.fixture
def remapped(alice: ClientUser) -> Iterator[Remapped]:
    with served(alice) as path:
        yield Remapped(alice, path)


@pytest.fixture(params=["debians", "source"])
def lwip_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have programs use lwIP as Debian builds it, or as built from its source."""
    build = str(request.param)
    if build == "source":
        monkeypatch.setattr(ClientUser, "search_path", (package_with_lwip_source(),))
    return build


@pytest.fixture(scope="module", params=["kernel", "lwip", "lwip-source"])
def each_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return each kind of stack, lwIP's in both builds, for a whole module."""
    kind, _, build = str(request.param).partition("-")
    with pytest.MonkeyPatch.context() as patch:
        if build == "source":
            patch.setattr(ClientUser, "search_path", (package_with_lwip_source(),))
        yield kind
