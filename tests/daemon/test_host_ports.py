"""What an engine is told of the host's own ports."""

from ipaddress import ip_address, ip_network
from typing import cast

import pytest

from multiplexer.daemon.host_ports import HostOrders, describe_host
from multiplexer.model import FIRST_HOST_PORT, Config, Mode, Network
from multiplexer.policy import decode_vif
from multiplexer.uplinks.host_tap import HostState, HostTap
from multiplexer.uplinks.tap import Tap

LAB = Network("lab", Mode.SWITCH, None, (ip_network("10.0.2.0/24"),))
LAN = Network("lan", Mode.SWITCH, None, (ip_network("10.0.1.0/24"),), host=True)
CONFIG = Config(networks=(LAB, LAN))


@pytest.fixture
def host() -> HostTap:
    """The host's port in LAN, with something that stands for a tap."""
    host = HostTap(LAN)
    host.tap = cast(Tap, object())
    host.state = HostState(present=True, up=True, addresses=(ip_address("10.0.1.2"),))
    return host


def test_an_order_is_for_the_port_of_the_network_and_has_its_row(host: HostTap) -> None:
    order, _ = HostOrders().make(7, CONFIG, host)

    assert (order.request, order.port, order.present) == (7, FIRST_HOST_PORT + 1, True)
    assert ip_network("10.0.1.2/32") in decode_vif(order.row).prefixes


def test_a_tap_goes_with_the_first_order_that_has_it_and_with_no_other(host: HostTap) -> None:
    orders = HostOrders()

    assert orders.make(1, CONFIG, host)[1] == [host.tap]
    assert orders.make(2, CONFIG, host)[1] == []
    host.tap = cast(Tap, object())
    assert orders.make(3, CONFIG, host)[1] == [host.tap]


def test_a_port_without_a_tap_is_told_to_have_none(host: HostTap) -> None:
    orders = HostOrders()
    orders.make(1, CONFIG, host)
    host.tap = None

    order, taps = orders.make(2, CONFIG, host)

    assert (order.present, taps) == (False, [])


def test_after_a_refusal_a_tap_is_given_again(host: HostTap) -> None:
    orders = HostOrders()
    orders.make(1, CONFIG, host)

    orders.repeat()

    assert orders.make(2, CONFIG, host)[1] == [host.tap]


def test_control_is_told_the_state_as_text(host: HostTap) -> None:
    told = describe_host(host)

    assert (told.network, told.addresses, told.error) == ("lan", ("10.0.1.2",), None)
