"""The libvirtd that we are compared with, one for the session."""

from collections.abc import Iterator

import pytest

from tests.libvirt.host import Host
from tests.support.bridge import running_bridge
from tests.support.libvirtd import Libvirtd, running_libvirtd


@pytest.fixture(scope="session")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    with running_libvirtd(tmp_path_factory.mktemp("libvirtd")) as running:
        yield running


@pytest.fixture(scope="session")
def host(libvirtd: Libvirtd) -> Iterator[Host]:
    """A host with a guest's port, to which filters can be bound."""
    with running_bridge() as bridge:
        yield Host(libvirtd, bridge)
