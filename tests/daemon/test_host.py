"""What the system is asked, of the system itself."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from multiplexer.daemon import host
from tests.support.netns import NetworkNamespace, run


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    made = NetworkNamespace.create("hosted")
    yield made
    made.delete()


def test_the_hosts_addresses_are_those_of_every_interface_whatever_its_state(
    namespace: NetworkNamespace,
) -> None:
    name = namespace.path.name
    for line in (
        "link add name here type veth peer name there",
        "address add 10.9.0.1/24 dev here",
        "address add 10.9.1.1 peer 10.9.1.2/32 dev there",
        "address add fd09::1/64 dev here",  # tentative for as long as the link is down
        "link set lo up",
    ):
        run(["ip", "-n", name, *line.split()])
    with namespace.entered():
        found = host.addresses()

    wanted = ("127.0.0.1", "::1", "10.9.0.1", "10.9.1.1", "fd09::1")
    assert sorted(map(str, found)) == sorted(str(ip_address(text)) for text in wanted)
