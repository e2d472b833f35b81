"""The running networks of the system tests, made once for each module."""

from collections.abc import Iterator

import pytest

from tests.support.lab import Lab
from tests.support.lan import Lan, running_lan


@pytest.fixture(scope="module")
def lan(request: pytest.FixtureRequest) -> Iterator[Lan]:
    """A switch with alice, bob and mallory on it."""
    with running_lan(request.module.__name__.rpartition(".")[2]) as running:
        yield running


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A cable and a NIC, and no daemon yet."""
    with Lab("lab") as made:
        yield made
