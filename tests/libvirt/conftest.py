"""The libvirtd that we are compared with, one for the session."""

from collections.abc import Iterator

import pytest

from tests.support.libvirtd import Libvirtd, running_libvirtd


@pytest.fixture(scope="session")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirtd]:
    with running_libvirtd(tmp_path_factory.mktemp("libvirtd")) as running:
        yield running
